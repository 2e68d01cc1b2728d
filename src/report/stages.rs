//! Latency histograms by stage.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::{Deserializer, Serializer, V2DeflateSerializer};
use serde::{Deserialize, Serialize};

/// Smallest value told apart, in nanoseconds.
const LOWEST_NS: u64 = 1;
/// Largest value, in nanoseconds: an hour, the cap of the dynamic timeout. Longer times are recorded as this.
const HIGHEST_NS: u64 = 3_600_000_000_000;
/// Values are kept to 0.1%; a histogram of these bounds takes 270 KiB.
const SIGNIFICANT_DIGITS: u8 = 3;

/// What a time was measured over, in the order of a report. Nanoseconds everywhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stage {
    /// The kernel's receive timestamp → user space.
    RxQueue,
    /// One shred's checks.
    ShredVerify,
    /// Shred received → last copy submitted.
    Relay,
    /// First shred of a slice → slice decoded.
    SliceAssembly,
    /// A shard pushed → control picked up.
    Handoff,
    /// Control is about to vote, or to begin a window → that is in the vote log.
    VoteLog,
    /// A block is complete that this node may vote for → what was not written of it before is written.
    BlockHeld,
    /// Slice in → its last shred submitted.
    Encode,
    /// The leader starts to encode a slice → this node has decoded it.
    SliceDissemination,
    /// Stamp of the block's last slice → block complete here.
    BlockDissemination,
    /// The same for a block's slowest node.
    BlockDisseminationLast,
    /// Stamp of the block's last slice → notarization certificate held here, the leader included, as in all that
    /// follow.
    Notarized,
    /// → fast-finalization certificate held.
    FinalizedFast,
    /// → finalization and notarization certificates held.
    FinalizedSlow,
    /// → whichever came first.
    Finalized,
    /// The same for a block's slowest node.
    FinalizedLast,
    /// Stamp of the last slice of a window's last block → stamp of the first slice of the next window, if that builds
    /// on it. One sample a window, from its leader.
    Handover,
    /// A transaction's intended send → the block with it finalized at a node other than the block's leader.
    TransactionFinalized,
    /// A block became needed that did not come through Rotor → it was fetched from others.
    Repair,
    /// A block, or that it is final, is handed to the block log's thread → written.
    BlockLog,
}

impl Stage {
    /// All of them, in the order of a report.
    pub(crate) const ALL: [Self; 20] = [
        Self::RxQueue,
        Self::ShredVerify,
        Self::Relay,
        Self::SliceAssembly,
        Self::Handoff,
        Self::VoteLog,
        Self::BlockHeld,
        Self::Encode,
        Self::SliceDissemination,
        Self::BlockDissemination,
        Self::BlockDisseminationLast,
        Self::Notarized,
        Self::FinalizedFast,
        Self::FinalizedSlow,
        Self::Finalized,
        Self::FinalizedLast,
        Self::Handover,
        Self::TransactionFinalized,
        Self::Repair,
        Self::BlockLog,
    ];

    /// The name in reports.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::RxQueue => "rx_queue",
            Self::ShredVerify => "shred_verify",
            Self::Relay => "relay",
            Self::SliceAssembly => "slice_assembly",
            Self::Handoff => "handoff",
            Self::VoteLog => "vote_log",
            Self::BlockHeld => "block_held",
            Self::Encode => "encode",
            Self::SliceDissemination => "slice_dissemination",
            Self::BlockDissemination => "block_dissemination",
            Self::BlockDisseminationLast => "block_dissemination_last",
            Self::Notarized => "notarized",
            Self::FinalizedFast => "finalized_fast",
            Self::FinalizedSlow => "finalized_slow",
            Self::Finalized => "finalized",
            Self::FinalizedLast => "finalized_last",
            Self::Handover => "handover",
            Self::TransactionFinalized => "transaction_finalized",
            Self::Repair => "repair",
            Self::BlockLog => "block_log",
        }
    }

    /// The stage of that name.
    pub(crate) fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|stage| stage.name() == name)
    }
}

/// Why a stage of a report is refused.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StageError {
    /// No such stage.
    #[error("there is no stage {0:?}")]
    Unknown(String),
    /// The text is no base64.
    #[error("stage {stage}: {source}")]
    Base64 {
        /// The stage's name.
        stage: &'static str,
        /// What is wrong.
        source: base64::DecodeError,
    },
    /// The bytes are no histogram.
    #[error("stage {stage} holds no HdrHistogram: {source}")]
    Histogram {
        /// The stage's name.
        stage: &'static str,
        /// What is wrong.
        source: hdrhistogram::serialization::DeserializeError,
    },
}

/// One histogram for each stage that has a sample, all of the same bounds, so that they merge without loss.
/// Written as an object from stage name to HdrHistogram's own compressed text form (base64 of V2 with deflate).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "BTreeMap<String, String>", into = "BTreeMap<String, String>")]
pub(crate) struct StageHistograms {
    histograms: [Option<Histogram<u64>>; Stage::ALL.len()],
}

impl StageHistograms {
    /// Counts one sample. Allocates on a stage's first one.
    pub(crate) fn record_ns(&mut self, stage: Stage, value_ns: u64) {
        self.of_mut(stage).saturating_record(value_ns);
    }

    /// Adds all samples of `histogram`, whatever its bounds; its values are nanoseconds.
    pub(crate) fn add(&mut self, stage: Stage, histogram: &Histogram<u64>) {
        if histogram.is_empty() {
            return;
        }
        let own = self.of_mut(stage);
        if own.add(histogram).is_err() {
            for value in histogram.iter_recorded() {
                own.saturating_record_n(value.value_iterated_to(), value.count_at_value());
            }
        }
    }

    /// Adds all samples of `other`.
    pub(crate) fn merge(&mut self, other: &Self) {
        for stage in Stage::ALL {
            if let Some(histogram) = other.get(stage) {
                self.add(stage, histogram);
            }
        }
    }

    /// The histogram of `stage`, none without samples.
    pub(crate) fn get(&self, stage: Stage) -> Option<&Histogram<u64>> {
        self.histograms[stage as usize].as_ref()
    }

    fn of_mut(&mut self, stage: Stage) -> &mut Histogram<u64> {
        self.histograms[stage as usize].get_or_insert_with(|| {
            Histogram::new_with_bounds(LOWEST_NS, HIGHEST_NS, SIGNIFICANT_DIGITS).expect("these bounds are valid")
        })
    }
}

impl From<StageHistograms> for BTreeMap<String, String> {
    fn from(stages: StageHistograms) -> Self {
        let mut serializer = V2DeflateSerializer::new();
        let recorded = Stage::ALL.into_iter().filter_map(|stage| Some((stage, stages.get(stage)?)));
        recorded
            .map(|(stage, histogram)| {
                let mut bytes = Vec::new();
                serializer
                    .serialize(histogram, &mut bytes)
                    .expect("a vector takes every byte, the counts fit their type");
                (stage.name().to_owned(), BASE64.encode(bytes))
            })
            .collect()
    }
}

impl TryFrom<BTreeMap<String, String>> for StageHistograms {
    type Error = StageError;

    fn try_from(texts: BTreeMap<String, String>) -> Result<Self, StageError> {
        let mut stages = Self::default();
        let mut deserializer = Deserializer::new();
        for (name, text) in texts {
            let stage = Stage::from_name(&name).ok_or(StageError::Unknown(name))?;
            let bytes = BASE64.decode(text).map_err(|source| StageError::Base64 { stage: stage.name(), source })?;
            let histogram = deserializer
                .deserialize(&mut bytes.as_slice())
                .map_err(|source| StageError::Histogram { stage: stage.name(), source })?;
            stages.add(stage, &histogram);
        }
        Ok(stages)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_lead_back_and_the_order_is_the_index() {
        for (position, stage) in Stage::ALL.into_iter().enumerate() {
            assert_eq!(stage as usize, position);
            assert_eq!(Stage::from_name(stage.name()), Some(stage));
        }
        assert_eq!(Stage::from_name("Relay"), None);
    }

    #[test]
    fn the_written_form_reads_back_equal() {
        let mut stages = StageHistograms::default();
        for value in [1, 900, 1_500, 1_500, 2_000_000, HIGHEST_NS] {
            stages.record_ns(Stage::Relay, value);
        }
        stages.record_ns(Stage::Finalized, 25_000_000);
        let text = serde_json::to_string(&stages).unwrap();
        assert!(text.contains("HISTFAAA"), "not the form that HdrHistogram's tools read: {text}");
        assert_eq!(serde_json::from_str::<StageHistograms>(&text).unwrap(), stages);
    }

    #[test]
    fn merging_keeps_every_sample() {
        let (mut left, mut right) = (StageHistograms::default(), StageHistograms::default());
        for value in 1..=1_000 {
            if value % 3 == 0 { &mut left } else { &mut right }.record_ns(Stage::Encode, value);
        }
        left.merge(&right);
        let merged = left.get(Stage::Encode).unwrap();
        assert_eq!((merged.len(), merged.value_at_quantile(0.5), merged.max()), (1_000, 500, 1_000));
        assert!(left.get(Stage::Relay).is_none());
    }

    #[test]
    fn histograms_of_other_bounds_are_added_too() {
        let mut wide = Histogram::<u64>::new(2).unwrap();
        wide.record_n(10 * HIGHEST_NS, 3).unwrap();
        wide.record(1_000).unwrap();
        let mut stages = StageHistograms::default();
        stages.add(Stage::Handoff, &wide);
        let added = stages.get(Stage::Handoff).unwrap();
        assert_eq!(added.len(), 4);
        assert!(added.max() >= HIGHEST_NS, "longer times count as the longest");
        assert!(added.min() >= 999 && added.min() <= 1_010);
    }

    #[test]
    fn damaged_stages_are_refused() {
        for text in [r#"{"nap":""}"#, r#"{"relay":"%"}"#, r#"{"relay":"SGVsbG8="}"#, r#"{"relay":""}"#] {
            serde_json::from_str::<StageHistograms>(text).unwrap_err();
        }
    }
}
