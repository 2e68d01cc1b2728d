//! One picture from the reports of several nodes.

use std::collections::BTreeMap;

use alpenglow_rotor::types::Slot;

use crate::report::{BlockSamples, NodeReport, SequenceRanges, ShredCounts, Stage, StageHistograms};

/// The sum of several nodes' reports.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Merged {
    /// All samples of all nodes, and one sample a block for the stages that name its slowest node.
    pub(crate) stages: StageHistograms,
    /// Sums.
    pub(crate) shreds: ShredCounts,
    /// Sums by reason.
    pub(crate) drops: BTreeMap<String, u64>,
    /// Load transactions that at least one node other than their block's leader finalized.
    pub(crate) finalized: SequenceRanges,
    /// Load transactions that one node found twice in the chain, the worst node's count.
    pub(crate) duplicates: u64,
    /// Most resident memory of one node, in MiB.
    pub(crate) rss_mib_max: f64,
    /// Processor time of all nodes, in seconds.
    pub(crate) cpu_s: f64,
}

/// Merges `reports`. Blocks past slot `last` were under way when the nodes were stopped, so they have no slowest node.
pub(crate) fn merge(reports: &[NodeReport], last: Slot) -> Merged {
    let mut merged = Merged::default();
    for report in reports {
        merged.stages.merge(&report.stages);
        merged.shreds.from_leader += report.shreds.from_leader;
        merged.shreds.from_relays += report.shreds.from_relays;
        merged.shreds.decoded_slices += report.shreds.decoded_slices;
        for (reason, count) in &report.drops {
            *merged.drops.entry(reason.clone()).or_default() += count;
        }
        merged.finalized = merged.finalized.union(&report.transactions.sequences);
        merged.duplicates = merged.duplicates.max(report.transactions.duplicates);
        merged.rss_mib_max = merged.rss_mib_max.max(report.rss_mib_max);
        merged.cpu_s += report.cpu_s;
    }
    for (stage, samples) in [
        (Stage::BlockDisseminationLast, slowest(reports.iter().map(|report| &report.block_dissemination))),
        (Stage::FinalizedLast, slowest(reports.iter().map(|report| &report.finalized))),
    ] {
        for (_, value_ns) in samples.range(..=last) {
            merged.stages.record_ns(stage, *value_ns);
        }
    }
    merged
}

/// For each slot the longest time that any node had.
fn slowest<'a>(nodes: impl Iterator<Item = &'a BlockSamples>) -> BTreeMap<Slot, u64> {
    let mut slowest = BTreeMap::new();
    for (slot, value_ns) in nodes.flat_map(BlockSamples::iter) {
        let longest: &mut u64 = slowest.entry(slot).or_default();
        *longest = value_ns.max(*longest);
    }
    slowest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(validator: u16) -> NodeReport {
        let mut report = NodeReport::new(validator);
        (report.rss_mib_max, report.cpu_s) = (10.0 + f64::from(validator), 1.5);
        report
    }

    #[test]
    fn histograms_counts_and_drops_add_up() {
        let (mut zero, mut one) = (report(0), report(1));
        zero.stages.record_ns(Stage::Relay, 100);
        one.stages.record_ns(Stage::Relay, 300);
        one.stages.record_ns(Stage::Encode, 7);
        zero.shreds = ShredCounts { from_leader: 1, from_relays: 2, decoded_slices: 3 };
        one.shreds = ShredCounts { from_leader: 10, from_relays: 20, decoded_slices: 30 };
        zero.drops = BTreeMap::from([("bad_mac".to_owned(), 1), ("late".to_owned(), 5)]);
        one.drops = BTreeMap::from([("bad_mac".to_owned(), 2)]);
        let merged = merge(&[zero, one], Slot(9));
        let relay = merged.stages.get(Stage::Relay).unwrap();
        assert_eq!((relay.len(), relay.min(), relay.max()), (2, 100, 300));
        assert_eq!(merged.stages.get(Stage::Encode).unwrap().len(), 1);
        assert_eq!(merged.shreds, ShredCounts { from_leader: 11, from_relays: 22, decoded_slices: 33 });
        assert_eq!(merged.drops, BTreeMap::from([("bad_mac".to_owned(), 3), ("late".to_owned(), 5)]));
        assert_eq!((merged.rss_mib_max, merged.cpu_s), (11.0, 3.0));
    }

    #[test]
    fn a_transaction_finalized_at_several_nodes_counts_once() {
        let (mut zero, mut one) = (report(0), report(1));
        for sequence in [0, 1, 2, 2] {
            zero.transactions.count(sequence);
        }
        for sequence in [2, 3, 7] {
            one.transactions.count(sequence);
        }
        let merged = merge(&[zero, one], Slot(9));
        assert_eq!((merged.finalized.count_below(100), merged.duplicates), (5, 1));
    }

    #[test]
    fn the_slowest_node_is_taken_for_each_block_up_to_the_last_slot() {
        let (mut zero, mut one) = (report(0), report(1));
        for (slot, left, right) in [(1, 10, 30), (2, 50, 20)] {
            zero.finalized.record_ns(Slot(slot), left);
            one.finalized.record_ns(Slot(slot), right);
        }
        one.finalized.record_ns(Slot(3), 40);
        one.finalized.record_ns(Slot(4), 1_000);
        one.block_dissemination.record_ns(Slot(1), 5);
        let merged = merge(&[zero, one], Slot(3));
        let last = merged.stages.get(Stage::FinalizedLast).unwrap();
        assert_eq!((last.len(), last.min(), last.max()), (3, 30, 50));
        assert_eq!(merged.stages.get(Stage::BlockDisseminationLast).unwrap().len(), 1);
        assert!(merged.stages.get(Stage::Finalized).is_none());
    }

    #[test]
    fn no_reports_merge_to_nothing() {
        assert_eq!(merge(&[], Slot(3)), Merged::default());
    }
}
