//! Nodes that miss blocks, and get them from others.

use std::time::Duration;

use alpenglow_control::block::{SliceBuilder, SliceContent};
use alpenglow_control::output::Event;
use alpenglow_control::production::OutgoingSlice;
use alpenglow_control::repair::{AnswerContent, RepairAnswer};
use alpenglow_rotor::types::{BlockId, Hash, Slot};

use crate::oracle::How;
use crate::world::{RepairLie, Setup, World};

/// Blocks that `node` repaired: how long each took, and with how many requests.
fn repaired(world: &World, node: usize) -> Vec<(BlockId, Duration, u32)> {
    let repaired = |(seen_by, _, event): &(usize, _, Event)| match event {
        Event::BlockRepaired { block, took, requests } if *seen_by == node => Some((*block, *took, *requests)),
        _ => None,
    };
    world.oracle.events.iter().filter_map(repaired).collect()
}

fn tip(world: &World, node: usize) -> Option<BlockId> {
    world.oracle.chain(node).last().map(|block| block.id)
}

#[test]
fn nothing_is_asked_for_when_nothing_is_missing() {
    let mut world = World::new(Setup { nodes: 10, ..Setup::default() });
    world.network.jitter = Duration::from_millis(20);
    assert!(world.run_until_decided(40, World::at_ms(40 * 400 + 3_000)));
    for node in 0..10 {
        let statistics = world.control(node).repair_statistics();
        assert_eq!((statistics.requests, world.control(node).repair_requests_served()), (0, 0), "node {node}");
    }
}

#[test]
fn a_node_that_receives_no_shreds_follows_by_repair() {
    let mut world = World::new(Setup { nodes: 6, ..Setup::default() });
    world.deaf.insert(5);
    for number in 0..400_u64 {
        world.submit(number as usize % 5, number.to_le_bytes().repeat(80));
    }
    // Up to the deaf node's own window.
    assert!(world.run_until_decided(19, World::at_ms(19 * 400 + 3_000)));
    world.run_until(World::at_ms(19 * 400 + 3_000));
    assert_eq!(world.oracle.how(5, 1, 19), [How::Fast; 19], "five of six are enough");
    assert_eq!(world.oracle.gaps(5), 0);
    assert_eq!(world.finalized_transactions(5), world.finalized_transactions(0));
    let repaired = repaired(&world, 5);
    assert!(repaired.len() >= 19);
    for (block, took, requests) in repaired {
        let slices = world.oracle.chain(5).iter().find(|held| held.id == block).map(|held| held.slices.len());
        // Two round trips of 4 ms, after a wait for the block from Rotor if its slot was open.
        assert!(took <= Duration::from_millis(108), "{block} took {took:?}");
        assert_eq!(requests as usize, 1 + slices.unwrap_or(1), "{block}: one for the proof, one for each slice");
    }
}

#[test]
fn a_deaf_node_makes_blocks_on_what_it_repaired() {
    let mut world = World::new(Setup { nodes: 6, ..Setup::default() });
    world.deaf.insert(5);
    assert!(world.run_until_decided(47, World::at_ms(47 * 400 + 5_000)));
    for node in 0..6 {
        let how = world.oracle.how(node, 20, 23);
        assert!(!how.contains(&How::Skipped), "its own window: {how:?}");
    }
}

fn spoil_shreds(answer: RepairAnswer) -> Option<RepairAnswer> {
    let RepairAnswer { id, mut content } = answer;
    if let AnswerContent::Shred(shred) = &mut content {
        shred.data[0] ^= 1;
    }
    Some(RepairAnswer { id, content })
}

fn shorten_paths(answer: RepairAnswer) -> Option<RepairAnswer> {
    let RepairAnswer { id, mut content } = answer;
    match &mut content {
        AnswerContent::LastSlice { path, .. } | AnswerContent::Roots { path, .. } => {
            path.pop();
        }
        AnswerContent::Shred(shred) => {
            shred.path.pop();
        }
        AnswerContent::NotHeld | AnswerContent::Ancestors { .. } => {}
    }
    Some(RepairAnswer { id, content })
}

fn other_roots(answer: RepairAnswer) -> Option<RepairAnswer> {
    let RepairAnswer { id, mut content } = answer;
    match &mut content {
        AnswerContent::LastSlice { root, .. } => *root = Hash([1; 32]),
        AnswerContent::Roots { roots, .. } => roots[0] = Hash([1; 32]),
        AnswerContent::NotHeld | AnswerContent::Shred(_) | AnswerContent::Ancestors { .. } => {}
    }
    Some(RepairAnswer { id, content })
}

#[test]
fn liars_in_repair_cost_time_and_nothing_else() {
    let lies: [RepairLie; 4] = [spoil_shreds, shorten_paths, other_roots, |_| None];
    for (number, lie) in lies.into_iter().enumerate() {
        let mut world = World::new(Setup { nodes: 6, real_checks: false, ..Setup::default() });
        world.deaf.insert(5);
        world.repair_lies.extend([(0, lie), (1, lie), (2, lie)]);
        world.run_until(World::at_ms(30_000));
        assert_eq!(world.oracle.gaps(5), 0, "lie {number}");
        let (chain, of_others) = (world.oracle.chain(5).len(), world.oracle.chain(4).len());
        assert!(chain + 4 >= of_others && of_others > 40, "lie {number}: {chain} of {of_others}");
        let counters = world.control(5).counters();
        let (wrong, silent) = (counters.get("repair_answer_wrong"), counters.get("repair_request_timeout"));
        let told = if number == 3 { silent } else { wrong };
        let requests = world.control(5).repair_statistics().requests;
        assert!(told > 0 && told * 4 < requests, "lie {number}: told {told} times in {requests} requests");
        assert!(number == 3 || silent == 0);
    }
}

#[test]
fn who_was_cut_off_for_longer_than_others_remember_goes_on_after_a_gap() {
    let mut world = World::new(Setup { real_checks: false, ..Setup::default() });
    assert!(world.run_until_decided(5, World::at_ms(4_000)));
    world.network.group_of = [(0, 0), (1, 0), (2, 0), (3, 0), (4, 1)].into();
    world.run_until(World::at_ms(80_000));
    world.network.group_of.clear();
    world.run_until(World::at_ms(110_000));
    assert!(world.oracle.gaps(4) > 0);
    assert_eq!(tip(&world, 4), tip(&world, 0));
}

/// A leader sends one version of its blocks to one node and another to the rest.
#[test]
fn a_second_version_is_repaired_beside_the_first() {
    const LEADER: usize = 1;
    const FOOLED: usize = 4;
    let mut world = World::new(Setup { nodes: 6, ..Setup::default() });
    world.tampers.insert(LEADER, |to, slice| {
        if to != FOOLED || slice.id.index.get() > 0 {
            return vec![slice];
        }
        let stated = SliceContent::parse(slice.id.index, &slice.payload).expect("a leader packs well").parent;
        let mut builder = SliceBuilder::new(stated, 4_096);
        assert!(builder.push(b"another version"));
        vec![OutgoingSlice { payload: builder.finish().into(), ..slice }]
    });
    assert!(world.run_until_decided(15, World::at_ms(15 * 400 + 12_000)));
    world.run_until(World::at_ms(15 * 400 + 12_000));
    assert_eq!(world.oracle.gaps(FOOLED), 0);
    assert_eq!(tip(&world, FOOLED), tip(&world, 0));
    assert!(world.oracle.how(FOOLED, 4, 7).iter().all(|how| *how != How::Skipped), "the others voted for theirs");
    let of_window = repaired(&world, FOOLED).into_iter().filter(|(block, ..)| block.slot.window() == Slot(4).window());
    assert!(of_window.count() > 0);
}
