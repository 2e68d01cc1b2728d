//! What must hold in any run, restated from the protocol: nothing here comes from the code that decides.

use std::collections::{BTreeMap, BTreeSet};

use alpenglow_control::certificate::{Certificate, Statement};
use alpenglow_control::consensus::Finalization;
use alpenglow_control::output::{Decision, Event, Output};
use alpenglow_control::vote::VotePayload;
use alpenglow_rotor::types::{BlockId, Hash, Slot};

use super::scenario::Happened;

#[derive(Default)]
struct Seen {
    votes: BTreeMap<Slot, Vec<VotePayload>>,
    tip: Option<BlockId>,
    finalized: Slot,
}

/// Watches what all nodes put out. All stakes are equal.
pub(super) struct Oracle {
    nodes: Vec<Seen>,
    liars: BTreeSet<usize>,
    slots: BTreeMap<Slot, Option<Hash>>,
    cast: BTreeSet<(usize, VotePayload)>,
    complete: BTreeMap<BlockId, BTreeSet<usize>>,
    pub(super) happened: Happened,
    /// The first rule that was broken.
    pub(super) violation: Option<String>,
}

impl Oracle {
    pub(super) fn new(nodes: usize, liars: BTreeSet<usize>) -> Self {
        Self {
            nodes: (0..nodes).map(|_| Seen::default()).collect(),
            liars,
            slots: BTreeMap::new(),
            cast: BTreeSet::new(),
            complete: BTreeMap::new(),
            happened: Happened::default(),
            violation: None,
        }
    }

    pub(super) fn violated(&mut self, what: String) {
        self.violation.get_or_insert(what);
    }

    /// The highest slot that `node` holds a final block of.
    pub(super) fn finalized(&self, node: usize) -> Slot {
        self.nodes[node].finalized
    }

    /// A vote left a node, liars included.
    pub(super) fn cast(&mut self, node: usize, vote: VotePayload) {
        self.cast.insert((node, vote));
    }

    /// What a correct node put out.
    pub(super) fn see(&mut self, node: usize, output: &Output) {
        if self.liars.contains(&node) {
            return;
        }
        match output {
            Output::Finalized(block) => {
                let tip = self.nodes[node].tip.replace(block.id).unwrap_or(BlockId::GENESIS);
                if block.parent != tip || self.slots.get(&block.id.slot) != Some(&Some(block.id.hash)) {
                    self.violated(format!(
                        "node {node} hands over {} on {tip}, its parent is {}",
                        block.id, block.parent
                    ));
                }
            }
            Output::FinalizedGap { through, .. } => self.nodes[node].tip = Some(*through),
            Output::Event(event) => self.event(node, event),
            _ => {}
        }
    }

    fn event(&mut self, node: usize, event: &Event) {
        match event {
            Event::BlockComplete { block, .. } => {
                self.complete.entry(block.id).or_default().insert(node);
            }
            Event::VoteCast(vote) => self.voted(node, *vote),
            Event::Decided { slot, decision } => self.decided(node, *slot, *decision),
            Event::Equivocation(_) => self.happened.equivocations_seen += 1,
            Event::BlockRepaired { .. } => self.happened.repaired_blocks += 1,
            Event::Contradiction { block, other } => {
                self.violated(format!("node {node} holds both {block} and {other} for final"));
            }
            _ => {}
        }
    }

    fn decided(&mut self, node: usize, slot: Slot, decision: Decision) {
        let hash = match decision {
            Decision::Skipped => None,
            Decision::Finalized { block, .. } => Some(block.hash),
        };
        match decision {
            Decision::Skipped => self.happened.skipped_slots += 1,
            Decision::Finalized { block, how } => {
                let seen = &mut self.nodes[node];
                seen.finalized = seen.finalized.max(slot);
                match how {
                    Finalization::Fast => self.happened.fast_finalizations += 1,
                    Finalization::Slow => self.happened.slow_finalizations += 1,
                    Finalization::Ancestor => {}
                }
                // 60% voted for it, less than 20% of those lie, and a correct node holds what it votes for.
                let holders = self.complete.get(&block).map_or(0, BTreeSet::len);
                if !matches!(how, Finalization::Ancestor) && 5 * holders < 2 * self.nodes.len() {
                    self.violated(format!("{block} is final, and only {holders} correct nodes ever held it"));
                }
            }
        }
        let agreed = *self.slots.entry(slot).or_insert(hash);
        if agreed != hash {
            self.violated(format!("node {node} decides slot {slot} as {hash:?}, another did as {agreed:?}"));
        }
    }

    /// Votes that no correct node casts together.
    fn voted(&mut self, node: usize, vote: VotePayload) {
        let before = self.nodes[node].votes.entry(vote.slot()).or_default();
        let has = |wanted: fn(&VotePayload) -> bool| before.iter().any(wanted);
        let first = has(|vote| matches!(vote, VotePayload::Notar(_) | VotePayload::Skip(_)));
        let is_final = has(|vote| matches!(vote, VotePayload::Final(_)));
        let spoilt = has(|vote| !matches!(vote, VotePayload::Notar(_) | VotePayload::Final(_)));
        let allowed = match vote {
            VotePayload::Notar(_) | VotePayload::Skip(_) => !first && !is_final,
            VotePayload::NotarFallback(block) => {
                self.happened.notar_fallback_votes += 1;
                first && !is_final && !before.contains(&vote) && !before.contains(&VotePayload::Notar(block))
            }
            VotePayload::SkipFallback(slot) => {
                self.happened.skip_fallback_votes += 1;
                first && !is_final && !before.contains(&vote) && !before.contains(&VotePayload::Skip(slot))
            }
            VotePayload::Final(_) => first && !is_final && !spoilt,
        };
        before.push(vote);
        if !allowed {
            let votes = format!("{before:?}");
            self.violated(format!("node {node} casts votes that exclude each other: {votes}"));
        }
    }

    /// Every certificate that leaves a correct node: signed only by those who voted so, and by enough of them.
    pub(super) fn certificate(&mut self, node: usize, certificate: &Certificate) {
        if self.liars.contains(&node) {
            return;
        }
        self.happened.certificates_checked += 1;
        let (vote, fallback, percent) = match certificate.statement {
            Statement::Fast(block) => (VotePayload::Notar(block), None, 80),
            Statement::Notarization(block) => (VotePayload::Notar(block), None, 60),
            Statement::NotarFallback(block) => (VotePayload::Notar(block), Some(VotePayload::NotarFallback(block)), 60),
            Statement::Skip(slot) => (VotePayload::Skip(slot), Some(VotePayload::SkipFallback(slot)), 60),
            Statement::Finalization(slot) => (VotePayload::Final(slot), None, 60),
        };
        let mut signers = BTreeSet::new();
        let parts = [(&certificate.signers, Some(vote)), (&certificate.fallback_signers, fallback)];
        for (listed, payload) in parts {
            for signer in listed.iter().map(|signer| signer.get()) {
                signers.insert(signer);
                if !payload.is_some_and(|payload| self.cast.contains(&(signer, payload))) {
                    self.violated(format!("{:?} names node {signer}, which never voted so", certificate.statement));
                }
            }
        }
        if 100 * signers.len() < percent * self.nodes.len() {
            self.violated(format!("{:?} has {} of {} votes", certificate.statement, signers.len(), self.nodes.len()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(hash: u8) -> BlockId {
        BlockId { slot: Slot(5), hash: Hash([hash; 32]) }
    }

    fn oracle_after(events: impl IntoIterator<Item = (usize, Event)>) -> Oracle {
        let mut oracle = Oracle::new(5, [4].into());
        (0..3).for_each(|node| {
            for hash in [1, 2] {
                oracle.complete.entry(id(hash)).or_default().insert(node);
            }
        });
        events.into_iter().for_each(|(node, event)| oracle.see(node, &Output::Event(event)));
        oracle
    }

    fn decided(hash: u8) -> Event {
        let decision = Decision::Finalized { block: id(hash), how: Finalization::Fast };
        Event::Decided { slot: Slot(5), decision }
    }

    #[test]
    fn two_final_blocks_in_a_slot_are_a_violation_and_a_liars_word_is_none() {
        assert!(oracle_after([(0, decided(1)), (1, decided(1)), (4, decided(2))]).violation.is_none());
        assert!(oracle_after([(0, decided(1)), (1, decided(2))]).violation.is_some());
        assert!(oracle_after([(0, decided(3))]).violation.is_some(), "nobody held it");
    }

    #[test]
    fn votes_that_exclude_each_other_are_a_violation() {
        let (notar, skip) = (VotePayload::Notar(id(1)), VotePayload::Skip(Slot(5)));
        let (fallback, last) = (VotePayload::SkipFallback(Slot(5)), VotePayload::Final(Slot(5)));
        let check = |votes: &[VotePayload]| {
            oracle_after(votes.iter().map(|vote| (0, Event::VoteCast(*vote)))).violation.is_none()
        };
        assert!(check(&[notar, last]) && check(&[notar, fallback]) && check(&[skip]));
        let forbidden: [&[_]; 6] =
            [&[notar, skip], &[notar, fallback, last], &[notar, last, fallback], &[skip, last], &[last], &[fallback]];
        forbidden.iter().for_each(|votes| assert!(!check(votes), "{votes:?}"));
    }

    #[test]
    fn a_certificate_needs_votes_that_were_cast_and_enough_of_them() {
        use alpenglow_control::bls::SignatureBytes;
        use alpenglow_control::certificate::Signers;
        use alpenglow_rotor::types::ValidatorIndex;
        let certificate = |signers: u16| Certificate {
            statement: Statement::Notarization(id(1)),
            signers: Signers::of(5, (0..signers).map(ValidatorIndex)),
            fallback_signers: Signers::none(5),
            signature: SignatureBytes([0; 96]),
        };
        let check = |signers, voters: usize| {
            let mut oracle = Oracle::new(5, BTreeSet::new());
            (0..voters).for_each(|node| oracle.cast(node, VotePayload::Notar(id(1))));
            oracle.certificate(0, &certificate(signers));
            oracle.violation.is_none()
        };
        assert!(check(3, 3));
        assert!(!check(2, 3), "too few");
        assert!(!check(4, 3), "one never voted");
    }
}
