//! The log at a start: what of its files is taken over.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::{Active, BlockLog, BlockLogError, Kept, Segment, Sync, at, slot, slot_in_turn, sync_names};
use crate::storage::block_log::Limits;
use crate::storage::block_log::files::{read_index, segment_numbers, segment_path};
use crate::storage::block_log::held;
use crate::storage::block_log::index::Index;
use crate::storage::block_log::segment::{self, BEGIN_BYTES, LogParameters, Placed, SEGMENT, Scan};
use crate::storage::frames::HeaderError;

/// Corrupt places of a segment that are told one by one.
const CORRUPT_TOLD_MAX: usize = 16;

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
        Self::open_with(folder, parameters, limits, Box::new(File::sync_all))
    }

    /// With another way to sync.
    pub(in crate::storage::block_log) fn open_with(
        folder: &Path,
        parameters: LogParameters,
        limits: Limits,
        mut sync: Sync,
    ) -> Result<(Self, Opened), BlockLogError> {
        if !folder.is_dir() {
            fs::create_dir_all(folder).map_err(at(folder))?;
            folder.parent().map_or(Ok(()), |parent| sync_names(&mut sync, parent)).map_err(at(folder))?;
        }
        let mut log = Self {
            folder: folder.to_owned(),
            parameters,
            limits,
            write_at: Box::new(|file, bytes, at| file.write_all_at(bytes, at)),
            sync,
            index: Index::default(),
            segments: BTreeMap::new(),
            active: None,
            buffer: Vec::new(),
            corrupt: 0,
            lost: BTreeSet::new(),
            may_be_more: false,
            has_gaps: true,
            not_looked_below: Vec::new(),
            looked_at: Some(None),
            next_held: 1,
            held_needed_below: 0,
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
        for (taken, block) in found.blocks.iter().enumerate() {
            match self.hold(block) {
                Ok(Kept::Written) => recovered += 1,
                Ok(Kept::Known | Kept::TooLong) => {}
                Err(error) => {
                    tracing::error!(%error, blocks = found.blocks.len() - taken, "the block log cannot be written: these blocks that were voted for stay in files of their own until the next start");
                    return Ok(recovered);
                }
            }
        }
        match self.sync() {
            Ok(()) if self.held_needed_below == 0 => found.files.iter().for_each(|path| held::remove(path)),
            synced => {
                tracing::error!(error = ?synced.err(), "the block log cannot be synced: blocks that were voted for stay in files of their own until the next start")
            }
        }
        Ok(recovered)
    }

    fn open_segment(&mut self, number: u64, is_last: bool, opened: &mut Opened) -> Result<(), BlockLogError> {
        let path = segment_path(&self.folder, number);
        let file = OpenOptions::new().read(true).write(is_last).open(&path).map_err(at(&path))?;
        // What is longer was not written by a node; of the rest no more is read than this.
        let bytes = file.metadata().map_err(at(&path))?.len().min(SEGMENT.file_bytes_max + 1);
        let mut head = vec![0; BEGIN_BYTES.min(bytes as usize)];
        file.read_exact_at(&mut head, 0).map_err(at(&path))?;
        let header = match segment::read_header(&head) {
            Ok(cluster) if cluster != self.parameters.cluster => return Err(BlockLogError::Cluster { path }),
            Err(reason @ HeaderError::Version { .. }) => return Err(BlockLogError::Version { path, reason }),
            // A crash while it was made.
            Err(HeaderError::Short(_)) if is_last => return fs::remove_file(&path).map_err(at(&path)),
            header => header,
        };
        let indexed = if is_last { None } else { read_index(&self.folder, number, bytes) };
        let indexed = indexed.filter(|(cluster, _)| *cluster == self.parameters.cluster);
        let scanned = match header {
            Ok(_) if indexed.is_none() => {
                let content = SEGMENT.read_bounded(&file).map_err(at(&path))?;
                segment::scan(&content).map(|(_, found)| Some(found))
            }
            header => header.map(|_| None),
        };
        if let Err(reason) = scanned {
            tracing::error!(path = %path.display(), %reason, "a segment of the block log is corrupt");
            opened.corrupt += 1;
        }
        match scanned.ok().flatten() {
            Some(found) => {
                opened.corrupt += found.corrupt.len() as u64;
                for at in found.corrupt.iter().take(CORRUPT_TOLD_MAX) {
                    tracing::error!(path = %path.display(), at, "the block log is corrupt there");
                }
                if is_last {
                    opened.torn_bytes = bytes - found.end;
                    file.set_len(found.end).map_err(at(&path))?;
                    self.go_on_with(number, file, found);
                } else {
                    opened.corrupt += u64::from(found.end < bytes);
                    opened.reindexed += 1;
                    self.take_in(number, bytes, &found.records);
                    self.write_index(number, bytes, &found.records);
                }
            }
            // Of what is corrupt at its front the index still tells where records are.
            None => self.take_in(number, bytes, &indexed.map(|(_, records)| records).unwrap_or_default()),
        }
        Ok(())
    }

    /// The last segment is written to again, unless it is of a former version.
    fn go_on_with(&mut self, number: u64, file: File, found: Scan) {
        self.take_in(number, found.end, &found.records);
        let Some(mark) = found.mark else { return self.write_index(number, found.end, &found.records) };
        let slot_first = found.records.iter().find_map(|placed| slot_in_turn(&placed.head));
        // Who wrote it may have been killed before it was on disk.
        let (is_synced, is_name_new) = (false, true);
        self.active = Some(Active { number, file, mark, slot_first, records: found.records, is_synced, is_name_new });
    }

    fn take_in(&mut self, number: u64, bytes: u64, records: &[Placed]) {
        records.iter().for_each(|placed| self.index.add(number, placed));
        let slot_max = records.iter().map(|placed| slot(&placed.head)).max().unwrap_or_default();
        self.segments.insert(number, Segment { bytes, slot_max });
    }
}
