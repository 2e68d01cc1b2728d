//! Checking signatures: pure computation, run on verifier threads away from the control loop.
//!
//! Votes come in batches for one payload and are checked as one sum (design: a few µs a vote instead of 1.5 ms). A batch that
//! passes stays whole for ever; one that fails is halved until the wrong votes are found.

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
        if bls::verify(hashed, &keys, &sum) {
            verified.push(VerifiedVotes {
                payload,
                votes: range.iter().map(|candidate| candidate.vote).collect(),
                sum,
            });
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
