//! What must hold however many validators there are, by stake: agreement, votes, certificates, the chain that is handed
//! over. Nothing here comes from the code that decides.

use std::collections::BTreeMap;

use alpenglow_control::certificate::{Certificate, Statement};
use alpenglow_control::output::Decision;
use alpenglow_control::vote::VotePayload;
use alpenglow_rotor::types::{BlockId, Hash, Slot, Stake, ValidatorIndex};

/// Slots behind the latest one for which votes are remembered: far more than are undecided anywhere.
const SLOTS_REMEMBERED: u64 = 64;

pub(super) struct Oracle {
    stakes: Vec<Stake>,
    /// By slot and payload, who voted so.
    cast: BTreeMap<Slot, BTreeMap<VotePayload, Vec<bool>>>,
    decided: BTreeMap<Slot, Option<Hash>>,
    /// By validator, the last block that its application got.
    tips: Vec<BlockId>,
    /// The first rule that was broken.
    pub(super) violation: Option<String>,
}

impl Oracle {
    pub(super) fn new(stakes: Vec<Stake>) -> Self {
        let tips = vec![BlockId::GENESIS; stakes.len()];
        Self { stakes, cast: BTreeMap::new(), decided: BTreeMap::new(), tips, violation: None }
    }

    fn violated(&mut self, what: String) {
        self.violation.get_or_insert(what);
    }

    /// A validator cast a vote: never two that exclude each other.
    pub(super) fn cast(&mut self, validator: ValidatorIndex, vote: VotePayload) {
        let slot = self.cast.entry(vote.slot()).or_default();
        let of_validator: Vec<_> =
            slot.iter().filter(|(_, voters)| voters[validator.get()]).map(|(payload, _)| *payload).collect();
        let has = |which: fn(&VotePayload) -> bool| of_validator.iter().any(which);
        let is_first = !has(|vote| matches!(vote, VotePayload::Notar(_) | VotePayload::Skip(_)));
        let is_final = has(|vote| matches!(vote, VotePayload::Final(_)));
        let only_notar = has(|vote| matches!(vote, VotePayload::Notar(_))) && of_validator.len() == 1;
        let allowed = match vote {
            VotePayload::Notar(_) | VotePayload::Skip(_) => is_first,
            VotePayload::NotarFallback(block) => {
                !is_first && !is_final && !of_validator.contains(&VotePayload::Notar(block))
            }
            VotePayload::SkipFallback(slot) => {
                !is_first && !is_final && !of_validator.contains(&VotePayload::Skip(slot))
            }
            VotePayload::Final(_) => only_notar,
        };
        slot.entry(vote).or_insert_with(|| vec![false; self.stakes.len()])[validator.get()] = true;
        if !allowed || of_validator.contains(&vote) {
            self.violated(format!("validator {} casts {vote:?} after {of_validator:?}", validator.0));
        }
        while let Some(oldest) = self.cast.first_entry()
            && oldest.key().0 + SLOTS_REMEMBERED < vote.slot().0
        {
            oldest.remove();
        }
    }

    /// A certificate left a validator: it names only those who voted so, and enough stake.
    pub(super) fn certificate(&mut self, certificate: &Certificate) {
        let statement = certificate.statement;
        let (vote, fallback, percent) = match statement {
            Statement::Fast(block) => (VotePayload::Notar(block), None, 80),
            Statement::Notarization(block) => (VotePayload::Notar(block), None, 60),
            Statement::NotarFallback(block) => (VotePayload::Notar(block), Some(VotePayload::NotarFallback(block)), 60),
            Statement::Skip(slot) => (VotePayload::Skip(slot), Some(VotePayload::SkipFallback(slot)), 60),
            Statement::Finalization(slot) => (VotePayload::Final(slot), None, 60),
        };
        let Some(slot) = self.cast.get(&statement.slot()) else { return };
        let mut signed = vec![false; self.stakes.len()];
        let mut stranger = None;
        for (signers, payload) in [(&certificate.signers, Some(vote)), (&certificate.fallback_signers, fallback)] {
            let voters = payload.and_then(|payload| slot.get(&payload));
            for signer in signers.iter() {
                signed[signer.get()] = true;
                if !voters.is_some_and(|voters| voters[signer.get()]) {
                    stranger = Some(signer);
                }
            }
        }
        let sum = |stakes: &mut dyn Iterator<Item = &Stake>| stakes.map(|stake| u128::from(stake.0)).sum::<u128>();
        let total = sum(&mut self.stakes.iter());
        let stake = sum(&mut self.stakes.iter().zip(&signed).filter(|(_, signed)| **signed).map(|(stake, _)| stake));
        if let Some(stranger) = stranger {
            self.violated(format!("{statement:?} names validator {}, which never voted so", stranger.0));
        }
        if 100 * stake < percent * total {
            self.violated(format!("{statement:?} has {stake} of {total}"));
        }
    }

    /// A validator decided a slot: as all others do.
    pub(super) fn decided(&mut self, validator: ValidatorIndex, slot: Slot, decision: Decision) {
        let hash = match decision {
            Decision::Skipped => None,
            Decision::Finalized { block, .. } => Some(block.hash),
        };
        let agreed = *self.decided.entry(slot).or_insert(hash);
        if agreed != hash {
            self.violated(format!("validator {} decides {slot} as {hash:?}, another as {agreed:?}", validator.0));
        }
    }

    /// A validator hands a final block over: the child of the one before, and the one that was decided.
    pub(super) fn handed_over(&mut self, validator: ValidatorIndex, block: BlockId, parent: BlockId) {
        let tip = std::mem::replace(&mut self.tips[validator.get()], block);
        if parent != tip || self.decided.get(&block.slot) != Some(&Some(block.hash)) {
            self.violated(format!("validator {} hands over {block}, child of {parent}, on {tip}", validator.0));
        }
    }

    /// A validator gave up the blocks up to this one.
    pub(super) fn gave_up(&mut self, validator: ValidatorIndex, through: BlockId) {
        self.tips[validator.get()] = through;
    }
}

#[cfg(test)]
mod tests {
    use alpenglow_control::bls::SignatureBytes;
    use alpenglow_control::certificate::Signers;
    use alpenglow_control::consensus::Finalization;

    use super::*;

    const BLOCK: BlockId = BlockId { slot: Slot(5), hash: Hash([1; 32]) };
    const OTHER: BlockId = BlockId { slot: Slot(5), hash: Hash([2; 32]) };

    fn oracle() -> Oracle {
        Oracle::new([50, 20, 20, 10].map(Stake).into())
    }

    #[test]
    fn votes_that_exclude_each_other_are_a_violation() {
        let (notar, skip, last) = (VotePayload::Notar(BLOCK), VotePayload::Skip(Slot(5)), VotePayload::Final(Slot(5)));
        let (fallback, notar_fallback) = (VotePayload::SkipFallback(Slot(5)), VotePayload::NotarFallback(OTHER));
        let holds = |votes: &[VotePayload]| {
            let mut oracle = oracle();
            votes.iter().for_each(|vote| oracle.cast(ValidatorIndex(1), *vote));
            oracle.violation.is_none()
        };
        let allowed: [&[_]; 4] = [&[notar, last], &[notar, fallback, notar_fallback], &[skip, notar_fallback], &[skip]];
        allowed.iter().for_each(|votes| assert!(holds(votes), "{votes:?}"));
        let forbidden: [&[_]; 7] = [
            &[notar, skip],
            &[notar, VotePayload::Notar(OTHER)],
            &[notar, last, fallback],
            &[notar, fallback, last],
            &[skip, last],
            &[last],
            &[fallback],
        ];
        forbidden.iter().for_each(|votes| assert!(!holds(votes), "{votes:?}"));
    }

    #[test]
    fn a_certificate_needs_votes_that_were_cast_and_enough_stake() {
        let holds = |statement, signers: &[u16], voters: &[u16]| {
            let mut oracle = oracle();
            voters.iter().for_each(|voter| oracle.cast(ValidatorIndex(*voter), VotePayload::Notar(BLOCK)));
            oracle.certificate(&Certificate {
                statement,
                signers: Signers::of(4, signers.iter().copied().map(ValidatorIndex)),
                fallback_signers: Signers::none(4),
                signature: SignatureBytes([0; 96]),
            });
            oracle.violation.is_none()
        };
        assert!(holds(Statement::Notarization(BLOCK), &[0, 3], &[0, 1, 3]));
        assert!(!holds(Statement::Fast(BLOCK), &[0, 1], &[0, 1]), "70 of 100");
        assert!(holds(Statement::Fast(BLOCK), &[0, 1, 3], &[0, 1, 3]));
        assert!(!holds(Statement::Notarization(BLOCK), &[0, 1], &[0]), "one never voted");
    }

    #[test]
    fn two_decisions_on_a_slot_are_a_violation() {
        let mut oracle = oracle();
        let finalized = |block| Decision::Finalized { block, how: Finalization::Fast };
        oracle.decided(ValidatorIndex(0), Slot(5), finalized(BLOCK));
        oracle.decided(ValidatorIndex(1), Slot(5), finalized(BLOCK));
        assert!(oracle.violation.is_none());
        oracle.decided(ValidatorIndex(2), Slot(5), Decision::Skipped);
        assert!(oracle.violation.is_some());
    }

    #[test]
    fn what_is_handed_over_is_one_chain_of_decided_blocks() {
        let next = BlockId { slot: Slot(6), hash: Hash([3; 32]) };
        let holds = |handed_over: &[(BlockId, BlockId)]| {
            let mut oracle = oracle();
            for block in [BLOCK, next] {
                let decision = Decision::Finalized { block, how: Finalization::Fast };
                oracle.decided(ValidatorIndex(0), block.slot, decision);
            }
            handed_over.iter().for_each(|(block, parent)| oracle.handed_over(ValidatorIndex(0), *block, *parent));
            oracle.violation.is_none()
        };
        assert!(holds(&[(BLOCK, BlockId::GENESIS), (next, BLOCK)]));
        assert!(!holds(&[(next, BLOCK)]), "its parent never was");
        assert!(!holds(&[(OTHER, BlockId::GENESIS)]), "not the one that was decided");
    }
}
