//! What is left of a block log when the power fails, where votes are to outlive it.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::os::unix::fs::MetadataExt;
use std::sync::Mutex;
use std::time::Instant;

use alpenglow_control::block_log::BlockLogOrder;
use alpenglow_dataplane::ControlWaker;

use super::*;
use crate::failpoint::FailPoints;

const SYNCED: Bounds = Bounds { synced: true, ..BOUNDS };

/// What of a folder is on disk: of each file, by its inode, so many bytes, and these names.
#[derive(Default)]
struct OnDisk {
    bytes: BTreeMap<u64, u64>,
    names: BTreeSet<OsString>,
    fails: bool,
}

type Known = Arc<Mutex<OnDisk>>;

fn names(folder: &Path) -> BTreeSet<OsString> {
    fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name()).collect()
}

/// A log whose syncs are remembered.
fn remembered(folder: &Path, limits: Limits) -> (BlockLog, Known) {
    let known = Known::default();
    let (at_sync, path) = (Arc::clone(&known), folder.to_owned());
    let sync = move |synced: &File| {
        let mut on_disk = at_sync.lock().unwrap();
        if on_disk.fails {
            return Err(io::Error::from(io::ErrorKind::Other));
        }
        let metadata = synced.metadata()?;
        if metadata.is_dir() {
            on_disk.names = names(&path);
        } else {
            on_disk.bytes.insert(metadata.ino(), metadata.len());
        }
        Ok(())
    };
    (open_with(folder, limits, sync), known)
}

/// The slots of those blocks that a start finds after the power failed: of segments what was synced, and of the files
/// beside them all, since control syncs them; but only where the name is on disk too.
fn after_power_loss(folder: &Path, known: &Known, chain: &[Arc<Block>]) -> Vec<u64> {
    let left = tempfile::tempdir().unwrap();
    {
        let on_disk = known.lock().unwrap();
        for name in names(folder).intersection(&on_disk.names) {
            // It may go meanwhile.
            let Ok(bytes) = fs::read(folder.join(name)) else { continue };
            let Ok(inode) = fs::metadata(folder.join(name)).map(|metadata| metadata.ino()) else { continue };
            let is_held = name.to_str().unwrap().ends_with(".held");
            let synced = on_disk.bytes.get(&inode).map_or(0, |bytes| *bytes as usize);
            let length = if is_held { bytes.len() } else { synced.min(bytes.len()) };
            fs::write(left.path().join(name), &bytes[..length]).unwrap();
        }
    }
    let (mut log, _) = open(left.path(), LIMITS);
    readable(&mut log, chain.iter().map(|block| &**block))
}

fn vote_for(handle: &mut BlockLogHandle, block: &Arc<Block>) {
    push(handle, BlockLogOrder::HoldSlice(block.slices[0].clone()));
    push(handle, BlockLogOrder::Hold { block: Arc::clone(block), before_vote: true });
}

fn wait_for_thread(handle: &BlockLogHandle) {
    let start = Instant::now();
    while handle.awaits_thread() {
        assert!(start.elapsed() < PATIENCE, "the thread does nothing");
        thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn where_votes_wait_for_the_disk_no_block_that_was_voted_for_is_lost_with_the_power() {
    let folder = tempfile::tempdir().unwrap();
    // Long enough for several segments of the smallest size.
    let chain: Vec<Arc<Block>> = chain(120, LARGE).into_iter().map(Arc::new).collect();
    let (log, known) = remembered(folder.path(), SMALL_LIMITS);
    let (waker, _) = ControlWaker::pair().unwrap();
    let (thread, mut handle) = BlockLogThread::start(log, SYNCED, waker, FailPoints::default()).unwrap();
    for (voted, block) in chain.iter().enumerate() {
        vote_for(&mut handle, block);
        if voted % 3 == 0 {
            let left = after_power_loss(folder.path(), &known, &chain);
            assert_eq!(left, (1..=block.id.slot.0).collect::<Vec<_>>());
        }
        let (block, certificates) = (Arc::clone(block), fast(block.id));
        push(&mut handle, BlockLogOrder::Final { block, certificates, in_order: true });
        wait_for_thread(&handle);
    }
    assert!(names(folder.path()).iter().filter(|name| name.to_str().unwrap().ends_with(".held")).count() < 10);
    drop(handle);
    thread.stop();
}

#[test]
fn a_start_forgets_what_was_held_for_votes_only_when_its_segments_are_on_disk() {
    let folder = tempfile::tempdir().unwrap();
    let chain: Vec<Arc<Block>> = chain(3, 900).into_iter().map(Arc::new).collect();
    let (log, _) = open(folder.path(), LIMITS);
    let (waker, _) = ControlWaker::pair().unwrap();
    let (thread, mut handle) = BlockLogThread::start(log, SYNCED, waker, FailPoints::default()).unwrap();
    chain.iter().for_each(|block| vote_for(&mut handle, block));
    drop(handle);
    thread.stop();
    // All is in a segment now too, which a process that was killed may not have synced.
    let (log, known) = remembered(folder.path(), LIMITS);
    assert!(!names(folder.path()).iter().any(|name| name.to_str().unwrap().ends_with(".held")));
    drop(log);
    assert_eq!(after_power_loss(folder.path(), &known, &chain), [1, 2, 3]);
}

#[test]
fn files_for_votes_stay_if_the_segments_that_their_blocks_went_to_could_not_be_synced() {
    let folder = tempfile::tempdir().unwrap();
    let (mut log, known) = remembered(folder.path(), LIMITS);
    let before = log.make_held().unwrap();
    write(&mut log, &chain(1, 900));
    known.lock().unwrap().fails = true;
    log.sync().unwrap_err();
    known.lock().unwrap().fails = false;
    // The disk does from now on as if nothing had been.
    log.sync().unwrap();
    let after = log.make_held().unwrap();
    log.remove_held(before);
    log.remove_held(after);
    let names = names(folder.path());
    assert!(names.contains(&OsString::from("00000001.held")) && names.len() == 2, "{names:?}");
}
