//! Losses, delays, crashes and partitions.

use std::time::Duration;

use alpenglow_control::control::ControlConfig;
use alpenglow_control::output::Event;
use alpenglow_rotor::types::Slot;

use crate::oracle::How;
use crate::seeds;
use crate::world::{MS, Network, Random, Setup, World};

fn everyone_alone(nodes: usize) -> Network {
    Network { group_of: (0..nodes).map(|node| (node, node)).collect(), ..Network::default() }
}

/// Highest slot that every node alive has decided, with all before it.
fn decided_by_all(world: &World) -> u64 {
    let decided = |slot: u64| world.alive().iter().all(|&node| world.oracle.has_decided(node, Slot(slot)));
    (1..).take_while(|&slot| decided(slot)).last().unwrap_or(0)
}

#[test]
fn defect_8_a_standstill_with_nothing_finalized_ends_when_the_partition_heals() {
    let mut world = World::new(Setup { network: everyone_alone(5), ..Setup::default() });
    world.run_until(World::at_ms(25_000));
    assert_eq!(decided_by_all(&world), 0);
    let standstills = |world: &World| {
        world.oracle.events.iter().filter(|(_, _, event)| matches!(event, Event::Standstill { .. })).count()
    };
    assert_eq!(standstills(&world), 10, "two rounds of each node");
    world.network = Network::default();
    assert!(world.run_until_decided(12, World::at_ms(40_000)));
    for node in 0..5 {
        assert_eq!(world.oracle.how(node, 1, 3), [How::Skipped; 3]);
        assert!(world.oracle.finalized_count(node) > 0);
    }
}

#[test]
fn a_standstill_in_the_middle_ends_when_the_partition_heals() {
    let mut world = World::new(Setup::default());
    assert!(world.run_until_decided(9, World::at_ms(5_000)));
    world.network.group_of = [(0, 0), (1, 0), (2, 1), (3, 1), (4, 2)].into();
    let before = decided_by_all(&world);
    world.run_until(World::at_ms(40_000));
    assert!(decided_by_all(&world) <= before + 1, "no group is large enough");
    world.network.group_of.clear();
    assert!(world.run_until_decided(before + 12, World::at_ms(60_000)));
    assert!(world.oracle.finalized_count(0) as u64 > before);
}

/// Without saying everything again, what was lost stays lost.
#[test]
fn a_partition_that_heals_is_overcome_thanks_to_the_standstill_rule() {
    let never = |config: &mut ControlConfig| config.standstill_interval = Duration::from_hours(24);
    for (configure, goes_on) in [(never as fn(&mut ControlConfig), false), (|_| {}, true)] {
        for cut_at_ms in [0, 4_000] {
            let mut world = World::new(Setup { configure, ..Setup::default() });
            world.run_until(World::at_ms(cut_at_ms));
            world.network.group_of = [(0, 0), (1, 0), (2, 1), (3, 1), (4, 2)].into();
            world.run_until(World::at_ms(cut_at_ms + 15_000));
            world.network.group_of.clear();
            let before = world.oracle.finalized_count(0);
            assert_eq!(before == 0, cut_at_ms == 0, "defect 8: with nothing finalized yet as well");
            world.run_until(World::at_ms(cut_at_ms + 60_000));
            let gained = world.oracle.finalized_count(0) - before;
            assert_eq!(gained > 20, goes_on, "{gained} more blocks final, cut at {cut_at_ms} ms");
        }
    }
}

#[test]
fn the_crashed_leader_timer_skips_a_crashed_leaders_window_sooner_and_no_other() {
    let with = |config: &mut ControlConfig| config.crashed_leader_timer = true;
    let [without, with] = [(|_| {}) as fn(&mut ControlConfig), with].map(|configure| {
        let mut world = World::new(Setup { configure, ..Setup::default() });
        world.kill(1);
        assert!(world.run_until_decided(19, World::at_ms(30_000)));
        let skipped: Vec<u64> = (1..20).filter(|&slot| world.oracle.how(0, slot, slot) == [How::Skipped]).collect();
        assert_eq!(skipped, [4, 5, 6, 7], "the window of node 1");
        let at = |wanted: fn(&Event) -> bool| {
            world.oracle.events.iter().find(|(node, _, event)| *node == 0 && wanted(event)).expect("it happened").1
        };
        let begin = at(|event| matches!(event, Event::ParentReady { slot: Slot(4), .. }));
        at(|event| matches!(event, Event::ParentReady { slot: Slot(8), .. })).since(begin)
    });
    assert_eq!(without - with, Duration::from_millis(390), "delta_block without a slice's share of it");
}

/// Blocks take longer to arrive than everybody waits for them.
#[test]
fn defect_9_timeouts_grow_until_blocks_arrive_in_time() {
    let never = |config: &mut ControlConfig| config.standstill_interval = Duration::from_hours(24);
    for (configure, finalizes) in [(never as fn(&mut ControlConfig), false), (|_| {}, true)] {
        let network = Network { delay: Duration::from_millis(1_500), ..Network::default() };
        let mut world = World::new(Setup { network, configure, real_checks: false, ..Setup::default() });
        world.run_until(World::at_ms(120_000));
        for node in 0..5 {
            assert_eq!(world.oracle.finalized_count(node) > 0, finalizes, "node {node}");
        }
    }
}

#[test]
fn a_minority_that_was_cut_off_catches_up_with_the_majority() {
    let mut world = World::new(Setup::default());
    assert!(world.run_until_decided(5, World::at_ms(4_000)));
    world.network.group_of = [(0, 0), (1, 0), (2, 0), (3, 0), (4, 1)].into();
    world.run_until(World::at_ms(20_000));
    let behind = world.oracle.decided_count(4);
    assert!(world.oracle.decided_count(0) >= behind + 20);
    world.network.group_of.clear();
    world.run_until(World::at_ms(40_000));
    let gone_on = world.oracle.chain(4).last().map(|block| block.id);
    assert_eq!(gone_on, world.oracle.chain(0).last().map(|block| block.id), "it hands over the same chain again");
    assert_eq!(world.oracle.gaps(4), 0, "what it missed was repaired");
    let how = (0..5).map(|node| world.oracle.how(node, 90, 91)).collect::<Vec<_>>();
    assert_eq!(how, vec![[How::Fast; 2]; 5], "all five vote again");
}

#[test]
fn defect_9_a_standstill_does_not_stretch_blocks() {
    let mut world = World::new(Setup { network: everyone_alone(5), ..Setup::default() });
    world.run_until(World::at_ms(35_000));
    world.network = Network::default();
    assert!(world.run_until_decided(12, World::at_ms(50_000)));
    let ends: Vec<_> = world.slices_sent.iter().filter(|(id, is_last, _)| *is_last && id.slot >= Slot(8)).collect();
    for pair in ends.windows(2).filter(|pair| !pair[1].0.slot.is_window_first()) {
        assert_eq!(pair[1].2.0 - pair[0].2.0, 400 * MS);
    }
    assert!(ends.len() > 3);
}

#[test]
fn agreement_and_progress_with_delays_and_losses() {
    for seed in seeds(12) {
        let mut random = Random(seed);
        let mut world = World::new(Setup { seed, real_checks: false, ..Setup::default() });
        world.network = Network {
            delay: Duration::from_millis(random.below(20)),
            jitter: Duration::from_millis(random.below(120)),
            messages_lost_percent: random.below(10),
            slices_lost_percent: random.below(2),
            ..Network::default()
        };
        world.run_until(World::at_ms(30_000));
        world.network = Network::default();
        let before = decided_by_all(&world);
        world.run_until(World::at_ms(60_000));
        let finalized = world.oracle.finalized_count(0);
        assert!(finalized >= 20, "{finalized} blocks final, {before} decided, {}", world.oracle.replay());
    }
}

#[test]
fn agreement_with_crashes_and_partitions_at_random() {
    for seed in seeds(12) {
        let mut random = Random(seed.wrapping_mul(77));
        let nodes = 5 + random.below(6) as usize;
        let mut world = World::new(Setup { nodes, seed, real_checks: false, ..Setup::default() });
        world.network.jitter = Duration::from_millis(random.below(40));
        let mut time_ms = 0;
        let may_die = (nodes * 2) / 5;
        for _ in 0..6 {
            time_ms += random.below(4_000);
            world.run_until(World::at_ms(time_ms));
            if nodes - world.alive().len() < may_die && random.percent(30) {
                let victim = random.below(nodes as u64) as usize;
                if world.alive().contains(&victim) {
                    world.kill(victim);
                }
            }
            let groups = 1 + random.below(3);
            world.network.group_of = (0..nodes).map(|node| (node, random.below(groups) as usize)).collect();
        }
        world.network.group_of.clear();
        world.network.jitter = Duration::ZERO;
        let healed_ms = time_ms + 5_000;
        world.run_until(World::at_ms(healed_ms));
        let before: usize = world.alive().iter().map(|&node| world.oracle.finalized_count(node)).sum();
        world.run_until(World::at_ms(healed_ms + 40_000));
        let after: usize = world.alive().iter().map(|&node| world.oracle.finalized_count(node)).sum();
        assert!(after > before, "no progress after healing, {} nodes, {}", nodes, world.oracle.replay());
    }
}

#[test]
fn real_signatures_hold_through_losses_and_a_healed_partition() {
    for seed in seeds(2) {
        let mut world = World::new(Setup { seed, ..Setup::default() });
        world.network.jitter = Duration::from_millis(60);
        world.network.messages_lost_percent = 5;
        world.run_until(World::at_ms(5_000));
        world.network.group_of = [(0, 0), (1, 0), (2, 1), (3, 1), (4, 1)].into();
        world.run_until(World::at_ms(8_000));
        world.network = Network::default();
        world.run_until(World::at_ms(25_000));
        for node in 0..5 {
            assert_eq!(world.control(node).counters().get("validator_barred"), 0, "{}", world.oracle.replay());
        }
        assert!(world.oracle.finalized_count(0) > 10, "{}", world.oracle.replay());
    }
}

#[test]
fn defect_15_memory_stays_flat_over_many_slots() {
    let mut world = World::new(Setup { real_checks: false, ..Setup::default() });
    world.kill(2);
    let mut most = 0;
    for second in 1..120 {
        for number in 0..20_u64 {
            let mut bytes = vec![7; 600];
            bytes[..8].copy_from_slice(&(second * 100 + number).to_le_bytes());
            world.submit([0, 1, 3, 4][number as usize % 4], bytes);
        }
        world.run_until(World::at_ms(second * 1_000));
        if second == 30 {
            most = world.control(0).held_bytes();
        }
        if second > 30 {
            assert!(world.control(0).held_bytes() <= most + 2_000_000, "{} {most}", world.control(0).held_bytes());
        }
    }
    assert!(world.oracle.finalized_count(0) > 200);
}

#[test]
fn checks_that_end_in_any_order_finalize_every_slot() {
    for seed in seeds(4) {
        let network = Network {
            checking_jitter: Duration::from_millis(40),
            jitter: Duration::from_millis(5),
            ..Network::default()
        };
        let mut world =
            World::new(Setup { seed, network, configure: |config| config.checking.jobs_max = 8, ..Setup::default() });
        assert!(world.run_until_decided(12, World::at_ms(10_000)), "{}", world.oracle.replay());
        for node in 0..5 {
            assert!(!world.oracle.how(node, 1, 12).contains(&How::Skipped), "{}", world.oracle.replay());
        }
    }
}
