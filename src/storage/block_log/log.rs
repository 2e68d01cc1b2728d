//! The log's files, for the one process that writes them.

mod opening;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, OpenOptions};
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use alpenglow_control::block::Block;
use alpenglow_control::block_log::{BlockHead, ChainTip, decode_block};
use alpenglow_control::certificate::Certificate;
use alpenglow_rotor::types::{BlockId, Slot};

#[cfg(test)]
pub(super) use self::opening::Opened;
use super::Limits;
use super::files::{index_path, read_record, segment_path};
use super::held::{HeldFile, Refusal};
use super::index::{Index, LOST_MAX, Lost, Place};
use super::segment::{self, Head, LogParameters, Mark, Placed};
use crate::storage::frames::HeaderError;

/// Why the log cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BlockLogError {
    /// The file system refuses.
    #[error("cannot use {path}: {source}; give this user the right to read and write there")]
    Io {
        /// Which file or folder.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Of a later version of this program, most likely.
    #[error(
        "{path} cannot be used: {reason}; use the program that wrote it, or move the folder away: a new one is made, and its blocks are fetched from others as they are needed"
    )]
    Version {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        reason: HeaderError,
    },
    /// It is of another cluster.
    #[error("{path} is of another cluster; give each cluster a data folder of its own, or move the folder away")]
    Cluster {
        /// Which file.
        path: PathBuf,
    },
}

#[derive(Clone, Copy, Debug)]
struct Segment {
    bytes: u64,
    slot_max: Slot,
}

/// The segment that is written to.
struct Active {
    number: u64,
    file: File,
    mark: Mark,
    records: Vec<Placed>,
    /// Slot of the first block in it that was written in its turn, if any was. One that was lost and found again, from
    /// far below, does not fill a segment.
    slot_first: Option<Slot>,
    is_synced: bool,
    /// Its name may not be on disk.
    is_name_new: bool,
}

/// Writes at a place of a file: [`write_all_at`](std::os::unix::fs::FileExt::write_all_at), but in tests of disks that
/// fail.
pub(super) type WriteAt = Box<dyn FnMut(&File, &[u8], u64) -> io::Result<()> + Send>;

/// Returns when what is in a file or a folder is on disk: [`File::sync_all`], but in tests of what disks do.
pub(super) type Sync = Box<dyn FnMut(&File) -> io::Result<()> + Send>;

/// See the module `block_log`.
pub(crate) struct BlockLog {
    folder: PathBuf,
    parameters: LogParameters,
    limits: Limits,
    write_at: WriteAt,
    sync: Sync,
    index: Index,
    /// All of them, with the one that is written to.
    segments: BTreeMap<u64, Segment>,
    active: Option<Active>,
    buffer: Vec<u8>,
    /// Records found corrupt since the start.
    corrupt: u64,
    /// Final blocks that are not there.
    lost: BTreeSet<BlockId>,
    /// Whether there may be more of them.
    may_be_more: bool,
    /// Whether the chain may lack something anywhere that was not looked for yet, …
    has_gaps: bool,
    /// … or at one of these blocks.
    not_looked_below: Vec<BlockId>,
    /// The block looked at last, until all were.
    looked_at: Option<Option<BlockId>>,
    /// Number of the next file that [`held`](super::held) writes.
    next_held: u64,
    /// The disk failed to take what went to segments, perhaps out of those files before this one.
    held_needed_below: u64,
}

/// What became of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kept {
    Written,
    /// It was there.
    Known,
    /// It is longer than what is kept.
    TooLong,
}

impl BlockLog {
    /// The next file for slices of blocks that may be voted for.
    ///
    /// # Errors
    /// When the file system refuses.
    pub(super) fn make_held(&mut self) -> io::Result<HeldFile> {
        let made = HeldFile::make(&self.folder, self.next_held, self.parameters.cluster)?;
        self.next_held += 1;
        Ok(made)
    }

    /// Removes one that is not needed any more. If what was in it may not be on disk, it is left to the next start.
    pub(super) fn remove_held(&self, file: HeldFile) {
        if file.number() >= self.held_needed_below {
            file.remove(&self.folder);
        }
    }

    /// Another way to write.
    #[cfg(test)]
    pub(super) fn write_with(&mut self, write_at: WriteAt) {
        self.write_at = write_at;
    }

    /// Writes a complete block, if it is not there.
    ///
    /// # Errors
    /// When the file system refuses; then nothing of it is there.
    pub(super) fn hold(&mut self, block: &Block) -> io::Result<Kept> {
        if self.index.block(block.id).is_some() {
            return Ok(Kept::Known);
        }
        if !segment::fits(block) {
            return Ok(Kept::TooLong);
        }
        self.buffer.clear();
        let frame = self.frame_block(block);
        self.append(&[frame])?;
        Ok(Kept::Written)
    }

    /// Writes that a block is final, and the block if it is not there.
    ///
    /// # Errors
    /// As for [`Self::hold`].
    pub(super) fn finalize(
        &mut self,
        block: &Block,
        certificates: &[Arc<Certificate>],
        in_order: bool,
    ) -> io::Result<Kept> {
        let (is_held, is_final) = (self.index.block(block.id).is_some(), self.index.is_final(block.id));
        if is_held && is_final {
            return Ok(Kept::Known);
        }
        if !is_held && !segment::fits(block) {
            return Ok(Kept::TooLong);
        }
        self.buffer.clear();
        let mut frames = Vec::with_capacity(2);
        if !is_held {
            frames.push(self.frame_block(block));
        }
        if !is_final {
            frames.push(self.frame_final(block.id, certificates, in_order));
        }
        self.append(&frames)?;
        if !in_order || !self.index.is_final(block.parent) {
            self.has_gaps |= self.not_looked_below.len() >= LOST_MAX;
            if !self.has_gaps {
                self.not_looked_below.push(block.id);
            }
        }
        Ok(Kept::Written)
    }

    fn frame_block(&mut self, block: &Block) -> (Range<usize>, Head) {
        let frame = segment::frame_block(block, &mut self.buffer);
        (frame, Head::Block(BlockHead { id: block.id, parent: block.parent }))
    }

    fn frame_final(&mut self, id: BlockId, certificates: &[Arc<Certificate>], in_order: bool) -> (Range<usize>, Head) {
        let frame = segment::frame_final(id, certificates, in_order, &mut self.buffer);
        (frame, Head::Final { id, in_order, certified: !certificates.is_empty() })
    }

    /// Appends what is in the buffer: these frames.
    fn append(&mut self, frames: &[(Range<usize>, Head)]) -> io::Result<()> {
        let slot_max = frames.iter().map(|(_, head)| slot(head)).max().unwrap_or_default();
        self.make_room(slot_max)?;
        let active = self.active.as_mut().expect("there is room in it");
        let segment = self.segments.get_mut(&active.number).expect("it is one of them");
        frames.iter().for_each(|(range, _)| active.mark.put(range, &mut self.buffer));
        if let Err(error) = (self.write_at)(&active.file, &self.buffer, segment.bytes) {
            // What was written of it is a torn tail, which the next record overwrites or a start cuts off.
            let _ = active.file.set_len(segment.bytes);
            return Err(error);
        }
        for (range, head) in frames {
            let at = segment.bytes + range.start as u64;
            let placed = Placed { at, frame_bytes: range.len() as u32, head: *head };
            active.records.push(placed);
            active.slot_first = active.slot_first.or(slot_in_turn(head));
            self.index.add(active.number, &placed);
        }
        segment.bytes += self.buffer.len() as u64;
        segment.slot_max = segment.slot_max.max(slot_max);
        active.is_synced = false;
        // A single long block must not hold its memory for ever.
        self.buffer.shrink_to(self.limits.segment_bytes() as usize);
        Ok(())
    }

    /// Begins the next segment if the last one is full.
    fn make_room(&mut self, slot: Slot) -> io::Result<()> {
        if let Some(active) = &self.active {
            let bytes = self.segments[&active.number].bytes + self.buffer.len() as u64;
            let slots = active.slot_first.map_or(0, |first| slot.0.saturating_sub(first.0));
            let is_full = bytes > self.limits.segment_bytes() || slots > self.limits.slots_max / 16;
            if !is_full || active.records.is_empty() {
                return Ok(());
            }
        }
        // Nothing but the last one is synced later.
        if let Err(error) = self.sync() {
            tracing::error!(%error, "a segment of the block log cannot be synced");
        }
        let mark = Mark::random()?;
        let number = self.segments.last_key_value().map_or(1, |(number, _)| number + 1);
        let path = segment_path(&self.folder, number);
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(&path)?;
        let header = self.parameters.begin_segment(mark);
        if let Err(error) = (self.write_at)(&file, &header, 0) {
            let _ = fs::remove_file(&path);
            return Err(error);
        }
        let (records, slot_first) = (Vec::new(), None);
        let begun = Active { number, file, mark, records, slot_first, is_synced: false, is_name_new: true };
        let full = self.active.replace(begun);
        self.segments.insert(number, Segment { bytes: header.len() as u64, slot_max: Slot::GENESIS });
        if let Some(Active { number, records, .. }) = full {
            self.write_index(number, self.segments[&number].bytes, &records);
        }
        self.drop_old();
        Ok(())
    }

    /// Without it the next start reads the segment as a whole.
    fn write_index(&self, number: u64, segment_bytes: u64, records: &[Placed]) {
        let path = index_path(&self.folder, number);
        let temporary = path.with_extension("part");
        let bytes = segment::encode_index(self.parameters.cluster, segment_bytes, records);
        if let Err(error) = fs::write(&temporary, bytes).and_then(|()| fs::rename(&temporary, &path)) {
            tracing::warn!(path = %path.display(), %error, "the index of a segment of the block log is not written");
        }
    }

    /// Lets the oldest segments go.
    fn drop_old(&mut self) {
        let highest = self.index.highest().map_or(0, |id| id.slot.0);
        loop {
            let bytes: u64 = self.segments.values().map(|segment| segment.bytes).sum();
            let is_too_long = bytes + self.limits.segment_bytes() > self.limits.bytes_max;
            let mut oldest = self.segments.iter();
            let Some((&number, segment)) = oldest.next().filter(|_| oldest.next().is_some()) else { return };
            if !is_too_long && segment.slot_max.0.saturating_add(self.limits.slots_max) >= highest {
                return;
            }
            for path in [segment_path(&self.folder, number), index_path(&self.folder, number)] {
                match fs::remove_file(&path) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => {
                        tracing::warn!(path = %path.display(), %error, "an old part of the block log stays");
                    }
                    _ => {}
                }
            }
            self.segments.remove(&number);
            self.index.forget_segment(number);
        }
    }

    /// The block, if it is there and can be read.
    pub(super) fn load(&mut self, id: BlockId) -> Option<Block> {
        let place = self.index.block(id)?;
        let record = self.read(id, place)?;
        let block = segment::block_of(&record).and_then(|bytes| decode_block(bytes).ok());
        if block.is_none() {
            self.note_corrupt(id, place);
        }
        block
    }

    fn read(&mut self, id: BlockId, place: Place) -> Option<Vec<u8>> {
        let record = read_record(&self.folder, place);
        if record.is_none() {
            self.note_corrupt(id, place);
        }
        record
    }

    fn note_corrupt(&mut self, id: BlockId, place: Place) {
        let path = segment_path(&self.folder, place.segment);
        tracing::error!(path = %path.display(), at = place.at, block = %id, "a record of the block log is corrupt");
        self.index.forget_place(id, place);
        self.corrupt += 1;
        self.has_gaps = true;
    }

    /// The highest block that is final by certificates that `holds` accepts.
    pub(crate) fn tip(&mut self, mut holds: impl FnMut(&ChainTip) -> bool) -> Option<ChainTip> {
        let candidates: Vec<_> = self.index.certified().take(64).collect();
        for (id, _, certificates) in candidates {
            let certificates = self
                .read(id, certificates)
                .and_then(|record| segment::certificates_of(&record, self.parameters.validators));
            let (Some(block), Some(certificates)) = (self.load(id), certificates) else { continue };
            let tip = ChainTip { block: Arc::new(block), certificates };
            if holds(&tip) {
                return Some(tip);
            }
        }
        None
    }

    /// Looks whether the next record can be read; `None` when all were looked at since the start. Gives its length.
    pub(super) fn look_at_next(&mut self) -> Option<u64> {
        let (id, places) = self.index.places_after(self.looked_at?).or_else(|| {
            self.looked_at = None;
            None
        })?;
        self.looked_at = Some(Some(id));
        let mut bytes = 0;
        for place in places.into_iter().flatten() {
            bytes += u64::from(place.frame_bytes);
            self.read(id, place);
        }
        Some(bytes)
    }

    /// What the chain lacks, if that may have changed since it was asked for. That a block which is there is final is
    /// written down at once.
    ///
    /// # Errors
    /// When the file system refuses.
    pub(super) fn take_lost_if_changed(&mut self) -> io::Result<Option<Vec<BlockId>>> {
        let below = std::mem::take(&mut self.not_looked_below);
        if !self.has_gaps && below.is_empty() {
            return Ok(None);
        }
        // Unless this ends well, it begins anew.
        let looks_everywhere = std::mem::replace(&mut self.has_gaps, true);
        let lowest = self.index.lowest().unwrap_or_default();
        let mut gaps = if looks_everywhere {
            self.lost.clear();
            self.index.lost()
        } else {
            self.lost.retain(|id| id.slot >= lowest && !self.index.is_whole(*id));
            below.into_iter().filter_map(|id| self.index.lost_at(id, lowest)).collect()
        };
        if looks_everywhere {
            self.may_be_more = gaps.len() == LOST_MAX;
        }
        while let Some(gap) = gaps.pop() {
            match gap {
                Lost::Block(_) if self.lost.len() >= LOST_MAX => self.may_be_more = true,
                Lost::Block(id) => {
                    self.lost.insert(id);
                }
                Lost::Finality(id) => {
                    self.buffer.clear();
                    let frame = self.frame_final(id, &[], false);
                    self.append(&[frame])?;
                    // Its parent may be lost as well.
                    gaps.extend(self.index.lost_at(id, lowest));
                }
            }
        }
        self.has_gaps = self.may_be_more && self.lost.is_empty();
        Ok(Some(self.lost.iter().copied().collect()))
    }

    /// Makes sure that what was written is on disk.
    ///
    /// # Errors
    /// When the file system refuses. What was written may be lost then, also if a later call succeeds.
    pub(super) fn sync(&mut self) -> io::Result<()> {
        let Some(active) = self.active.as_mut().filter(|active| !active.is_synced) else { return Ok(()) };
        active.is_synced = true;
        let mut synced = (self.sync)(&active.file);
        if active.is_name_new && synced.is_ok() {
            synced = sync_names(&mut self.sync, &self.folder);
            active.is_name_new = synced.is_err();
        }
        if synced.is_err() {
            self.held_needed_below = self.next_held;
        }
        synced
    }

    /// Makes sure that the names of all files are on disk.
    ///
    /// # Errors
    /// When the file system refuses.
    pub(super) fn sync_names(&mut self) -> io::Result<()> {
        sync_names(&mut self.sync, &self.folder)
    }

    /// Records found corrupt since the start.
    pub(super) const fn corrupt(&self) -> u64 {
        self.corrupt
    }

    /// Bytes of all segments.
    pub(super) fn bytes(&self) -> u64 {
        self.segments.values().map(|segment| segment.bytes).sum()
    }

    #[cfg(test)]
    pub(super) const fn index(&self) -> &Index {
        &self.index
    }
}

fn sync_names(sync: &mut Sync, folder: &Path) -> io::Result<()> {
    sync(&File::open(folder)?)
}

const fn slot(head: &Head) -> Slot {
    match head {
        Head::Block(BlockHead { id, .. }) | Head::Final { id, .. } => id.slot,
        Head::Parameters => Slot::GENESIS,
    }
}

const fn slot_in_turn(head: &Head) -> Option<Slot> {
    match head {
        Head::Final { id, in_order: true, .. } => Some(id.slot),
        _ => None,
    }
}

impl Refusal {
    fn of_file(self, path: PathBuf) -> BlockLogError {
        match self {
            Self::Io(source) => BlockLogError::Io { path, source },
            Self::Version(reason) => BlockLogError::Version { path, reason },
            Self::Cluster => BlockLogError::Cluster { path },
        }
    }
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> BlockLogError {
    let path = path.to_owned();
    move |source| BlockLogError::Io { path, source }
}
