//! What a node writes when it stops.

use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use std::{fs, io};

use alpenglow_rotor::types::Slot;
use serde::{Deserialize, Serialize};

use super::sequences::{Inserted, SequenceRanges};
use super::stages::StageHistograms;
use super::usage::ProcessUsage;

/// Name of the report in a node's data folder.
pub(crate) const REPORT_FILE: &str = "report.json";
/// Version of the format.
const SCHEMA: &str = "alpenglow.node/1";
/// Most blocks whose times are kept one by one: an epoch of the default length.
const BLOCK_SAMPLES_MAX: usize = 18_000;

/// Everything a node measured from its start to a clean stop.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct NodeReport {
    /// Always [`Self::new`]'s value; anything else is refused when read.
    schema: String,
    /// The node's index in the validator set.
    pub(crate) validator: u16,
    /// What the leaders' stamps were read from; times across hosts mean something only if that clock is synchronised.
    pub(crate) stamp_clock: StampClock,
    /// Times by stage, from all threads.
    pub(crate) stages: StageHistograms,
    /// Stamp of a block's last slice → complete here. Not for own blocks.
    pub(crate) block_dissemination: BlockSamples,
    /// Stamp of a block's last slice → finalized here. Own blocks included.
    pub(crate) finalized: BlockSamples,
    /// Shreds and slices received.
    pub(crate) shreds: ShredCounts,
    /// Blocks fetched from others and given to them.
    pub(crate) repair: RepairCounts,
    /// Datagrams, shreds and messages dropped, by reason.
    pub(crate) drops: BTreeMap<String, u64>,
    /// Load found in finalized blocks.
    pub(crate) transactions: FinalizedTransactions,
    /// Most resident memory, in MiB.
    pub(crate) rss_mib_max: f64,
    /// Processor time of all threads, in seconds.
    pub(crate) cpu_s: f64,
}

/// A clock that leaders' stamps are read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum StampClock {
    /// CLOCK_MONOTONIC: all nodes on one host.
    Monotonic,
}

/// Shreds and slices that a node received.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ShredCounts {
    /// Valid shreds that came from their leader.
    pub(crate) from_leader: u64,
    /// Valid shreds that came from a relay.
    pub(crate) from_relays: u64,
    /// Slices rebuilt from shreds.
    pub(crate) decoded_slices: u64,
}

/// What repair did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RepairCounts {
    /// Requests sent.
    pub(crate) requests: u64,
    /// Requests to nodes that did not hold the block.
    pub(crate) not_held: u64,
    /// Blocks fetched.
    pub(crate) blocks: u64,
    /// Requests of others answered.
    pub(crate) served: u64,
}

/// Load transactions (`load.rs`) in finalized blocks whose leader is another node: proof that they travelled.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FinalizedTransactions {
    /// Their sequence numbers.
    pub(crate) sequences: SequenceRanges,
    /// Bytes of all transactions in these blocks, load or not.
    pub(crate) bytes: u64,
    /// Load transactions that came a second time.
    pub(crate) duplicates: u64,
    /// Load transactions not kept because `sequences` had too many holes.
    pub(crate) not_kept: u64,
}

impl FinalizedTransactions {
    /// Counts one load transaction of a finalized block. Its bytes are counted apart, in `bytes`.
    pub(crate) fn count(&mut self, sequence: u64) {
        match self.sequences.insert(sequence) {
            Inserted::New => {}
            Inserted::Duplicate => self.duplicates += 1,
            Inserted::Full => self.not_kept += 1,
        }
    }
}

/// One time for each of the most recent blocks.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct BlockSamples {
    /// Slot and nanoseconds, in the order recorded.
    samples: VecDeque<(u64, u64)>,
}

impl BlockSamples {
    /// Adds the time of `slot`'s block; the oldest sample makes room.
    pub(crate) fn record_ns(&mut self, slot: Slot, value_ns: u64) {
        if self.samples.len() >= BLOCK_SAMPLES_MAX {
            self.samples.pop_front();
        }
        self.samples.push_back((slot.0, value_ns));
    }

    /// Slot and nanoseconds of each sample.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Slot, u64)> {
        self.samples.iter().map(|&(slot, value_ns)| (Slot(slot), value_ns))
    }
}

/// Why a report cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReportError {
    /// The file system refuses.
    #[error("{path}: {source}")]
    File {
        /// The report's path.
        path: PathBuf,
        /// What is wrong.
        source: io::Error,
    },
    /// The content is no report.
    #[error("{path} is no node report: {source}")]
    Content {
        /// The report's path.
        path: PathBuf,
        /// What is wrong.
        source: serde_json::Error,
    },
    /// A report of another version.
    #[error("{path} has schema {found:?}, need {SCHEMA:?}: node and reader are of different versions")]
    Schema {
        /// The report's path.
        path: PathBuf,
        /// The schema found.
        found: String,
    },
}

impl NodeReport {
    /// A report of validator `validator` without any sample, with what this process has used so far.
    pub(crate) fn new(validator: u16) -> Self {
        let usage = ProcessUsage::own().unwrap_or_default();
        Self {
            schema: SCHEMA.to_owned(),
            validator,
            stamp_clock: StampClock::Monotonic,
            stages: StageHistograms::default(),
            block_dissemination: BlockSamples::default(),
            finalized: BlockSamples::default(),
            shreds: ShredCounts::default(),
            repair: RepairCounts::default(),
            drops: BTreeMap::new(),
            transactions: FinalizedTransactions::default(),
            rss_mib_max: usage.rss_mib_max,
            cpu_s: usage.cpu_s,
        }
    }

    /// Writes the report into `data_folder`, whole or not at all.
    ///
    /// # Errors
    /// [`ReportError::File`].
    pub(crate) fn write(&self, data_folder: &Path) -> Result<(), ReportError> {
        let path = data_folder.join(REPORT_FILE);
        let temporary = path.with_extension("json.part");
        let text = serde_json::to_string(self).expect("every key of a report is a string");
        fs::write(&temporary, text)
            .and_then(|()| fs::rename(&temporary, &path))
            .map_err(|source| ReportError::File { path, source })
    }

    /// Reads the report in `data_folder`.
    ///
    /// # Errors
    /// [`ReportError`] if there is none, or none of this version.
    pub(crate) fn read(data_folder: &Path) -> Result<Self, ReportError> {
        let path = data_folder.join(REPORT_FILE);
        let text = fs::read_to_string(&path).map_err(|source| ReportError::File { path: path.clone(), source })?;
        let report: Self =
            serde_json::from_str(&text).map_err(|source| ReportError::Content { path: path.clone(), source })?;
        if report.schema != SCHEMA {
            return Err(ReportError::Schema { path, found: report.schema });
        }
        Ok(report)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Stage;

    fn sample() -> NodeReport {
        let mut report = NodeReport::new(3);
        report.stages.record_ns(Stage::Finalized, 12_000_000);
        report.finalized.record_ns(Slot(5), 12_000_000);
        report.shreds = ShredCounts { from_leader: 1, from_relays: 2, decoded_slices: 3 };
        report.repair = RepairCounts { requests: 1, not_held: 2, blocks: 3, served: 4 };
        report.drops.insert("bad_tag".to_owned(), 4);
        for sequence in [0, 1, 2, 9, 1] {
            report.transactions.count(sequence);
        }
        report
    }

    #[test]
    fn a_report_reads_back_equal() {
        let folder = tempfile::tempdir().unwrap();
        sample().write(folder.path()).unwrap();
        let read = NodeReport::read(folder.path()).unwrap();
        assert_eq!(read, sample_like(&read));
        assert_eq!(read.transactions.duplicates, 1);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "the temporary file is gone");
    }

    /// The sample with the usage of `report`, which differs from call to call.
    fn sample_like(report: &NodeReport) -> NodeReport {
        NodeReport { rss_mib_max: report.rss_mib_max, cpu_s: report.cpu_s, ..sample() }
    }

    #[test]
    fn missing_damaged_and_foreign_reports_are_told_apart() {
        let folder = tempfile::tempdir().unwrap();
        assert!(matches!(NodeReport::read(folder.path()), Err(ReportError::File { .. })));
        fs::write(folder.path().join(REPORT_FILE), "{").unwrap();
        assert!(matches!(NodeReport::read(folder.path()), Err(ReportError::Content { .. })));
        NodeReport { schema: "alpenglow.node/2".to_owned(), ..sample() }.write(folder.path()).unwrap();
        assert!(matches!(NodeReport::read(folder.path()), Err(ReportError::Schema { .. })));
    }

    #[test]
    fn block_samples_keep_the_most_recent_blocks() {
        let mut samples = BlockSamples::default();
        for slot in 0..BLOCK_SAMPLES_MAX as u64 + 5 {
            samples.record_ns(Slot(slot), slot);
        }
        assert_eq!(samples.iter().count(), BLOCK_SAMPLES_MAX);
        assert_eq!(samples.iter().next(), Some((Slot(5), 5)));
    }
}
