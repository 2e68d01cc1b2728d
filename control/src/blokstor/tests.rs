use alpenglow_rotor::slice::SliceSignature;
use alpenglow_rotor::types::SliceIndex;

use super::*;
use crate::block::{ParentStatement, SliceBuilder};

const CONFIG: BlokstorConfig = BlokstorConfig {
    slice_memory_bytes: 10_000,
    bytes_max: 1_000_000,
    repaired_bytes: 100_000,
    retained_slots: 4,
    retained_bytes: 500_000,
    handover_slots: 8,
};

fn blokstor(config: BlokstorConfig) -> Blokstor {
    Blokstor::new(config, Slot(1_000))
}

/// A slice of the slot's block; `salt` makes different blocks.
fn slice(slot: u64, index: usize, is_last: bool, parent: BlockId, salt: u8) -> Slice {
    let statement = if index == 0 { ParentStatement::Parent(parent) } else { ParentStatement::Nothing };
    let mut builder = SliceBuilder::new(statement, 4_096);
    assert!(builder.push(&[salt, slot as u8, index as u8]));
    let payload = builder.finish();
    let id = SliceId { slot: Slot(slot), index: SliceIndex::new(index).unwrap() };
    let root = Hash(TransactionId::of(&payload).0);
    Slice { id, is_last, root, signature: SliceSignature([0; 64]), leader_stamp_ns: 0, payload: payload.into() }
}

fn hold(blokstor: &mut Blokstor, slot: u64, parent: BlockId) -> BlockId {
    blokstor.insert(slice(slot, 0, false, parent, 0)).unwrap();
    blokstor.insert(slice(slot, 1, true, parent, 0)).unwrap();
    match events(blokstor).pop() {
        Some(BlokstorEvent::Complete(block)) => block.id,
        other => panic!("{other:?}"),
    }
}

fn events(blokstor: &mut Blokstor) -> Vec<BlokstorEvent> {
    std::iter::from_fn(|| blokstor.poll()).collect()
}

fn handed(blokstor: &mut Blokstor) -> Vec<u64> {
    blokstor.hand_over();
    let handed = |event| match event {
        BlokstorEvent::HandOver(block) => Some(block.id.slot.0),
        _ => None,
    };
    events(blokstor).into_iter().filter_map(handed).collect()
}

#[test]
fn blocks_are_handed_over_in_chain_order_only() {
    let mut store = blokstor(CONFIG);
    let mut chain = vec![BlockId::GENESIS];
    for slot in 1..=4 {
        let parent = *chain.last().unwrap();
        chain.push(if slot == 2 { slice_id(2, parent) } else { hold(&mut store, slot, parent) });
    }
    store.finalized(chain[4]);
    assert!(handed(&mut store).is_empty(), "its ancestors are not known to be final");
    store.finalized(chain[3]);
    store.finalized(chain[2]);
    store.finalized(chain[1]);
    assert_eq!(handed(&mut store), [1]);
    assert_eq!(store.closed_through(), Slot(1), "a finalized block that is not held is still wanted");
    assert_eq!(hold(&mut store, 2, chain[1]), chain[2]);
    assert_eq!(handed(&mut store), [2, 3, 4]);
    assert_eq!(store.closed_through(), Slot(4));
    assert_eq!(store.insert(slice(4, 5, false, chain[3], 0)), Err(SliceRefusal::Outside));
}

fn slice_id(slot: u64, parent: BlockId) -> BlockId {
    let mut other = blokstor(CONFIG);
    hold(&mut other, slot, parent)
}

#[test]
fn a_missing_block_is_waited_for_only_so_long() {
    let mut store = blokstor(CONFIG);
    let first = hold(&mut store, 1, BlockId::GENESIS);
    store.finalized(first);
    assert_eq!(handed(&mut store), [1]);
    let missing = slice_id(2, first);
    store.finalized(missing);
    let mut parent = missing;
    for slot in 3..=9 {
        parent = hold(&mut store, slot, parent);
        store.finalized(parent);
        assert!(handed(&mut store).is_empty());
    }
    let tenth = hold(&mut store, 10, parent);
    store.finalized(tenth);
    store.hand_over();
    let happened = events(&mut store);
    assert!(
        matches!(happened[0], BlokstorEvent::Gap { after, through } if after == first && through == missing),
        "{happened:?}"
    );
    assert_eq!(happened.len(), 1 + 8);
    assert!(store.finalized.is_empty());
}

#[test]
fn nothing_grows_when_no_block_ever_arrives() {
    let mut store = blokstor(CONFIG);
    for slot in 1..=10_000 {
        store.finalized(BlockId { slot: Slot(slot), hash: Hash([1; 32]) });
        store.hand_over();
        assert!(store.finalized.len() as u64 <= CONFIG.handover_slots && store.slots() == 0);
        assert!(events(&mut store).len() <= 1);
    }
    assert_eq!(store.closed_through(), Slot(10_000 - CONFIG.handover_slots));
}

#[test]
fn a_finalized_block_beside_the_chain_stops_the_hand_over() {
    let mut store = blokstor(CONFIG);
    let first = hold(&mut store, 1, BlockId::GENESIS);
    store.finalized(first);
    assert_eq!(handed(&mut store), [1]);
    let beside = hold(&mut store, 4, BlockId::GENESIS);
    store.finalized(beside);
    store.hand_over();
    assert!(matches!(events(&mut store)[..], [BlokstorEvent::Conflict(block)] if block == beside));
    let child = hold(&mut store, 8, first);
    store.finalized(child);
    assert!(handed(&mut store).is_empty());
}

#[test]
fn defect_15_the_store_is_pruned() {
    let mut store = blokstor(CONFIG);
    let mut parent = BlockId::GENESIS;
    for slot in (4..4_000).step_by(4) {
        store.set_window(Slot(slot), Slot(slot + 11));
        parent = hold(&mut store, slot, parent);
        // Blocks that never become final: the chain goes on from the window's first one.
        let skipped = hold(&mut store, slot + 1, parent);
        hold(&mut store, slot + 2, skipped);
        store.finalized(parent);
        assert_eq!(handed(&mut store), [slot]);
        assert!(store.slots() <= 3 && store.bytes() <= 100_000, "{} slots, {} bytes", store.slots(), store.bytes());
    }
}

#[test]
fn retention_is_bounded_in_slots_and_bytes() {
    let grow = |config: BlokstorConfig| {
        let mut store = blokstor(config);
        let mut parent = BlockId::GENESIS;
        for slot in 1..=100 {
            parent = hold(&mut store, slot, parent);
            store.finalized(parent);
            assert_eq!(handed(&mut store), [slot]);
        }
        assert_eq!(store.slots(), 0);
        assert!(store.retained.values().all(|block| store.block(block.id).is_some()));
        (store.retained.len(), store.bytes())
    };
    let (blocks, bytes) = grow(CONFIG);
    assert_eq!(blocks, 4);
    assert_eq!(grow(BlokstorConfig { retained_bytes: bytes - 1, ..CONFIG }).0, 3);
    assert_eq!(grow(BlokstorConfig { retained_slots: 0, ..CONFIG }), (0, 0));
}

#[test]
fn what_lies_ahead_makes_room_first_and_stays_out() {
    let mut store = blokstor(BlokstorConfig { bytes_max: 60_000, ..CONFIG });
    store.set_window(Slot(4), Slot(15));
    let parent = BlockId { slot: Slot(3), hash: Hash([3; 32]) };
    store.insert(slice(12, 3, false, parent, 0)).unwrap();
    store.insert(slice(8, 3, false, parent, 0)).unwrap();
    let near = hold(&mut store, 4, parent);
    store.insert(slice(5, 3, false, near, 0)).unwrap();
    assert!(events(&mut store).is_empty());
    let next = hold_with_eviction(&mut store, 6, near);
    assert!(next.contains(&12) && !next.contains(&8), "{next:?}");
    assert!(store.block(near).is_some());
    assert_eq!(store.insert(slice(12, 4, false, parent, 0)), Err(SliceRefusal::Evicted));
    assert!(store.bytes() <= 60_000);
}

fn hold_with_eviction(store: &mut Blokstor, slot: u64, parent: BlockId) -> Vec<u64> {
    store.insert(slice(slot, 2, false, parent, 0)).unwrap();
    let evicted = |event| match event {
        BlokstorEvent::Evicted(slot) => Some(slot.0),
        _ => None,
    };
    events(store).into_iter().filter_map(evicted).collect()
}

#[test]
fn a_chain_that_never_finalizes_is_not_stopped_by_its_past() {
    let mut store = blokstor(CONFIG);
    let mut parent = BlockId::GENESIS;
    for slot in 1..3_000 {
        let first = Slot(slot).window_first();
        store.set_window(first, Slot(slot + 8));
        store.insert(slice(slot, 0, false, parent, 0)).unwrap();
        store.insert(slice(slot, 1, true, parent, 0)).unwrap();
        let complete = events(&mut store).into_iter().find_map(|event| match event {
            BlokstorEvent::Complete(block) => Some(block.id),
            _ => None,
        });
        parent = complete.expect("the block at hand is always held");
        assert!(store.bytes() <= CONFIG.bytes_max && store.slots() <= SLOTS_MAX);
    }
}

#[test]
fn what_the_next_leader_streams_outlives_the_past_of_a_chain_that_never_finalizes() {
    let mut store = blokstor(CONFIG);
    let mut parent = BlockId::GENESIS;
    for slot in 1..300 {
        store.set_window(Slot(slot - 1).window_first(), Slot(slot + 8));
        store.insert(slice(slot, 0, false, parent, 0)).unwrap();
        store.set_window(Slot(slot).window_first(), Slot(slot + 8));
        store.insert(slice(slot, 1, true, parent, 0)).unwrap();
        let complete = events(&mut store).into_iter().find_map(|event| match event {
            BlokstorEvent::Complete(block) => Some(block.id),
            _ => None,
        });
        parent = complete.expect("the block is held though it began before its window");
    }
}

/// A block that no slice of came here.
fn elsewhere(slot: u64, parent: BlockId, salt: u8) -> Arc<Block> {
    let mut other = blokstor(CONFIG);
    other.insert(slice(slot, 0, false, parent, salt)).unwrap();
    other.insert(slice(slot, 1, true, parent, salt)).unwrap();
    match events(&mut other).pop() {
        Some(BlokstorEvent::Complete(block)) => block,
        event => panic!("{event:?}"),
    }
}

#[test]
fn a_repaired_block_is_held_beside_the_first_and_handed_over() {
    let mut store = blokstor(CONFIG);
    let first = hold(&mut store, 1, BlockId::GENESIS);
    let repaired = elsewhere(1, BlockId::GENESIS, 7);
    store.insert_repaired(repaired.clone());
    store.insert_repaired(repaired.clone());
    assert!(matches!(&events(&mut store)[..], [BlokstorEvent::Repaired(block)] if block.id == repaired.id));
    assert!(store.block(first).is_some() && store.block(repaired.id).is_some());
    store.finalized(repaired.id);
    assert_eq!(handed(&mut store), [1]);
    assert!(store.block(first).is_none() && store.block(repaired.id).is_some(), "kept for others");
    store.insert_repaired(elsewhere(1, BlockId::GENESIS, 8));
    assert!(events(&mut store).is_empty() && store.repaired_bytes == 0);
}

#[test]
fn a_block_that_comes_both_ways_is_reported_once() {
    let mut store = blokstor(CONFIG);
    let repaired = elsewhere(1, BlockId::GENESIS, 0);
    store.insert(slice(1, 0, false, BlockId::GENESIS, 0)).unwrap();
    let root = repaired.slices[0].root;
    assert!(SliceSource::slice(&store, repaired.slices[0].id, root).is_some());
    assert!(SliceSource::slice(&store, repaired.slices[0].id, Hash([1; 32])).is_none());
    store.insert_repaired(repaired.clone());
    store.insert(slice(1, 1, true, BlockId::GENESIS, 0)).unwrap();
    assert!(matches!(events(&mut store)[..], [BlokstorEvent::Repaired(_)]));
    assert!(store.block(repaired.id).is_some() && store.repaired_bytes == 0);
    assert!(SliceSource::slice(&store, repaired.slices[1].id, repaired.slices[1].root).is_some());
}

#[test]
fn repaired_blocks_are_bounded_and_what_had_to_go_is_missing() {
    let mut chain: Vec<Arc<Block>> = Vec::new();
    for slot in 1..=6 {
        let parent = chain.last().map_or(BlockId::GENESIS, |block| block.id);
        chain.push(elsewhere(slot, parent, 0));
    }
    let bytes = own_bytes(&chain[1]);
    let mut store = blokstor(BlokstorConfig { repaired_bytes: 3 * bytes, ..CONFIG });
    for block in chain.iter().rev() {
        store.finalized(block.id);
        store.insert_repaired(block.clone());
        assert!(store.repaired_bytes <= 3 * bytes);
    }
    assert_eq!(handed(&mut store), [1, 2, 3]);
    let missing: Vec<BlockId> = store.missing().collect();
    assert_eq!(missing, [chain[3].id, chain[4].id, chain[5].id]);
    for block in &chain[3..] {
        store.insert_repaired(block.clone());
    }
    assert_eq!(handed(&mut store), [4, 5, 6]);
    assert_eq!((store.missing().count(), store.repaired_bytes), (0, 0));
}

#[test]
fn equivocation_is_reported_once_a_slot() {
    let mut store = blokstor(CONFIG);
    store.insert(slice(4, 1, false, BlockId::GENESIS, 0)).unwrap();
    for salt in 1..5 {
        let other = slice(4, 1, false, BlockId::GENESIS, salt);
        assert_eq!(store.insert(other), Err(SliceRefusal::Duplicate));
    }
    assert!(matches!(events(&mut store)[..], [BlokstorEvent::Equivocation(_)]));
    let held = hold_beside(&mut store);
    assert_eq!(held.slices.len(), 3, "the first version is held all the same");
}

fn hold_beside(store: &mut Blokstor) -> Arc<Block> {
    store.insert(slice(4, 2, true, BlockId::GENESIS, 0)).unwrap();
    store.insert(slice(4, 0, false, BlockId::GENESIS, 0)).unwrap();
    match events(store).pop() {
        Some(BlokstorEvent::Complete(block)) => block,
        other => panic!("{other:?}"),
    }
}
