use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use alpenglow_control::block::Block;
use alpenglow_control::block_log::{BlockHead, BlockLogAnswer, BlockLogOrder, encode_block};
use alpenglow_dataplane::ControlWaker;
use alpenglow_rotor::parameters::CodingParameters;
use alpenglow_rotor::recoder::Recoder;
use alpenglow_rotor::types::{BlockId, ClusterId, Slot, Time};

use super::log::{Kept, Opened, index_path, segment_path};
pub(super) use super::samples::{CLUSTER, block, fast};
use super::samples::{VALIDATORS, parameters};
use super::segment::{Head, Placed};
use super::*;
use crate::storage::frames::{FRAME_HEAD_BYTES, Format, HEADER_BYTES};

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

#[test]
fn a_spoilt_byte_is_noticed_wherever_it_is_and_costs_one_record() {
    let folder = tempfile::tempdir().unwrap();
    let chain = chain(5, 40);
    let (mut log, _) = open(folder.path(), LIMITS);
    write(&mut log, &chain);
    drop(log);
    let path = segment_path(folder.path(), 1);
    let whole = fs::read(&path).unwrap();
    let records = segment::scan(&whole).unwrap().1.records;
    let last = records.last().unwrap().at as usize;
    for at in 0..whole.len() {
        let mut spoilt = whole.clone();
        spoilt[at] ^= 0x10;
        fs::write(&path, &spoilt).unwrap();
        if (8..12).contains(&at) || at < HEADER_BYTES {
            // Of an unknown file nothing is believed.
            let (mut log, opened) = open(folder.path(), LIMITS);
            assert_eq!((opened.corrupt, readable(&mut log, &chain).len()), (1, 0), "byte {at}");
            log.hold(&chain[0]).unwrap();
            assert_eq!(survey(folder.path()).defects.len(), 1, "byte {at}");
            fs::remove_file(segment_path(folder.path(), 2)).unwrap();
            continue;
        }
        let survey = survey(folder.path());
        let (mut log, opened) = open(folder.path(), LIMITS);
        let read = readable(&mut log, &chain).len();
        if at >= last {
            // Not to be told from a tail that was torn.
            assert_eq!((opened.corrupt, survey.defects.len()), (0, 0), "byte {at}");
            assert!(opened.torn_bytes > 0 && survey.incomplete_at.is_some() && read == 5, "byte {at}");
        } else {
            assert_eq!((opened.corrupt, survey.defects.len()), (1, 1), "byte {at}");
            assert!(read >= 4, "byte {at}: {read} blocks");
            let lost = log.take_lost_if_changed().unwrap().unwrap();
            let above_lowest = (1..=5).find(|slot| log.load(chain[*slot - 1].id).is_some()).unwrap_or(5);
            assert_eq!(lost.len(), usize::from(read == 4 && above_lowest == 1), "byte {at}");
        }
    }
}

#[test]
fn a_whole_but_senseless_record_is_corrupt() {
    let folder = tempfile::tempdir().unwrap();
    let (mut log, _) = open(folder.path(), LIMITS);
    write(&mut log, &chain(1, 40));
    drop(log);
    let path = segment_path(folder.path(), 1);
    let mut bytes = fs::read(&path).unwrap();
    segment::SEGMENT.append_frame(&mut bytes, |to| to.extend([99, 1, 2, 3]));
    segment::SEGMENT.append_frame(&mut bytes, |_| {});
    fs::write(&path, bytes).unwrap();
    assert_eq!(survey(folder.path()).defects.len(), 1, "one place");
    assert_eq!(open(folder.path(), LIMITS).1.corrupt, 1);
}

/// Where somebody put beginnings of frames that are none into what a spoilt head leaves, the search for the next one ends.
#[test]
fn a_search_for_frames_in_vain_has_an_end() {
    const DECOYS: usize = 2_000;
    let chain = chain(2, 40);
    let segment = |decoys: usize| {
        let mut bytes = parameters().begin_segment();
        segment::frame_block(&chain[0], &mut bytes);
        bytes.extend([1; 40]);
        let mut last = Vec::new();
        segment::frame_block(&chain[1], &mut last);
        let mut decoy = segment::SEGMENT.frame(&vec![1; DECOYS * 13]);
        decoy.truncate(FRAME_HEAD_BYTES + 1);
        decoy[4] ^= 1;
        let checksum = crc32c::crc32c(&decoy[..8]);
        decoy[8..12].copy_from_slice(&checksum.to_le_bytes());
        bytes.extend(decoy.repeat(decoys));
        bytes.extend(last);
        bytes.extend(vec![1; DECOYS * 13]);
        bytes
    };
    let found = |decoys| segment::scan(&segment(decoys)).unwrap().1;
    assert_eq!(found(5).records.len(), 2, "few are passed over");
    assert_eq!(found(5).corrupt.len(), 1);
    let crafted = found(DECOYS);
    assert_eq!((crafted.records.len(), crafted.corrupt.len()), (1, 0));
    assert!(crafted.end < 1_000);
}

/// Which block was in a corrupt place its index tells.
#[test]
fn what_is_corrupt_is_told_with_what_the_chain_lacks_by_it() {
    let folder = tempfile::tempdir().unwrap();
    let chain = chain(100, LARGE);
    let (mut log, _) = open(folder.path(), SMALL_LIMITS);
    write(&mut log, &chain);
    drop(log);
    let path = segment_path(folder.path(), 2);
    let mut bytes = fs::read(&path).unwrap();
    let records = segment::scan(&bytes).unwrap().1.records;
    let [block, is_final] = [&records[8], &records[15]];
    let id = |placed: &Placed| match placed.head {
        Head::Block(BlockHead { id, .. }) | Head::Final { id, .. } => id,
        Head::Parameters => panic!("no block is in it"),
    };
    assert!(matches!((block.head, is_final.head), (Head::Block(_), Head::Final { .. })));
    for placed in [block, is_final] {
        bytes[placed.at as usize + 30] ^= 1;
    }
    fs::write(&path, &bytes).unwrap();
    let losses = || {
        let survey = survey(folder.path());
        let loss = |defect: &Defect| (defect.at, defect.block, survey.loss(defect));
        survey.defects.iter().map(loss).collect::<Vec<_>>()
    };
    let both = |loss| vec![(block.at, Some(id(block)), loss), (is_final.at, Some(id(is_final)), loss)];
    assert_eq!(losses(), both(Loss::Missing));

    let (mut log, _) = open(folder.path(), SMALL_LIMITS);
    while log.look_at_next().is_some() {}
    assert_eq!(log.corrupt(), 2);
    assert_eq!(log.take_lost_if_changed().unwrap(), Some(vec![id(block)]), "that one is final is written at once");
    let found = chain.iter().find(|known| known.id == id(block)).unwrap();
    assert_eq!(log.finalize(found, &[], false).unwrap(), Kept::Written);
    drop(log);
    assert_eq!(losses(), both(Loss::WrittenAgain));
    let (mut log, _) = open(folder.path(), SMALL_LIMITS);
    while log.look_at_next().is_some() {}
    assert_eq!((log.corrupt(), log.take_lost_if_changed().unwrap()), (0, Some(Vec::new())), "that is over");
    // Without the index nobody knows what was there, but nothing is missing.
    fs::remove_file(index_path(folder.path(), 2)).unwrap();
    assert_eq!(losses(), [(block.at, None, Loss::Nothing), (is_final.at, None, Loss::Nothing)]);
}

/// Blocks that fill a segment of the smallest size with a few of them.
const LARGE: usize = 27_000;
const SMALL_LIMITS: Limits = Limits { bytes_max: 16 << 20, slots_max: 100_000 };

#[test]
fn corruption_in_the_middle_is_found_and_repaired_from_what_is_fetched() {
    let folder = tempfile::tempdir().unwrap();
    let chain = chain(100, LARGE);
    let (mut log, _) = open(folder.path(), SMALL_LIMITS);
    write(&mut log, &chain);
    drop(log);
    let mut bytes = fs::read(segment_path(folder.path(), 1)).unwrap();
    let records = segment::scan(&bytes).unwrap().1.records;
    let of_tenth = records[18].at as usize;
    // A head, and the record after it.
    bytes[of_tenth] ^= 1;
    bytes[records[20].at as usize + 500] ^= 1;
    fs::write(segment_path(folder.path(), 1), &bytes).unwrap();
    assert_eq!(survey(folder.path()).defects.len(), 2);

    // The index hides it, but not from a look at everything, nor from whoever asks.
    let (mut log, opened) = open(folder.path(), SMALL_LIMITS);
    assert_eq!(opened, Opened::default());
    assert!(log.load(chain[9].id).is_none());
    assert_eq!(log.corrupt(), 1);
    while log.look_at_next().is_some() {}
    assert_eq!(log.corrupt(), 2);
    assert_eq!(log.take_lost_if_changed().unwrap(), Some(vec![chain[9].id, chain[10].id]));
    assert_eq!(log.take_lost_if_changed().unwrap(), None, "once is enough");
    for lost in &chain[9..11] {
        assert_eq!(log.finalize(lost, &[], false).unwrap(), Kept::Written);
    }
    assert_eq!(log.take_lost_if_changed().unwrap(), Some(Vec::new()));
    assert_eq!(readable(&mut log, &chain).len(), 100);
    drop(log);
    let (mut log, _) = open(folder.path(), SMALL_LIMITS);
    assert_eq!((readable(&mut log, &chain).len(), log.corrupt()), (100, 0), "what was written last counts");
    assert_eq!(log.take_lost_if_changed().unwrap(), Some(Vec::new()));
}

#[test]
fn a_spoilt_or_missing_index_is_made_anew() {
    let folder = tempfile::tempdir().unwrap();
    let chain = chain(60, LARGE);
    let (mut log, _) = open(folder.path(), SMALL_LIMITS);
    write(&mut log, &chain);
    drop(log);
    let path = index_path(folder.path(), 1);
    let whole = fs::read(&path).unwrap();
    let spoilt = (0..whole.len()).step_by(7).map(|at| {
        let mut spoilt = whole.clone();
        spoilt[at] ^= 1;
        spoilt
    });
    let cut = (0..whole.len()).step_by(97).map(|length| whole[..length].to_vec());
    for bytes in spoilt.chain(cut) {
        fs::write(&path, bytes).unwrap();
        assert_eq!(survey(folder.path()).defects.len(), 1);
        let (mut log, opened) = open(folder.path(), SMALL_LIMITS);
        assert_eq!(opened, Opened { reindexed: 1, ..Opened::default() });
        assert_eq!(readable(&mut log, &chain[..3]).len(), 3);
        assert_eq!(fs::read(&path).unwrap(), whole);
    }
    fs::remove_file(&path).unwrap();
    assert!(survey(folder.path()).defects.is_empty(), "a segment that was just filled has none yet");
    assert_eq!(open(folder.path(), SMALL_LIMITS).1.reindexed, 1);
}

#[test]
fn other_clusters_and_later_versions_are_refused_with_the_reason() {
    let folder = tempfile::tempdir().unwrap();
    let (mut log, _) = open(folder.path(), LIMITS);
    write(&mut log, &chain(1, 40));
    drop(log);
    let other = LogParameters { cluster: ClusterId([4; 32]), ..parameters() };
    let refused = BlockLog::open(folder.path(), other, LIMITS).err().unwrap();
    assert!(refused.to_string().contains("another cluster"), "{refused}");
    let path = segment_path(folder.path(), 1);
    let mut bytes = fs::read(&path).unwrap();
    let later = Format { version: 2, ..segment::SEGMENT };
    bytes[..HEADER_BYTES].copy_from_slice(&later.header(CLUSTER));
    fs::write(&path, bytes).unwrap();
    let refused = BlockLog::open(folder.path(), parameters(), LIMITS).err().unwrap();
    assert!(refused.to_string().contains("its version is 2, this program knows version 1"), "{refused}");
    let refused = Reader::new(folder.path().to_owned()).survey().err().unwrap();
    assert!(refused.to_string().contains("version is 2"), "{refused}");
}

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
    for slot in [6, 4] {
        assert_eq!(log.take_lost_if_changed().unwrap(), Some(vec![chain[slot - 1].id]));
        log.finalize(&chain[slot - 1], &[], false).unwrap();
        if slot == 6 {
            assert_eq!(log.take_lost_if_changed().unwrap(), Some(Vec::new()), "that 5 is final is written down");
        }
    }
    assert_eq!(log.take_lost_if_changed().unwrap(), Some(Vec::new()));
    assert!(survey(folder.path()).missing.is_empty());
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

/// Writes when it is let.
#[derive(Default)]
pub(super) struct Gate {
    is_open: Mutex<bool>,
    opened: Condvar,
    is_full: AtomicBool,
    written: AtomicUsize,
}

impl Gate {
    pub(super) fn open(&self) {
        *self.is_open.lock().unwrap() = true;
        self.opened.notify_all();
    }
}

pub(super) fn gated(folder: &Path) -> (Arc<Gate>, BlockLogThread, BlockLogHandle) {
    let gate = Arc::new(Gate::default());
    let (mut log, _) = open(folder, LIMITS);
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
    let slice_bytes = 28_672;
    let bounds =
        Bounds { waiting_bytes_max: 10 * slice_bytes, slice_memory_bytes: slice_bytes, held_bytes_max: 64 << 20 };
    let (thread, handle) = BlockLogThread::start(log, bounds, waker).unwrap();
    (gate, thread, handle)
}

/// Pushes an order that must not fail.
pub(super) fn push(handle: &mut BlockLogHandle, order: BlockLogOrder) {
    handle.push(Time(0), order, |reason| panic!("{reason}"));
}

fn hold(block: &Arc<Block>) -> BlockLogOrder {
    BlockLogOrder::Hold { block: Arc::clone(block), before_vote: false }
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
    let mut left_out = [0, 0];
    for block in &chain {
        let id = block.id;
        for order in
            [hold(block), BlockLogOrder::Final { block: Arc::clone(block), certificates: fast(id), in_order: true }]
        {
            handle.push(Time(0), order, |reason| match reason {
                "block_log_behind_held" => left_out[0] += 1,
                reason => {
                    assert_eq!(reason, "block_log_behind");
                    left_out[1] += 1;
                }
            });
        }
    }
    // The shards get their memory back: ten slices of it may wait, and what the thread is at.
    assert!((285..=290).contains(&left_out[0]), "{left_out:?}");
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
