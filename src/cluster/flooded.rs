//! What validators that flood the others came to: whom they hindered, and how far what they sent got.

use alpenglow_rotor::schedule::LeaderSchedule;
use alpenglow_rotor::types::{Slot, ValidatorIndex};
use serde::Serialize;

use super::decisions::Decisions;
use super::outcome::StageSummary;
use crate::report::{How, NodeReport, Stage, StageHistograms};

/// What a run with `--flood` shows, beside everything else. A slot of a leader that floods may be skipped, since the
/// others check nothing of what it signs any more; others may not.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(crate) struct FloodOutcome {
    /// Decided slots that a flooding node led.
    pub(crate) own_slots: u64,
    /// How many of them were skipped.
    pub(crate) own_skipped: u64,
    /// Decided slots of the other leaders.
    pub(crate) other_slots: u64,
    /// Which of them were skipped.
    pub(crate) other_skipped: Vec<u64>,
    /// How many of them were finalized, but nowhere fast. That takes the votes of 80% of the stake, of which a flooding
    /// node's own do not count, so with few nodes it depends on the slowest of the others.
    pub(crate) other_slow: u64,
    pub(crate) checked: Checked,
    /// From the last slice's stamp to the decision, of the other leaders' blocks at the nodes that flood nobody.
    pub(crate) finalized: StageSummary,
}

/// How much of a flood got as far as what costs the others most, by kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Checked {
    /// Shreds whose leader's signature was checked, and wrong.
    pub(crate) shreds: u64,
    /// Votes whose signature was checked, and wrong.
    pub(crate) votes: u64,
    /// Certificates whose signature was checked, and wrong.
    pub(crate) certificates: u64,
    /// Questions for blocks that were answered, beside as many as the nodes had reason to ask.
    pub(crate) repair_requests: u64,
    /// Transactions in finalized blocks, beside the load.
    pub(crate) transactions: u64,
}

/// What nodes that flood nobody counted.
#[derive(Clone, Copy)]
pub(crate) struct Counted<'a> {
    /// Who floods.
    pub(crate) floods: &'a [u16],
    /// What all nodes decided.
    pub(crate) decisions: &'a Decisions,
    /// Of all nodes that lived to the end.
    pub(crate) reports: &'a [NodeReport],
    /// The last slot that was wanted.
    pub(crate) last: Slot,
    /// Transactions of the load in finalized blocks, as often as they are there.
    pub(crate) load_finalized: u64,
}

impl FloodOutcome {
    /// Of a run in which somebody floods.
    pub(crate) fn of(counted: Counted<'_>, schedule: &LeaderSchedule) -> Self {
        let Counted { floods, decisions, .. } = counted;
        let is_own = |slot| is_flood(floods, schedule.leader(slot));
        let mut outcome = Self { checked: Checked::of(counted), ..Self::default() };
        for (slot, how) in decisions.ways() {
            if is_own(slot) {
                outcome.own_slots += 1;
                outcome.own_skipped += u64::from(how == How::Skipped);
                continue;
            }
            outcome.other_slots += 1;
            outcome.other_slow += u64::from(matches!(how, How::Slow | How::Ancestor));
            if how == How::Skipped {
                outcome.other_skipped.push(slot.0);
            }
        }
        let mut times = StageHistograms::default();
        for (slot, value_ns) in counted.others().flat_map(|report| report.finalized.iter()) {
            if slot <= counted.last && !is_own(slot) {
                times.record_ns(Stage::Finalized, value_ns);
            }
        }
        outcome.finalized = times.get(Stage::Finalized).map_or_else(StageSummary::default, StageSummary::of);
        outcome
    }

    /// Why a run with such a flood shows nothing, or nothing good.
    pub(crate) fn reasons(&self) -> impl Iterator<Item = String> {
        let hindered = (!self.other_skipped.is_empty()).then(|| {
            let (skipped, of) = (self.other_skipped.len(), self.other_slots);
            format!("the flood hindered others: {skipped} of their {of} slots were skipped: {:?}", self.other_skipped)
        });
        let unchecked: Vec<&str> =
            self.checked.each().into_iter().filter(|kind| kind.1 == 0).map(|kind| kind.0).collect();
        let unchecked = (!unchecked.is_empty()).then(|| {
            format!(
                "nothing of the flood's {} got as far as the check that costs most: run more slots or nodes",
                unchecked.join(", ")
            )
        });
        hindered.into_iter().chain(unchecked)
    }
}

impl Checked {
    fn of(counted: Counted<'_>) -> Self {
        let drops = |reason| counted.others().filter_map(|report| report.drops.get(reason)).sum();
        let answered: u64 = counted.others().map(|report| report.repair.served).sum();
        let asked: u64 = counted.reports.iter().map(|report| report.repair.requests).sum();
        Self {
            shreds: drops("shred_bad_signature"),
            votes: drops("vote_wrong_signature"),
            certificates: drops("certificate_wrong_signature"),
            repair_requests: answered.saturating_sub(asked),
            transactions: counted.decisions.transactions().saturating_sub(counted.load_finalized),
        }
    }

    /// Each kind by its name.
    pub(crate) const fn each(&self) -> [(&'static str, u64); 5] {
        [
            ("shreds", self.shreds),
            ("votes", self.votes),
            ("certificates", self.certificates),
            ("repair requests", self.repair_requests),
            ("transactions", self.transactions),
        ]
    }
}

impl<'a> Counted<'a> {
    fn others(self) -> impl Iterator<Item = &'a NodeReport> {
        self.reports.iter().filter(move |report| !is_flood(self.floods, ValidatorIndex(report.validator)))
    }
}

fn is_flood(floods: &[u16], node: ValidatorIndex) -> bool {
    floods.contains(&node.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::NodeEvent;
    use alpenglow_rotor::schedule::{EpochSeed, ScheduleKind};
    use alpenglow_rotor::types::Hash;
    use alpenglow_rotor::validators::ValidatorSet;

    const ZERO: ValidatorIndex = ValidatorIndex(0);

    /// Windows of nodes 0, 1, 2, 0, and so on; node 1 floods.
    fn schedule() -> LeaderSchedule {
        let identity = |index: u8| ed25519_dalek::SigningKey::from_bytes(&[index + 1; 32]).verifying_key().to_bytes();
        let validators = (0..3).map(|index| (identity(index), alpenglow_rotor::types::Stake(1)));
        let set = ValidatorSet::new(validators.collect::<Vec<_>>()).unwrap();
        LeaderSchedule::new(ScheduleKind::RoundRobin, EpochSeed([0; 32]), &set)
    }

    fn decide(decisions: &mut Decisions, slot: u64, how: How) {
        let (slot, hash) = (Slot(slot), Hash([1; 32]));
        let hash_if_any = (how != How::Skipped).then_some(hash);
        decisions.record(ZERO, &NodeEvent::Decided { slot, how, hash: hash_if_any });
        if how != How::Skipped {
            let applied = NodeEvent::Applied { slot, hash, recomputed: hash, transactions: 10, bytes: 0, leader: ZERO };
            decisions.record(ZERO, &applied);
            decisions.record(ValidatorIndex(2), &applied);
        }
    }

    fn reports() -> Vec<NodeReport> {
        let mut reports: Vec<NodeReport> = (0..3).map(NodeReport::new).collect();
        for (report, factor) in reports.iter_mut().zip([1, 1_000, 2]) {
            for (reason, count) in [("shred_bad_signature", 3), ("vote_wrong_signature", 4), ("vote_barred", 5)] {
                report.drops.insert(reason.to_owned(), factor * count);
            }
            report.repair.served = factor * 7;
            report.repair.requests = 2;
            for slot in 1..=12 {
                report.finalized.record_ns(Slot(slot), factor * 1_000_000 + if slot < 4 { 0 } else { 8_000_000_000 });
            }
        }
        reports
    }

    fn outcome(decisions: &Decisions) -> FloodOutcome {
        let counted = Counted { floods: &[1], decisions, reports: &reports(), last: Slot(7), load_finalized: 30 };
        FloodOutcome::of(counted, &schedule())
    }

    #[test]
    fn the_floods_own_slots_are_told_apart_and_its_own_report_does_not_count() {
        let mut decisions = Decisions::new(3, Slot(11));
        for slot in 1..=11 {
            decide(
                &mut decisions,
                slot,
                if slot < 6 {
                    How::Fast
                } else if slot < 8 {
                    How::Skipped
                } else {
                    How::Slow
                },
            );
        }
        let outcome = outcome(&decisions);
        assert_eq!((outcome.own_slots, outcome.own_skipped), (4, 2));
        assert_eq!((outcome.other_slots, outcome.other_slow), (7, 4));
        assert!(outcome.other_skipped.is_empty());
        let checked = Checked { shreds: 9, votes: 12, certificates: 0, repair_requests: 15, transactions: 60 };
        assert_eq!(outcome.checked, checked);
        assert_eq!(outcome.finalized.count, 6, "three slots at two nodes");
        assert!(outcome.finalized.p99_us < 2_100.0, "{:?}", outcome.finalized);
        let reasons: Vec<String> = outcome.reasons().collect();
        assert!(reasons.len() == 1 && reasons[0].contains("flood's certificates got"), "{reasons:?}");
    }

    #[test]
    fn a_slot_of_another_leader_that_was_skipped_is_a_reason() {
        let mut decisions = Decisions::new(3, Slot(11));
        for slot in [3, 4, 9] {
            decide(&mut decisions, slot, How::Skipped);
        }
        let mut outcome = outcome(&decisions);
        assert_eq!(outcome.other_skipped, [3, 9]);
        outcome.checked = Checked { shreds: 1, votes: 1, certificates: 1, repair_requests: 1, transactions: 1 };
        let reasons: Vec<String> = outcome.reasons().collect();
        assert_eq!(reasons, ["the flood hindered others: 2 of their 2 slots were skipped: [3, 9]"]);
    }
}
