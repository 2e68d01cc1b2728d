//! Checking signatures: pure computation, run on verifier threads away from the control loop.
//!
//! Votes come in batches for one payload and are checked as one sum (design: a few µs a vote instead of 1.5 ms). A
//! batch that passes stays whole for ever; one that fails is halved until the wrong votes are found.

use std::sync::Arc;

use alpenglow_rotor::types::{ClusterId, ValidatorIndex};

use crate::bls::{self, HashedPayload, PublicKeySum, Signature, SignatureSum};
use crate::certificate::{Certificate, CertificateError, Signers, UnverifiedCertificate, VerifiedCertificate};
use crate::payload_hash::PayloadHash;
use crate::stakes::Stakes;
use crate::vote::{UnverifiedVote, VerifiedVotes};
use crate::voting_keys::VotingKeys;

/// What a verifier is asked. The hashes are shared with whoever signs or checks the same payload.
#[derive(Clone, Debug)]
pub enum CheckJob {
    /// Votes for one payload, checked as one sum.
    Votes {
        /// At least one.
        votes: Vec<UnverifiedVote>,
        /// Of their payload.
        hash: PayloadHash,
    },
    /// Two votes of one validator that exclude each other, checked one by one.
    Conflict {
        /// In the order in which they came.
        votes: [UnverifiedVote; 2],
        /// Of their payloads.
        hashes: [PayloadHash; 2],
    },
    /// A certificate that the Pool wants.
    Certificate {
        /// The certificate.
        certificate: UnverifiedCertificate,
        /// Who sent it.
        sender: ValidatorIndex,
        /// Of [`crate::certificate::Statement::payload`].
        hash: PayloadHash,
        /// Of [`crate::certificate::Statement::fallback_payload`], where there is one.
        fallback_hash: Option<PayloadHash>,
    },
}

impl CheckJob {
    /// A job whose hash nobody shares.
    ///
    /// # Panics
    /// If there are no votes.
    #[must_use]
    pub fn votes(votes: Vec<UnverifiedVote>) -> Self {
        let hash = PayloadHash::new(votes.first().expect("at least one vote").payload);
        Self::Votes { votes, hash }
    }

    /// The verdict as if every signature were right and every certificate had its quorum: for tests and simulators
    /// whose senders sign what they send.
    ///
    /// # Panics
    /// See [`VerifiedVotes::assume_checked`].
    #[must_use]
    pub fn assume_checked(self) -> CheckVerdict {
        match self {
            Self::Votes { votes, .. } => {
                CheckVerdict::Votes { verified: vec![VerifiedVotes::assume_checked(votes)], rejected: Vec::new() }
            }
            Self::Conflict { votes, .. } => {
                let verified = votes.map(|vote| VerifiedVotes::assume_checked(vec![vote])).into();
                CheckVerdict::Votes { verified, rejected: Vec::new() }
            }
            Self::Certificate { certificate, sender, .. } => {
                CheckVerdict::Certificate { certificate: VerifiedCertificate::assume_checked(certificate.0), sender }
            }
        }
    }

    /// A job whose hashes nobody shares.
    #[must_use]
    pub fn certificate(certificate: UnverifiedCertificate, sender: ValidatorIndex) -> Self {
        let hash = PayloadHash::new(certificate.0.statement.payload());
        let fallback_hash = certificate.0.statement.fallback_payload().map(PayloadHash::new);
        Self::Certificate { certificate, sender, hash, fallback_hash }
    }
}

/// What a verifier answers.
#[derive(Clone, Debug)]
pub enum CheckVerdict {
    /// The answer to [`CheckJob::Votes`] and [`CheckJob::Conflict`].
    Votes {
        /// Those that passed, in batches that must stay whole: one batch if nothing was wrong; votes that exclude each
        /// other by themselves.
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

/// A verifier and the keys it checks against.
pub struct Checker {
    cluster: ClusterId,
    keys: Arc<VotingKeys>,
    stakes: Arc<Stakes>,
    pairing_checks: u64,
}

/// A vote whose signature is a point of the curve.
struct Candidate {
    vote: UnverifiedVote,
    signature: Signature,
}

/// What is added up of a range of a batch.
#[derive(Clone, Copy)]
struct Sums {
    signatures: SignatureSum,
    keys: PublicKeySum,
}

impl Sums {
    fn minus(&self, part: &Self) -> Self {
        Self { signatures: self.signatures.minus(&part.signatures), keys: self.keys.minus(&part.keys) }
    }

    fn is_infinity(&self) -> bool {
        self.signatures.is_infinity() || self.keys.is_infinity()
    }
}

/// What was found in batches so far.
#[derive(Default)]
struct Findings {
    verified: Vec<VerifiedVotes>,
    rejected: Vec<UnverifiedVote>,
}

impl From<Findings> for CheckVerdict {
    fn from(Findings { verified, rejected }: Findings) -> Self {
        Self::Votes { verified, rejected }
    }
}

impl Checker {
    /// A verifier for one validator set.
    ///
    /// # Panics
    /// If keys and stakes are not as many.
    #[must_use]
    pub fn new(cluster: ClusterId, keys: Arc<VotingKeys>, stakes: Arc<Stakes>) -> Self {
        assert!(keys.len() == stakes.len());
        Self { cluster, keys, stakes, pairing_checks: 0 }
    }

    /// Pairing checks made so far, which is what nearly all the time goes to.
    #[must_use]
    pub const fn pairing_checks(&self) -> u64 {
        self.pairing_checks
    }

    /// Does a job.
    ///
    /// # Panics
    /// If the votes of a batch differ in their payload or hold a signer twice, or a hash is of another payload: jobs
    /// are made by this node.
    pub fn check(&mut self, job: CheckJob) -> CheckVerdict {
        match job {
            CheckJob::Votes { votes, hash } => {
                let mut findings = Findings::default();
                self.check_votes(votes, &hash, &mut findings);
                findings.into()
            }
            CheckJob::Conflict { votes, hashes } => {
                let mut findings = Findings::default();
                for (vote, hash) in votes.into_iter().zip(&hashes) {
                    self.check_votes(vec![vote], hash, &mut findings);
                }
                findings.into()
            }
            CheckJob::Certificate { certificate, sender, hash, fallback_hash } => {
                match self.check_certificate(&certificate.0, &hash, fallback_hash.as_ref()) {
                    Ok(()) => CheckVerdict::Certificate { certificate: VerifiedCertificate(certificate.0), sender },
                    Err(reason) => CheckVerdict::CertificateRejected { reason, sender },
                }
            }
        }
    }

    fn check_votes(&mut self, votes: Vec<UnverifiedVote>, hash: &PayloadHash, findings: &mut Findings) {
        let mut candidates = Vec::with_capacity(votes.len());
        for vote in votes {
            assert!(vote.payload == hash.payload(), "a batch is for one payload");
            match self.keys.scheme().signature(&vote.signature) {
                Ok(signature) if self.keys.get(vote.signer).is_some() => candidates.push(Candidate { vote, signature }),
                _ => findings.rejected.push(vote),
            }
        }
        if !candidates.is_empty() {
            candidates.sort_by_key(|candidate| candidate.vote.signer);
            let twice = candidates.windows(2).any(|pair| pair[0].vote.signer == pair[1].vote.signer);
            assert!(!twice, "a validator enters a batch once");
            let sums = self.sums(&candidates);
            self.check_range(hash.point(self.cluster, self.keys.scheme()), &candidates, sums, false, findings);
        }
    }

    fn sums(&self, range: &[Candidate]) -> Sums {
        let signatures: Vec<Signature> = range.iter().map(|candidate| candidate.signature).collect();
        let signers = Signers::of(self.keys.len(), range.iter().map(|candidate| candidate.vote.signer));
        Sums { signatures: SignatureSum::of(&signatures), keys: self.keys.sum_of(&signers) }
    }

    /// Checks a range of a batch as a sum, its halves if that fails, and says whether all of it passed at once. A range
    /// that `is_wrong` for certain is halved unchecked. So k wrong votes among m take at most 1 + 2k⌈log2 m⌉ pairing
    /// checks. The depth is that of halving 2,000.
    fn check_range(
        &mut self,
        hashed: &HashedPayload,
        range: &[Candidate],
        sums: Sums,
        is_wrong: bool,
        findings: &mut Findings,
    ) -> bool {
        if !is_wrong
            && let Some(sum) = sums.signatures.point()
            && self.verify(&[(hashed, &sums.keys)], &sums.signatures)
        {
            let votes: Vec<_> = range.iter().map(|candidate| candidate.vote).collect();
            findings.verified.push(VerifiedVotes { payload: votes[0].payload, votes, sum });
            return true;
        }
        if let [candidate] = range {
            findings.rejected.push(candidate.vote);
            return false;
        }
        let (left, right) = range.split_at(range.len() / 2);
        let left_sums = self.sums(left);
        let left_passed = self.check_range(hashed, left, left_sums, false, findings);
        // If the whole fails and the left half passes, the right half must fail; unless the whole was only refused
        // because keys or signatures cancel out, which colluding validators can arrange.
        let right_is_wrong = left_passed && !sums.is_infinity();
        self.check_range(hashed, right, sums.minus(&left_sums), right_is_wrong, findings);
        false
    }

    fn verify(&mut self, terms: &[(&HashedPayload, &PublicKeySum)], signatures: &SignatureSum) -> bool {
        self.pairing_checks += 1;
        bls::verify_terms(terms, signatures)
    }

    /// Checks bitmaps, then stake, then the signature: the cheap reasons to refuse come first.
    fn check_certificate(
        &mut self,
        certificate: &Certificate,
        hash: &PayloadHash,
        fallback_hash: Option<&PayloadHash>,
    ) -> Result<(), CertificateError> {
        certificate.check_quorum(&self.stakes)?;
        assert!(certificate.statement.payload() == hash.payload(), "a hash of another payload");
        assert!(certificate.statement.fallback_payload() == fallback_hash.map(PayloadHash::payload));
        let scheme = self.keys.scheme();
        let signature = scheme.signature(&certificate.signature).map_err(|_| CertificateError::Signature)?;
        let lists = [(Some(hash), &certificate.signers), (fallback_hash, &certificate.fallback_signers)];
        let signed = lists.into_iter().filter(|(_, signers)| !signers.is_empty());
        let keys: Vec<_> = signed.filter_map(|(hash, signers)| Some((hash?, self.keys.sum_of(signers)))).collect();
        let terms: Vec<_> = keys.iter().map(|(hash, keys)| (hash.point(self.cluster, scheme), keys)).collect();
        if self.verify(&terms, &SignatureSum::from(signature)) { Ok(()) } else { Err(CertificateError::Signature) }
    }
}

#[cfg(test)]
mod tests {
    use alpenglow_rotor::types::{BlockId, Hash, Slot, Stake};

    use super::*;
    use crate::bls::tests::keys_that_cancel_out;
    use crate::bls::{SecretKey, SignatureBytes};
    use crate::certificate::Statement;
    use crate::vote::VotePayload;

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
        match checker.check(CheckJob::votes(votes)) {
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
    fn bisection_takes_two_checks_at_most_for_each_wrong_vote_and_level() {
        let mut checker = checker(64);
        for bad in [vec![], vec![0], vec![63], vec![31, 32], vec![5, 6, 7], vec![1, 17, 40, 62]] {
            let votes =
                (0..64).map(|signer| if bad.contains(&signer) { wrong(NOTAR, signer) } else { vote(NOTAR, signer) });
            let before = checker.pairing_checks();
            let (_, rejected) = check(&mut checker, votes.collect());
            let checks = checker.pairing_checks() - before;
            assert_eq!(rejected.len(), bad.len());
            assert!(checks <= 1 + 2 * 6 * bad.len() as u64, "{checks} for {bad:?}");
        }
        let last = (0..64).map(|signer| if signer == 63 { wrong(NOTAR, signer) } else { vote(NOTAR, signer) });
        let before = checker.pairing_checks();
        check(&mut checker, last.collect());
        assert_eq!(checker.pairing_checks() - before, 1 + 6, "what must be wrong is not checked");
    }

    #[test]
    fn defect_24_keys_that_cancel_out_reject_nobody() {
        let keys = keys_that_cancel_out();
        let entries = keys.each_ref().map(|key| (key.public_key().to_bytes(), key.prove_possession()));
        let stakes = Arc::new(Stakes::new(vec![Stake(1); 3]));
        let mut checker = Checker::new(CLUSTER, Arc::new(VotingKeys::new(&entries).unwrap()), stakes);
        let hashed = NOTAR.hashed(CLUSTER);
        let votes = keys.iter().zip(0..).map(|(key, signer)| UnverifiedVote {
            payload: NOTAR,
            signer: ValidatorIndex(signer),
            signature: key.sign(&hashed).to_bytes(),
        });
        let (verified, rejected) = check(&mut checker, votes.collect());
        assert_eq!((signers(&verified), rejected.len()), (vec![0, 1, 2], 0));
    }

    #[test]
    fn of_two_votes_that_exclude_each_other_each_is_checked_by_itself() {
        let mut checker = checker(4);
        let skip = VotePayload::Skip(BLOCK.slot);
        for hold in [[true, true], [true, false], [false, true], [false, false]] {
            let make = |payload, holds| if holds { vote(payload, 1) } else { wrong(payload, 1) };
            let votes = [make(NOTAR, hold[0]), make(skip, hold[1])];
            let hashes = [NOTAR, skip].map(PayloadHash::new);
            let CheckVerdict::Votes { verified, rejected } = checker.check(CheckJob::Conflict { votes, hashes }) else {
                panic!("votes were asked for")
            };
            assert!(verified.iter().all(|batch| batch.signers().count() == 1));
            for (vote, holds) in votes.iter().zip(hold) {
                assert_eq!(verified.iter().any(|batch| batch.payload() == vote.payload), holds);
                assert_eq!(rejected.contains(vote), !holds);
            }
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
    fn defect_26_a_wrong_vote_does_not_poison_later_checks() {
        let mut checker = checker(4);
        assert_eq!(check(&mut checker, vec![wrong(NOTAR, 0)]).1.len(), 1);
        let (verified, rejected) = check(&mut checker, (0..4).map(|signer| vote(NOTAR, signer)).collect());
        assert_eq!((verified.len(), rejected.len()), (1, 0));
        let mixed = (0..4).map(|signer| if signer == 1 { wrong(NOTAR, 1) } else { vote(NOTAR, signer) });
        let (verified, rejected) = check(&mut checker, mixed.collect());
        assert_eq!((signers(&verified), rejected.len()), (vec![0, 2, 3], 1));
        for batch in verified {
            let signatures = batch.votes.iter().map(|vote| Signature::from_bytes(&vote.signature).unwrap());
            assert_eq!(batch.sum.to_bytes(), SignatureSum::of(&signatures.collect::<Vec<_>>()).to_bytes());
        }
    }

    #[test]
    fn defect_27_votes_of_another_cluster_slot_kind_or_hash_are_rejected() {
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
        match checker.check(CheckJob::certificate(certificate, ValidatorIndex(1))) {
            CheckVerdict::Certificate { .. } => Ok(()),
            CheckVerdict::CertificateRejected { reason, .. } => Err(reason),
            other => panic!("{other:?}"),
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
    fn defect_10_a_certificate_is_refused_for_its_bitmap_then_its_stake_then_its_signature() {
        let mut checker = checker(10);
        let five = certificate(Statement::Notarization(BLOCK), &[0, 1, 2, 3, 4], &[]);
        let mut stray = five.clone();
        stray.fallback_signers.insert(ValidatorIndex(1));
        assert_eq!(certificate_verdict(&mut checker, &stray), Err(CertificateError::Bitmap));
        let below = Err(CertificateError::Stake { signed: 5, total: 10 });
        assert_eq!(certificate_verdict(&mut checker, &five), below);
        assert_eq!(checker.pairing_checks(), 0, "what is costly comes last");
        let mut claimed = five;
        claimed.signers.insert(ValidatorIndex(5));
        assert_eq!(certificate_verdict(&mut checker, &claimed), Err(CertificateError::Signature));
        let mut renamed = certificate(Statement::Notarization(BLOCK), &[0, 1, 2, 3, 4, 5], &[]);
        renamed.statement = Statement::Notarization(BlockId { slot: Slot(8), ..BLOCK });
        assert_eq!(certificate_verdict(&mut checker, &renamed), Err(CertificateError::Signature));
    }

    #[test]
    fn defect_23_wrong_signatures_that_cancel_out_pass_only_as_a_whole() {
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
