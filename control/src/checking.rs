//! What votes and certificates are checked, and when. Checks themselves run elsewhere (see [`crate::checker`]).
//!
//! A vote is admitted before anything costly: its place in the Pool is taken, so no validator is twice in the batches
//! for one payload. Then it waits, and the votes for one payload grow into a batch. What a free verifier gets, first
//! come first:
//! 1. a batch that can decide something: with it a certificate would be complete that is news, if all that was handed
//!    out before is right too;
//! 2. a certificate, unless a batch under way is expected to prove the same;
//! 3. a batch that cannot decide anything yet but is worth a check: it is large, so that adding it up would take long
//!    when it matters; or its slot is disputed, see below; or it has waited for [`CheckingLimits::patience`];
//! 4. two votes that exclude each other, checked one by one, and evidence if both hold.
//!
//! All other batches wait. Usually their slot is decided before long, and they are never checked at all: most checks of
//! a small cluster are saved so. Nothing depends on them, because below the thresholds of certificates votes have an
//! effect in one case only: this node has voted, and at least 20% of the stake otherwise, so that something may become
//! safe to notarize or to skip (paper §2.5). Such a slot is disputed, and all its votes are checked at once, those
//! first that reach a share at which something happens. A certificate that needs votes for two payloads together counts
//! both.
//!
//! A validator whose signature is wrong is barred for a while; the check tells whose it is, so nobody else is.

mod ballots;
mod certificates;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use alpenglow_rotor::types::{Slot, Stake, Time, ValidatorIndex};

use self::ballots::{SlotBallots, companion};
use self::certificates::WaitingCertificates;
use crate::certificate::{Statement, UnverifiedCertificate};
use crate::checker::{CheckJob, CheckVerdict};
use crate::consensus::{Admission, Consensus};
use crate::input::JobId;
use crate::stakes::Stakes;
use crate::vote::{UnverifiedVote, VerifiedVotes, VotePayload};

/// Conflicting votes that may wait, one of each validator and slot. None of it is urgent.
const CONFLICTS_MAX: usize = 256;
/// Adding up so many signatures and keys takes a fifth of a pairing check. More are not left for the moment when they
/// decide something.
const LARGE_BATCH: usize = 128;

/// How much is checked at a time.
#[derive(Clone, Copy, Debug)]
pub struct CheckingLimits {
    /// Most jobs handed out and not answered.
    pub jobs_max: usize,
    /// How long messages of a validator are dropped after a wrong signature of its.
    pub bar: Duration,
    /// How long votes wait that can decide nothing.
    pub patience: Duration,
}

/// Why a vote or certificate was dropped unchecked. The names are stable, for counters.
pub(crate) type Dropped = &'static str;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum InFlight {
    Batch {
        payload: VotePayload,
        stake: Stake,
    },
    /// Two votes of one validator.
    Conflict {
        first: VotePayload,
        /// Whether the first one was taken out of those that wait. Otherwise its batch has passed.
        first_waited: bool,
    },
    Certificate(Statement),
}

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Checking {
    limits: CheckingLimits,
    stakes: Arc<Stakes>,
    /// Bounded by the Pool's places: a few votes for each validator and slot, of as many slots as the Pool keeps votes
    /// of.
    slots: BTreeMap<Slot, SlotBallots>,
    /// Batches that can decide something.
    urgent: BTreeSet<(Slot, VotePayload)>,
    /// Other batches that are worth a check.
    due: BTreeSet<(Slot, VotePayload)>,
    /// When batches began to wait, in that order; some are gone.
    began: VecDeque<(Time, VotePayload)>,
    conflicts: BTreeMap<(Slot, ValidatorIndex), UnverifiedVote>,
    certificates: WaitingCertificates,
    in_flight: BTreeMap<JobId, InFlight>,
    jobs: u64,
    barred: BTreeMap<ValidatorIndex, Time>,
    /// Two votes that exclude each other, both checked by themselves: what the latest verdict proved, if it did.
    proven: Option<[UnverifiedVote; 2]>,
}

impl Checking {
    pub(crate) fn new(limits: CheckingLimits, stakes: Arc<Stakes>) -> Self {
        assert!(limits.jobs_max > 0);
        Self {
            limits,
            stakes,
            slots: BTreeMap::new(),
            urgent: BTreeSet::new(),
            due: BTreeSet::new(),
            began: VecDeque::new(),
            conflicts: BTreeMap::new(),
            certificates: WaitingCertificates::default(),
            in_flight: BTreeMap::new(),
            jobs: 0,
            barred: BTreeMap::new(),
            proven: None,
        }
    }

    /// Takes in a vote that is worth a check.
    pub(crate) fn vote(&mut self, now: Time, vote: UnverifiedVote, consensus: &mut Consensus) -> Result<(), Dropped> {
        if self.is_barred(now, vote.signer) {
            return Err("vote_barred");
        }
        match consensus.admit(&vote) {
            Admission::Check => {
                let stake = self.stakes.at(vote.payload.slot()).of(vote.signer);
                self.slot(vote.payload.slot(), consensus).appeared(&vote.payload, stake);
                self.wait(now, &vote, consensus);
                Ok(())
            }
            Admission::Conflict if self.conflicts.len() < CONFLICTS_MAX => {
                self.conflicts.entry((vote.payload.slot(), vote.signer)).or_insert(vote);
                Ok(())
            }
            Admission::Conflict | Admission::ConflictAgain => Err("vote_conflict"),
            Admission::Redundant => Err("vote_redundant"),
            Admission::Closed => Err("vote_closed"),
            Admission::Ahead => Err("vote_ahead"),
            Admission::Signer => Err("vote_signer"),
            Admission::NotMember => Err("vote_not_member"),
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
        if !consensus.is_news(&certificate.0.statement) {
            return Err("certificate_not_wanted");
        }
        certificate.0.check_quorum(&self.stakes).map_err(|error| error.name())?;
        self.certificates.insert(certificate, sender)
    }

    /// Votes of a checked batch that the Pool wants checked once more, without the others of the batch.
    pub(crate) fn recheck(&mut self, now: Time, votes: &[UnverifiedVote], consensus: &Consensus) {
        for vote in votes {
            let stake = self.stakes.at(vote.payload.slot()).of(vote.signer);
            let slot = self.slot(vote.payload.slot(), consensus);
            match slot.of(vote.payload).find(vote.signer) {
                // Its place may have been given up with its slot's, and taken once more.
                Some((_, true)) => continue,
                Some((_, false)) => {
                    slot.of(vote.payload).remove(vote.signer, stake);
                    slot.of(vote.payload).unpass(stake);
                }
                None => slot.appeared(&vote.payload, stake),
            }
            self.wait(now, vote, consensus);
        }
    }

    /// The own vote counts as passed, and from the first one of a slot on it matters what others vote instead.
    pub(crate) fn own_vote(&mut self, payload: VotePayload, own: ValidatorIndex, consensus: &Consensus) {
        if payload.slot() > consensus.highest_finalized().slot {
            let stake = self.stakes.at(payload.slot()).of(own);
            self.slot(payload.slot(), consensus).own_vote(payload, stake);
            self.reconsider(payload, consensus);
        }
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
        match (verdict, job) {
            (CheckVerdict::Votes { verified, rejected }, InFlight::Conflict { first, first_waited }) => {
                wrong.extend(rejected.iter().map(|vote| vote.signer));
                self.conflict_checked(now, first, first_waited, verified, &rejected, consensus);
            }
            (CheckVerdict::Votes { verified, rejected }, job) => {
                wrong.extend(rejected.iter().map(|vote| vote.signer));
                self.batch_checked(now, job, verified, &rejected, consensus);
            }
            (CheckVerdict::Certificate { certificate, .. }, _) => consensus.certificate(now, certificate),
            (CheckVerdict::CertificateRejected { sender, .. }, _) => wrong.push(sender),
        }
        for &validator in &wrong {
            self.bar(now, validator);
        }
        Ok(wrong)
    }

    /// What the latest verdict proved: two votes of one validator that exclude each other, the first to come first.
    pub(crate) const fn take_proven(&mut self) -> Option<[UnverifiedVote; 2]> {
        self.proven.take()
    }

    /// The next job, if a verifier may take one more.
    pub(crate) fn next_job(&mut self, now: Time, consensus: &mut Consensus) -> Option<(JobId, CheckJob)> {
        self.expire(now, consensus);
        if self.in_flight.len() >= self.limits.jobs_max {
            return None;
        }
        let (what, job) = self
            .next_urgent(now, consensus)
            .or_else(|| self.next_certificate(consensus))
            .or_else(|| self.next_due(now, consensus))
            .or_else(|| self.next_conflict(now, consensus))?;
        let id = JobId(self.jobs);
        self.jobs += 1;
        self.in_flight.insert(id, what);
        Some((id, job))
    }

    /// When [`Checking::next_job`] has something to do, if nothing happens before.
    pub(crate) fn next_timeout(&self) -> Option<Time> {
        self.began.front().map(|(since, _)| since.after(self.limits.patience))
    }

    /// Forgets what waits for slots up to `slot`.
    pub(crate) fn close(&mut self, slot: Slot) {
        let open = slot.next();
        self.slots = self.slots.split_off(&open);
        self.urgent.retain(|(slot, _)| *slot >= open);
        self.due.retain(|(slot, _)| *slot >= open);
        self.conflicts.retain(|(slot, _), _| *slot >= open);
        self.certificates.close(open);
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

    /// Votes of a barred validator that wait stay where they are until their batch is handed out.
    fn bar(&mut self, now: Time, validator: ValidatorIndex) {
        self.barred.insert(validator, now.after(self.limits.bar));
        self.certificates.forget(validator);
        self.conflicts.retain(|(_, signer), _| *signer != validator);
    }

    /// What is known of an open slot's votes. The Pool keeps votes of a bounded number of slots, the highest ones, and
    /// so does this.
    fn slot(&mut self, slot: Slot, consensus: &Consensus) -> &mut SlotBallots {
        if !self.slots.contains_key(&slot) && self.slots.len() >= consensus.vote_slots_max() {
            self.slots.pop_first();
        }
        self.slots.entry(slot).or_default()
    }

    fn wait(&mut self, now: Time, vote: &UnverifiedVote, consensus: &Consensus) {
        let stake = self.stakes.at(vote.payload.slot()).of(vote.signer);
        if self.slot(vote.payload.slot(), consensus).of(vote.payload).push(now, vote, stake) {
            self.began.push_back((now, vote.payload));
        }
        self.reconsider(vote.payload, consensus);
    }

    /// Something about votes for `payload` has changed.
    fn reconsider(&mut self, payload: VotePayload, consensus: &Consensus) {
        let Some(slot) = self.slots.get_mut(&payload.slot()) else { return };
        if slot.becomes_disputed(self.stakes.at(payload.slot()).total()) {
            slot.payloads().iter().for_each(|payload| self.rank(payload, consensus));
        } else {
            self.rank(&payload, consensus);
            companion(&payload).iter().for_each(|payload| self.rank(payload, consensus));
        }
    }

    /// Finds out whether the batch that waits for a payload is to be checked, and how soon.
    fn rank(&mut self, payload: &VotePayload, consensus: &Consensus) {
        let key = (payload.slot(), *payload);
        let (mut urgent, mut due) = (false, false);
        if let Some(slot) = self.slots.get(&key.0)
            && let Some(ballots) = slot.get(payload).filter(|ballots| ballots.waiting() > 0)
        {
            urgent = slot.can_decide(payload, self.stakes.at(key.0), |statement| consensus.is_news(statement));
            due = !urgent && (ballots.overdue || ballots.waiting() >= LARGE_BATCH || slot.is_disputed());
        }
        for (set, belongs) in [(&mut self.urgent, urgent), (&mut self.due, due)] {
            if belongs {
                set.insert(key);
            } else {
                set.remove(&key);
            }
        }
    }

    /// Batches that have waited long enough are due.
    fn expire(&mut self, now: Time, consensus: &Consensus) {
        while let Some(&(since, payload)) = self.began.front() {
            let ballots = self.slots.get_mut(&payload.slot()).and_then(|slot| slot.get_mut(&payload));
            let waits = ballots.filter(|ballots| ballots.since == since && ballots.waiting() > 0);
            if waits.is_some() && now < since.after(self.limits.patience) {
                break;
            }
            self.began.pop_front();
            if let Some(ballots) = waits {
                ballots.overdue = true;
                self.rank(&payload, consensus);
            }
        }
    }

    fn next_urgent(&mut self, now: Time, consensus: &mut Consensus) -> Option<(InFlight, CheckJob)> {
        while let Some(&(_, payload)) = self.urgent.first() {
            // A certificate that came since may have decided it.
            self.rank(&payload, consensus);
            if self.urgent.contains(&(payload.slot(), payload))
                && let Some(job) = self.hand_out(now, payload, consensus)
            {
                return Some(job);
            }
        }
        None
    }

    fn next_due(&mut self, now: Time, consensus: &mut Consensus) -> Option<(InFlight, CheckJob)> {
        loop {
            let idle = |payload: &VotePayload| {
                let ballots = self.slots.get(&payload.slot()).and_then(|slot| slot.get(payload));
                ballots.is_none_or(|ballots| ballots.checks == 0)
            };
            let payload = self.due.iter().find(|(_, payload)| idle(payload))?.1;
            self.due.remove(&(payload.slot(), payload));
            if let Some(job) = self.hand_out(now, payload, consensus) {
                return Some(job);
            }
        }
    }

    /// Makes a job of all that waits for a payload, less what barred validators have sent.
    fn hand_out(&mut self, now: Time, payload: VotePayload, consensus: &mut Consensus) -> Option<(InFlight, CheckJob)> {
        let slot = self.slots.get_mut(&payload.slot())?;
        let is_barred = |signer: &ValidatorIndex| self.barred.get(signer).is_some_and(|until| now < *until);
        let barred: Vec<_> = slot.get(&payload)?.waiting_signers().filter(is_barred).collect();
        for signer in barred {
            let stake = self.stakes.at(payload.slot()).of(signer);
            if let Some((signature, _)) = slot.of(payload).remove(signer, stake) {
                slot.vanished(&payload, stake);
                consensus.vote_rejected(&UnverifiedVote { payload, signer, signature });
            }
        }
        let ballots = slot.get_mut(&payload).filter(|ballots| ballots.waiting() > 0);
        let handed_out = ballots.map(|ballots| ballots.hand_out(payload));
        self.reconsider(payload, consensus);
        let (votes, stake) = handed_out?;
        Some((InFlight::Batch { payload, stake }, CheckJob::Votes { votes, hash: consensus.hash_of(payload) }))
    }

    fn next_certificate(&mut self, consensus: &mut Consensus) -> Option<(InFlight, CheckJob)> {
        loop {
            let idle = |statement: &Statement| {
                let slot = self.slots.get(&statement.slot());
                !self.in_flight.values().any(|job| *job == InFlight::Certificate(*statement))
                    && !slot.is_some_and(|slot| slot.is_expected(statement, self.stakes.at(statement.slot())))
            };
            let (certificate, sender) = self.certificates.take(idle)?;
            let statement = certificate.0.statement;
            // What was stored since it came may imply it.
            if consensus.wants(&certificate) {
                let hash = consensus.hash_of(statement.payload());
                let fallback_hash = statement.fallback_payload().map(|payload| consensus.hash_of(payload));
                let job = CheckJob::Certificate { certificate, sender, hash, fallback_hash };
                return Some((InFlight::Certificate(statement), job));
            }
        }
    }

    /// A conflict, unless votes for what the first one says are being checked, which it may be among.
    fn next_conflict(&mut self, now: Time, consensus: &mut Consensus) -> Option<(InFlight, CheckJob)> {
        let waiting: Vec<_> = self.conflicts.keys().copied().collect();
        for key in waiting {
            let second = *self.conflicts.get(&key)?;
            let Some(first) = consensus.conflict_of(&second) else {
                // The first one was wrong.
                self.conflicts.remove(&key);
                let _ = self.vote(now, second, consensus);
                continue;
            };
            let ballots = self.slots.get_mut(&key.0).and_then(|slot| slot.get_mut(&first));
            if ballots.as_ref().is_some_and(|ballots| ballots.checks > 0) {
                continue;
            }
            self.conflicts.remove(&key);
            let Some((ballots, (signature, first_waited))) =
                ballots.and_then(|ballots| ballots.find(second.signer).map(|found| (ballots, found)))
            else {
                continue;
            };
            if first_waited {
                ballots.remove(second.signer, self.stakes.at(first.slot()).of(second.signer));
            }
            self.reconsider(first, consensus);
            let votes = [UnverifiedVote { payload: first, signer: second.signer, signature }, second];
            let hashes = votes.map(|vote| consensus.hash_of(vote.payload));
            return Some((InFlight::Conflict { first, first_waited }, CheckJob::Conflict { votes, hashes }));
        }
        None
    }

    fn batch_checked(
        &mut self,
        now: Time,
        job: InFlight,
        verified: Vec<VerifiedVotes>,
        rejected: &[UnverifiedVote],
        consensus: &mut Consensus,
    ) {
        if let InFlight::Batch { payload, stake } = job
            && let Some(slot) = self.slots.get_mut(&payload.slot())
        {
            slot.of(payload).checked(stake);
            for signer in verified.iter().flat_map(VerifiedVotes::signers) {
                slot.of(payload).pass(self.stakes.at(payload.slot()).of(signer));
            }
            for vote in rejected.iter().filter(|vote| vote.signer.get() < self.stakes.len()) {
                let stake = self.stakes.at(vote.payload.slot()).of(vote.signer);
                if slot.of(payload).remove(vote.signer, stake).is_some() {
                    slot.vanished(&payload, stake);
                }
            }
            rejected.iter().for_each(|vote| consensus.vote_rejected(vote));
            verified.into_iter().for_each(|votes| consensus.votes(now, votes));
            self.reconsider(payload, consensus);
        }
    }

    /// Both votes were checked one by one. If both hold, the Pool gets the second one after the first, and makes
    /// evidence of it.
    fn conflict_checked(
        &mut self,
        now: Time,
        first: VotePayload,
        first_waited: bool,
        verified: Vec<VerifiedVotes>,
        rejected: &[UnverifiedVote],
        consensus: &mut Consensus,
    ) {
        let first_holds = verified.iter().any(|votes| votes.payload() == first);
        if let [before, after] = &verified[..]
            && let ([before], [after]) = (&before.votes[..], &after.votes[..])
        {
            self.proven = Some([*before, *after]);
        }
        for votes in verified {
            let is_first = votes.payload() == first;
            if is_first
                && first_waited
                && let Some(slot) = self.slots.get_mut(&first.slot())
            {
                votes.votes.iter().for_each(|vote| {
                    slot.of(first).insert_checked(vote, self.stakes.at(vote.payload.slot()).of(vote.signer))
                });
                consensus.votes(now, votes);
            } else if !is_first && first_holds {
                consensus.votes(now, votes);
            }
        }
        for vote in rejected.iter().filter(|vote| first_waited && vote.payload == first) {
            if let Some(slot) = self.slots.get_mut(&first.slot()) {
                slot.vanished(&first, self.stakes.at(vote.payload.slot()).of(vote.signer));
            }
            consensus.vote_rejected(vote);
        }
        self.reconsider(first, consensus);
    }
}

#[cfg(test)]
mod tests;
