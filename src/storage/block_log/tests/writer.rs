//! The log's thread.

use std::sync::atomic::AtomicUsize;
use std::sync::{Condvar, Mutex};
use std::time::Instant;

use alpenglow_control::block_log::{BlockLogAnswer, BlockLogOrder};
use alpenglow_dataplane::ControlWaker;
use alpenglow_rotor::types::Time;

use super::super::writer::{SLOW_SYNC, UNSYNCED_BYTES_MAX};
use super::*;
use crate::failpoint::FailPoints;

const SLICE_BYTES: usize = 28_672;
/// However slow the disk is, votes and stops wait for it.
pub(in crate::storage::block_log) const BOUNDS: Bounds = Bounds {
    waiting_bytes_max: 10 * SLICE_BYTES,
    slice_memory_bytes: SLICE_BYTES,
    held_bytes_max: 64 << 20,
    synced: false,
    stall: Duration::MAX,
    stop_within: Duration::MAX,
};

/// Writes when it is let.
#[derive(Default)]
pub(in crate::storage::block_log) struct Gate {
    is_open: Mutex<bool>,
    opened: Condvar,
    is_full: AtomicBool,
    written: AtomicUsize,
}

impl Gate {
    pub(in crate::storage::block_log) fn open(&self) {
        *self.is_open.lock().unwrap() = true;
        self.opened.notify_all();
    }
}

pub(in crate::storage::block_log) fn gated(folder: &Path) -> (Arc<Gate>, BlockLogThread, BlockLogHandle) {
    let gate = Arc::new(Gate::default());
    // However slow the disk is, it is not left to others.
    let mut log = open_with(folder, LIMITS, |_| Ok(()));
    let at_disk = Arc::clone(&gate);
    log.write_with(Box::new(move |file: &File, bytes: &[u8], at: u64| {
        use std::os::unix::fs::FileExt;
        let is_open = at_disk.is_open.lock().unwrap();
        drop(at_disk.opened.wait_while(is_open, |is_open| !*is_open).unwrap());
        if at_disk.is_full.load(Ordering::Relaxed) {
            return Err(io::Error::from(io::ErrorKind::StorageFull));
        }
        at_disk.written.fetch_add(1, Ordering::Relaxed);
        file.write_all_at(bytes, at)
    }));
    let (waker, _) = ControlWaker::pair().unwrap();
    let (thread, handle) = BlockLogThread::start(log, BOUNDS, waker, FailPoints::default()).unwrap();
    (gate, thread, handle)
}

/// Pushes an order that must not fail.
pub(in crate::storage::block_log) fn push(handle: &mut BlockLogHandle, order: BlockLogOrder) {
    handle.push(Time(0), order, |reason| panic!("{reason}"));
}

fn hold(block: &Arc<Block>) -> BlockLogOrder {
    BlockLogOrder::Hold { block: Arc::clone(block), before_vote: false }
}

fn finality(block: Block) -> BlockLogOrder {
    BlockLogOrder::Final { block: Arc::new(block), certificates: Vec::new(), in_order: true }
}

fn answer(handle: &BlockLogHandle) -> BlockLogAnswer {
    let start = Instant::now();
    loop {
        if let Some(answer) = handle.pop() {
            return answer;
        }
        assert!(start.elapsed() < PATIENCE, "no answer comes");
        thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn a_disk_that_hangs_holds_nobody_up_and_what_was_left_out_is_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let chain: Vec<Arc<Block>> = chain(300, 900).into_iter().map(Arc::new).collect();
    let (gate, thread, mut handle) = gated(folder.path());
    push(&mut handle, hold(&chain[0]));
    // From when it hangs at the first one, nothing leaves the queue.
    let start = Instant::now();
    while handle.awaits_thread() {
        assert!(start.elapsed() < PATIENCE, "nothing is written");
        thread::sleep(Duration::from_millis(1));
    }
    let orders = chain.iter().flat_map(|block| {
        let certificates = fast(block.id);
        [hold(block), BlockLogOrder::Final { block: Arc::clone(block), certificates, in_order: true }]
    });
    let mut left_out = [0, 0];
    for order in orders.skip(1) {
        handle.push(Time(0), order, |reason| match reason {
            "block_log_behind_held" => left_out[0] += 1,
            reason => {
                assert_eq!(reason, "block_log_behind");
                left_out[1] += 1;
            }
        });
    }
    // The shards get their memory back: ten slices of it may wait, with what the thread is at.
    assert_eq!(left_out[0], 290);
    assert!(left_out[1] > 40, "{left_out:?}");
    gate.open();
    // Until the queue is worked off it stays behind, then it goes on, and misses what lies between.
    let next = Arc::new(block(301, chain[299].id, 40));
    let start = Instant::now();
    let last = BlockLogOrder::Final { block: Arc::clone(&next), certificates: Vec::new(), in_order: true };
    for order in [hold(&next), last] {
        loop {
            let mut is_left_out = false;
            handle.push(Time(0), order.clone(), |_| is_left_out = true);
            if !is_left_out {
                break;
            }
            assert!(start.elapsed() < PATIENCE);
            thread::sleep(Duration::from_millis(1));
        }
    }
    let BlockLogAnswer::Lost(lost) = answer(&handle) else { panic!("nothing was asked for") };
    assert_eq!(lost, chain[299].id);
    let found = Arc::clone(&chain[299]);
    push(&mut handle, BlockLogOrder::Final { block: found, certificates: Vec::new(), in_order: false });
    let BlockLogAnswer::Lost(lost) = answer(&handle) else { panic!("nothing was asked for") };
    assert_eq!(lost, chain[298].id);
    push(&mut handle, BlockLogOrder::Load(chain[0].id));
    push(&mut handle, BlockLogOrder::Load(chain[298].id));
    let answers = [answer(&handle), answer(&handle)].map(|answer| match answer {
        BlockLogAnswer::Loaded { id, block } => (id, block.is_some()),
        BlockLogAnswer::Lost(_) => panic!("one at a time"),
    });
    assert_eq!(answers, [(chain[0].id, true), (chain[298].id, false)]);
    drop(handle);
    assert!(thread.stop().drops.is_empty());
}

/// So that whoever syncs another file waits for little of this one, and finds the disk idle now and then.
#[test]
fn a_slow_disk_has_little_to_write_at_a_time_and_is_left_to_others_as_long_as_it_took() {
    const SYNC_TAKES: Duration = SLOW_SYNC.saturating_mul(2);
    #[derive(Default)]
    struct Seen {
        unsynced: u64,
        unsynced_most: u64,
        syncs: usize,
        synced: Option<Instant>,
        written_too_soon: usize,
    }
    let folder = tempfile::tempdir().unwrap();
    let seen = Arc::new(Mutex::new(Seen::default()));
    let (at_write, at_sync) = (Arc::clone(&seen), Arc::clone(&seen));
    let mut log = open_with(folder.path(), LIMITS, move |_| {
        thread::sleep(SYNC_TAKES);
        let mut seen = at_sync.lock().unwrap();
        (seen.unsynced, seen.syncs, seen.synced) = (0, seen.syncs + 1, Some(Instant::now()));
        Ok(())
    });
    log.write_with(Box::new(move |file: &File, bytes: &[u8], at: u64| {
        use std::os::unix::fs::FileExt;
        let mut seen = at_write.lock().unwrap();
        seen.unsynced += bytes.len() as u64;
        seen.unsynced_most = seen.unsynced_most.max(seen.unsynced);
        seen.written_too_soon += usize::from(seen.synced.is_some_and(|synced| synced.elapsed() < SYNC_TAKES));
        file.write_all_at(bytes, at)
    }));
    let (waker, _) = ControlWaker::pair().unwrap();
    let (thread, mut handle) = BlockLogThread::start(log, BOUNDS, waker, FailPoints::default()).unwrap();
    let block_bytes = 26_000;
    for block in chain(4 * UNSYNCED_BYTES_MAX / block_bytes, block_bytes as usize) {
        push(&mut handle, finality(block));
    }
    let start = Instant::now();
    while seen.lock().unwrap().syncs < 3 {
        assert!(start.elapsed() < PATIENCE, "it is not synced");
        thread::sleep(Duration::from_millis(1));
    }
    let Seen { unsynced_most, written_too_soon, .. } = std::mem::take(&mut *seen.lock().unwrap());
    drop(handle);
    thread.stop();
    assert!(unsynced_most < UNSYNCED_BYTES_MAX + 2 * block_bytes, "{unsynced_most} bytes");
    assert_eq!(written_too_soon, 0);
}

#[test]
fn a_stop_waits_only_so_long_for_a_slow_disk() {
    const BLOCKS: u64 = 100;
    let bounds = Bounds { stop_within: Duration::from_millis(100), ..BOUNDS };
    let folder = tempfile::tempdir().unwrap();
    let (mut log, _) = open(folder.path(), LIMITS);
    let written = Arc::new(AtomicUsize::new(0));
    let at_disk = Arc::clone(&written);
    log.write_with(Box::new(move |file: &File, bytes: &[u8], at: u64| {
        use std::os::unix::fs::FileExt;
        thread::sleep(bounds.stop_within / 20);
        at_disk.fetch_add(usize::from(at > 0), Ordering::Relaxed);
        file.write_all_at(bytes, at)
    }));
    let (waker, _) = ControlWaker::pair().unwrap();
    let (thread, mut handle) = BlockLogThread::start(log, bounds, waker, FailPoints::default()).unwrap();
    for block in chain(BLOCKS, 900) {
        push(&mut handle, finality(block));
    }
    drop(handle);
    let report = thread.stop();
    let left = report.drops.iter().find(|(reason, _)| *reason == "block_log_left_at_stop").map_or(0, |(_, left)| *left);
    assert!(left > 0, "{:?}", report.drops);
    assert_eq!(written.load(Ordering::Relaxed) as u64 + left, BLOCKS);
}

/// The niceness of the threads of this process that are named so.
fn niceness(thread_name: &str) -> Vec<i32> {
    let threads = fs::read_dir("/proc/self/task").unwrap().map(|thread| thread.unwrap().path());
    let stats = threads.filter_map(|thread| fs::read_to_string(thread.join("stat")).ok());
    let niceness = |stat: String| {
        let (head, fields) = stat.rsplit_once(") ")?;
        let is_named = head.ends_with(&format!("({thread_name}"));
        is_named.then(|| fields.split(' ').nth(16).unwrap().parse().unwrap())
    };
    stats.filter_map(niceness).collect()
}

#[test]
fn the_thread_lets_others_go_first() {
    let folder = tempfile::tempdir().unwrap();
    let (_gate, thread, handle) = gated(folder.path());
    let own = rustix::process::nice(0).unwrap();
    let start = Instant::now();
    // Other tests' threads are there too, and may not have come so far.
    while !niceness("block-log").contains(&(own + 10).min(19)) {
        assert!(start.elapsed() < PATIENCE, "{:?}", niceness("block-log"));
        thread::sleep(Duration::from_millis(1));
    }
    drop(handle);
    thread.stop();
}

#[test]
fn a_full_disk_is_counted_and_what_is_there_is_still_read() {
    let folder = tempfile::tempdir().unwrap();
    let chain: Vec<Arc<Block>> = chain(6, 900).into_iter().map(Arc::new).collect();
    let (gate, thread, mut handle) = gated(folder.path());
    gate.open();
    push(&mut handle, hold(&chain[0]));
    let start = Instant::now();
    while gate.written.load(Ordering::Relaxed) < 2 {
        assert!(start.elapsed() < PATIENCE);
        thread::sleep(Duration::from_millis(1));
    }
    gate.is_full.store(true, Ordering::Relaxed);
    for block in &chain[1..] {
        push(&mut handle, hold(block));
    }
    push(&mut handle, BlockLogOrder::Load(chain[0].id));
    assert!(matches!(answer(&handle), BlockLogAnswer::Loaded { block: Some(_), .. }));
    drop(handle);
    assert_eq!(thread.stop().drops, [("block_log_refused", 5)]);
    assert_eq!(survey(folder.path()).blocks.len(), 1);
}
