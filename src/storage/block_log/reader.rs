//! The log as others see it, who only read: while the node writes it, or after.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use alpenglow_control::block::Block;
use alpenglow_control::block_log::{BlockHead, decode_block, finalize};
use alpenglow_control::certificate::Certificate;
use alpenglow_rotor::merkle;
use alpenglow_rotor::recoder::Recoder;
use alpenglow_rotor::types::{BlockId, ClusterId, Hash, Slot};
use serde::Serialize;

use super::files::{index_path, read_index, read_record, segment_numbers, segment_path};
use super::index::Place;
use super::log::BlockLogError;
use super::segment::{self, Head, LogParameters, SEGMENT};
use crate::storage::frames::HeaderError;

/// A block of the log.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LoggedBlock {
    /// Which.
    pub(crate) id: BlockId,
    /// Its parent.
    pub(crate) parent: BlockId,
    /// Number of its segment.
    pub(crate) segment: u64,
    /// Where it begins there.
    pub(crate) at: u64,
    /// Length of its record.
    pub(crate) bytes: u32,
    /// What says that it is final, if anything does.
    pub(crate) finality: Option<Finality>,
}

/// What the log says of a final block.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Finality {
    place: Place,
    /// Whether there are certificates; without, it is final as an ancestor.
    pub(crate) certified: bool,
    in_order: bool,
}

/// Something that is not as it was written, or should be.
#[derive(Clone, Debug)]
pub(crate) struct Defect {
    /// In which file.
    pub(crate) file: PathBuf,
    /// At which byte.
    pub(crate) at: u64,
    /// Which block it is about, if that is known.
    pub(crate) block: Option<BlockId>,
    /// What is wrong.
    pub(crate) what: String,
}

/// What the chain lacks by a corrupt place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Loss {
    /// Nothing: what was there is elsewhere too.
    WrittenAgain,
    /// Nothing, whatever was there.
    Nothing,
    /// Its block, or that it is final.
    Missing,
    /// The chain lacks something, perhaps by this place.
    Unknown,
}

/// All that is in a log, but for the blocks themselves.
#[derive(Debug, Default)]
pub(crate) struct Survey {
    /// Its cluster; `None` for an empty log.
    pub(crate) cluster: Option<ClusterId>,
    /// What it is to be read with; `None` for an empty log, and if that is corrupt in every segment.
    pub(crate) parameters: Option<LogParameters>,
    /// Its segments: number and bytes.
    pub(crate) segments: Vec<(u64, u64)>,
    /// Its blocks.
    pub(crate) blocks: BTreeMap<BlockId, LoggedBlock>,
    /// Final blocks that are not there.
    pub(crate) missing: Vec<BlockId>,
    /// What is corrupt.
    pub(crate) defects: Vec<Defect>,
    /// Where the last record begins if it is incomplete: it is being written, or a crash tore it.
    pub(crate) incomplete_at: Option<(PathBuf, u64)>,
}

/// A log's folder.
pub(crate) struct Reader {
    folder: PathBuf,
}

impl Reader {
    /// Of the log in that folder.
    pub(crate) fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// Looks at every record.
    ///
    /// # Errors
    /// [`BlockLogError`] if that cannot be done at all.
    pub(crate) fn survey(&self) -> Result<Survey, BlockLogError> {
        let numbers = match segment_numbers(&self.folder) {
            Err(error) if error.kind() == ErrorKind::NotFound => Vec::new(),
            numbers => numbers.map_err(|source| BlockLogError::Io { path: self.folder.clone(), source })?,
        };
        let mut survey = Survey::default();
        let mut finals = BTreeMap::new();
        for (position, &number) in numbers.iter().enumerate() {
            self.survey_segment(number, position + 1 == numbers.len(), &mut survey, &mut finals)?;
        }
        let is_in_order = |id: &&BlockId| finals.get(*id).is_some_and(|finality| finality.in_order);
        let lowest = survey.blocks.keys().find(is_in_order).map(|id| id.slot);
        for (id, finality) in finals {
            match survey.blocks.get_mut(&id) {
                Some(block) => block.finality = Some(finality),
                // What was let go leaves what was said of it later.
                None if lowest.is_none_or(|lowest| id.slot <= lowest) => {}
                None => survey.missing.push(id),
            }
        }
        survey.find_missing_parents(lowest);
        Ok(survey)
    }

    fn survey_segment(
        &self,
        number: u64,
        is_last: bool,
        survey: &mut Survey,
        finals: &mut BTreeMap<BlockId, Finality>,
    ) -> Result<(), BlockLogError> {
        let path = segment_path(&self.folder, number);
        let bytes = match File::open(&path).and_then(|file| SEGMENT.read_bounded(&file)) {
            // The node lets old segments go.
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            bytes => bytes.map_err(|source| BlockLogError::Io { path: path.clone(), source })?,
        };
        survey.segments.push((number, bytes.len() as u64));
        let (cluster, found) = match segment::scan(&bytes) {
            Ok(found) => found,
            Err(reason @ HeaderError::Version { .. }) => return Err(BlockLogError::Version { path, reason }),
            Err(HeaderError::Short(_)) if is_last => {
                survey.incomplete_at = Some((path, 0));
                return Ok(());
            }
            Err(reason) => {
                survey.defects.push(Defect { file: path.clone(), at: 0, block: None, what: reason.to_string() });
                let indexed = read_index(&self.folder, number, bytes.len() as u64);
                let Some((cluster, indexed)) = indexed else { return Ok(()) };
                (cluster, segment::scan_indexed(&bytes, &indexed))
            }
        };
        if *survey.cluster.get_or_insert(cluster) != cluster {
            return Err(BlockLogError::Cluster { path });
        }
        survey.parameters = survey.parameters.or(found.parameters);
        let is_cut = found.end < bytes.len() as u64;
        if is_last && is_cut {
            survey.incomplete_at = Some((path.clone(), found.end));
        }
        let indexed =
            if is_last { Vec::new() } else { self.check_index(number, cluster, bytes.len() as u64, &found, survey) };
        let corrupt = found.corrupt.iter().copied().chain((!is_last && is_cut).then_some(found.end));
        survey.defects.extend(defects(&path, corrupt, &indexed, &found));
        for placed in &found.records {
            let place = Place { segment: number, at: placed.at, frame_bytes: placed.frame_bytes };
            match placed.head {
                Head::Block(BlockHead { id, parent }) => {
                    let bytes = placed.frame_bytes;
                    let block = LoggedBlock { id, parent, segment: number, at: placed.at, bytes, finality: None };
                    survey.blocks.insert(id, block);
                }
                Head::Final { id, in_order, certified } => {
                    let known = finals.entry(id).or_insert(Finality { place, certified, in_order });
                    if certified && !known.certified {
                        *known = Finality { place, certified, in_order: known.in_order };
                    }
                    known.in_order |= in_order;
                }
                Head::Parameters => {}
            }
        }
        Ok(())
    }

    /// What the index of a segment says, if it is that of the segment.
    fn check_index(
        &self,
        number: u64,
        cluster: ClusterId,
        bytes: u64,
        found: &segment::Scan,
        survey: &mut Survey,
    ) -> Vec<segment::Placed> {
        let file = index_path(&self.folder, number);
        let is_whole = found.corrupt.is_empty() && found.end == bytes;
        let fits = |indexed: &Vec<segment::Placed>| {
            // It may have been written before a record was spoilt.
            let corrupt = indexed.len().checked_sub(found.records.len());
            corrupt.is_some_and(|corrupt| corrupt == 0 || !is_whole)
                && found.records.iter().all(|placed| find(indexed, placed.at) == Some(placed))
        };
        // There is none yet of a segment that was just filled.
        let is_there = file.exists();
        let of_cluster = read_index(&self.folder, number, bytes).filter(|(of, _)| *of == cluster);
        let indexed = of_cluster.map(|(_, indexed)| indexed).filter(fits);
        if indexed.is_none() && is_there {
            let what = "the index is not that of its segment; the node makes it anew when it starts".to_owned();
            survey.defects.push(Defect { file, at: 0, block: None, what });
        }
        indexed.unwrap_or_default()
    }

    /// The path of a segment.
    pub(crate) fn path(&self, segment: u64) -> PathBuf {
        segment_path(&self.folder, segment)
    }

    /// The block itself; `None` if it went away meanwhile.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn block(&self, block: &LoggedBlock) -> Result<Option<Block>, Defect> {
        let place = Place { segment: block.segment, at: block.at, frame_bytes: block.bytes };
        let file = self.path(block.segment);
        let defect = |what: String| Defect { file: file.clone(), at: block.at, block: Some(block.id), what };
        let Some(record) = read_record(&self.folder, place) else {
            return if file.exists() { Err(defect("a record is corrupt".to_owned())) } else { Ok(None) };
        };
        let bytes = segment::block_of(&record).ok_or_else(|| defect("it is no block".to_owned()))?;
        decode_block(bytes).map(Some).map_err(|error| defect(error.to_string()))
    }

    /// The certificates that make it final: none for one that is final as an ancestor, or not final.
    ///
    /// # Errors
    /// What is wrong with them.
    pub(crate) fn certificates(&self, block: &LoggedBlock, validators: usize) -> Result<Vec<Arc<Certificate>>, Defect> {
        let Some(Finality { place, certified: true, .. }) = block.finality else { return Ok(Vec::new()) };
        let defect = |what: &str| Defect {
            file: self.path(place.segment),
            at: place.at,
            block: Some(block.id),
            what: what.to_owned(),
        };
        let Some(record) = read_record(&self.folder, place) else {
            return if self.path(place.segment).exists() { Err(defect("a record is corrupt")) } else { Ok(Vec::new()) };
        };
        let certificates =
            segment::certificates_of(&record, validators).ok_or_else(|| defect("its certificates cannot be read"))?;
        if !finalize(block.id, &certificates) {
            return Err(defect("its certificates do not make it final"));
        }
        Ok(certificates)
    }
}

/// What is corrupt in a segment: each record that its index knows and that cannot be read, and other places.
fn defects(
    file: &Path,
    corrupt: impl Iterator<Item = u64>,
    indexed: &[segment::Placed],
    found: &segment::Scan,
) -> Vec<Defect> {
    let defect = |at, block, what: &str| Defect { file: file.to_owned(), at, block, what: what.to_owned() };
    let lost = indexed.iter().filter(|placed| find(&found.records, placed.at).is_none());
    let lost = lost.map(|placed| match placed.head {
        Head::Final { id, .. } => defect(placed.at, Some(id), "the record that a block is final is corrupt"),
        Head::Block(BlockHead { id, .. }) => defect(placed.at, Some(id), "the record of a block is corrupt"),
        Head::Parameters => defect(placed.at, None, "a record is corrupt"),
    });
    let unknown = corrupt.filter(|at| find(indexed, *at).is_none());
    lost.chain(unknown.map(|at| defect(at, None, "a record is corrupt"))).collect()
}

/// The record at a place, of those that are in order.
fn find(records: &[segment::Placed], at: u64) -> Option<&segment::Placed> {
    records.binary_search_by_key(&at, |placed| placed.at).ok().map(|found| &records[found])
}

impl Survey {
    /// Whether there is something, none of which can be read.
    pub(crate) fn is_unreadable(&self) -> bool {
        self.cluster.is_none() && !self.defects.is_empty()
    }

    /// What the chain lacks by one of the survey's defects.
    pub(crate) fn loss(&self, defect: &Defect) -> Loss {
        match defect.block {
            Some(id) if self.missing.binary_search(&id).is_ok() => Loss::Missing,
            Some(id) if self.blocks.get(&id).is_some_and(|block| block.finality.is_some()) => Loss::WrittenAgain,
            None if !self.missing.is_empty() || self.is_unreadable() => Loss::Unknown,
            _ => Loss::Nothing,
        }
    }

    /// Parents of final blocks that are neither there nor below all that is kept.
    fn find_missing_parents(&mut self, lowest: Option<Slot>) {
        let Some(lowest) = lowest else { return };
        let finals = self.blocks.values().filter(|block| block.finality.is_some() && block.parent.slot > lowest);
        let is_held = |id: &BlockId| self.blocks.get(id).is_some_and(|block| block.finality.is_some());
        let parents = finals.map(|block| block.parent).filter(|parent| !is_held(parent));
        let mut missing: Vec<BlockId> = self.missing.iter().copied().chain(parents).collect();
        missing.sort_unstable();
        missing.dedup();
        self.missing = missing;
    }

    /// Final blocks that cannot all be final, in pairs: two of one slot, or one whose parent does not lie before it.
    pub(crate) fn contradictions(&self) -> Vec<(BlockId, BlockId)> {
        let finals = || self.blocks.values().filter(|block| block.finality.is_some());
        let same_slot = finals().zip(finals().skip(1)).filter(|(one, other)| one.id.slot == other.id.slot);
        let bypassed = finals().zip(finals().skip(1)).filter(|(below, above)| {
            let has_parent = self.blocks.contains_key(&above.parent);
            above.id.slot > below.id.slot && has_parent && above.parent.slot < below.id.slot
        });
        same_slot.chain(bypassed).map(|(one, other)| (one.id, other.id)).collect()
    }

    /// Slot of the highest final block.
    pub(crate) fn last_final(&self) -> Option<Slot> {
        self.blocks.values().rev().find(|block| block.finality.is_some()).map(|block| block.id.slot)
    }

    /// Final blocks above the highest one with certificates: that those are final, the log does not show yet.
    pub(crate) fn unproven(&self) -> usize {
        let finals = self.blocks.values().rev().filter_map(|block| block.finality);
        finals.take_while(|finality| !finality.certified).count()
    }
}

/// The hash of a block whose slices are shredded again.
pub(crate) fn shred_again(block: &Block, recoder: &mut Recoder) -> Option<Hash> {
    let most = recoder.slice_payload_bytes();
    let fits = block.slices.iter().all(|slice| slice.payload.len() <= most);
    let roots: Option<Vec<Hash>> =
        fits.then(|| block.slices.iter().map(|slice| recoder.root(slice.leader_stamp_ns, &slice.payload)).collect());
    roots.map(|roots| merkle::block_hash(&roots))
}
