//! Slices of blocks that this node may vote for, in small files beside the segments, written by control itself.
//!
//! ```text
//! blocks/00000007.held   header, then a frame for each record of `alpenglow_control::block_log`
//! ```
//! The log's thread writes a block when it gets to it; the vote does not wait so long. Without these files a block
//! could be voted for everywhere and be in no log, and be lost for ever if all nodes are killed then. So control
//! appends each slice as it comes, of which only the last one is on the way of the vote. What is complete in these
//! files at a start and not in the segments goes there, and the files go.
//!
//! A file goes too when all of its slots are final and the thread has carried out what was ordered before. That is a
//! few windows later, so most of it never reaches the disk.
//!
//! **Where votes outlive the power, so do these files**: all of a block is on disk before the vote for it leaves, and a
//! file goes when the segments that its blocks went to are on disk.
//!
//! **Otherwise votes wait for no disk that stalls.** After an append that took long nothing is appended for a while:
//! votes then leave before their blocks are written, which is said and counted. So it is, everywhere, after the disk
//! refused.

use std::collections::{BTreeMap, VecDeque};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use alpenglow_control::block::Block;
use alpenglow_control::block_log::{
    HELD_BLOCK_BYTES_MAX, HeldRecords, encode_held_block, encode_held_slice, held_slice_bytes,
};
use alpenglow_dataplane::clock;
use alpenglow_rotor::parameters::DATA_SHREDS_MAX;
use alpenglow_rotor::slice::{Slice, SliceId};
use alpenglow_rotor::types::{ClusterId, Hash, SliceIndex, Slot, Time, WINDOW_SLOTS};
use crossbeam::channel::{Receiver, Sender};

use super::writer::{Bounds, Order};
use crate::failpoint::{FailPoints, Point};
use crate::genesis::DATAGRAM_BYTES_MAX;
use crate::storage::frames::{FRAME_HEAD_BYTES, Format, FrameFile, HeaderError, Tail};

/// A file.
pub(super) const HELD: Format = Format {
    magic: *b"agslices",
    version: 1,
    record_bytes_max: RECORD_BYTES_MAX,
    file_bytes_max: FILE_BYTES + (FRAME_HEAD_BYTES + RECORD_BYTES_MAX) as u64,
    tail: Tail::Spoilt,
};
/// A slice, or the roots of all slices of a block.
const RECORD_BYTES_MAX: usize = {
    let slice = held_slice_bytes(DATA_SHREDS_MAX * DATAGRAM_BYTES_MAX);
    if slice > HELD_BLOCK_BYTES_MAX { slice } else { HELD_BLOCK_BYTES_MAX }
};
/// The next file is begun when one is longer than this, …
const FILE_BYTES: u64 = 8 << 20;
/// … or when slots come that lie so far behind its first one.
const FILE_SLOTS: u64 = 2 * WINDOW_SLOTS;
/// An append that takes longer costs votes what they cannot spare: a quarter of a slot.
pub(crate) const STALL: Duration = Duration::from_millis(100);
/// So long nothing is appended then.
const PAUSE: Duration = Duration::from_secs(5);
/// Files that are made ahead.
pub(super) const SPARE_FILES: usize = 2;

/// A file that is being written, or a part of the latest slots.
pub(super) struct HeldFile {
    number: u64,
    file: FrameFile,
    first: Slot,
    last: Slot,
    is_synced: bool,
    /// What is in it may be lost: nothing more goes there.
    is_given_up: bool,
}

/// Control's end.
pub(crate) struct HeldSlices {
    /// Control makes no files: that may take long.
    spares: Receiver<HeldFile>,
    /// Where files go that are not needed any more, behind what the thread is to do before.
    orders: Sender<Order>,
    /// The last one is written to.
    files: VecDeque<HeldFile>,
    /// The version of each slice that is in one of the files, and in which.
    written: BTreeMap<SliceId, (Hash, u64)>,
    bytes_max: u64,
    synced: bool,
    stall: Duration,
    paused_until: Option<Time>,
    fail_points: FailPoints,
}

impl HeldFile {
    /// Makes it.
    ///
    /// # Errors
    /// When the file system refuses.
    pub(super) fn make(folder: &Path, number: u64, cluster: ClusterId) -> io::Result<Self> {
        let file = FrameFile::begin(HELD, &path(folder, number), cluster)?;
        let (first, last) = (Slot(u64::MAX), Slot::GENESIS);
        Ok(Self { number, file, first, last, is_synced: true, is_given_up: false })
    }

    /// A later one has a higher number.
    pub(super) const fn number(&self) -> u64 {
        self.number
    }

    /// Removes it.
    pub(super) fn remove(self, folder: &Path) {
        remove(&path(folder, self.number));
    }

    fn is_full(&self, slot: Slot) -> bool {
        self.is_given_up || self.file.end() >= FILE_BYTES || slot.0 >= self.first.0.saturating_add(FILE_SLOTS)
    }
}

impl HeldSlices {
    /// Files of [`Bounds::held_bytes_max`] bytes in all are kept, the latest ones.
    pub(super) fn new(
        spares: Receiver<HeldFile>,
        orders: Sender<Order>,
        bounds: &Bounds,
        fail_points: FailPoints,
    ) -> Self {
        Self {
            spares,
            orders,
            files: VecDeque::new(),
            written: BTreeMap::new(),
            bytes_max: bounds.held_bytes_max,
            synced: bounds.synced,
            stall: bounds.stall,
            paused_until: None,
            fail_points,
        }
    }

    /// Writes a slice. If it cannot be, [`Self::block`] tries it again.
    pub(super) fn slice(&mut self, now: Time, slice: &Slice) {
        if self.write_slice(now, slice) && self.synced {
            // So that little is left to wait for when the block is complete.
            self.files.back().expect("it was written to").file.begin_sync();
        }
    }

    /// Writes what is not written of a complete block; whether the block will be found after this process has ended,
    /// or the machine's power if that is asked for.
    pub(super) fn block(&mut self, now: Time, block: &Block) -> bool {
        block.slices.iter().all(|slice| self.is_written(slice) || self.write_slice(now, slice))
            && self.append(now, block.id.slot, |to| encode_held_block(block, to)).is_some()
            && (!self.synced || self.sync(now))
    }

    /// Everything up to this slot is final, and ordered to be written to the log.
    pub(super) fn finalized(&mut self, slot: Slot) {
        self.written = self.written.split_off(&SliceId { slot: slot.next(), index: SliceIndex::default() });
        while self.files.len() > 1 && self.files[0].last <= slot && self.let_oldest_go() {}
    }

    /// Whether fewer files are ready than are made ahead.
    #[cfg(test)]
    pub(super) fn lacks_spares(&self) -> bool {
        !self.spares.is_full()
    }

    fn is_written(&self, slice: &Slice) -> bool {
        self.written.get(&slice.id).is_some_and(|(root, _)| *root == slice.root)
    }

    fn write_slice(&mut self, now: Time, slice: &Slice) -> bool {
        let number = self.append(now, slice.id.slot, |to| encode_held_slice(slice, to));
        self.written.extend(number.map(|number| (slice.id, (slice.root, number))));
        number.is_some()
    }

    /// Appends a record about a slot; the number of its file.
    fn append(&mut self, now: Time, slot: Slot, encode: impl Fn(&mut Vec<u8>)) -> Option<u64> {
        if self.paused_until.is_some_and(|until| now < until) {
            return None;
        }
        self.paused_until = None;
        if self.files.back().is_none_or(|file| file.is_full(slot)) {
            // Without a spare file the thread is behind, and says so when it drops orders.
            self.files.push_back(self.spares.try_recv().ok()?);
            self.make_room();
        }
        let file = self.files.back_mut().expect("one was taken if there was none");
        self.fail_points.pass_after(Point::WithinHeld, || {
            let mut record = Vec::new();
            encode(&mut record);
            let _ = file.file.append_part(&record);
        });
        let begun = clock::now();
        let appended = file.file.append_with(encode);
        let took = clock::now().since(begun);
        (file.first, file.last, file.is_synced) = (file.first.min(slot), file.last.max(slot), false);
        let number = file.number;
        match appended {
            Ok(()) if took < self.stall => Some(number),
            Ok(()) => {
                self.pause(now, &format!("it took {took:?} to write to it"));
                Some(number)
            }
            Err(error) => {
                self.pause(now, &error.to_string());
                None
            }
        }
    }

    /// Waits until all that was written is on disk; whether it is.
    fn sync(&mut self, now: Time) -> bool {
        let Some(file) = self.files.iter_mut().find(|file| !file.is_synced) else { return true };
        file.is_synced = true;
        match file.file.sync() {
            // There is a second one if the block began in it.
            Ok(()) => self.sync(now),
            Err(error) => {
                file.is_given_up = true;
                let given_up = file.number;
                self.written.retain(|_, (_, number)| *number != given_up);
                self.pause(now, &error.to_string());
                false
            }
        }
    }

    fn pause(&mut self, now: Time, reason: &str) {
        self.paused_until = Some(now.after(PAUSE));
        tracing::warn!(
            reason,
            "the disk holds up votes: for {PAUSE:?} they leave before their blocks are written; voting goes on"
        );
    }

    fn make_room(&mut self) {
        let bytes = |files: &VecDeque<HeldFile>| files.iter().map(|file| file.file.end()).sum::<u64>();
        while self.files.len() > 1 && bytes(&self.files) > self.bytes_max && self.let_oldest_go() {}
    }

    fn let_oldest_go(&mut self) -> bool {
        let Some(oldest) = self.files.pop_front() else { return false };
        let number = oldest.number;
        match self.orders.try_send(Order::Remove(oldest)) {
            Ok(()) => {
                self.written.retain(|_, (_, file)| *file != number);
                true
            }
            // It is tried again with the next one.
            Err(refused) => {
                if let Order::Remove(oldest) = refused.into_inner() {
                    self.files.push_front(oldest);
                }
                false
            }
        }
    }
}

/// What the files of an earlier process hold.
#[derive(Default)]
pub(super) struct Found {
    /// Complete blocks, in the order in which they became complete.
    pub(super) blocks: Vec<Block>,
    /// The files.
    pub(super) files: Vec<PathBuf>,
    /// Above the number of each of them.
    pub(super) next_number: u64,
}

/// Why a file cannot be used.
pub(super) enum Refusal {
    /// The file system refuses.
    Io(io::Error),
    /// A later version of this program wrote it.
    Version(HeaderError),
    /// Another cluster's.
    Cluster,
}

/// Reads the files in a folder.
///
/// # Errors
/// [`Refusal`] and the path of the file.
pub(super) fn find(folder: &Path, cluster: ClusterId) -> Result<Found, (PathBuf, Refusal)> {
    let mut found = Found { next_number: 1, ..Found::default() };
    let numbers = super::files::numbers(folder, ".held").map_err(|error| (folder.to_owned(), Refusal::Io(error)))?;
    let mut records = HeldRecords::default();
    for number in numbers {
        let path = path(folder, number);
        let bytes = File::open(&path)
            .and_then(|file| HELD.read_bounded(&file))
            .map_err(|error| (path.clone(), Refusal::Io(error)))?;
        match HELD.read(&bytes) {
            Ok(contents) if contents.cluster != cluster => return Err((path, Refusal::Cluster)),
            Ok(contents) => {
                let whole = contents.records.iter().filter_map(|record| record.bytes);
                found.blocks.extend(whole.filter_map(|record| records.take(record)));
            }
            Err(reason @ HeaderError::Version { .. }) => return Err((path, Refusal::Version(reason))),
            // A crash while it was made, or a power loss; what was in it is fetched from others.
            Err(HeaderError::Short(_) | HeaderError::Magic | HeaderError::Checksum) => {}
        }
        found.files.push(path);
        found.next_number = number + 1;
    }
    Ok(found)
}

/// Removes a file that is not needed any more.
pub(super) fn remove(path: &Path) {
    if let Err(error) = fs::remove_file(path) {
        tracing::warn!(path = %path.display(), %error, "slices that are not needed any more stay");
    }
}

fn path(folder: &Path, number: u64) -> PathBuf {
    folder.join(format!("{number:08}.held"))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::thread;
    use std::time::Instant;

    use alpenglow_control::block_log::BlockLogOrder;
    use alpenglow_rotor::types::BlockId;
    use crossbeam::channel;
    use proptest::prelude::*;

    use super::super::tests::{BOUNDS, CLUSTER, LIMITS, PATIENCE, block, chain, fast, gated, open, push, readable};
    use super::*;

    const NOW: Time = Time(0);

    /// Control's end with so many files and room for so many orders.
    fn held(folder: &Path, files: u64, bytes_max: u64) -> (HeldSlices, Receiver<Order>) {
        let (spares, of_control) = channel::bounded(files as usize);
        (1..=files).for_each(|number| spares.send(HeldFile::make(folder, number, CLUSTER).unwrap()).unwrap());
        let (orders, to_do) = channel::bounded(100);
        let bounds = Bounds { held_bytes_max: bytes_max, ..BOUNDS };
        (HeldSlices::new(of_control, orders, &bounds, FailPoints::default()), to_do)
    }

    fn shared(count: u64) -> Vec<Arc<Block>> {
        chain(count, 900).into_iter().map(Arc::new).collect()
    }

    fn before_vote(block: &Arc<Block>) -> [BlockLogOrder; 2] {
        let slice = BlockLogOrder::HoldSlice(block.slices[0].clone());
        [slice, BlockLogOrder::Hold { block: Arc::clone(block), before_vote: true }]
    }

    fn files(folder: &Path) -> usize {
        super::super::files::numbers(folder, ".held").unwrap().len()
    }

    /// What a start finds in a folder that a process has left so.
    fn after_a_crash(folder: &Path, chain: &[Arc<Block>]) -> (Vec<u64>, u64) {
        let copy = tempfile::tempdir().unwrap();
        for entry in fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            fs::copy(entry.path(), copy.path().join(entry.file_name())).unwrap();
        }
        let (mut log, opened) = open(copy.path(), LIMITS);
        assert_eq!(files(copy.path()), 0, "what is in segments is not needed twice");
        (readable(&mut log, chain.iter().map(|block| &**block)), opened.recovered)
    }

    #[test]
    fn a_block_that_is_voted_for_outlives_the_process_though_the_thread_has_not_got_to_it() {
        let folder = tempfile::tempdir().unwrap();
        let chain = shared(3);
        let (gate, thread, mut handle) = gated(folder.path());
        for block in &chain[..2] {
            before_vote(block).into_iter().for_each(|order| push(&mut handle, order));
        }
        // Of the third one only a slice was written when all ended.
        push(&mut handle, BlockLogOrder::HoldSlice(chain[2].slices[0].clone()));
        assert_eq!(after_a_crash(folder.path(), &chain), (vec![1, 2], 2));
        gate.open();
        drop(handle);
        thread.stop();
        assert_eq!(after_a_crash(folder.path(), &chain), (vec![1, 2], 0));
    }

    #[test]
    fn files_go_when_their_slots_are_final_and_in_segments() {
        let folder = tempfile::tempdir().unwrap();
        let chain = shared(60);
        let (gate, thread, mut handle) = gated(folder.path());
        gate.open();
        let start = Instant::now();
        for block in &chain {
            before_vote(block).into_iter().for_each(|order| push(&mut handle, order));
            let (block, certificates) = (Arc::clone(block), fast(block.id));
            push(&mut handle, BlockLogOrder::Final { block, certificates, in_order: true });
            // As many as are made ahead, the one that is written to, and those of which the thread may be behind.
            while files(folder.path()) > SPARE_FILES + 2 || handle.awaits_thread() {
                assert!(start.elapsed() < PATIENCE, "{} files", files(folder.path()));
                thread::sleep(Duration::from_millis(1));
            }
        }
        drop(handle);
        thread.stop();
        let (found, recovered) = after_a_crash(folder.path(), &chain);
        assert_eq!((found.len(), recovered), (60, 0));
    }

    #[test]
    fn what_was_not_written_as_it_came_is_written_with_its_block() {
        let folder = tempfile::tempdir().unwrap();
        let (mut held, _orders) = held(folder.path(), 1, u64::MAX);
        let (mine, other) = (block(1, BlockId::GENESIS, 40), block(1, BlockId::GENESIS, 50));
        held.slice(NOW, &other.slices[0]);
        assert!(held.block(NOW, &mine));
        let found = find(folder.path(), CLUSTER).ok().unwrap();
        assert_eq!(found.blocks.iter().map(|block| block.id).collect::<Vec<_>>(), [mine.id]);
        assert!(held.block(NOW, &other), "both may be voted for, the other one by a fallback");
        assert_eq!(find(folder.path(), CLUSTER).ok().unwrap().blocks.len(), 2);
    }

    #[test]
    fn the_oldest_files_make_room_and_what_was_in_them_is_written_again() {
        let folder = tempfile::tempdir().unwrap();
        let chain = chain(40, 900);
        let (mut held, orders) = held(folder.path(), 6, 1);
        for block in &chain {
            held.slice(NOW, &block.slices[0]);
        }
        assert_eq!((held.files.len(), orders.len()), (1, 4));
        assert!(!held.is_written(&chain[0].slices[0]) && held.is_written(&chain[39].slices[0]));
        assert!(held.block(NOW, &chain[0]), "it is final nowhere yet, and may be voted for");
    }

    #[test]
    fn a_disk_that_refuses_keeps_nobody_from_voting_and_is_tried_again() {
        let folder = tempfile::tempdir().unwrap();
        let (mut held, _orders) = held(folder.path(), 1, u64::MAX);
        let chain = chain(3, 900);
        assert!(held.block(NOW, &chain[0]));
        let whole = std::mem::replace(&mut held.files[0].file, FrameFile::on_a_full_disk(HELD));
        assert!(!held.block(NOW, &chain[1]));
        held.files[0].file = whole;
        assert!(!held.block(NOW.after(PAUSE / 2), &chain[1]), "not so soon");
        assert!(held.block(NOW.after(PAUSE), &chain[1]) && held.block(NOW.after(PAUSE), &chain[2]));
        assert_eq!(find(folder.path(), CLUSTER).ok().unwrap().blocks.len(), 3);
    }

    #[test]
    fn what_does_not_get_to_the_disk_is_not_held_where_votes_wait_for_it_and_is_written_again() {
        for synced in [false, true] {
            let folder = tempfile::tempdir().unwrap();
            let (mut held, _orders) = held(folder.path(), 2, u64::MAX);
            held.synced = synced;
            let block = block(1, BlockId::GENESIS, 900);
            held.slice(NOW, &block.slices[0]);
            let first = std::mem::replace(&mut held.files[0].file, FrameFile::on_a_disk_that_does_not_sync(HELD));
            assert_eq!(held.block(NOW, &block), !synced);
            // It would say from now on that all is well.
            held.files[0].file = first;
            assert!(held.block(NOW.after(PAUSE), &block));
            let found = read_file(&path(folder.path(), 2));
            assert_eq!(found, usize::from(synced), "all of it is in the next file");
        }
    }

    /// Blocks that a file holds on its own.
    fn read_file(path: &Path) -> usize {
        let bytes = fs::read(path).unwrap();
        let mut records = HeldRecords::default();
        let contents = HELD.read(&bytes).unwrap();
        contents.records.iter().filter_map(|record| records.take(record.bytes.unwrap())).count()
    }

    #[test]
    fn after_a_disk_has_stalled_votes_do_not_wait_for_it_for_a_while() {
        let folder = tempfile::tempdir().unwrap();
        let (mut held, _orders) = held(folder.path(), 1, u64::MAX);
        let chain = chain(4, 900);
        held.stall = Duration::ZERO;
        held.slice(NOW, &chain[0].slices[0]);
        assert!(held.is_written(&chain[0].slices[0]), "it took long, and it is written");
        assert!(!held.block(NOW, &chain[0]) && !held.block(NOW.after(PAUSE / 2), &chain[1]));
        held.stall = Duration::MAX;
        assert!(held.block(NOW.after(PAUSE), &chain[2]) && held.block(NOW.after(PAUSE), &chain[3]));
        assert_eq!(find(folder.path(), CLUSTER).ok().unwrap().blocks.len(), 2);
    }

    #[test]
    fn without_a_file_a_block_is_not_held() {
        let folder = tempfile::tempdir().unwrap();
        let (mut held, _orders) = held(folder.path(), 1, u64::MAX);
        let chain = chain(FILE_SLOTS + 1, 900);
        let is_held: Vec<bool> = chain.iter().map(|block| held.block(NOW, block)).collect();
        assert_eq!(is_held.iter().filter(|is_held| **is_held).count() as u64, FILE_SLOTS);
        assert!(!is_held[FILE_SLOTS as usize]);
    }

    #[test]
    fn files_of_another_cluster_or_a_later_version_are_refused_and_spoilt_ones_are_passed_over() {
        let folder = tempfile::tempdir().unwrap();
        let (mut held, _orders) = held(folder.path(), 1, u64::MAX);
        assert!(held.block(NOW, &block(1, BlockId::GENESIS, 40)));
        assert!(matches!(find(folder.path(), ClusterId([9; 32])), Err((_, Refusal::Cluster))));
        let path = path(folder.path(), 1);
        let mut bytes = fs::read(&path).unwrap();
        bytes[0] ^= 1;
        fs::write(&path, &bytes).unwrap();
        let found = find(folder.path(), CLUSTER).ok().unwrap();
        assert_eq!((found.blocks.len(), found.files, found.next_number), (0, vec![path.clone()], 2));
        let later = Format { version: 2, ..HELD };
        fs::write(&path, later.header(CLUSTER)).unwrap();
        assert!(matches!(find(folder.path(), CLUSTER), Err((_, Refusal::Version(_)))));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn a_file_that_is_cut_or_spoilt_anywhere_gives_only_blocks_that_were_written(
            cut: prop::sample::Index, spoilt: prop::sample::Index, bit in 0..8u8,
        ) {
            let folder = tempfile::tempdir().unwrap();
            let (mut held, _orders) = held(folder.path(), 1, u64::MAX);
            let chain = chain(4, 200);
            prop_assert!(chain.iter().all(|block| held.block(NOW, block)));
            let path = path(folder.path(), 1);
            let mut bytes = fs::read(&path).unwrap();
            bytes.truncate(cut.index(bytes.len()) + 1);
            let at = spoilt.index(bytes.len());
            bytes[at] ^= 1 << bit;
            fs::write(&path, bytes).unwrap();
            if let Ok(found) = find(folder.path(), CLUSTER) {
                for block in found.blocks {
                    prop_assert!(chain.iter().any(|known| known.id == block.id));
                }
            }
        }
    }
}
