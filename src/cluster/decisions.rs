//! What the nodes of a run decided, as their events tell it.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use alpenglow_rotor::types::{Hash, Slot, ValidatorIndex, WINDOW_SLOTS};

use crate::report::{How, NodeEvent};

/// Everything the nodes told about slots, and every contradiction in it.
#[derive(Debug)]
pub(crate) struct Decisions {
    nodes: usize,
    last: Slot,
    slots: BTreeMap<Slot, SlotRecord>,
    /// For each node, how many of the slots 1 to `last` it decided, and how many of their blocks it applied.
    decided: Vec<u64>,
    applied: Vec<u64>,
    /// For each node, the slot up to which nothing is wanted from it, because it was not there, or not the whole time.
    /// Zero for those that were there from the beginning.
    joined: Vec<Slot>,
    /// For each node, how often it was started. What it says again after a start, it says for the first time.
    lives: Vec<u32>,
    /// For each node, the highest slot that it voted for a block in.
    voted: Vec<Slot>,
    /// For each node, the last slot that it can vote in, because it has no stake afterwards.
    votes_through: Vec<Slot>,
    /// Windows in which one of these slots was skipped.
    skipped_windows: BTreeSet<u64>,
    /// In the blocks of the slots 1 to `last` that were applied, each block counted once.
    transactions: u64,
    disagreements: Vec<String>,
}

#[derive(Debug)]
struct SlotRecord {
    /// What the first node to speak of this slot said of its outcome; everybody else is compared with it.
    outcome: Outcome,
    told_by: ValidatorIndex,
    decided: Vec<Option<How>>,
    /// The node's life in which it decided this last; zero for never.
    decided_in: Vec<u32>,
    applied: Vec<bool>,
    applied_in: Vec<u32>,
}

/// A slot's outcome: its finalized block's hash, or none if it was skipped.
type Outcome = Option<Hash>;

/// How many of the slots 1 to the last one had which outcome at any node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub(crate) struct SlotCounts {
    /// Finalized or skipped.
    pub(crate) decided: u64,
    /// Finalized: fast, slow, or as an ancestor only.
    pub(crate) finalized: u64,
    /// Finalized fast at one node at least.
    pub(crate) fast: u64,
    /// Finalized slow at one node at least, and fast at none.
    pub(crate) slow: u64,
    /// Skipped.
    pub(crate) skipped: u64,
}

impl Decisions {
    /// Of `nodes` nodes that shall decide the slots 1 to `last`.
    pub(crate) fn new(nodes: usize, last: Slot) -> Self {
        Self {
            nodes,
            last,
            slots: BTreeMap::new(),
            decided: vec![0; nodes],
            applied: vec![0; nodes],
            joined: vec![Slot::GENESIS; nodes],
            lives: vec![1; nodes],
            voted: vec![Slot::GENESIS; nodes],
            votes_through: vec![last; nodes],
            skipped_windows: BTreeSet::new(),
            transactions: 0,
            disagreements: Vec::new(),
        }
    }

    /// Takes note of an event of `node`. Returns the slot if this is the first decision of it at any node.
    ///
    /// # Panics
    /// If there is no such node.
    pub(crate) fn record(&mut self, node: ValidatorIndex, event: &NodeEvent) -> Option<Slot> {
        assert!(node.get() < self.nodes);
        match *event {
            NodeEvent::Ready => None,
            NodeEvent::Voted { slot } => {
                let highest = &mut self.voted[node.get()];
                *highest = slot.max(*highest);
                None
            }
            NodeEvent::Decided { slot, how, hash } => self.record_decided(node, slot, how, hash),
            NodeEvent::Applied { slot, hash, recomputed, transactions, .. } => {
                if self.record_applied(node, slot, hash, recomputed) {
                    self.transactions += transactions;
                }
                None
            }
        }
    }

    fn record_decided(&mut self, node: ValidatorIndex, slot: Slot, how: How, hash: Outcome) -> Option<Slot> {
        if (how == How::Skipped) != hash.is_none() {
            self.disagreements.push(format!("node {} decided slot {slot} {how:?} with hash {hash:?}", node.0));
        }
        let life = self.lives[node.get()];
        let record = self.compare(node, slot, hash);
        let first = record.decided.iter().all(Option::is_none);
        let is_new = record.decided[node.get()].replace(how).is_none();
        if std::mem::replace(&mut record.decided_in[node.get()], life) == life {
            self.disagreements.push(format!("node {} decided slot {slot} twice", node.0));
        } else if is_new && self.is_wanted(slot) {
            self.decided[node.get()] += u64::from(slot > self.joined[node.get()]);
            if how == How::Skipped {
                self.skipped_windows.insert(slot.window());
            }
        }
        first.then_some(slot)
    }

    /// Returns whether a wanted slot's block was applied for the first time at any node.
    fn record_applied(&mut self, node: ValidatorIndex, slot: Slot, hash: Hash, recomputed: Hash) -> bool {
        if recomputed != hash {
            let node = node.0;
            self.disagreements.push(format!("node {node} finalized {slot}:{hash} but holds {slot}:{recomputed}"));
        }
        let life = self.lives[node.get()];
        let record = self.compare(node, slot, Some(hash));
        let is_first = !record.applied.contains(&true);
        let is_new = !std::mem::replace(&mut record.applied[node.get()], true);
        if std::mem::replace(&mut record.applied_in[node.get()], life) == life {
            self.disagreements.push(format!("node {} applied slot {slot} twice", node.0));
        } else if is_new && self.is_wanted(slot) {
            self.applied[node.get()] += u64::from(slot > self.joined[node.get()]);
        }
        is_first && self.is_wanted(slot)
    }

    /// `node` is started now that the slots up to `slot` are being decided: only those after it are wanted from it.
    ///
    /// # Panics
    /// If it has told something already.
    pub(crate) fn join(&mut self, node: ValidatorIndex, slot: Slot) {
        assert_eq!((self.decided[node.get()], self.applied[node.get()]), (0, 0), "it was not there yet");
        self.joined[node.get()] = slot.min(self.last);
    }

    /// `node` is started again now that the slots up to `slot` are being decided: only what follows the windows that it
    /// may have been at is wanted from it, but nothing that contradicts what it said before. What it has decided of
    /// that stays decided.
    pub(crate) fn rejoin(&mut self, node: ValidatorIndex, slot: Slot) {
        let joined = Slot(slot.window_last().0.saturating_add(WINDOW_SLOTS)).min(self.last);
        let later = self.slots.range((Bound::Excluded(joined), Bound::Included(self.last)));
        let count = |of: fn(&SlotRecord, usize) -> bool| {
            later.clone().filter(|(_, record)| of(record, node.get())).count() as u64
        };
        self.decided[node.get()] = count(|record, node| record.decided[node].is_some());
        self.applied[node.get()] = count(|record, node| record.applied[node]);
        self.joined[node.get()] = joined;
        self.voted[node.get()] = Slot::GENESIS;
        self.lives[node.get()] += 1;
    }

    /// `node` has no stake after `slot`: no vote is wanted from it then.
    pub(crate) fn leave_after(&mut self, node: ValidatorIndex, slot: Slot) {
        self.votes_through[node.get()] = slot.min(self.last);
    }

    /// Of `nodes`, those that were started late or again and have not voted for a block since, each with the slot of
    /// its start. Whose stake is gone within the two windows that it takes to catch up need not.
    pub(crate) fn never_voted<'a>(
        &'a self,
        nodes: &'a [ValidatorIndex],
    ) -> impl Iterator<Item = (ValidatorIndex, Slot)> + 'a {
        let joined = nodes.iter().map(|&node| (node, self.joined[node.get()]));
        let can_vote = |node: &ValidatorIndex, joined: &Slot| {
            self.votes_through[node.get()] >= Slot(joined.0.saturating_add(2 * WINDOW_SLOTS)).min(self.last)
        };
        joined.filter(move |(node, slot)| {
            *slot > Slot::GENESIS && self.voted[node.get()] <= *slot && can_vote(node, slot)
        })
    }

    fn is_wanted(&self, slot: Slot) -> bool {
        slot > Slot::GENESIS && slot <= self.last
    }

    /// The record of `slot`, after `outcome` was compared with what others said.
    fn compare(&mut self, node: ValidatorIndex, slot: Slot, outcome: Outcome) -> &mut SlotRecord {
        let nodes = self.nodes;
        let record = self.slots.entry(slot).or_insert_with(|| SlotRecord {
            outcome,
            told_by: node,
            decided: vec![None; nodes],
            decided_in: vec![0; nodes],
            applied: vec![false; nodes],
            applied_in: vec![0; nodes],
        });
        if record.outcome != outcome {
            let (first, first_told) = (record.told_by.0, describe(record.outcome));
            let told = describe(outcome);
            self.disagreements.push(format!("slot {slot}: node {first} {first_told}, node {} {told}", node.0));
        }
        record
    }

    /// Every contradiction found, in words; empty if all nodes agree.
    pub(crate) fn disagreements(&self) -> &[String] {
        &self.disagreements
    }

    fn wanted(&self) -> impl Iterator<Item = (Slot, &SlotRecord)> {
        self.slots.range(Slot(1)..=self.last).map(|(slot, record)| (*slot, record))
    }

    /// The ranges of slots wanted of it, both ends inclusive, that `node` has not decided.
    pub(crate) fn undecided(&self, node: ValidatorIndex) -> Vec<(Slot, Slot)> {
        let mut ranges: Vec<(Slot, Slot)> = Vec::new();
        for slot in (self.joined[node.get()].0 + 1..=self.last.0).map(Slot) {
            if self.slots.get(&slot).is_some_and(|record| record.decided[node.get()].is_some()) {
                continue;
            }
            match ranges.last_mut() {
                Some(range) if range.1.next() == slot => range.1 = slot,
                _ => ranges.push((slot, slot)),
            }
        }
        ranges
    }

    /// Whether all of `nodes` have decided every slot wanted of them.
    pub(crate) fn all_decided(&self, nodes: &[ValidatorIndex]) -> bool {
        nodes.iter().all(|node| self.decided[node.get()] == self.last.0 - self.joined[node.get()].0)
    }

    /// Whether all of `nodes` have recomputed and applied every finalized block that they should.
    pub(crate) fn all_applied(&self, nodes: &[ValidatorIndex]) -> bool {
        nodes.iter().all(|&node| self.applied[node.get()] == self.applicable_to(node))
    }

    /// How many finalized blocks `node` should apply: those of the wanted slots after the one it was started at.
    pub(crate) fn applicable_to(&self, node: ValidatorIndex) -> u64 {
        self.slots
            .range((Bound::Excluded(self.joined[node.get()]), Bound::Included(self.last)))
            .filter(|(_, record)| record.outcome.is_some())
            .count() as u64
    }

    /// How many of these it has recomputed and applied.
    pub(crate) fn applied_by(&self, node: ValidatorIndex) -> u64 {
        self.applied[node.get()]
    }

    /// Slots finalized somewhere whose block no node recomputed from what it holds.
    pub(crate) fn never_recomputed(&self) -> impl Iterator<Item = Slot> {
        self.wanted()
            .filter(|(_, record)| record.outcome.is_some() && !record.applied.contains(&true))
            .map(|(slot, _)| slot)
    }

    /// Leader windows in which a wanted slot was skipped.
    pub(crate) fn skipped_windows(&self) -> u64 {
        self.skipped_windows.len() as u64
    }

    /// The counts for a report.
    pub(crate) fn counts(&self) -> SlotCounts {
        let mut counts = SlotCounts::default();
        for (_, record) in self.wanted() {
            let any = |how| record.decided.contains(&Some(how));
            counts.decided += u64::from(record.decided.iter().any(Option::is_some));
            if any(How::Skipped) {
                counts.skipped += 1;
                continue;
            }
            counts.finalized += u64::from(record.decided.iter().any(Option::is_some));
            counts.fast += u64::from(any(How::Fast));
            counts.slow += u64::from(any(How::Slow) && !any(How::Fast));
        }
        counts
    }

    /// How a slot was decided, as its best informed node tells it: fast before slow before ancestor.
    pub(crate) fn how(&self, slot: Slot) -> Option<How> {
        let decided = &self.slots.get(&slot)?.decided;
        [How::Skipped, How::Fast, How::Slow, How::Ancestor].into_iter().find(|how| decided.contains(&Some(*how)))
    }

    /// The wanted slots that were decided, each with [`Self::how`].
    pub(crate) fn ways(&self) -> impl Iterator<Item = (Slot, How)> {
        self.wanted().filter_map(|(slot, _)| Some((slot, self.how(slot)?)))
    }

    /// Transactions in the blocks of the wanted slots that any node has applied.
    pub(crate) const fn transactions(&self) -> u64 {
        self.transactions
    }

    /// The latest slot that any node has decided.
    pub(crate) fn highest(&self) -> Slot {
        let decided = self.slots.iter().rev().find(|(_, record)| record.decided.iter().any(Option::is_some));
        decided.map_or(Slot::GENESIS, |(slot, _)| *slot)
    }
}

fn describe(outcome: Outcome) -> String {
    outcome.map_or_else(|| "skipped it".to_owned(), |hash| format!("finalized {hash}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ZERO: ValidatorIndex = ValidatorIndex(0);
    const ONE: ValidatorIndex = ValidatorIndex(1);

    fn decided(slot: u64, how: How) -> NodeEvent {
        let hash = (how != How::Skipped).then_some(Hash([slot as u8; 32]));
        NodeEvent::Decided { slot: Slot(slot), how, hash }
    }

    fn applied(slot: u64, hash: u8, recomputed: u8) -> NodeEvent {
        let (hash, recomputed) = (Hash([hash; 32]), Hash([recomputed; 32]));
        NodeEvent::Applied { slot: Slot(slot), hash, recomputed, transactions: 0, bytes: 0, leader: ZERO }
    }

    #[test]
    fn counts_take_each_slot_once_and_fast_before_slow() {
        let mut decisions = Decisions::new(2, Slot(6));
        for (node, slot, how) in [
            (ZERO, 1, How::Slow),
            (ONE, 1, How::Fast),
            (ZERO, 2, How::Slow),
            (ONE, 2, How::Ancestor),
            (ONE, 3, How::Ancestor),
            (ZERO, 4, How::Skipped),
            (ONE, 4, How::Skipped),
            (ONE, 7, How::Fast),
        ] {
            decisions.record(node, &decided(slot, how));
        }
        assert_eq!(decisions.counts(), SlotCounts { decided: 4, finalized: 3, fast: 1, slow: 1, skipped: 1 });
        assert_eq!(decisions.disagreements(), [""; 0]);
        assert_eq!(decisions.undecided(ZERO), [(Slot(3), Slot(3)), (Slot(5), Slot(6))]);
        assert_eq!(
            (decisions.highest(), decisions.how(Slot(1)), decisions.how(Slot(5))),
            (Slot(7), Some(How::Fast), None)
        );
    }

    #[test]
    fn of_a_node_that_joined_late_only_later_slots_are_wanted_and_a_vote() {
        let mut decisions = Decisions::new(2, Slot(4));
        for slot in 1..=2 {
            decisions.record(ZERO, &decided(slot, How::Fast));
        }
        decisions.join(ONE, Slot(2));
        let both = [ZERO, ONE];
        assert_eq!(decisions.undecided(ONE), [(Slot(3), Slot(4))]);
        decisions.record(ONE, &NodeEvent::Voted { slot: Slot(2) });
        assert_eq!(decisions.never_voted(&both).collect::<Vec<_>>(), [(ONE, Slot(2))]);
        for slot in 3..=4 {
            decisions.record(ZERO, &decided(slot, How::Fast));
            assert!(!decisions.all_decided(&both));
            decisions.record(ONE, &decided(slot, How::Fast));
        }
        assert!(decisions.all_decided(&both));
        decisions.record(ONE, &decided(1, How::Ancestor));
        decisions.record(ONE, &applied(1, 1, 1));
        assert!(decisions.all_decided(&both), "what it learns of earlier slots is no harm");
        assert_eq!((decisions.applied_by(ONE), decisions.applicable_to(ONE)), (0, 2));
        decisions.record(ONE, &NodeEvent::Voted { slot: Slot(3) });
        assert_eq!(decisions.never_voted(&both).count(), 0);
        decisions.record(ONE, &decided(2, How::Skipped));
        assert_eq!(decisions.disagreements().len(), 1, "it has to agree all the same");
    }

    #[test]
    fn of_a_late_node_whose_stake_is_gone_no_vote_is_wanted() {
        for (votes_through, wanted) in [(0, false), (9, false), (10, true), (16, true), (99, true)] {
            let mut decisions = Decisions::new(2, Slot(16));
            decisions.leave_after(ONE, Slot(votes_through));
            decisions.join(ONE, Slot(2));
            assert_eq!(decisions.never_voted(&[ZERO, ONE]).count() == 1, wanted, "a member through {votes_through}");
        }
    }

    #[test]
    fn a_node_that_was_started_again_may_say_again_what_it_said_and_nothing_else() {
        let mut decisions = Decisions::new(2, Slot(16));
        for node in [ZERO, ONE] {
            for slot in 1..=5 {
                decisions.record(node, &decided(slot, How::Fast));
                decisions.record(node, &applied(slot, slot as u8, slot as u8));
            }
            decisions.record(node, &NodeEvent::Voted { slot: Slot(6) });
        }
        decisions.rejoin(ONE, Slot(5));
        assert_eq!(decisions.never_voted(&[ZERO, ONE]).collect::<Vec<_>>(), [(ONE, Slot(11))]);
        assert_eq!(decisions.undecided(ONE), [(Slot(12), Slot(16))], "two windows are not wanted");
        decisions.record(ONE, &decided(5, How::Fast));
        decisions.record(ONE, &applied(5, 5, 5));
        for slot in 6..=16 {
            decisions.record(ONE, &decided(slot, How::Slow));
        }
        assert!(decisions.all_decided(&[ONE]) && !decisions.all_decided(&[ZERO]));
        assert_eq!(decisions.disagreements(), [""; 0]);
        decisions.record(ONE, &decided(5, How::Fast));
        decisions.record(ONE, &applied(4, 6, 6));
        assert_eq!(decisions.disagreements().len(), 2, "twice in one life, and something else than before");
    }

    #[test]
    fn only_the_first_decision_of_a_slot_is_first() {
        let mut decisions = Decisions::new(2, Slot(6));
        assert_eq!(decisions.record(ZERO, &applied(5, 5, 5)), None);
        assert_eq!(decisions.record(ONE, &decided(5, How::Fast)), Some(Slot(5)));
        assert_eq!(decisions.record(ZERO, &decided(5, How::Slow)), None);
    }

    #[test]
    fn another_hash_is_a_disagreement() {
        let mut decisions = Decisions::new(2, Slot(6));
        decisions.record(ZERO, &decided(5, How::Fast));
        decisions.record(ONE, &applied(5, 6, 6));
        let [reason] = decisions.disagreements() else { panic!("{:?}", decisions.disagreements()) };
        assert_eq!(reason, "slot 5: node 0 finalized 05050505, node 1 finalized 06060606");
    }

    #[test]
    fn skipped_against_finalized_is_a_disagreement_also_past_the_last_slot() {
        let mut decisions = Decisions::new(2, Slot(6));
        decisions.record(ZERO, &decided(9, How::Fast));
        decisions.record(ONE, &decided(9, How::Skipped));
        assert_eq!(decisions.disagreements(), ["slot 9: node 0 finalized 09090909, node 1 skipped it"]);
    }

    #[test]
    fn a_hash_that_does_not_follow_from_the_block_held_is_a_disagreement() {
        let mut decisions = Decisions::new(2, Slot(6));
        decisions.record(ZERO, &applied(5, 5, 7));
        assert_eq!(decisions.disagreements(), ["node 0 finalized 5:05050505 but holds 5:07070707"]);
    }

    #[test]
    fn a_node_that_decides_twice_or_without_sense_is_a_disagreement() {
        let mut decisions = Decisions::new(2, Slot(6));
        decisions.record(ZERO, &decided(5, How::Fast));
        decisions.record(ZERO, &decided(5, How::Fast));
        assert_eq!(decisions.disagreements(), ["node 0 decided slot 5 twice"]);
        decisions.record(ZERO, &NodeEvent::Decided { slot: Slot(6), how: How::Slow, hash: None });
        assert_eq!(decisions.disagreements().len(), 2);
    }

    #[test]
    fn finalized_blocks_that_nobody_recomputed_are_found() {
        let mut decisions = Decisions::new(2, Slot(6));
        for slot in [1, 2] {
            decisions.record(ZERO, &decided(slot, How::Fast));
        }
        decisions.record(ZERO, &decided(3, How::Skipped));
        decisions.record(ONE, &applied(2, 2, 2));
        assert_eq!(decisions.never_recomputed().collect::<Vec<_>>(), [Slot(1)]);
        assert_eq!((decisions.applied_by(ZERO), decisions.applied_by(ONE)), (0, 1));
    }

    #[test]
    fn a_run_is_complete_when_every_survivor_has_decided_and_applied_everything() {
        let mut decisions = Decisions::new(2, Slot(2));
        for slot in [1, 3] {
            decisions.record(ZERO, &decided(slot, How::Fast));
        }
        assert!(!decisions.all_decided(&[ZERO]), "slot 3 is not slot 2");
        decisions.record(ZERO, &decided(2, How::Skipped));
        assert!(decisions.all_decided(&[ZERO]) && !decisions.all_decided(&[ZERO, ONE]));
        assert!(!decisions.all_applied(&[ZERO]));
        decisions.record(ZERO, &applied(1, 1, 1));
        assert!(decisions.all_applied(&[ZERO]) && !decisions.all_applied(&[ONE]));
    }

    #[test]
    fn skipped_windows_are_counted_once() {
        let mut decisions = Decisions::new(2, Slot(12));
        for slot in [3, 4, 5, 7, 8, 13] {
            decisions.record(ZERO, &decided(slot, How::Skipped));
        }
        decisions.record(ONE, &decided(4, How::Skipped));
        assert_eq!(decisions.skipped_windows(), 3);
    }
}
