//! What votes and certificates are checked, and when. Checks themselves run elsewhere (see [`crate::checker`]).
//!
//! A vote is admitted before anything costly: its place in the Pool is taken, so no validator is twice in the batches for
//! one payload. Votes for a payload wait while a check for it runs, and grow into one batch. When a verifier is free it gets
//! the batch that would complete a threshold, else a certificate, else the batch of the lowest slot, else a vote that may
//! be evidence. A validator whose signature is wrong is barred for a while; the check tells whose it is, so nobody
//! else is.

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
            self.batches.entry(vote.payload).or_default().push(vote);
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
