//! Checking signatures: pure computation, run on verifier threads away from the control loop.
//!
//! Votes come in batches for one payload and are checked as one sum (design: a few µs a vote instead of 1.5 ms). A
//! batch that passes stays whole for ever; one that fails is halved until the wrong votes are found.

use std::collections::VecDeque;
use std::sync::Arc;

use alpenglow_rotor::types::{ClusterId, ValidatorIndex};

use crate::bls::{self, HashedPayload, PublicKeySum, Signature, SignatureSum};
use crate::certificate::{Certificate, CertificateError, UnverifiedCertificate, VerifiedCertificate};
use crate::stakes::Stakes;
use crate::vote::{UnverifiedVote, VerifiedVotes, VotePayload};
use crate::voting_keys::VotingKeys;

/// Payloads whose point is remembered: those of the slots in flight.
const PAYLOADS_REMEMBERED: usize = 64;

/// What a verifier is asked.
#[derive(Clone, Debug)]
pub enum CheckJob {
    /// Votes for one payload, checked as one sum. A vote that conflicts with an earlier one is a batch of its own.
    Votes(Vec<UnverifiedVote>),
    /// A certificate that the Pool wants.
    Certificate {
        /// The certificate.
        certificate: UnverifiedCertificate,
        /// Who sent it.
        sender: ValidatorIndex,
    },
}

/// What a verifier answers.
#[derive(Clone, Debug)]
pub enum CheckVerdict {
    /// The answer to [`CheckJob::Votes`].
    Votes {
        /// Those that passed, in batches that must stay whole. One batch if nothing was wrong.
        verified: Vec<VerifiedVotes>,
        /// Those whose signature is wrong.
        rejected: Vec<UnverifiedVote>,
    },
    /// The answer to [`CheckJob::Certificate`] if it holds.
    Certificate {
        /// The certificate.
        certificate: VerifiedCertificate,
        /// Who sent it.
        sender: ValidatorIndex,
    },
    /// The answer to [`CheckJob::Certificate`] if it does not hold.
    CertificateRejected {
        /// Why.
        reason: CertificateError,
        /// Who sent it.
        sender: ValidatorIndex,
    },
}

/// A verifier: the keys it checks against and the payloads it has hashed lately.
pub struct Checker {
    cluster: ClusterId,
    keys: Arc<VotingKeys>,
    stakes: Arc<Stakes>,
    hashed: VecDeque<(VotePayload, HashedPayload)>,
}

/// A vote whose signature is a point of the curve, with its signer's key.
struct Candidate {
    vote: UnverifiedVote,
    signature: Signature,
}

impl Checker {
    /// A verifier for one validator set.
    ///
    /// # Panics
    /// If keys and stakes are not as many.
    #[must_use]
    pub fn new(cluster: ClusterId, keys: Arc<VotingKeys>, stakes: Arc<Stakes>) -> Self {
        assert!(keys.len() == stakes.len());
        Self { cluster, keys, stakes, hashed: VecDeque::with_capacity(PAYLOADS_REMEMBERED) }
    }

    /// Does a job.
    ///
    /// # Panics
    /// If the votes of a batch differ in their payload or hold a signer twice: batches are made by this node.
    pub fn check(&mut self, job: CheckJob) -> CheckVerdict {
        match job {
            CheckJob::Votes(votes) => self.check_votes(votes),
            CheckJob::Certificate { certificate, sender } => match self.check_certificate(&certificate.0) {
                Ok(()) => CheckVerdict::Certificate { certificate: VerifiedCertificate(certificate.0), sender },
                Err(reason) => CheckVerdict::CertificateRejected { reason, sender },
            },
        }
    }

    fn check_votes(&mut self, votes: Vec<UnverifiedVote>) -> CheckVerdict {
        let (mut verified, mut rejected) = (Vec::new(), Vec::new());
        let Some(payload) = votes.first().map(|vote| vote.payload) else {
            return CheckVerdict::Votes { verified, rejected };
        };
        let mut candidates = Vec::with_capacity(votes.len());
        for vote in votes {
            assert!(vote.payload == payload, "a batch is for one payload");
            match Signature::from_bytes(&vote.signature) {
                Ok(signature) if self.keys.get(vote.signer).is_some() => candidates.push(Candidate { vote, signature }),
                _ => rejected.push(vote),
            }
        }
        candidates.sort_by_key(|candidate| candidate.vote.signer);
        let twice = candidates.windows(2).any(|pair| pair[0].vote.signer == pair[1].vote.signer);
        assert!(!twice, "a validator enters a batch once");
        let hashed = self.hashed(payload);
        self.check_range(payload, &hashed, &candidates, &mut verified, &mut rejected);
        CheckVerdict::Votes { verified, rejected }
    }

    /// Checks a range of a batch as a sum, its halves if that fails. The depth is that of halving 2,000.
    fn check_range(
        &self,
        payload: VotePayload,
        hashed: &HashedPayload,
        range: &[Candidate],
        verified: &mut Vec<VerifiedVotes>,
        rejected: &mut Vec<UnverifiedVote>,
    ) {
        if range.is_empty() {
            return;
        }
        let signatures: Vec<Signature> = range.iter().map(|candidate| candidate.signature).collect();
        let sum = SignatureSum::of(&signatures);
        let keys = PublicKeySum::of_refs(range.iter().filter_map(|candidate| self.keys.get(candidate.vote.signer)));
        if let Some(sum) = sum.point().filter(|_| bls::verify(hashed, &keys, &sum)) {
            let votes = range.iter().map(|candidate| candidate.vote).collect();
            verified.push(VerifiedVotes { payload, votes, sum });
        } else if let [candidate] = range {
            rejected.push(candidate.vote);
        } else {
            let (left, right) = range.split_at(range.len() / 2);
            self.check_range(payload, hashed, left, verified, rejected);
            self.check_range(payload, hashed, right, verified, rejected);
        }
    }

    /// Checks bitmaps, then stake, then the signature: the cheap reasons to refuse come first.
    fn check_certificate(&mut self, certificate: &Certificate) -> Result<(), CertificateError> {
        certificate.check_quorum(&self.stakes)?;
        let signature = Signature::from_bytes(&certificate.signature).map_err(|_| CertificateError::Signature)?;
        let first = (!certificate.signers.is_empty())
            .then(|| (self.hashed(certificate.statement.payload()), self.keys.sum_of(&certificate.signers)));
        let second = match certificate.statement.fallback_payload() {
            Some(payload) if !certificate.fallback_signers.is_empty() => {
                Some((self.hashed(payload), self.keys.sum_of(&certificate.fallback_signers)))
            }
            _ => None,
        };
        let terms: Vec<_> = first.iter().chain(&second).map(|(hashed, keys)| (hashed, keys)).collect();
        if bls::verify_terms(&terms, &SignatureSum::from(signature)) {
            Ok(())
        } else {
            Err(CertificateError::Signature)
        }
    }

    fn hashed(&mut self, payload: VotePayload) -> HashedPayload {
        if let Some((_, hashed)) = self.hashed.iter().find(|(known, _)| *known == payload) {
            return hashed.clone();
        }
        let hashed = payload.hashed(self.cluster);
        if self.hashed.len() == PAYLOADS_REMEMBERED {
            self.hashed.pop_front();
        }
        self.hashed.push_back((payload, hashed.clone()));
        hashed
    }
}

#[cfg(test)]
mod tests {
    use alpenglow_rotor::types::{BlockId, Hash, Slot, Stake};

    use super::*;
    use crate::bls::{SecretKey, SignatureBytes};
    use crate::certificate::{Signers, Statement};

    const CLUSTER: ClusterId = ClusterId([9; 32]);
    const BLOCK: BlockId = BlockId { slot: Slot(7), hash: Hash([3; 32]) };
    const NOTAR: VotePayload = VotePayload::Notar(BLOCK);

    fn key(validator: u16) -> SecretKey {
        SecretKey::from_entropy(&[validator as u8 + 1; 32])
    }

    fn checker(validators: u16) -> Checker {
        let entries: Vec<_> = (0..validators)
            .map(|validator| (key(validator).public_key().to_bytes(), key(validator).prove_possession()))
            .collect();
        let stakes = Stakes::new(vec![Stake(1); usize::from(validators)]);
        Checker::new(CLUSTER, Arc::new(VotingKeys::new(&entries).unwrap()), Arc::new(stakes))
    }

    fn sign(signed: VotePayload, cluster: ClusterId, signer: u16) -> SignatureBytes {
        key(signer).sign(&signed.hashed(cluster)).to_bytes()
    }

    fn vote(payload: VotePayload, signer: u16) -> UnverifiedVote {
        UnverifiedVote { payload, signer: ValidatorIndex(signer), signature: sign(payload, CLUSTER, signer) }
    }

    /// A vote whose signature is another validator's.
    fn wrong(payload: VotePayload, signer: u16) -> UnverifiedVote {
        UnverifiedVote { signature: sign(payload, CLUSTER, signer + 50), ..vote(payload, signer) }
    }

    fn check(checker: &mut Checker, votes: Vec<UnverifiedVote>) -> (Vec<VerifiedVotes>, Vec<UnverifiedVote>) {
        match checker.check(CheckJob::Votes(votes)) {
            CheckVerdict::Votes { verified, rejected } => (verified, rejected),
            other => panic!("{other:?}"),
        }
    }

    fn signers(batches: &[VerifiedVotes]) -> Vec<u16> {
        let mut signers: Vec<u16> = batches.iter().flat_map(|batch| batch.signers().map(|signer| signer.0)).collect();
        signers.sort_unstable();
        signers
    }

    #[test]
    fn a_batch_of_good_votes_passes_whole() {
        let (verified, rejected) = check(&mut checker(8), (0..8).map(|signer| vote(NOTAR, signer)).collect());
        assert_eq!((verified.len(), signers(&verified), rejected.len()), (1, (0..8).collect(), 0));
    }

    #[test]
    fn bisection_rejects_the_wrong_votes_and_no_other() {
        let mut checker = checker(16);
        for bad in [vec![0], vec![15], vec![3, 4], vec![0, 5, 10, 15], (0..16).collect()] {
            let votes =
                (0..16).map(|signer| if bad.contains(&signer) { wrong(NOTAR, signer) } else { vote(NOTAR, signer) });
            let (verified, rejected) = check(&mut checker, votes.collect());
            let mut found: Vec<u16> = rejected.iter().map(|vote| vote.signer.0).collect();
            found.sort_unstable();
            assert_eq!(found, bad);
            assert_eq!(signers(&verified), (0..16).filter(|signer| !bad.contains(signer)).collect::<Vec<_>>());
        }
    }

    #[test]
    fn bytes_that_are_no_point_and_unknown_signers_are_rejected_alone() {
        let mut votes: Vec<_> = (0..4).map(|signer| vote(NOTAR, signer)).collect();
        votes[1].signature = SignatureBytes([0xff; 96]);
        votes[2].signature = SignatureBytes([0; 96]);
        votes.push(UnverifiedVote { signer: ValidatorIndex(4), ..vote(NOTAR, 3) });
        let (verified, rejected) = check(&mut checker(4), votes);
        assert_eq!((verified.len(), signers(&verified), rejected.len()), (1, vec![0, 3], 3));
    }

    #[test]
    fn a_wrong_vote_does_not_poison_later_checks() {
        let mut checker = checker(4);
        assert_eq!(check(&mut checker, vec![wrong(NOTAR, 0)]).1.len(), 1);
        let (verified, rejected) = check(&mut checker, (0..4).map(|signer| vote(NOTAR, signer)).collect());
        assert_eq!((verified.len(), rejected.len()), (1, 0));
    }

    #[test]
    fn votes_of_another_cluster_slot_kind_or_hash_are_rejected() {
        let mut checker = checker(2);
        let elsewhere = sign(NOTAR, ClusterId([8; 32]), 0);
        assert_eq!(check(&mut checker, vec![UnverifiedVote { signature: elsewhere, ..vote(NOTAR, 0) }]).1.len(), 1);
        let others = [
            VotePayload::Notar(BlockId { slot: Slot(8), ..BLOCK }),
            VotePayload::Notar(BlockId { hash: Hash([4; 32]), ..BLOCK }),
            VotePayload::NotarFallback(BLOCK),
            VotePayload::Skip(BLOCK.slot),
            VotePayload::SkipFallback(BLOCK.slot),
            VotePayload::Final(BLOCK.slot),
        ];
        for payload in others {
            let moved = UnverifiedVote { payload: NOTAR, ..vote(payload, 0) };
            assert_eq!(check(&mut checker, vec![moved]).1, vec![moved], "{payload:?}");
        }
    }

    fn certificate(statement: Statement, first: &[u16], second: &[u16]) -> Certificate {
        let of = |indices: &[u16]| Signers::of(10, indices.iter().map(|index| ValidatorIndex(*index)));
        let mut signatures: Vec<Signature> =
            first.iter().map(|signer| key(*signer).sign(&statement.payload().hashed(CLUSTER))).collect();
        if let Some(payload) = statement.fallback_payload() {
            signatures.extend(second.iter().map(|signer| key(*signer).sign(&payload.hashed(CLUSTER))));
        }
        Certificate {
            statement,
            signers: of(first),
            fallback_signers: of(second),
            signature: SignatureSum::of(&signatures).to_bytes(),
        }
    }

    fn certificate_verdict(checker: &mut Checker, certificate: &Certificate) -> Result<(), CertificateError> {
        let certificate = UnverifiedCertificate(certificate.clone());
        match checker.check(CheckJob::Certificate { certificate, sender: ValidatorIndex(1) }) {
            CheckVerdict::Certificate { .. } => Ok(()),
            CheckVerdict::CertificateRejected { reason, .. } => Err(reason),
            CheckVerdict::Votes { .. } => panic!("not asked for"),
        }
    }

    #[test]
    fn certificates_of_every_kind_verify() {
        let mut checker = checker(10);
        let six = [0, 1, 2, 3, 4, 5];
        let cases = [
            certificate(Statement::Fast(BLOCK), &[0, 1, 2, 3, 4, 5, 6, 7], &[]),
            certificate(Statement::Notarization(BLOCK), &six, &[]),
            certificate(Statement::Finalization(BLOCK.slot), &six, &[]),
            certificate(Statement::NotarFallback(BLOCK), &six, &[]),
            certificate(Statement::NotarFallback(BLOCK), &[], &six),
            certificate(Statement::NotarFallback(BLOCK), &[0, 1, 2], &[2, 3, 4, 5]),
            certificate(Statement::Skip(BLOCK.slot), &[0, 1, 2], &[0, 1, 2, 3, 4, 5]),
        ];
        for case in &cases {
            assert_eq!(certificate_verdict(&mut checker, case), Ok(()), "{case:?}");
        }
    }

    #[test]
    fn a_certificate_is_refused_for_its_bitmap_then_its_stake_then_its_signature() {
        let mut checker = checker(10);
        let five = certificate(Statement::Notarization(BLOCK), &[0, 1, 2, 3, 4], &[]);
        let mut stray = five.clone();
        stray.fallback_signers.insert(ValidatorIndex(1));
        assert_eq!(certificate_verdict(&mut checker, &stray), Err(CertificateError::Bitmap));
        let below = Err(CertificateError::Stake { signed: 5, total: 10 });
        assert_eq!(certificate_verdict(&mut checker, &five), below);
        let mut claimed = five;
        claimed.signers.insert(ValidatorIndex(5));
        assert_eq!(certificate_verdict(&mut checker, &claimed), Err(CertificateError::Signature));
        let mut renamed = certificate(Statement::Notarization(BLOCK), &[0, 1, 2, 3, 4, 5], &[]);
        renamed.statement = Statement::Notarization(BlockId { slot: Slot(8), ..BLOCK });
        assert_eq!(certificate_verdict(&mut checker, &renamed), Err(CertificateError::Signature));
    }

    #[test]
    fn wrong_signatures_that_cancel_out_pass_only_as_a_whole() {
        // Validators 0 and 1 swap their signatures: wrong each by itself, right in sum.
        let mut votes: Vec<_> = (0..6).map(|signer| vote(NOTAR, signer)).collect();
        (votes[0].signature, votes[1].signature) = (votes[1].signature, votes[0].signature);
        let mut checker = checker(10);
        let (verified, rejected) = check(&mut checker, votes.clone());
        assert_eq!((verified.len(), rejected.len()), (1, 0), "nobody can tell");
        let mut whole = certificate(Statement::Notarization(BLOCK), &[0, 1, 2, 3, 4, 5], &[]);
        whole.signature = verified[0].sum.to_bytes();
        assert_eq!(certificate_verdict(&mut checker, &whole), Ok(()));
        assert_eq!(check(&mut checker, votes[..1].to_vec()).1.len(), 1, "a part of it is wrong");
    }
}
