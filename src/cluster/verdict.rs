//! Whether a run proves anything: the reasons why it does not.

use alpenglow_rotor::types::{Slot, ValidatorIndex};

use super::decisions::Decisions;
use super::flooded::FloodOutcome;

/// Most contradictions that are spelled out.
const DISAGREEMENTS_TOLD_MAX: usize = 8;
/// Share of the due transactions that have to be finalized, in percent.
const FINALIZED_PERCENT_MIN: u64 = 99;

/// Everything a verdict depends on.
pub(crate) struct Evidence<'a> {
    /// What the nodes decided.
    pub(crate) decisions: &'a Decisions,
    /// The nodes that were not killed and have not died.
    pub(crate) survivors: &'a [ValidatorIndex],
    /// In words, each node that ended though nobody told it to, or not as it should have.
    pub(crate) deaths: &'a [String],
    /// The load, judged.
    pub(crate) transactions: DueTransactions,
    /// What came of it that somebody flooded, if anybody did.
    pub(crate) flood: Option<&'a FloodOutcome>,
}

/// Transactions that should be finalized: those sent more than two slots before the end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct DueTransactions {
    /// How many.
    pub(crate) due: u64,
    /// How many of them were finalized.
    pub(crate) finalized: u64,
    /// The first of their numbers that are missing, both ends inclusive.
    pub(crate) missing: Option<(u64, u64)>,
}

impl DueTransactions {
    const fn suffice(self) -> bool {
        100 * self.finalized as u128 >= FINALIZED_PERCENT_MIN as u128 * self.due as u128
    }
}

/// Whether all that the nodes told fits together, and every finalized block was recomputed from shreds by somebody.
pub(crate) fn agreement(decisions: &Decisions) -> bool {
    decisions.disagreements().is_empty() && decisions.never_recomputed().next().is_none()
}

/// Why the run is invalid; empty if it is valid.
pub(crate) fn reasons(evidence: &Evidence<'_>) -> Vec<String> {
    let mut reasons = disagreements(evidence.decisions);
    reasons.extend_from_slice(evidence.deaths);
    reasons.extend(undecided(evidence));
    reasons.extend(never_voted(evidence));
    reasons.extend(lost_transactions(evidence.transactions));
    reasons.extend(evidence.flood.into_iter().flat_map(FloodOutcome::reasons));
    reasons
}

fn disagreements(decisions: &Decisions) -> Vec<String> {
    let all = decisions.disagreements();
    let mut told: Vec<String> =
        all.iter().take(DISAGREEMENTS_TOLD_MAX).map(|what| format!("disagreement: {what}")).collect();
    if all.len() > DISAGREEMENTS_TOLD_MAX {
        told.push(format!("disagreement: {} more contradictions", all.len() - DISAGREEMENTS_TOLD_MAX));
    }
    let unchecked: Vec<(Slot, Slot)> = decisions.never_recomputed().map(|slot| (slot, slot)).collect();
    if !unchecked.is_empty() {
        told.push(format!("disagreement: no node recomputed the finalized block of {}", slots(&unchecked)));
    }
    told
}

fn undecided(evidence: &Evidence<'_>) -> Option<String> {
    let missing: Vec<String> = evidence
        .survivors
        .iter()
        .map(|&node| (node, evidence.decisions.undecided(node)))
        .filter(|(_, ranges)| !ranges.is_empty())
        .map(|(node, ranges)| format!("node {} {}", node.0, slots(&ranges)))
        .collect();
    (!missing.is_empty()).then(|| format!("not decided in time: {}", missing.join("; ")))
}

fn never_voted<'a>(evidence: &'a Evidence<'_>) -> impl Iterator<Item = String> + 'a {
    let late = evidence.decisions.never_voted(evidence.survivors);
    late.map(|(node, slot)| format!("node {}, started at slot {slot}, did not vote for any block after that", node.0))
}

fn lost_transactions(transactions: DueTransactions) -> Option<String> {
    let DueTransactions { due, finalized, missing } = transactions;
    let missing = missing.map_or_else(String::new, |(from, through)| {
        format!("; the first that are missing are numbers {from} to {through}")
    });
    (!transactions.suffice()).then(|| {
        format!(
            "{finalized} of {due} transactions sent more than two slots before the end were finalized, \
             under {FINALIZED_PERCENT_MIN}%{missing}"
        )
    })
}

/// "slot 3", "slots 3 to 9, 12".
fn slots(ranges: &[(Slot, Slot)]) -> String {
    let one = |&(from, through): &(Slot, Slot)| {
        if from == through { from.to_string() } else { format!("{from} to {through}") }
    };
    let plural = if ranges.len() == 1 && ranges[0].0 == ranges[0].1 { "" } else { "s" };
    format!("slot{plural} {}", ranges.iter().map(one).collect::<Vec<_>>().join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{How, NodeEvent};
    use alpenglow_rotor::types::Hash;

    const NODES: [ValidatorIndex; 2] = [ValidatorIndex(0), ValidatorIndex(1)];

    fn decide(decisions: &mut Decisions, node: ValidatorIndex, slot: u64, hash: u8) {
        let (slot, hash) = (Slot(slot), Hash([hash; 32]));
        decisions.record(node, &NodeEvent::Decided { slot, how: How::Fast, hash: Some(hash) });
        let applied = NodeEvent::Applied { slot, hash, recomputed: hash, transactions: 0, bytes: 0, leader: NODES[0] };
        decisions.record(node, &applied);
    }

    fn complete() -> Decisions {
        let mut decisions = Decisions::new(2, Slot(4));
        for node in NODES {
            (1..=4).for_each(|slot| decide(&mut decisions, node, slot, 1));
        }
        decisions
    }

    fn judge(decisions: &Decisions, survivors: &[ValidatorIndex], deaths: &[String], due: (u64, u64)) -> Vec<String> {
        let transactions = DueTransactions { due: due.0, finalized: due.1, missing: Some((7, 9)) };
        reasons(&Evidence { decisions, survivors, deaths, transactions, flood: None })
    }

    #[test]
    fn a_complete_run_is_valid_with_99_percent_of_its_transactions_and_without_any() {
        assert_eq!(judge(&complete(), &NODES, &[], (100, 99)), [""; 0]);
        assert_eq!(judge(&complete(), &NODES, &[], (0, 0)), [""; 0]);
        assert!(agreement(&complete()));
    }

    #[test]
    fn disagreement_is_a_reason() {
        let mut decisions = Decisions::new(2, Slot(1));
        decide(&mut decisions, NODES[0], 1, 1);
        decide(&mut decisions, NODES[1], 1, 2);
        let reasons = judge(&decisions, &NODES, &[], (0, 0));
        assert!(reasons.iter().all(|reason| reason.starts_with("disagreement: slot 1: node 0")), "{reasons:?}");
        assert!(!reasons.is_empty() && !agreement(&decisions));
    }

    #[test]
    fn many_disagreements_are_not_all_told() {
        let mut decisions = Decisions::new(2, Slot(90));
        for slot in 1..=90 {
            decide(&mut decisions, NODES[0], slot, 1);
            decide(&mut decisions, NODES[1], slot, 2);
        }
        let reasons = judge(&decisions, &NODES, &[], (0, 0));
        assert_eq!(reasons.len(), DISAGREEMENTS_TOLD_MAX + 1);
        assert!(reasons[DISAGREEMENTS_TOLD_MAX].ends_with("172 more contradictions"), "{reasons:?}");
    }

    #[test]
    fn a_block_that_nobody_recomputed_is_no_agreement() {
        let mut decisions = Decisions::new(1, Slot(1));
        let event = NodeEvent::Decided { slot: Slot(1), how: How::Fast, hash: Some(Hash([1; 32])) };
        decisions.record(NODES[0], &event);
        let reasons = judge(&decisions, &NODES[..1], &[], (0, 0));
        assert_eq!(reasons, ["disagreement: no node recomputed the finalized block of slot 1"]);
        assert!(!agreement(&decisions));
    }

    #[test]
    fn a_death_is_a_reason() {
        let death = "node 1 died".to_owned();
        assert_eq!(judge(&complete(), &NODES[..1], std::slice::from_ref(&death), (0, 0)), [death.as_str()]);
    }

    #[test]
    fn a_survivor_that_did_not_decide_every_slot_is_a_reason_a_dead_node_is_not() {
        let mut decisions = Decisions::new(2, Slot(9));
        (1..=9).for_each(|slot| decide(&mut decisions, NODES[0], slot, 1));
        for slot in [1, 2, 5] {
            decide(&mut decisions, NODES[1], slot, 1);
        }
        assert_eq!(judge(&decisions, &NODES, &[], (0, 0)), ["not decided in time: node 1 slots 3 to 4, 6 to 9"]);
        assert_eq!(judge(&decisions, &NODES[..1], &[], (0, 0)), [""; 0]);
    }

    #[test]
    fn a_node_that_was_started_late_and_never_voted_is_a_reason() {
        let mut decisions = Decisions::new(2, Slot(4));
        decisions.join(NODES[1], Slot(2));
        (1..=4).for_each(|slot| decide(&mut decisions, NODES[0], slot, 1));
        (3..=4).for_each(|slot| decide(&mut decisions, NODES[1], slot, 1));
        let expected = "node 1, started at slot 2, did not vote for any block after that";
        assert_eq!(judge(&decisions, &NODES, &[], (0, 0)), [expected]);
        decisions.record(NODES[1], &NodeEvent::Voted { slot: Slot(4) });
        assert_eq!(judge(&decisions, &NODES, &[], (0, 0)), [""; 0]);
    }

    #[test]
    fn under_99_percent_of_the_due_transactions_is_a_reason() {
        let reasons = judge(&complete(), &NODES, &[], (1_000, 989));
        let expected = "989 of 1000 transactions sent more than two slots before the end were finalized, under 99%; \
                        the first that are missing are numbers 7 to 9";
        assert_eq!(reasons, [expected]);
    }
}
