//! Transactions: each one given to the cluster ends in the final chain once, whoever crashes.

use std::collections::BTreeMap;

use alpenglow_rotor::parameters::{Code, CodingParameters};

use crate::seeds;
use crate::world::{MS, Random, Setup, World};

/// A transaction that is like no other; its length varies.
pub(crate) fn transaction(number: u64) -> Vec<u8> {
    let length = 8 + (number * 37 % 1_017) as usize;
    let mut bytes = vec![number as u8; length];
    bytes[..8].copy_from_slice(&number.to_le_bytes());
    bytes
}

/// Submits `count` transactions, one every `every_ms`, each to one of `to`.
pub(crate) fn submit(world: &mut World, count: u64, every_ms: u64, to: &[usize]) {
    let start = world.now;
    for number in 0..count {
        world.run_until(alpenglow_rotor::types::Time(start.0 + number * every_ms * MS));
        world.submit(to[number as usize % to.len()], transaction(number));
    }
}

/// Every node alive handed over each of `count` transactions once.
pub(crate) fn assert_each_once(world: &World, count: u64) {
    for node in world.alive() {
        let mut times: BTreeMap<Vec<u8>, usize> = BTreeMap::new();
        for transaction in world.finalized_transactions(node) {
            *times.entry(transaction).or_default() += 1;
        }
        for number in 0..count {
            let found = times.remove(&transaction(number));
            assert_eq!(found, Some(1), "transaction {number} at node {node}, {}", world.oracle.replay());
        }
        assert!(times.is_empty(), "what nobody submitted is final");
        assert_eq!(world.control(node).pending_transactions(), 0, "node {node} keeps what is final");
    }
}

#[test]
fn every_transaction_is_final_once() {
    let mut world = World::new(Setup::default());
    submit(&mut world, 2_000, 2, &[0, 1, 2, 3, 4]);
    world.run_until(World::at_ms(6_000));
    assert_each_once(&world, 2_000);
}

#[test]
fn every_transaction_is_final_once_though_leaders_are_dead() {
    let mut world = World::new(Setup::default());
    world.kill(1);
    world.kill(2);
    submit(&mut world, 1_500, 4, &[0, 3, 4]);
    world.run_until(World::at_ms(16_000));
    assert_each_once(&world, 1_500);
}

#[test]
fn every_transaction_is_final_once_though_a_leader_dies_while_it_makes_blocks() {
    for died_at_ms in [1_700, 2_110, 2_520, 3_190] {
        let mut world = World::new(Setup::default());
        submit(&mut world, died_at_ms / 4, 4, &[0, 2, 3, 4]);
        world.kill(1);
        world.run_until(World::at_ms(died_at_ms + 9_000));
        assert_each_once(&world, died_at_ms / 4);
    }
}

#[test]
fn after_dead_leaders_the_first_one_alive_has_what_they_were_given() {
    let mut world = World::new(Setup { nodes: 10, ..Setup::default() });
    world.kill(1);
    world.kill(2);
    assert!(world.run_until_decided(3, World::at_ms(2_000)));
    // Leader 1 and the next one, 2, are the only ones to be told at first.
    for number in 0..20 {
        world.submit(9, transaction(number));
    }
    assert!(world.run_until_decided(12, World::at_ms(12_000)));
    let block = world.oracle.chain(0).iter().find(|block| block.id.slot == alpenglow_rotor::types::Slot(12));
    assert_eq!(block.map(|block| block.transaction_ids.len()), Some(20));
    assert_each_once(&world, 20);
}

#[test]
fn transactions_of_a_skipped_window_are_made_good_by_its_leader() {
    let mut world = World::new(Setup::default());
    for slot in 4..8 {
        world.late_slots.insert(alpenglow_rotor::types::Slot(slot), std::time::Duration::from_secs(6));
    }
    submit(&mut world, 1_000, 3, &[1]);
    world.run_until(World::at_ms(14_000));
    assert_each_once(&world, 1_000);
}

#[test]
fn the_same_transaction_given_to_all_nodes_is_final_once() {
    let mut world = World::new(Setup::default());
    for number in 0..50 {
        (0..5).for_each(|node| world.submit(node, transaction(number)));
        world.run_until(World::at_ms(number * 40));
    }
    world.run_until(World::at_ms(5_000));
    assert_each_once(&world, 50);
    world.submit(3, transaction(7));
    assert_eq!(world.control(3).counters().get("transaction_finalized"), 1);
    world.run_until(World::at_ms(8_000));
    assert_each_once(&world, 50);
}

#[test]
fn defect_20_no_length_of_transaction_stops_a_leader() {
    let mut world = World::new(Setup::default());
    for length in [0, 1, 1_023, 1_024, 1_025, 1_100, 1_200, 65_000] {
        for node in 0..5 {
            world.submit(node, vec![length as u8; length]);
        }
    }
    assert!(world.run_until_decided(19, World::at_ms(9_000)));
    let mut lengths: Vec<usize> = world.finalized_transactions(0).iter().map(Vec::len).collect();
    lengths.sort_unstable();
    assert_eq!(lengths, [1, 1_023, 1_024]);
    assert_eq!(world.control(0).counters().get("transaction_length"), 5);
}

#[test]
fn more_transactions_than_a_slot_can_carry_are_carried_by_later_ones() {
    let mut world = World::new(Setup {
        configure: |config| {
            config.slices_in_flight_max = 2;
            config.coding = CodingParameters::new(Code::Rs8, 4, 8, 512, 1_232).unwrap();
        },
        ..Setup::default()
    });
    submit(&mut world, 3_000, 0, &[0, 1, 2, 3, 4]);
    world.run_until(World::at_ms(8_000));
    assert_each_once(&world, 3_000);
}

/// A leader with more transactions than the others' memory would make a block that all of them drop, again and again.
#[test]
fn more_transactions_than_memory_has_room_for_do_not_stop_the_chain() {
    let mut world = World::new(Setup {
        configure: |config| {
            config.coding = CodingParameters::new(Code::Rs8, 4, 8, 512, 1_232).unwrap();
            config.blokstor.slice_memory_bytes = 4 * 512;
            config.blokstor.bytes_max = 1 << 20;
            config.blokstor.retained_bytes = 1 << 17;
        },
        ..Setup::default()
    });
    submit(&mut world, 3_000, 0, &[0, 1, 2, 3, 4]);
    world.run_until(World::at_ms(12_000));
    assert_each_once(&world, 3_000);
}

#[test]
fn transactions_survive_delays_and_losses() {
    for seed in seeds(6) {
        let mut world = World::new(Setup { seed, real_checks: false, ..Setup::default() });
        world.network.jitter = std::time::Duration::from_millis(20);
        world.network.messages_lost_percent = 5;
        let mut random = Random(seed);
        for number in 0..500 {
            world.run_until(World::at_ms(number * 6));
            world.submit(random.below(5) as usize, transaction(number));
        }
        world.network.messages_lost_percent = 0;
        world.run_until(World::at_ms(12_000));
        assert_each_once(&world, 500);
    }
}
