//! What votes and certificates are checked, and when. Checks themselves run elsewhere (see [`crate::checker`]).
//!
//! A vote is admitted before anything costly: its place in the Pool is taken, so no validator is twice in the batches
//! for one payload. Votes for a payload wait while a check for it runs, and grow into one batch. When a verifier is
//! free it gets the batch that would complete a threshold, else a certificate, else the batch of the lowest slot,
//! else a vote that may be evidence. A validator whose signature is wrong is barred for a while; the check tells
//! whose it is, so nobody else is.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use alpenglow_rotor::types::{Slot, Stake, Time, ValidatorIndex};

use crate::certificate::{Statement, UnverifiedCertificate};
use crate::checker::{CheckJob, CheckVerdict};
use crate::consensus::{Admission, Consensus};
use crate::input::JobId;
use crate::stakes::Stakes;
use crate::vote::{UnverifiedVote, VotePayload};

/// Certificates of one sender that may wait: some slots' worth, as a standstill makes peers send them.
const CERTIFICATES_PER_SENDER_MAX: usize = 64;
/// Certificates that may wait in all.
const CERTIFICATES_MAX: usize = 1_024;
/// Conflicting votes that may wait. One of each validator and slot is evidence enough, and none of it is urgent.
const CONFLICTS_MAX: usize = 256;
/// Shares of the stake at which votes of one kind change something (protocol.md §4, §5).
const THRESHOLDS_PERCENT: [u8; 4] = [20, 40, 60, 80];

/// How much is checked at a time.
#[derive(Clone, Copy, Debug)]
pub struct CheckingLimits {
    /// Most jobs handed out and not answered.
    pub jobs_max: usize,
    /// How long messages of a validator are dropped after a wrong signature of its.
    pub bar: Duration,
}

/// Why a vote or certificate was dropped unchecked. The names are stable, for counters.
pub(crate) type Dropped = &'static str;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum InFlight {
    Batch(VotePayload),
    Conflict,
    Certificate(Statement),
}

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Checking {
    limits: CheckingLimits,
    stakes: Arc<Stakes>,
    /// Votes by payload. Bounded by the Pool's places: a few for each validator and slot up to the horizon.
    batches: BTreeMap<VotePayload, Vec<UnverifiedVote>>,
    conflicts: VecDeque<UnverifiedVote>,
    certificates: BTreeMap<(Statement, ValidatorIndex), UnverifiedCertificate>,
    in_flight: BTreeMap<JobId, InFlight>,
    jobs: u64,
    /// Stake that is known to have voted so, for what is urgent. Pruned with the closed slots.
    passed: BTreeMap<VotePayload, Stake>,
    barred: BTreeMap<ValidatorIndex, Time>,
}

impl Checking {
    pub(crate) fn new(limits: CheckingLimits, stakes: Arc<Stakes>) -> Self {
        assert!(limits.jobs_max > 0);
        Self {
            limits,
            stakes,
            batches: BTreeMap::new(),
            conflicts: VecDeque::new(),
            certificates: BTreeMap::new(),
            in_flight: BTreeMap::new(),
            jobs: 0,
            passed: BTreeMap::new(),
            barred: BTreeMap::new(),
        }
    }

    /// Takes in a vote that is worth a check.
    pub(crate) fn vote(&mut self, now: Time, vote: UnverifiedVote, consensus: &mut Consensus) -> Result<(), Dropped> {
        if self.is_barred(now, vote.signer) {
            return Err("vote_barred");
        }
        match consensus.admit(&vote) {
            Admission::Check => {
                self.batches.entry(vote.payload).or_default().push(vote);
                Ok(())
            }
            Admission::Conflict if self.conflicts.len() < CONFLICTS_MAX => {
                self.conflicts.push_back(vote);
                Ok(())
            }
            Admission::Conflict | Admission::ConflictAgain => Err("vote_conflict"),
            Admission::Redundant => Err("vote_redundant"),
            Admission::Closed => Err("vote_closed"),
            Admission::Ahead => Err("vote_ahead"),
            Admission::Signer => Err("vote_signer"),
        }
    }

    /// Takes in a certificate that is worth a check.
    pub(crate) fn certificate(
        &mut self,
        now: Time,
        certificate: UnverifiedCertificate,
        sender: ValidatorIndex,
        consensus: &Consensus,
    ) -> Result<(), Dropped> {
        if sender.get() >= self.stakes.len() {
            return Err("certificate_sender");
        }
        if self.is_barred(now, sender) {
            return Err("certificate_barred");
        }
        if !consensus.wants(&certificate) {
            return Err("certificate_not_wanted");
        }
        let from_sender = self.certificates.keys().filter(|(_, other)| *other == sender).count();
        if self.certificates.len() >= CERTIFICATES_MAX || from_sender >= CERTIFICATES_PER_SENDER_MAX {
            return Err("certificate_too_many");
        }
        self.certificates.entry((certificate.0.statement, sender)).or_insert(certificate);
        Ok(())
    }

    /// Votes of a checked batch that the Pool wants checked once more, without the others of the batch.
    pub(crate) fn recheck(&mut self, votes: Vec<UnverifiedVote>) {
        for vote in votes {
            let batch = self.batches.entry(vote.payload).or_default();
            // Its place may have been given up with its slot's, and taken once more.
            if batch.iter().all(|waiting| waiting.signer != vote.signer) {
                batch.push(vote);
            }
        }
    }

    /// The own vote counts as passed.
    pub(crate) fn own_vote(&mut self, payload: VotePayload, own: ValidatorIndex) {
        *self.passed.entry(payload).or_default() += self.stakes.of(own);
    }

    /// Takes a verdict to consensus. Returns the validators barred by it, and a reason to count if it answers no job.
    pub(crate) fn verdict(
        &mut self,
        now: Time,
        id: JobId,
        verdict: CheckVerdict,
        consensus: &mut Consensus,
    ) -> Result<Vec<ValidatorIndex>, Dropped> {
        let job = self.in_flight.remove(&id).ok_or("verdict_without_job")?;
        let mut wrong = Vec::new();
        match verdict {
            CheckVerdict::Votes { verified, rejected } => {
                for votes in verified {
                    if let InFlight::Batch(payload) = job {
                        let stake = votes.signers().map(|signer| self.stakes.of(signer)).sum();
                        *self.passed.entry(payload).or_default() += stake;
                    }
                    consensus.votes(now, votes);
                }
                for vote in rejected {
                    // A vote that conflicts never took a place: giving one back would free that of the earlier vote.
                    if job != InFlight::Conflict {
                        consensus.vote_rejected(&vote);
                    }
                    wrong.push(vote.signer);
                }
            }
            CheckVerdict::Certificate { certificate, .. } => consensus.certificate(now, certificate),
            CheckVerdict::CertificateRejected { sender, .. } => wrong.push(sender),
        }
        for &validator in &wrong {
            self.bar(now, validator, consensus);
        }
        Ok(wrong)
    }

    /// The next job, if a verifier may take one more.
    pub(crate) fn next_job(&mut self, consensus: &Consensus) -> Option<(JobId, CheckJob)> {
        if self.in_flight.len() >= self.limits.jobs_max {
            return None;
        }
        let (what, job) = self
            .batch(|checking, payload, votes| checking.completes_threshold(payload, votes))
            .or_else(|| self.next_certificate(consensus))
            .or_else(|| self.batch(|_, _, _| true))
            .or_else(|| Some((InFlight::Conflict, CheckJob::Votes(vec![self.conflicts.pop_front()?]))))?;
        let id = JobId(self.jobs);
        self.jobs += 1;
        self.in_flight.insert(id, what);
        Some((id, job))
    }

    /// Forgets what waits for slots up to `slot`.
    pub(crate) fn close(&mut self, slot: Slot) {
        self.batches.retain(|payload, _| payload.slot() > slot);
        self.passed.retain(|payload, _| payload.slot() > slot);
        self.conflicts.retain(|vote| vote.payload.slot() > slot);
        self.certificates.retain(|(statement, _), _| statement.slot() > slot);
    }

    /// When the bar against `validator` ends.
    pub(crate) fn barred_until(&self, validator: ValidatorIndex) -> Option<Time> {
        self.barred.get(&validator).copied()
    }

    fn is_barred(&mut self, now: Time, validator: ValidatorIndex) -> bool {
        let Some(&until) = self.barred.get(&validator) else { return false };
        if now >= until {
            self.barred.remove(&validator);
        }
        now < until
    }

    fn bar(&mut self, now: Time, validator: ValidatorIndex, consensus: &mut Consensus) {
        self.barred.insert(validator, now.after(self.limits.bar));
        self.certificates.retain(|(_, sender), _| *sender != validator);
        self.conflicts.retain(|vote| vote.signer != validator);
        for votes in self.batches.values_mut() {
            for vote in votes.extract_if(.., |vote| vote.signer == validator) {
                consensus.vote_rejected(&vote);
            }
        }
        self.batches.retain(|_, votes| !votes.is_empty());
    }

    /// Takes out the batch of the lowest slot that `wanted` accepts and of which none is being checked.
    fn batch(
        &mut self,
        wanted: impl Fn(&Self, &VotePayload, &[UnverifiedVote]) -> bool,
    ) -> Option<(InFlight, CheckJob)> {
        let idle = |payload: &VotePayload| !self.in_flight.values().any(|job| *job == InFlight::Batch(*payload));
        let candidates = self.batches.iter().filter(|(payload, votes)| idle(payload) && wanted(self, payload, votes));
        let payload = *candidates.min_by_key(|(payload, _)| (payload.slot(), **payload))?.0;
        let votes = self.batches.remove(&payload)?;
        Some((InFlight::Batch(payload), CheckJob::Votes(votes)))
    }

    fn completes_threshold(&self, payload: &VotePayload, votes: &[UnverifiedVote]) -> bool {
        let before = self.passed.get(payload).copied().unwrap_or_default();
        let after = before + votes.iter().map(|vote| self.stakes.of(vote.signer)).sum();
        let total = self.stakes.total();
        THRESHOLDS_PERCENT
            .iter()
            .any(|&percent| !before.is_at_least(percent, total) && after.is_at_least(percent, total))
    }

    fn next_certificate(&mut self, consensus: &Consensus) -> Option<(InFlight, CheckJob)> {
        loop {
            let idle =
                |statement: Statement| !self.in_flight.values().any(|job| *job == InFlight::Certificate(statement));
            let &(statement, sender) = self.certificates.keys().find(|(statement, _)| idle(*statement))?;
            let certificate = self.certificates.remove(&(statement, sender))?;
            // What was stored since it came may imply it.
            if consensus.wants(&certificate) {
                return Some((InFlight::Certificate(statement), CheckJob::Certificate { certificate, sender }));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use alpenglow_rotor::types::{BlockId, ClusterId, Hash};

    use super::*;
    use crate::bls::{SecretKey, Signature, SignatureBytes, SignatureSum};
    use crate::certificate::{Certificate, Signers};
    use crate::checker::Checker;
    use crate::consensus::{ConsensusConfig, ConsensusEvent};
    use crate::vote::Vote;
    use crate::voting_keys::VotingKeys;

    const CLUSTER: ClusterId = ClusterId([6; 32]);
    const START: Time = Time(9_000_000_000);
    const BAR: Duration = Duration::from_secs(10);

    /// Node 0 of ten with equal stakes.
    struct Node {
        checking: Checking,
        consensus: Consensus,
        checker: Checker,
    }

    fn key(validator: u16) -> SecretKey {
        SecretKey::from_entropy(&[validator as u8 + 1; 32])
    }

    fn notar(slot: u64, hash: u8) -> VotePayload {
        VotePayload::Notar(BlockId { slot: Slot(slot), hash: Hash([hash; 32]) })
    }

    fn vote(payload: VotePayload, signer: u16) -> UnverifiedVote {
        let (vote, _) = Vote::sign(payload, CLUSTER, ValidatorIndex(signer), &key(signer));
        UnverifiedVote { payload, signer: vote.signer, signature: vote.signature }
    }

    /// A signature by the right key over something else: a point of the curve, and wrong.
    fn forged(payload: VotePayload, signer: u16) -> UnverifiedVote {
        UnverifiedVote { payload, ..vote(VotePayload::Final(Slot(999)), signer) }
    }

    fn certificate(statement: Statement, signers: std::ops::Range<u16>, genuine: bool) -> UnverifiedCertificate {
        let signature =
            |signer| if genuine { vote(statement.payload(), signer) } else { forged(statement.payload(), signer) };
        let signatures: Vec<_> =
            signers.clone().map(|signer| Signature::from_bytes(&signature(signer).signature).unwrap()).collect();
        UnverifiedCertificate(Certificate {
            statement,
            signers: Signers::of(10, signers.map(ValidatorIndex)),
            fallback_signers: Signers::none(10),
            signature: SignatureBytes(SignatureSum::of(&signatures).to_bytes().0),
        })
    }

    impl Node {
        fn new(jobs_max: usize) -> Self {
            let stakes = Arc::new(Stakes::new(vec![Stake(7); 10]));
            let keys: Vec<_> = (0..10).map(|v| (key(v).public_key().to_bytes(), key(v).prove_possession())).collect();
            let config = ConsensusConfig {
                own: ValidatorIndex(0),
                secret_key: key(0),
                stakes: stakes.clone(),
                cluster: CLUSTER,
                delta_block: Duration::from_millis(400),
                delta_timeout: Duration::from_millis(1_200),
            };
            Self {
                checking: Checking::new(CheckingLimits { jobs_max, bar: BAR }, stakes.clone()),
                consensus: Consensus::new(config, START),
                checker: Checker::new(CLUSTER, Arc::new(VotingKeys::new(&keys).unwrap()), stakes),
            }
        }

        fn vote(&mut self, now: Time, vote: UnverifiedVote) -> Result<(), Dropped> {
            self.checking.vote(now, vote, &mut self.consensus)
        }

        fn certificate(&mut self, certificate: UnverifiedCertificate, sender: u16) -> Result<(), Dropped> {
            self.checking.certificate(START, certificate, ValidatorIndex(sender), &self.consensus)
        }

        fn job(&mut self) -> Option<(JobId, CheckJob)> {
            self.checking.next_job(&self.consensus)
        }

        fn answer(&mut self, now: Time, (id, job): (JobId, CheckJob)) -> Vec<u16> {
            let verdict = self.checker.check(job);
            let barred = self.checking.verdict(now, id, verdict, &mut self.consensus).unwrap();
            barred.into_iter().map(|validator| validator.0).collect()
        }

        fn certificates(&mut self) -> Vec<Statement> {
            std::iter::from_fn(|| self.consensus.poll())
                .filter_map(|event| match event {
                    ConsensusEvent::Certificate(certificate) => Some(certificate.statement),
                    _ => None,
                })
                .collect()
        }
    }

    fn signers(job: &(JobId, CheckJob)) -> Vec<u16> {
        match &job.1 {
            CheckJob::Votes(votes) => votes.iter().map(|vote| vote.signer.0).collect(),
            CheckJob::Certificate { .. } => panic!("a certificate"),
        }
    }

    #[test]
    fn votes_wait_while_a_check_runs_and_grow_into_one_batch() {
        let mut node = Node::new(4);
        node.vote(START, vote(notar(1, 1), 1)).unwrap();
        let first = node.job().unwrap();
        for signer in 2..8 {
            node.vote(START, vote(notar(1, 1), signer)).unwrap();
            assert!(node.job().is_none(), "one batch of a payload at a time");
        }
        assert_eq!(node.vote(START, vote(notar(1, 1), 3)), Err("vote_redundant"), "nobody is in two batches");
        assert_eq!(node.answer(START, first), [0; 0]);
        let second = node.job().unwrap();
        assert_eq!(signers(&second), [2, 3, 4, 5, 6, 7]);
        node.answer(START, second);
        assert_eq!(node.certificates(), [Statement::Notarization(BlockId { slot: Slot(1), hash: Hash([1; 32]) })]);
    }

    #[test]
    fn the_batch_that_completes_a_threshold_goes_first() {
        let mut node = Node::new(1);
        node.vote(START, vote(notar(1, 1), 9)).unwrap();
        let running = node.job().unwrap();
        node.vote(START, vote(notar(2, 1), 8)).unwrap();
        (1..4).for_each(|signer| node.vote(START, vote(notar(3, 1), signer)).unwrap());
        node.certificate(certificate(Statement::Skip(Slot(5)), 1..7, true), 4).unwrap();
        assert!(node.job().is_none(), "jobs are bounded");
        node.answer(START, running);
        let urgent = node.job().unwrap();
        assert_eq!(signers(&urgent), [1, 2, 3]);
        node.answer(START, urgent);
        let certificate = node.job().unwrap();
        assert!(matches!(certificate.1, CheckJob::Certificate { .. }), "then certificates");
        node.answer(START, certificate);
        assert_eq!(signers(&node.job().unwrap()), [8]);
    }

    #[test]
    fn who_sends_a_wrong_signature_is_barred_for_a_while_and_nobody_else() {
        let mut node = Node::new(1);
        node.vote(START, vote(notar(1, 1), 1)).unwrap();
        let running = node.job().unwrap();
        node.vote(START, forged(notar(2, 1), 5)).unwrap();
        for signer in [2, 3, 4, 6] {
            node.vote(START, vote(notar(2, 1), signer)).unwrap();
        }
        node.vote(START, vote(VotePayload::Skip(Slot(3)), 5)).unwrap();
        node.answer(START, running);
        let batch = node.job().unwrap();
        assert_eq!(node.answer(START, batch), [5]);
        assert_eq!(node.vote(START, vote(VotePayload::Skip(Slot(4)), 5)), Err("vote_barred"));
        assert_eq!(node.certificate(certificate(Statement::Skip(Slot(5)), 1..7, true), 5), Err("certificate_barred"));
        assert!(node.job().is_none(), "what it had waiting is gone");
        for signer in [2, 3, 4, 6] {
            assert_eq!(node.vote(START, vote(VotePayload::Skip(Slot(4)), signer)), Ok(()), "the others go on");
        }
        let later = START.after(BAR);
        assert_eq!(node.vote(Time(later.0 - 1), vote(VotePayload::Skip(Slot(4)), 5)), Err("vote_barred"));
        assert_eq!(node.vote(later, vote(VotePayload::Skip(Slot(3)), 5)), Ok(()), "its place was given back");
    }

    #[test]
    fn a_forged_conflict_does_not_free_the_place_of_the_vote_before() {
        let mut node = Node::new(1);
        node.vote(START, vote(notar(1, 1), 5)).unwrap();
        let honest = node.job().unwrap();
        node.vote(START, forged(notar(1, 2), 5)).unwrap();
        node.answer(START, honest);
        let conflict = node.job().unwrap();
        assert_eq!(signers(&conflict), [5]);
        assert_eq!(node.answer(START, conflict), [5]);
        let later = START.after(BAR);
        assert_eq!(node.vote(later, vote(notar(1, 1), 5)), Err("vote_redundant"));
    }

    #[test]
    fn a_proven_conflict_is_evidence_and_no_reason_to_bar() {
        let mut node = Node::new(1);
        node.vote(START, vote(notar(1, 1), 5)).unwrap();
        let first = node.job().unwrap();
        node.vote(START, vote(VotePayload::Skip(Slot(1)), 5)).unwrap();
        node.answer(START, first);
        let conflict = node.job().unwrap();
        assert!(node.answer(START, conflict).is_empty());
        let evidence = std::iter::from_fn(|| node.consensus.poll())
            .filter(|event| matches!(event, ConsensusEvent::Evidence(evidence) if evidence.validator.0 == 5));
        assert_eq!(evidence.count(), 1);
        assert_eq!(node.vote(START, vote(VotePayload::Skip(Slot(2)), 5)), Ok(()));
    }

    #[test]
    fn defect_11_a_certificate_that_another_one_implies_is_dropped_unchecked() {
        let mut node = Node::new(2);
        let block = BlockId { slot: Slot(1), hash: Hash([1; 32]) };
        let fast = Statement::Fast(block);
        node.certificate(certificate(fast, 0..8, true), 1).unwrap();
        let checked = node.job().unwrap();
        node.certificate(certificate(fast, 1..9, true), 2).unwrap();
        node.certificate(certificate(Statement::Notarization(block), 1..8, true), 2).unwrap();
        let weaker = node.job().unwrap();
        assert!(node.job().is_none());
        node.answer(START, checked);
        assert_eq!(node.certificates(), [fast]);
        node.answer(START, weaker);
        assert!(node.job().is_none() && node.certificates().is_empty());
        let late = certificate(Statement::Notarization(block), 1..8, true);
        assert_eq!(node.certificate(late, 3), Err("certificate_not_wanted"));
    }

    #[test]
    fn a_flood_of_false_certificates_costs_one_check() {
        let mut node = Node::new(1);
        let mut taken = 0;
        for number in 1..=1_000_u16 {
            let block = BlockId { slot: Slot(1), hash: Hash([(number % 251) as u8 + 1; 32]) };
            let mut false_certificate = certificate(Statement::Fast(block), 0..1, false);
            false_certificate.0.signers = Signers::of(10, (0..9).map(ValidatorIndex));
            taken += usize::from(node.certificate(false_certificate, 4).is_ok());
            assert!(node.checking.certificates.len() <= CERTIFICATES_PER_SENDER_MAX);
        }
        assert!(taken >= CERTIFICATES_PER_SENDER_MAX);
        let genuine = Statement::Skip(Slot(1));
        node.certificate(certificate(genuine, 1..8, true), 6).unwrap();
        let job = node.job().unwrap();
        assert_eq!(node.answer(START, job), [4]);
        let job = node.job().unwrap();
        assert!(node.answer(START, job).is_empty());
        assert_eq!(node.certificates(), [genuine]);
        assert!(node.job().is_none());
    }

    #[test]
    fn a_vote_to_be_checked_again_is_not_twice_in_a_batch() {
        let mut node = Node::new(1);
        node.vote(START, vote(notar(1, 1), 1)).unwrap();
        node.checking.recheck(vec![vote(notar(1, 1), 1), vote(notar(1, 1), 2)]);
        let job = node.job().unwrap();
        assert!(node.answer(START, job).is_empty(), "a verifier panics at a signer that is twice in a batch");
    }

    #[test]
    fn a_verdict_that_nobody_asked_for_changes_nothing() {
        let mut node = Node::new(1);
        let verdict = CheckVerdict::Votes { verified: Vec::new(), rejected: vec![vote(notar(1, 1), 3)] };
        let answered = node.checking.verdict(START, JobId(77), verdict, &mut node.consensus);
        assert_eq!(answered, Err("verdict_without_job"));
        assert_eq!(node.vote(START, vote(notar(1, 1), 3)), Ok(()), "nobody is barred");
    }
}
