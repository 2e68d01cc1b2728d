//! A shard does not allocate once it is set up.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]
#![allow(unsafe_code, reason = "a global allocator is one by contract")]

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use alpenglow_dataplane::datagram::Kind;
use alpenglow_dataplane::{Counter, EngineKind, MessageBytes, ToShard};
use alpenglow_rotor::parameters::{Code, CodingParameters, DATAGRAM_BYTES_DEFAULT};
use common::{Node, configs_with, leader, run_until, send_slice, slice_id, start};

/// Counts what threads named `shard-…` allocate and free while `COUNTING`.
struct CountingAllocator;

static COUNTING: AtomicBool = AtomicBool::new(false);
static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

thread_local! {
    static IS_SHARD: Cell<Option<bool>> = const { Cell::new(None) };
}

fn is_shard() -> bool {
    IS_SHARD.get().unwrap_or_else(|| {
        let mut name = [0_u8; 16];
        // SAFETY: PR_GET_NAME writes at most 16 bytes, terminated, to the buffer.
        unsafe { libc::prctl(libc::PR_GET_NAME, name.as_mut_ptr()) };
        let is_shard = name.starts_with(b"shard-");
        IS_SHARD.set(Some(is_shard));
        is_shard
    })
}

fn count() {
    if COUNTING.load(Ordering::Relaxed) && is_shard() {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
    }
}

// SAFETY: everything is passed on to the system's allocator.
unsafe impl GlobalAlloc for CountingAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: by the caller's contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        count();
        // SAFETY: by the caller's contract.
        unsafe { System.dealloc(memory, layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: by the caller's contract.
        unsafe { System.realloc(memory, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

/// Everything that a shard does: encode, relay, decode, messages each way, slots closed, drops.
fn exercise(nodes: &mut [Node], slots: std::ops::Range<u64>) {
    let all = nodes.len();
    let mut sent = Vec::new();
    for slot in slots {
        for index in 0..20 {
            let leader = &nodes[leader(slot, all)];
            sent.push(send_slice(leader, slice_id(slot, index), index == 19, 1_000 * index));
        }
        let body = MessageBytes::try_from(&[7; 300][..]).unwrap();
        nodes[0].order(0, ToShard::Broadcast { kind: Kind::Vote, body });
        run_until(nodes, "the slot's slices", |nodes| {
            let has_all = |node: usize| (0..20).all(|index| nodes[node].received(slice_id(slot, index)).is_some());
            (0..all).filter(|&node| node != leader(slot, all)).all(has_all)
        });
        for node in nodes.iter_mut() {
            node.horizon.closed_through.store(slot, Ordering::Relaxed);
            // The payload's last handle may go on either side.
            node.slices.clear();
        }
    }
}

#[test]
fn shards_do_not_allocate_after_start_up() {
    let wide = CodingParameters::fitting(Code::Leopard16, 32, 320, DATAGRAM_BYTES_DEFAULT).unwrap();
    // One after the other: what one engine's shards allocate at start-up must not be counted for the other's.
    for (engine, coding) in
        EngineKind::ALL.into_iter().flat_map(|engine| [(engine, CodingParameters::default()), (engine, wide)])
    {
        let mut nodes: Vec<Node> = configs_with(engine, coding, 3, 2).into_iter().map(start).collect();
        COUNTING.store(true, Ordering::SeqCst);
        exercise(&mut nodes, 1..13);
        COUNTING.store(false, Ordering::SeqCst);
        let decoded: u64 = nodes.iter().map(|node| node.counter(Counter::SlicesDecoded)).sum();
        assert!(decoded >= 12 * 20 * 2);
        let calls = ALLOCATIONS.load(Ordering::SeqCst);
        assert_eq!(calls, 0, "allocations or frees on shard threads: {}, {coding:?}", engine.name());
    }
}

/// The test above could not fail if shard threads were not recognised.
#[test]
fn an_allocation_on_a_thread_of_that_name_would_be_seen() {
    let thread = std::thread::Builder::new().name("shard-x".into());
    let seen = thread.spawn(is_shard).unwrap();
    assert!(seen.join().unwrap());
    assert!(!is_shard());
}
