//! The result of a run, as `--output json` prints it.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;
use serde::{Serialize, Serializer, ser::SerializeMap};

use super::decisions::SlotCounts;
use super::flooded::FloodOutcome;
use crate::report::{ShredCounts, Stage, StageHistograms};

/// Name and version of the format.
const SCHEMA: &str = "alpenglow.cluster/1";

/// The result of a run. Its field names and nesting are an interface.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Outcome {
    pub(crate) schema: &'static str,
    pub(crate) verdict: Verdict,
    /// Why the verdict is not "valid".
    pub(crate) reasons: Vec<String>,
    /// What was run.
    pub(crate) config: serde_json::Value,
    pub(crate) slots: SlotCounts,
    /// Whether all nodes decided the same, and every block they hold has the hash it was finalized by.
    pub(crate) agreement: bool,
    pub(crate) transactions: Transactions,
    /// Only if somebody floods.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) flood: Option<FloodOutcome>,
    pub(crate) shreds: ShredCounts,
    pub(crate) stages: StageSummaries,
    /// Dropped datagrams, shreds and messages by reason, all nodes.
    pub(crate) drops: BTreeMap<String, u64>,
    pub(crate) resources: Resources,
}

/// Whether a run proves what it reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Verdict {
    Valid,
    Invalid,
}

/// The load.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Transactions {
    pub(crate) sent: u64,
    /// Found in finalized blocks by a node other than the block's leader.
    pub(crate) finalized: u64,
    /// Bytes of these by the time for which load was offered.
    pub(crate) finalized_bytes_per_s: f64,
}

/// What the run took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Resources {
    /// From the first slot's start to the last decision.
    pub(crate) wall_s: f64,
    /// Processor time of all nodes.
    pub(crate) cpu_s: f64,
    /// Most resident memory of one node.
    pub(crate) rss_mib_max: f64,
}

/// One summary for each stage, also for those without samples.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct StageSummaries([StageSummary; Stage::ALL.len()]);

/// A stage's times, in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub(crate) struct StageSummary {
    pub(crate) count: u64,
    pub(crate) p50_us: f64,
    pub(crate) p90_us: f64,
    pub(crate) p99_us: f64,
    pub(crate) p999_us: f64,
    pub(crate) max_us: f64,
}

impl Outcome {
    /// The value of the field `schema`.
    pub(crate) const fn schema() -> &'static str {
        SCHEMA
    }
}

impl StageSummaries {
    /// Of `stages`.
    pub(crate) fn of(stages: &StageHistograms) -> Self {
        Self(Stage::ALL.map(|stage| stages.get(stage).map_or_else(StageSummary::default, StageSummary::of)))
    }

    /// Each stage with its summary, in the order of a report.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Stage, StageSummary)> {
        Stage::ALL.into_iter().zip(self.0)
    }
}

impl Serialize for StageSummaries {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (stage, summary) in self.iter() {
            map.serialize_entry(stage.name(), &summary)?;
        }
        map.end()
    }
}

impl StageSummary {
    /// Of one stage's samples, in nanoseconds.
    pub(crate) fn of(histogram: &Histogram<u64>) -> Self {
        let quantile = |quantile| microseconds(histogram.value_at_quantile(quantile));
        Self {
            count: histogram.len(),
            p50_us: quantile(0.5),
            p90_us: quantile(0.9),
            p99_us: quantile(0.99),
            p999_us: quantile(0.999),
            max_us: microseconds(histogram.max()),
        }
    }
}

fn microseconds(nanoseconds: u64) -> f64 {
    nanoseconds as f64 / 1_000.0
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn sample() -> Outcome {
        let mut stages = StageHistograms::default();
        for value in 1..=1_000 {
            stages.record_ns(Stage::SliceDissemination, 1_000 * value);
        }
        Outcome {
            schema: Outcome::schema(),
            verdict: Verdict::Valid,
            reasons: Vec::new(),
            config: serde_json::json!({"nodes": 5}),
            slots: SlotCounts { decided: 40, finalized: 40, fast: 39, slow: 1, skipped: 0 },
            agreement: true,
            transactions: Transactions { sent: 10, finalized: 9, finalized_bytes_per_s: 512.5 },
            flood: None,
            shreds: ShredCounts { from_leader: 1, from_relays: 2, decoded_slices: 3 },
            stages: StageSummaries::of(&stages),
            drops: BTreeMap::from([("late".to_owned(), 4)]),
            resources: Resources { wall_s: 16.5, cpu_s: 8.0, rss_mib_max: 50.0 },
        }
    }

    #[test]
    fn the_printed_object_has_the_fields_of_its_schema_in_order() {
        let text = serde_json::to_string(&sample()).unwrap();
        let head = r#"{"schema":"alpenglow.cluster/1","verdict":"valid","reasons":[],"config":{"nodes":5},"slots":{"decided":40,"finalized":40,"fast":39,"slow":1,"skipped":0},"agreement":true,"transactions":{"sent":10,"finalized":9,"finalized_bytes_per_s":512.5},"shreds":{"from_leader":1,"from_relays":2,"decoded_slices":3},"stages":{"rx_queue":{"count":0,"p50_us":0.0,"p90_us":0.0,"p99_us":0.0,"p999_us":0.0,"max_us":0.0},"#;
        let tail = r#"},"drops":{"late":4},"resources":{"wall_s":16.5,"cpu_s":8.0,"rss_mib_max":50.0}}"#;
        assert!(text.starts_with(head), "{text}");
        assert!(text.ends_with(tail), "{text}");
    }

    #[test]
    fn quantiles_are_in_microseconds() {
        let summaries = sample().stages;
        let (_, summary) = summaries.iter().find(|(stage, _)| *stage == Stage::SliceDissemination).unwrap();
        assert_eq!(summary.count, 1_000);
        for (value, expected) in [
            (summary.p50_us, 500.0),
            (summary.p90_us, 900.0),
            (summary.p99_us, 990.0),
            (summary.p999_us, 999.0),
            (summary.max_us, 1_000.0),
        ] {
            assert!((value / expected - 1.0).abs() < 0.001, "{value} is not {expected}");
        }
    }

    #[test]
    fn every_stage_is_present() {
        let value = serde_json::to_value(sample()).unwrap();
        for stage in Stage::ALL {
            assert!(value["stages"][stage.name()]["count"].is_u64(), "{}", stage.name());
        }
    }
}
