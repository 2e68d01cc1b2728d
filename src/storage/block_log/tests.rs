mod corruption;
mod power;
mod writer;

use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use alpenglow_control::block::Block;
use alpenglow_control::block_log::{BlockHead, encode_block};
use alpenglow_rotor::parameters::CodingParameters;
use alpenglow_rotor::recoder::Recoder;
use alpenglow_rotor::types::{BlockId, ClusterId, Hash, Slot};

pub(super) use self::writer::{BOUNDS, gated, push};
use super::files::{index_path, segment_path};
use super::log::{Kept, Opened};
pub(super) use super::samples::{CLUSTER, block, fast};
use super::samples::{VALIDATORS, parameters};
use super::segment::{Head, Placed};
use super::*;
use crate::storage::frames::{Format, HEADER_BYTES};

pub(super) const LIMITS: Limits = Limits { bytes_max: 64 << 20, slots_max: 100_000 };
pub(super) const PATIENCE: Duration = Duration::from_secs(60);

pub(super) fn chain(count: u64, bytes: usize) -> Vec<Block> {
    let mut parent = BlockId::GENESIS;
    (1..=count)
        .map(|slot| {
            let block = block(slot, parent, bytes);
            parent = block.id;
            block
        })
        .collect()
}

fn bytes_of(block: &Block) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode_block(block, &mut bytes);
    bytes
}

pub(super) fn open(folder: &Path, limits: Limits) -> (BlockLog, Opened) {
    BlockLog::open(folder, parameters(), limits).unwrap()
}

/// With another way to sync.
fn open_with(folder: &Path, limits: Limits, sync: impl FnMut(&File) -> io::Result<()> + Send + 'static) -> BlockLog {
    BlockLog::open_with(folder, parameters(), limits, Box::new(sync)).unwrap().0
}

/// Writes a chain as a node does; every third block is final as an ancestor.
fn write(log: &mut BlockLog, chain: &[Block]) {
    for block in chain {
        assert_eq!(log.hold(block).unwrap(), Kept::Written);
        let certificates = if block.id.slot.0 % 3 == 0 { Vec::new() } else { fast(block.id) };
        assert_eq!(log.finalize(block, &certificates, true).unwrap(), Kept::Written);
    }
}

pub(super) fn readable<'b>(log: &mut BlockLog, chain: impl IntoIterator<Item = &'b Block>) -> Vec<u64> {
    let is_there = |block: &&Block| log.load(block.id).is_some_and(|read| bytes_of(&read) == bytes_of(block));
    chain.into_iter().filter(is_there).map(|block| block.id.slot.0).collect()
}

fn survey(folder: &Path) -> Survey {
    Reader::new(folder.to_owned()).survey().unwrap()
}

#[test]
fn what_is_written_is_read_by_the_node_after_a_restart_and_by_others() {
    let folder = tempfile::tempdir().unwrap();
    let chain = chain(30, 900);
    let (mut log, opened) = open(folder.path(), LIMITS);
    assert_eq!(opened, Opened::default());
    write(&mut log, &chain);
    assert_eq!(log.hold(&chain[3]).unwrap(), Kept::Known);
    assert_eq!(log.finalize(&chain[3], &[], true).unwrap(), Kept::Known);
    let unfinished = block(31, chain[29].id, 100);
    log.hold(&unfinished).unwrap();
    drop(log);
    let (mut log, opened) = open(folder.path(), LIMITS);
    assert_eq!(opened, Opened::default());
    assert_eq!(readable(&mut log, &chain).len(), 30);
    assert!(log.load(unfinished.id).is_some() && log.load(BlockId::GENESIS).is_none());
    let tip = log.tip(|_| true).unwrap();
    assert_eq!((tip.block.id, &tip.certificates), (chain[28].id, &fast(chain[28].id)));
    assert_eq!(log.tip(|tip| tip.block.id.slot < Slot(20)).unwrap().block.id, chain[18].id);
    assert_eq!(log.take_lost_if_changed().unwrap(), Some(Vec::new()));

    let survey = survey(folder.path());
    assert!(survey.defects.is_empty() && survey.missing.is_empty() && survey.incomplete_at.is_none());
    assert_eq!((survey.blocks.len(), survey.unproven(), survey.contradictions().len()), (31, 1, 0));
    assert_eq!(survey.parameters, Some(parameters()));
    let reader = Reader::new(folder.path().to_owned());
    let mut recoder = Recoder::new(CodingParameters::default(), CLUSTER);
    for (logged, block) in survey.blocks.values().zip(&chain) {
        let read = reader.block(logged).unwrap().unwrap();
        assert_eq!(bytes_of(&read), bytes_of(block));
        assert_eq!(shred_again(&read, &mut recoder), Some(block.id.hash));
        let certificates = reader.certificates(logged, VALIDATORS).unwrap();
        assert_eq!(certificates.is_empty(), block.id.slot.0.is_multiple_of(3));
    }
}

#[test]
fn a_segment_cut_at_any_byte_gives_what_was_whole_and_goes_on_after_it() {
    let folder = tempfile::tempdir().unwrap();
    let chain = chain(4, 40);
    let (mut log, _) = open(folder.path(), LIMITS);
    write(&mut log, &chain);
    drop(log);
    let path = segment_path(folder.path(), 1);
    let whole = fs::read(&path).unwrap();
    let mut blocks_before = 0;
    for length in 0..=whole.len() {
        fs::write(&path, &whole[..length]).unwrap();
        let survey = survey(folder.path());
        assert!(survey.defects.is_empty(), "{length} bytes: {:?}", survey.defects);
        let (mut log, opened) = open(folder.path(), LIMITS);
        assert_eq!(opened.corrupt, 0, "{length} bytes");
        let read = readable(&mut log, &chain);
        assert_eq!(read, (1..=read.len() as u64).collect::<Vec<_>>(), "{length} bytes");
        assert!(read.len() >= blocks_before);
        blocks_before = read.len();
        // It goes on as if nothing had been, but for what is written again.
        for block in &chain {
            log.hold(block).unwrap();
            log.finalize(block, &[], true).unwrap();
        }
        drop(log);
        let (mut log, opened) = open(folder.path(), LIMITS);
        assert_eq!((opened, readable(&mut log, &chain).len()), (Opened::default(), 4), "{length} bytes");
    }
    assert_eq!(blocks_before, 4);
}

/// Blocks that fill a segment of the smallest size with a few of them.
const LARGE: usize = 27_000;
const SMALL_LIMITS: Limits = Limits { bytes_max: 16 << 20, slots_max: 100_000 };

#[test]
fn the_oldest_segments_go_by_bytes_and_by_slots() {
    let folder = tempfile::tempdir().unwrap();
    let chain = chain(900, LARGE);
    let (mut log, _) = open(folder.path(), SMALL_LIMITS);
    let mut most = 0;
    for block in &chain {
        log.finalize(block, &fast(block.id), true).unwrap();
        most = most.max(log.bytes());
    }
    assert!((14 << 20..=16 << 20).contains(&most), "{most} bytes");
    assert_eq!(log.take_lost_if_changed().unwrap(), Some(Vec::new()), "what was let go is not lost");
    let kept = readable(&mut log, &chain);
    assert_eq!((kept[0], kept.last()), (901 - kept.len() as u64, Some(&900)));
    // A block that was found again late does not bring back what lies above it.
    log.finalize(&chain[kept[0] as usize - 5], &[], false).unwrap();
    assert_eq!(log.take_lost_if_changed().unwrap(), Some(Vec::new()));
    drop(log);
    let (mut log, _) = open(folder.path(), Limits { slots_max: 160, ..SMALL_LIMITS });
    let kept = readable(&mut log, &chain[..890]);
    assert!((900 - 230..=900 - 160).contains(&kept[1]), "from slot {}", kept[1]);
    for block in &chain_after(&chain[899], 400) {
        log.finalize(block, &[], true).unwrap();
        let lowest = log.index().lowest().unwrap();
        // Whole segments go, of some 40 slots before and of 11 from now on.
        assert!(block.id.slot.0 - lowest.0 <= 160 + 2 * 40, "{lowest} at {}", block.id.slot);
    }
    assert!(log.index().len() <= 190);
}

fn chain_after(block_before: &Block, count: u64) -> Vec<Block> {
    let mut parent = block_before.id;
    (parent.slot.0 + 1..=parent.slot.0 + count)
        .map(|slot| {
            let block = block(slot, parent, 40);
            parent = block.id;
            block
        })
        .collect()
}

#[test]
fn blocks_left_out_are_asked_for_one_after_the_other() {
    let folder = tempfile::tempdir().unwrap();
    let chain = chain(10, 40);
    let (mut log, _) = open(folder.path(), LIMITS);
    for block in chain.iter().filter(|block| !(4..=6).contains(&block.id.slot.0)) {
        log.finalize(block, &fast(block.id), true).unwrap();
    }
    log.hold(&chain[4]).unwrap();
    assert_eq!(log.take_lost_if_changed().unwrap(), Some(vec![chain[5].id]));
    log.finalize(&chain[5], &[], false).unwrap();
    assert_eq!(log.take_lost_if_changed().unwrap(), Some(vec![chain[3].id]), "that 5 is final is written down");
    log.finalize(&chain[3], &[], false).unwrap();
    assert_eq!(log.take_lost_if_changed().unwrap(), Some(Vec::new()));
    assert_eq!(log.take_lost_if_changed().unwrap(), None);
    assert!(survey(folder.path()).missing.is_empty());
}

#[test]
fn blocks_that_are_found_again_do_not_fill_segments() {
    let folder = tempfile::tempdir().unwrap();
    let chain = chain(200, 40);
    let limits = Limits { slots_max: 1_600, ..LIMITS };
    let (mut log, _) = open(folder.path(), limits);
    write(&mut log, &chain[..1]);
    write(&mut log, &chain[120..130]);
    for (next, lost) in chain[130..].iter().zip(&chain[1..]) {
        log.finalize(next, &[], true).unwrap();
        log.finalize(lost, &[], false).unwrap();
    }
    drop(log);
    // A hundred slots each, and what comes after a restart goes on in the last one.
    let segments = || files::segment_numbers(folder.path()).unwrap().len();
    assert_eq!(segments(), 2);
    let (mut log, _) = open(folder.path(), limits);
    assert_eq!(readable(&mut log, &chain).len(), 200 - 49);
    write(&mut log, &chain_after(&chain[199], 10));
    assert_eq!(segments(), 2);
}

#[test]
fn a_disk_that_is_full_in_the_midst_of_a_write_leaves_the_log_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let chain = chain(6, 900);
    let (mut log, _) = open(folder.path(), LIMITS);
    write(&mut log, &chain[..2]);
    let before = fs::read(segment_path(folder.path(), 1)).unwrap();
    for room in [0, 1, 11, 12, 500, 1_000] {
        use std::os::unix::fs::FileExt;
        log.write_with(Box::new(move |file: &File, bytes: &[u8], at: u64| {
            file.write_all_at(&bytes[..room.min(bytes.len())], at)?;
            Err(io::Error::from(io::ErrorKind::StorageFull))
        }));
        assert_eq!(log.hold(&chain[2]).unwrap_err().kind(), io::ErrorKind::StorageFull);
        assert_eq!(log.finalize(&chain[2], &[], true).unwrap_err().kind(), io::ErrorKind::StorageFull);
        assert_eq!(fs::read(segment_path(folder.path(), 1)).unwrap(), before);
        assert_eq!(readable(&mut log, &chain), [1, 2]);
    }
    log.write_with(Box::new(std::os::unix::fs::FileExt::write_all_at));
    write(&mut log, &chain[2..]);
    assert_eq!(readable(&mut log, &chain).len(), 6);
}

#[test]
fn a_log_is_read_while_it_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let chain = Arc::new(chain(400, LARGE));
    let (mut log, _) = open(folder.path(), SMALL_LIMITS);
    let done = Arc::new(AtomicBool::new(false));
    let writer = {
        let (chain, done) = (Arc::clone(&chain), Arc::clone(&done));
        thread::spawn(move || {
            write(&mut log, &chain);
            done.store(true, Ordering::Relaxed);
        })
    };
    let reader = Reader::new(folder.path().to_owned());
    let mut surveys = 0;
    loop {
        let is_last = done.load(Ordering::Relaxed);
        let survey = reader.survey().unwrap();
        assert!(survey.defects.is_empty(), "{:?}", survey.defects);
        for block in survey.blocks.values().step_by(40) {
            assert!(reader.block(block).unwrap().is_none_or(|read| read.id == block.id));
        }
        surveys += 1;
        if is_last {
            break;
        }
    }
    writer.join().unwrap();
    assert!(surveys > 1);
}
