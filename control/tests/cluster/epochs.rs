//! Boundaries of epochs: members come and go, stakes change, and the chain goes on.

use std::sync::Arc;
use std::time::Duration;

use alpenglow_control::control::ControlConfig;
use alpenglow_control::output::Event;
use alpenglow_control::stakes::Stakes;
use alpenglow_rotor::epochs::Epochs;
use alpenglow_rotor::schedule::{EpochSeed, LeaderSchedule, ScheduleKind};
use alpenglow_rotor::types::{Slot, Stake};

use crate::oracle::How;
use crate::seeds;
use crate::world::{Network, Setup, World};

/// In slot 16 node 0 goes, node 5 comes and node 1 gets most stake; slots 24 and 32 hand over to others altogether.
const STAKES: [[u64; 6]; 5] = [
    [1_000, 1_000, 1_000, 1_000, 1_000, 0],
    [1_000, 1_000, 1_000, 1_000, 1_000, 0],
    [0, 3_000, 1_000, 1_000, 1_000, 2_000],
    [0, 0, 0, 7, 7, 7],
    [1_000, 2_000, 1_000, 0, 0, 0],
];
const EPOCH_SLOTS: u64 = 8;

/// The stakes in a slot, without a look at the code under test.
fn stakes_at(slot: u64) -> &'static [u64] {
    &STAKES[((slot / EPOCH_SLOTS) as usize).min(STAKES.len() - 1)]
}

fn epochs() -> Arc<Epochs> {
    let set = |epoch: usize| STAKES[epoch].map(Stake).to_vec();
    let later = (2..STAKES.len()).map(|epoch| (epoch as u64, set(epoch))).collect();
    Arc::new(Epochs::new(EPOCH_SLOTS, set(0), later, EpochSeed([1; 32])).expect("sets that can be"))
}

fn in_turn(config: &mut ControlConfig) {
    config.stakes = Arc::new(Stakes::of_epochs(epochs()));
    config.schedule = Arc::new(LeaderSchedule::of_epochs(ScheduleKind::RoundRobin, epochs()));
}

fn by_stake(config: &mut ControlConfig) {
    in_turn(config);
    config.schedule = Arc::new(LeaderSchedule::of_epochs(ScheduleKind::StakeWeighted, epochs()));
}

fn world(setup: Setup) -> World {
    let mut world = World::new(Setup { nodes: 6, ..setup });
    world.oracle.stakes_at = Some(stakes_at);
    world
}

/// The slots in which `node` voted.
fn voted(world: &World, node: usize) -> Vec<u64> {
    let votes = world.oracle.events.iter().filter_map(|(seen_by, _, event)| match event {
        Event::VoteCast(vote) if *seen_by == node => Some(vote.slot().0),
        _ => None,
    });
    let mut slots: Vec<u64> = votes.collect();
    slots.dedup();
    slots
}

#[test]
fn the_chain_goes_on_as_members_and_stakes_change() {
    for configure in [in_turn, by_stake] {
        let mut world = world(Setup { configure, ..Setup::default() });
        assert!(world.run_until_decided(47, World::at_ms(47 * 400 + 1_000)));
        for node in 0..6 {
            // Who is neither in an epoch nor in the next one learns of blocks from certificates, and fetches them.
            assert_eq!(world.oracle.how(node, 1, 47), [How::Fast; 47], "node {node}");
            let member: Vec<u64> = (1..=47).filter(|&slot| stakes_at(slot)[node] > 0).collect();
            let voted: Vec<u64> = voted(&world, node).into_iter().filter(|&slot| slot <= 47).collect();
            assert_eq!(voted, member, "node {node}");
        }
    }
}

#[test]
fn what_counts_is_the_stake_in_the_slots_own_epoch() {
    let mut world = world(Setup { configure: in_turn, ..Setup::default() });
    world.kill(1);
    assert!(world.run_until_decided(31, World::at_ms(31 * 400 + 8_000)));
    for (slot, how) in (1..).zip(world.oracle.how(5, 1, 31)) {
        let expected = match slot {
            // Windows of the dead leader, the second of 5 members before slot 16 and the first of 5 from then on.
            4..8 => How::Skipped,
            // 4,000 of 5,000.
            1..16 => How::Fast,
            20..24 => How::Skipped,
            // 5,000 of 8,000.
            16..20 => How::Slow,
            // It is no member any more.
            _ => How::Fast,
        };
        assert_eq!(how, expected, "slot {slot}");
    }
}

#[test]
fn a_member_that_has_left_is_not_missed() {
    let mut world = world(Setup { configure: in_turn, ..Setup::default() });
    assert!(world.run_until_decided(15, World::at_ms(8_000)));
    world.kill(0);
    assert!(world.run_until_decided(31, World::at_ms(31 * 400 + 2_000)));
    for node in world.alive() {
        assert_eq!(world.oracle.how(node, 16, 31), [How::Fast; 16], "node {node}");
    }
}

#[test]
fn a_node_that_follows_by_repair_votes_from_its_first_epoch_on() {
    let mut world = world(Setup { configure: in_turn, ..Setup::default() });
    world.deaf.insert(5);
    assert!(world.run_until_decided(15, World::at_ms(9_000)));
    assert!(voted(&world, 5).iter().all(|&slot| slot >= 16), "{:?}", voted(&world, 5));
    world.deaf.clear();
    assert!(world.run_until_decided(23, World::at_ms(16_000)));
    assert!(voted(&world, 5).starts_with(&[16, 17, 18, 19]), "{:?}", voted(&world, 5));
    assert_eq!(world.oracle.how(5, 16, 23), [How::Fast; 8]);
}

#[test]
fn a_boundary_in_the_middle_of_a_partition_is_agreed_on_afterwards() {
    let mut world = world(Setup { configure: in_turn, ..Setup::default() });
    assert!(world.run_until_decided(13, World::at_ms(7_000)));
    // No side has 60% of the stake of epoch 1 or of epoch 2.
    world.network.group_of =
        (0..6).map(|node| (node, usize::from([1, 2].contains(&node)) + usize::from(node == 3))).collect();
    world.run_until(World::at_ms(25_000));
    world.network.group_of.clear();
    assert!(world.run_until_decided(40, World::at_ms(120_000)), "{}", world.oracle.replay());
}

#[test]
fn boundaries_hold_with_losses_and_any_order() {
    for seed in seeds(12) {
        let network = Network {
            delay: Duration::from_millis(5),
            jitter: Duration::from_millis(120),
            messages_lost_percent: 5,
            checking_jitter: Duration::from_millis(20),
            slices_lost_percent: 3,
            ..Network::default()
        };
        let mut world = world(Setup { seed, network, real_checks: false, configure: by_stake, ..Setup::default() });
        assert!(world.run_until_decided(40, World::at_ms(120_000)), "{}", world.oracle.replay());
        assert!((0..6).any(|node| world.oracle.finalized_count(node) > 20), "{}", world.oracle.replay());
    }
}

/// A leader of the last window before a boundary that falls silent: the window is skipped by the old set, and the new
/// one builds on what was before.
#[test]
fn a_skipped_window_before_a_boundary_does_not_stop_the_next_set() {
    let mut world = world(Setup { configure: in_turn, ..Setup::default() });
    let leader = world.schedule.leader(Slot(12)).get();
    for slot in 12..16 {
        world.late_slots.insert(Slot(slot), Duration::from_secs(9));
    }
    assert!(world.run_until_decided(31, World::at_ms(31 * 400 + 8_000)));
    for node in (0..6).filter(|&node| node != leader) {
        assert_eq!(world.oracle.how(node, 12, 15), [How::Skipped; 4], "node {node}");
        assert_eq!(world.oracle.how(node, 16, 31), [How::Fast; 16], "node {node}");
    }
}
