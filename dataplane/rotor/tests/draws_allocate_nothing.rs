//! Drawing relays and leaders happens on shard threads, which never allocate after start-up.
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use alpenglow_rotor::sampling::RelaySampler;
use alpenglow_rotor::schedule::{EpochSeed, LeaderSchedule, ScheduleKind};
use alpenglow_rotor::slice::SliceId;
use alpenglow_rotor::types::{SliceIndex, Slot, Stake, ValidatorIndex};
use alpenglow_rotor::validators::ValidatorSet;
use ed25519_dalek::SigningKey;

struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

// SAFETY: every call goes to the system allocator unchanged; counting touches no heap.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let _ = ALLOCATIONS.try_with(|count| count.set(count.get() + 1));
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the contract of `dealloc`, and `pointer` came from the system allocator.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn drawing_relays_and_leaders_allocates_nothing() {
    let identity = |v: u8| SigningKey::from_bytes(&[v; 32]).verifying_key().to_bytes();
    let validators = ValidatorSet::new((1..=100).map(|v| (identity(v), Stake(u64::from(v)))).collect()).unwrap();
    let sampler = RelaySampler::new(&validators, EpochSeed([1; 32]), 64);
    let schedule = LeaderSchedule::new(ScheduleKind::StakeWeighted, EpochSeed([1; 32]), &validators);
    let mut relays = [ValidatorIndex(0); 64];

    let before = ALLOCATIONS.with(Cell::get);
    assert!(before > 0, "the set's own memory was counted");
    for slot in 0..100 {
        sampler.sample(SliceId { slot: Slot(slot), index: SliceIndex::new(0).unwrap() }, &mut relays);
        assert!(schedule.leader(Slot(slot)).get() < validators.len());
    }
    assert_eq!(ALLOCATIONS.with(Cell::get), before);
}
