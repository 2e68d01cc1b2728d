//! The paths to a decision over a perfect network, where they are exact.

use std::time::Duration;

use alpenglow_control::output::Event;
use alpenglow_control::vote::VotePayload;
use alpenglow_rotor::types::{Slot, Time};

use crate::oracle::How;
use crate::world::{MS, Setup, World};

/// Slots of windows led by one of `dead`.
fn led_by(world: &World, dead: &[usize], first: u64, last: u64) -> Vec<u64> {
    (first..=last).filter(|&slot| dead.contains(&world.schedule.leader(Slot(slot)).get())).collect()
}

fn without(nodes: usize, dead: &[usize]) -> World {
    let mut world = World::new(Setup { nodes, ..Setup::default() });
    dead.iter().for_each(|&node| world.kill(node));
    world
}

/// Every node alive decided every slot, those of dead leaders as skipped and the others as `how`.
fn assert_paths(world: &World, dead: &[usize], last: u64, how: How) {
    let skipped = led_by(world, dead, 1, last);
    for node in world.alive() {
        for (slot, found) in (1..=last).zip(world.oracle.how(node, 1, last)) {
            let expected = if skipped.contains(&slot) { How::Skipped } else { how };
            assert_eq!(found, expected, "node {node}, slot {slot}");
        }
    }
}

#[test]
fn all_alive_every_slot_is_final_on_the_fast_path() {
    for nodes in [5, 10] {
        let mut world = without(nodes, &[]);
        assert!(world.run_until_decided(20, World::at_ms(20 * 400 + 1_000)));
        assert_paths(&world, &[], 20, How::Fast);
    }
}

#[test]
fn exactly_80_percent_are_still_fast() {
    let mut world = without(5, &[3]);
    assert!(world.run_until_decided(27, World::at_ms(27 * 400 + 3_000)));
    assert_paths(&world, &[3], 27, How::Fast);
    let mut world = without(10, &[3, 7]);
    assert!(world.run_until_decided(19, World::at_ms(19 * 400 + 3_000)));
    assert_paths(&world, &[3, 7], 19, How::Fast);
}

#[test]
fn exactly_60_percent_are_slow_and_skip_the_windows_of_dead_leaders() {
    let mut world = without(5, &[1, 3]);
    assert!(world.run_until_decided(27, World::at_ms(27 * 400 + 6_000)));
    assert_paths(&world, &[1, 3], 27, How::Slow);
}

#[test]
fn two_dead_leaders_in_a_row_are_skipped() {
    let mut world = without(5, &[1, 2]);
    assert!(world.run_until_decided(23, World::at_ms(23 * 400 + 8_000)));
    assert_paths(&world, &[1, 2], 23, How::Slow);
}

#[test]
fn under_60_percent_nothing_is_decided() {
    let mut world = without(5, &[1, 2, 3]);
    world.run_until(World::at_ms(40_000));
    for node in world.alive() {
        assert_eq!(world.oracle.decided_count(node), 0);
    }
}

#[test]
fn nodes_that_die_in_the_middle_of_a_slot_end_the_fast_path_only() {
    let mut world = without(5, &[]);
    assert!(world.run_until_decided(11, World::at_ms(6_000)));
    world.kill(4);
    world.kill(3);
    assert!(world.run_until_decided(35, World::at_ms(24 * 400 + 20_000)));
    for node in world.alive() {
        let how = world.oracle.how(node, 14, 35);
        assert!(!how.contains(&How::Fast) && how.contains(&How::Slow), "{how:?}");
        assert_eq!(how.iter().filter(|how| **how == How::Skipped).count(), led_by(&world, &[3, 4], 14, 35).len());
    }
}

#[test]
fn defect_18_checks_that_never_end_delay_no_block_and_no_vote() {
    let votes = |checks_hang| {
        let mut world = World::new(Setup { checks_hang, ..Setup::default() });
        world.run_until(World::at_ms(1_300));
        let notar = |(node, at, event): &(usize, Time, Event)| match event {
            Event::VoteCast(VotePayload::Notar(block)) => Some((*node, *at, *block)),
            _ => None,
        };
        world.oracle.events.iter().filter_map(notar).collect::<Vec<_>>()
    };
    let hanging = votes(true);
    assert_eq!(hanging.len(), 3 * 5, "every block of the first window has every vote");
    assert_eq!(hanging, votes(false), "at the same time as with checks that end");
}

#[test]
fn defect_19_a_block_takes_exactly_its_time() {
    let mut world = without(5, &[]);
    assert!(world.run_until_decided(19, World::at_ms(9_000)));
    let ends: Vec<(u64, u64)> =
        world.slices_sent.iter().filter(|(_, is_last, _)| *is_last).map(|(id, _, at)| (id.slot.0, at.0)).collect();
    let mut pairs_in_window = 0;
    for pair in ends.windows(2).filter(|pair| !Slot(pair[1].0).is_window_first()) {
        assert_eq!(pair[1].1 - pair[0].1, 400 * MS, "slots {} and {}", pair[0].0, pair[1].0);
        pairs_in_window += 1;
    }
    assert!(pairs_in_window >= 14);
    assert_eq!(ends[0].1, World::at_ms(400).0, "the first block ends a slot's time after the start");
    // A new window begins when its parent is certified, a few message delays after the last slice of the one before.
    for pair in ends.windows(2).filter(|pair| Slot(pair[1].0).is_window_first()) {
        assert!(pair[1].1 - pair[0].1 <= 410 * MS);
    }
}

#[test]
fn every_event_that_reports_are_made_of_is_seen_once_a_slot() {
    let mut world = without(5, &[]);
    assert!(world.run_until_decided(8, World::at_ms(5_000)));
    world.run_until(World::at_ms(5_000));
    for node in 0..5 {
        for slot in (1..=8).map(Slot) {
            let count = |matches: &dyn Fn(&Event) -> bool| {
                world.oracle.events.iter().filter(|(seen_by, _, event)| *seen_by == node && matches(event)).count()
            };
            assert_eq!(count(&|event| matches!(event, Event::BlockComplete { block, .. } if block.id.slot == slot)), 1);
            assert_eq!(count(&|event| matches!(event, Event::Notarized(block) if block.slot == slot)), 1);
            assert_eq!(count(&|event| matches!(event, Event::Decided { slot: decided, .. } if *decided == slot)), 1);
        }
    }
}

#[test]
fn a_block_that_comes_too_late_is_skipped_with_the_rest_of_its_window() {
    let mut world = without(5, &[]);
    for slot in 8..12 {
        world.late_slots.insert(Slot(slot), Duration::from_secs(4));
    }
    assert!(world.run_until_decided(19, World::at_ms(19 * 400 + 8_000)));
    for node in world.alive() {
        assert_eq!(world.oracle.how(node, 8, 11), [How::Skipped; 4]);
        assert_eq!(world.oracle.how(node, 12, 19), [How::Fast; 8]);
    }
}

#[test]
fn equal_seeds_give_equal_runs() {
    let run = |seed| {
        let mut world = World::new(Setup { seed, ..Setup::default() });
        world.network.jitter = Duration::from_millis(30);
        world.run_until(World::at_ms(5_000));
        world.oracle.trace()
    };
    assert_eq!(run(3), run(3));
    assert_ne!(run(3), run(4));
}
