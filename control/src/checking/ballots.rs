//! The votes of one slot on their way through the checks, and what they could decide.

use std::collections::BTreeMap;

use alpenglow_rotor::epochs::EpochStakes;
use alpenglow_rotor::types::{Stake, Time, ValidatorIndex};

use crate::bls::SignatureBytes;
use crate::certificate::Statement;
use crate::vote::{UnverifiedVote, VotePayload};

/// Shares of the stake at which votes of one kind change something in a slot that is disputed: 20 and 40 make it safe
/// to notarize, 40 to skip, 60 and 80 make certificates.
const THRESHOLDS_PERCENT: [u8; 4] = [20, 40, 60, 80];
/// A slot is disputed when so much of the stake may have voted otherwise than this node: less makes nothing safe to
/// notarize or to skip.
const DISPUTED_PERCENT: u8 = 20;

/// The votes for one payload.
#[derive(Debug, Default)]
pub(super) struct Ballots {
    /// Those that were handed out for a check, whether it has ended or not, then those that wait. Kept until the slot
    /// is closed, because of two votes that exclude each other both signatures are the evidence.
    votes: Vec<(ValidatorIndex, SignatureBytes)>,
    handed_out: usize,
    /// Checks under way.
    pub(super) checks: usize,
    waiting: Stake,
    checking: Stake,
    passed: Stake,
    /// Since when the first of those that wait does.
    pub(super) since: Time,
    /// Whether those that wait have waited long enough.
    pub(super) overdue: bool,
}

impl Ballots {
    pub(super) fn waiting(&self) -> usize {
        self.votes.len() - self.handed_out
    }

    pub(super) fn waiting_signers(&self) -> impl Iterator<Item = ValidatorIndex> + '_ {
        self.votes[self.handed_out..].iter().map(|(signer, _)| *signer)
    }

    /// Adds a vote; whether it is the first one to wait.
    pub(super) fn push(&mut self, now: Time, vote: &UnverifiedVote, stake: Stake) -> bool {
        let is_first = self.waiting() == 0;
        if is_first {
            self.since = now;
        }
        if self.votes.is_empty() {
            // Most payloads that there can be, at worst one of each vote, have a single one.
            self.votes.reserve_exact(1);
        }
        self.votes.push((vote.signer, vote.signature));
        self.waiting += stake;
        is_first
    }

    /// All that wait are being checked from now on.
    pub(super) fn hand_out(&mut self, payload: VotePayload) -> (Vec<UnverifiedVote>, Stake) {
        let votes = self.votes[self.handed_out..].iter();
        let votes = votes.map(|&(signer, signature)| UnverifiedVote { payload, signer, signature }).collect();
        self.handed_out = self.votes.len();
        self.overdue = false;
        self.checks += 1;
        let stake = std::mem::take(&mut self.waiting);
        self.checking += stake;
        (votes, stake)
    }

    /// A check of so much stake has ended.
    pub(super) fn checked(&mut self, stake: Stake) {
        self.checks = self.checks.saturating_sub(1);
        self.checking = less(self.checking, stake);
    }

    pub(super) fn pass(&mut self, stake: Stake) {
        self.passed += stake;
    }

    /// A vote that passed is to be checked once more.
    pub(super) fn unpass(&mut self, stake: Stake) {
        self.passed = less(self.passed, stake);
    }

    /// Takes out the vote of a validator, and says whether it was waiting.
    pub(super) fn remove(&mut self, signer: ValidatorIndex, stake: Stake) -> Option<(SignatureBytes, bool)> {
        let at = self.votes.iter().position(|(other, _)| *other == signer)?;
        let waited = at >= self.handed_out;
        if waited {
            self.waiting = less(self.waiting, stake);
        } else {
            self.handed_out -= 1;
        }
        Some((self.votes.remove(at).1, waited))
    }

    /// A validator's vote, and whether it waits.
    pub(super) fn find(&self, signer: ValidatorIndex) -> Option<(SignatureBytes, bool)> {
        let at = self.votes.iter().position(|(other, _)| *other == signer)?;
        Some((self.votes[at].1, at >= self.handed_out))
    }

    /// Adds a vote whose check has ended well.
    pub(super) fn insert_checked(&mut self, vote: &UnverifiedVote, stake: Stake) {
        self.votes.insert(self.handed_out, (vote.signer, vote.signature));
        self.handed_out += 1;
        self.passed += stake;
    }

    /// Stake that has passed or is expected to.
    fn expected(&self) -> Stake {
        self.passed + self.checking
    }

    fn possible(&self) -> Stake {
        self.expected() + self.waiting
    }
}

/// The difference, zero if it is negative: when a slot was forgotten and opened again, ends of checks are reported that
/// began before.
fn less(stake: Stake, other: Stake) -> Stake {
    Stake(stake.0.saturating_sub(other.0))
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct SlotBallots {
    by_payload: BTreeMap<VotePayload, Ballots>,
    own_first: Option<VotePayload>,
    /// Stake of the first votes that are known, whether checked or not.
    first: Stake,
    disputed: bool,
}

impl SlotBallots {
    pub(super) fn get(&self, payload: &VotePayload) -> Option<&Ballots> {
        self.by_payload.get(payload)
    }

    pub(super) fn get_mut(&mut self, payload: &VotePayload) -> Option<&mut Ballots> {
        self.by_payload.get_mut(payload)
    }

    pub(super) fn of(&mut self, payload: VotePayload) -> &mut Ballots {
        self.by_payload.entry(payload).or_default()
    }

    pub(super) fn payloads(&self) -> Vec<VotePayload> {
        self.by_payload.keys().copied().collect()
    }

    /// A vote is known that was not before, of another validator.
    pub(super) fn appeared(&mut self, payload: &VotePayload, stake: Stake) {
        if is_first(payload) {
            self.first += stake;
        }
    }

    /// A known vote was wrong.
    pub(super) fn vanished(&mut self, payload: &VotePayload, stake: Stake) {
        if is_first(payload) {
            self.first = less(self.first, stake);
        }
    }

    /// This node has voted.
    pub(super) fn own_vote(&mut self, payload: VotePayload, stake: Stake) {
        self.of(payload).pass(stake);
        self.appeared(&payload, stake);
        if is_first(&payload) {
            self.own_first = Some(payload);
        }
    }

    /// Looks whether the slot is disputed now; true if it was not before.
    pub(super) fn becomes_disputed(&mut self, total: Stake) -> bool {
        let was = self.disputed;
        self.disputed = self.own_first.is_some_and(|own| {
            let alike = self.get(&own).map_or(Stake(0), Ballots::possible);
            less(self.first, alike).is_at_least(DISPUTED_PERCENT, total)
        });
        self.disputed && !was
    }

    pub(super) const fn is_disputed(&self) -> bool {
        self.disputed
    }

    /// Whether the votes that wait for a payload can decide something, if they and all that is known are right:
    /// complete a certificate that `is_news`, or, in a disputed slot, reach a share at which something may become safe.
    pub(super) fn can_decide(
        &self,
        payload: &VotePayload,
        stakes: &EpochStakes,
        is_news: impl Fn(&Statement) -> bool,
    ) -> bool {
        let Some(ballots) = self.get(payload).filter(|ballots| ballots.waiting() > 0) else { return false };
        let reaches = |percent, before: Stake, after: Stake| {
            !before.is_at_least(percent, stakes.total()) && after.is_at_least(percent, stakes.total())
        };
        let completes = |statement: &Statement| {
            let sum = |stake: fn(&Ballots) -> Stake| payloads(statement).filter_map(|p| self.get(&p)).map(stake).sum();
            let percent = statement.kind().percent();
            reaches(percent, sum(Ballots::expected), sum(Ballots::possible)) && is_news(statement)
        };
        let (before, after) = (ballots.expected(), ballots.possible());
        statements(payload).any(|statement| completes(&statement))
            || self.disputed && THRESHOLDS_PERCENT.iter().any(|&percent| reaches(percent, before, after))
    }

    /// Whether checks under way complete this certificate, if what they check is right.
    pub(super) fn is_expected(&self, statement: &Statement, stakes: &EpochStakes) -> bool {
        let concerned = || payloads(statement).filter_map(|payload| self.get(&payload));
        let expected: Stake = concerned().map(Ballots::expected).sum();
        concerned().any(|ballots| ballots.checks > 0)
            && expected.is_at_least(statement.kind().percent(), stakes.total())
    }
}

const fn is_first(payload: &VotePayload) -> bool {
    matches!(payload, VotePayload::Notar(_) | VotePayload::Skip(_))
}

/// The certificates that a vote counts for.
fn statements(payload: &VotePayload) -> impl Iterator<Item = Statement> + use<> {
    let statements = match *payload {
        VotePayload::Notar(block) => {
            [Some(Statement::Fast(block)), Some(Statement::Notarization(block)), Some(Statement::NotarFallback(block))]
        }
        VotePayload::NotarFallback(block) => [Some(Statement::NotarFallback(block)), None, None],
        VotePayload::Skip(slot) | VotePayload::SkipFallback(slot) => [Some(Statement::Skip(slot)), None, None],
        VotePayload::Final(slot) => [Some(Statement::Finalization(slot)), None, None],
    };
    statements.into_iter().flatten()
}

/// What is signed for a certificate.
fn payloads(statement: &Statement) -> impl Iterator<Item = VotePayload> + use<> {
    [Some(statement.payload()), statement.fallback_payload()].into_iter().flatten()
}

/// The payload whose votes count for a certificate together with those for `payload`.
pub(super) const fn companion(payload: &VotePayload) -> Option<VotePayload> {
    match *payload {
        VotePayload::Notar(block) => Some(VotePayload::NotarFallback(block)),
        VotePayload::NotarFallback(block) => Some(VotePayload::Notar(block)),
        VotePayload::Skip(slot) => Some(VotePayload::SkipFallback(slot)),
        VotePayload::SkipFallback(slot) => Some(VotePayload::Skip(slot)),
        VotePayload::Final(_) => None,
    }
}
