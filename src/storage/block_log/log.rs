//! The log's files, for the one process that writes them.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use alpenglow_control::block::Block;
use alpenglow_control::block_log::{BlockHead, ChainTip, decode_block};
use alpenglow_control::certificate::Certificate;
use alpenglow_rotor::types::{BlockId, ClusterId, Slot};

use super::Limits;
use super::held::{self, HeldFile, Refusal};
use super::index::{Index, Lost, Place};
use super::segment::{self, Head, LogParameters, Placed, SEGMENT};
use crate::storage::frames::{FrameAt, HEADER_BYTES, HeaderError};

/// Corrupt places of a segment that are told one by one.
const CORRUPT_TOLD_MAX: usize = 16;

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

/// What was found at the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Opened {
    /// Bytes cut off at the end of the last segment.
    pub(crate) torn_bytes: u64,
    /// Places that are corrupt.
    pub(crate) corrupt: u64,
    /// Indexes made anew.
    pub(crate) reindexed: u64,
    /// Blocks that were written for votes only, and are in a segment now.
    pub(crate) recovered: u64,
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
    records: Vec<Placed>,
    slot_min: Slot,
    is_synced: bool,
}

/// Writes at a place of a file: [`FileExt::write_all_at`], but in tests of disks that fail.
pub(super) type WriteAt = Box<dyn FnMut(&File, &[u8], u64) -> io::Result<()> + Send>;

/// See the module `block_log`.
pub(crate) struct BlockLog {
    folder: PathBuf,
    parameters: LogParameters,
    limits: Limits,
    write_at: WriteAt,
    index: Index,
    /// All of them, with the one that is written to.
    segments: BTreeMap<u64, Segment>,
    active: Option<Active>,
    buffer: Vec<u8>,
    /// Records found corrupt since the start.
    corrupt: u64,
    /// Whether the chain may lack something that was not looked for yet.
    has_gaps: bool,
    /// The block looked at last, until all were.
    looked_at: Option<Option<BlockId>>,
    /// Number of the next file that [`held`] writes.
    next_held: u64,
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
    /// Opens the log in that folder, or makes it.
    ///
    /// # Errors
    /// [`BlockLogError`] says what to do.
    pub(crate) fn open(
        folder: &Path,
        parameters: LogParameters,
        limits: Limits,
    ) -> Result<(Self, Opened), BlockLogError> {
        fs::create_dir_all(folder).map_err(at(folder))?;
        let mut log = Self {
            folder: folder.to_owned(),
            parameters,
            limits,
            write_at: Box::new(|file, bytes, at| file.write_all_at(bytes, at)),
            index: Index::default(),
            segments: BTreeMap::new(),
            active: None,
            buffer: Vec::new(),
            corrupt: 0,
            has_gaps: true,
            looked_at: Some(None),
            next_held: 1,
        };
        let mut opened = Opened::default();
        let numbers = segment_numbers(folder).map_err(at(folder))?;
        for (position, &number) in numbers.iter().enumerate() {
            log.open_segment(number, position + 1 == numbers.len(), &mut opened)?;
        }
        log.corrupt = opened.corrupt;
        opened.recovered = log.take_held()?;
        log.drop_old();
        Ok((log, opened))
    }

    /// Takes over the blocks that were written before votes for them and that a process which ended had not got to.
    fn take_held(&mut self) -> Result<u64, BlockLogError> {
        let found =
            held::find(&self.folder, self.parameters.cluster).map_err(|(path, refusal)| refusal.of_file(path))?;
        self.next_held = found.next_number;
        let mut recovered = 0;
        for block in &found.blocks {
            match self.hold(block) {
                Ok(Kept::Written) => recovered += 1,
                Ok(Kept::Known | Kept::TooLong) => {}
                Err(error) => {
                    tracing::error!(%error, "the block log cannot be written: blocks that were voted for stay where they are until the next start");
                    return Ok(recovered);
                }
            }
        }
        found.files.iter().for_each(|path| held::remove(path));
        Ok(recovered)
    }

    /// The next file for slices of blocks that may be voted for.
    ///
    /// # Errors
    /// When the file system refuses.
    pub(super) fn make_held(&mut self) -> io::Result<HeldFile> {
        let made = HeldFile::make(&self.folder, self.next_held, self.parameters.cluster)?;
        self.next_held += 1;
        Ok(made)
    }

    /// Removes one that is not needed any more.
    pub(super) fn remove_held(&self, file: HeldFile) {
        file.remove(&self.folder);
    }

    /// Another way to write.
    #[cfg(test)]
    pub(super) fn write_with(&mut self, write_at: WriteAt) {
        self.write_at = write_at;
    }

    fn open_segment(&mut self, number: u64, is_last: bool, opened: &mut Opened) -> Result<(), BlockLogError> {
        let path = segment_path(&self.folder, number);
        let file = OpenOptions::new().read(true).write(is_last).open(&path).map_err(at(&path))?;
        let bytes = file.metadata().map_err(at(&path))?.len();
        let mut head = [0; HEADER_BYTES];
        let head = &mut head[..HEADER_BYTES.min(bytes as usize)];
        file.read_exact_at(head, 0).map_err(at(&path))?;
        match SEGMENT.read_header(head) {
            Ok(cluster) if cluster != self.parameters.cluster => return Err(BlockLogError::Cluster { path }),
            Ok(_) => {}
            Err(reason @ HeaderError::Version { .. }) => return Err(BlockLogError::Version { path, reason }),
            // A crash while it was made.
            Err(HeaderError::Short(_)) if is_last => return fs::remove_file(&path).map_err(at(&path)),
            Err(reason) => {
                tracing::error!(path = %path.display(), %reason, "this segment of the block log cannot be read");
                opened.corrupt += 1;
                self.segments.insert(number, Segment { bytes, slot_max: Slot::GENESIS });
                return Ok(());
            }
        }
        let indexed = if is_last { None } else { read_index(&self.folder, number, self.parameters.cluster, bytes) };
        let (records, end) = match indexed {
            Some(records) => (records, bytes),
            None => {
                let content = fs::read(&path).map_err(at(&path))?;
                let (_, found) = segment::scan(&content).expect("its header was just read");
                let tail = u64::from(!is_last && found.end < bytes);
                opened.corrupt += found.corrupt.len() as u64 + tail;
                for at in found.corrupt.iter().take(CORRUPT_TOLD_MAX) {
                    tracing::error!(path = %path.display(), at, "the block log is corrupt there");
                }
                if !is_last {
                    opened.reindexed += 1;
                    self.write_index(number, bytes, &found.records);
                }
                (found.records, found.end)
            }
        };
        records.iter().for_each(|placed| self.index.add(number, placed));
        let slots = || records.iter().map(|placed| slot(&placed.head));
        let slot_max = slots().max().unwrap_or_default();
        if is_last {
            opened.torn_bytes = bytes - end;
            file.set_len(end).map_err(at(&path))?;
            let slot_min = slots().min().unwrap_or(Slot(u64::MAX));
            self.active = Some(Active { number, file, slot_min, records, is_synced: true });
        }
        self.segments.insert(number, Segment { bytes: end, slot_max });
        Ok(())
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
        segment::frame_block(block, &mut self.buffer);
        let head = Head::Block(BlockHead { id: block.id, parent: block.parent });
        self.append(&[(0..self.buffer.len(), head)])?;
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
            segment::frame_block(block, &mut self.buffer);
            let head = Head::Block(BlockHead { id: block.id, parent: block.parent });
            frames.push((0..self.buffer.len(), head));
        }
        if !is_final {
            frames.push(self.frame_final(block.id, certificates, in_order));
        }
        self.append(&frames)?;
        self.has_gaps |= !in_order || !self.index.is_final(block.parent);
        Ok(Kept::Written)
    }

    fn frame_final(&mut self, id: BlockId, certificates: &[Arc<Certificate>], in_order: bool) -> (Range<usize>, Head) {
        let start = self.buffer.len();
        segment::frame_final(id, certificates, in_order, &mut self.buffer);
        (start..self.buffer.len(), Head::Final { id, in_order, certified: !certificates.is_empty() })
    }

    /// Appends what is in the buffer.
    fn append(&mut self, frames: &[(Range<usize>, Head)]) -> io::Result<()> {
        let slot_max = frames.iter().map(|(_, head)| slot(head)).max().unwrap_or_default();
        self.make_room(slot_max)?;
        let active = self.active.as_mut().expect("there is room in it");
        let segment = self.segments.get_mut(&active.number).expect("it is one of them");
        if let Err(error) = (self.write_at)(&active.file, &self.buffer, segment.bytes) {
            // What was written of it is a torn tail, which the next record overwrites or a start cuts off.
            let _ = active.file.set_len(segment.bytes);
            return Err(error);
        }
        for (range, head) in frames {
            let at = segment.bytes + range.start as u64;
            let placed = Placed { at, frame_bytes: range.len() as u32, head: *head };
            active.records.push(placed);
            active.slot_min = active.slot_min.min(slot(head));
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
            let slots = slot.0.saturating_sub(active.slot_min.0);
            let is_full = bytes > self.limits.segment_bytes() || slots > self.limits.slots_max / 16;
            if !is_full || active.records.is_empty() {
                return Ok(());
            }
        }
        let number = self.segments.last_key_value().map_or(1, |(number, _)| number + 1);
        let path = segment_path(&self.folder, number);
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(&path)?;
        let header = self.parameters.begin_segment();
        if let Err(error) = (self.write_at)(&file, &header, 0) {
            let _ = fs::remove_file(&path);
            return Err(error);
        }
        let slot_min = Slot(u64::MAX);
        let full = self.active.replace(Active { number, file, records: Vec::new(), slot_min, is_synced: false });
        self.segments.insert(number, Segment { bytes: header.len() as u64, slot_max: Slot::GENESIS });
        if let Some(Active { number, file, records, .. }) = full {
            if let Err(error) = file.sync_data() {
                tracing::error!(%error, segment = number, "the block log cannot be synced");
            }
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
        if !self.has_gaps {
            return Ok(None);
        }
        let gaps = self.index.lost();
        let mut lost = Vec::new();
        self.has_gaps = false;
        for gap in gaps {
            match gap {
                Lost::Block(id) => lost.push(id),
                Lost::Finality(id) => {
                    self.buffer.clear();
                    let frame = self.frame_final(id, &[], false);
                    // Its parent may be lost as well.
                    self.has_gaps = true;
                    self.append(&[frame])?;
                }
            }
        }
        Ok(Some(lost))
    }

    /// Makes sure that what was written is on disk.
    ///
    /// # Errors
    /// When the file system refuses.
    pub(super) fn sync(&mut self) -> io::Result<()> {
        match &mut self.active {
            Some(active) if !active.is_synced => {
                active.is_synced = true;
                active.file.sync_data()
            }
            _ => Ok(()),
        }
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

const fn slot(head: &Head) -> Slot {
    match head {
        Head::Block(BlockHead { id, .. }) | Head::Final { id, .. } => id.slot,
        Head::Parameters => Slot::GENESIS,
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

/// The segments in a folder, in order.
pub(super) fn segment_numbers(folder: &Path) -> io::Result<Vec<u64>> {
    numbers(folder, ".segment")
}

/// The numbers that names with this suffix have, in order.
pub(super) fn numbers(folder: &Path, suffix: &str) -> io::Result<Vec<u64>> {
    let mut numbers = Vec::new();
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name();
        let number = name.to_str().and_then(|name| name.strip_suffix(suffix)?.parse::<u64>().ok());
        numbers.extend(number);
    }
    numbers.sort_unstable();
    Ok(numbers)
}

pub(super) fn segment_path(folder: &Path, number: u64) -> PathBuf {
    folder.join(format!("{number:08}.segment"))
}

pub(super) fn index_path(folder: &Path, number: u64) -> PathBuf {
    folder.join(format!("{number:08}.index"))
}

/// The index of a segment, if there is one that fits it.
pub(super) fn read_index(folder: &Path, number: u64, cluster: ClusterId, segment_bytes: u64) -> Option<Vec<Placed>> {
    let bytes = fs::read(index_path(folder, number)).ok()?;
    segment::decode_index(&bytes, cluster, segment_bytes)
}

/// A record, if it is whole.
pub(super) fn read_record(folder: &Path, place: Place) -> Option<Vec<u8>> {
    let mut frame = vec![0; place.frame_bytes as usize];
    File::open(segment_path(folder, place.segment)).and_then(|file| file.read_exact_at(&mut frame, place.at)).ok()?;
    match SEGMENT.frame_at(&frame) {
        FrameAt::Whole(record) => Some(record.to_vec()),
        _ => None,
    }
}
