//! The rules of Pool and Votor once more, slowly: plain lists of everything that came, from which every stake,
//! threshold and state is worked out anew each time it is asked for. Written from the protocol; it shares nothing with
//! the code under test but the vocabulary.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use alpenglow_rotor::types::{BlockId, Slot};

use crate::certificate::Statement;
use crate::vote::VotePayload;
use crate::vote::VotePayload::{Final, Notar, NotarFallback, Skip, SkipFallback};

pub(super) const OWN: u16 = 0;
pub(super) const DELTA_BLOCK_MS: u64 = 400;
pub(super) const DELTA_TIMEOUT_MS: u64 = 1_200;

/// What happened, in a form that compares and sorts.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Seen {
    Vote(VotePayload),
    /// With both lists of signers.
    Certificate(Statement, Vec<u16>, Vec<u16>),
    Notarized(BlockId),
    Ready(Slot, BlockId),
    Finalized(BlockId, &'static str),
    Chained(BlockId, BlockId),
    SkippedForGood(Slot, Slot),
    Repair(BlockId),
    /// Who, and the later vote.
    Evidence(u16, VotePayload),
    Recheck(VotePayload, Vec<u16>),
    /// Closed through, votes through.
    Horizon(Slot, Slot),
}

/// What a vote that arrives is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Judged {
    Closed,
    Ahead,
    Conflict,
    Redundant,
    Fits,
}

/// A vote that came, checked or not, in the order in which they came.
struct Came {
    validator: u16,
    payload: VotePayload,
    checked: bool,
}

/// A condition that lets Votor cast a fallback vote.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Safe {
    ToNotar(BlockId),
    ToSkip(Slot),
}

/// What certificates cause, in the order in which it is to be handled.
enum Due {
    Report(Seen),
    Notarized(BlockId),
    Ready(Slot, BlockId),
    Finalized(BlockId, &'static str),
}

fn is_first_of_window(slot: Slot) -> bool {
    slot.0.is_multiple_of(4) || slot.0 == 1
}

/// See the module.
pub(super) struct Restated {
    stakes: Vec<u64>,
    now_ms: u64,
    came: Vec<Came>,
    accused: BTreeSet<(u16, Slot)>,
    certificates: Vec<Statement>,
    held: Vec<(BlockId, BlockId)>,
    dead: Vec<BlockId>,
    asked_for: Vec<BlockId>,
    /// By certificate or as an ancestor, in the order in which they became so.
    finalized: Vec<BlockId>,
    /// The highest one by certificate.
    closed: BlockId,
    chained: BlockId,
    skipped_for_good: BTreeSet<(Slot, Slot)>,
    /// Every ParentReady there ever was.
    ready: Vec<(Slot, BlockId)>,
    due: VecDeque<Due>,
    safe: VecDeque<Safe>,
    said_safe: Vec<Safe>,
    // Votor.
    cast: Vec<VotePayload>,
    entering: VecDeque<VotePayload>,
    notarized: Vec<BlockId>,
    ready_handled: Vec<(Slot, BlockId)>,
    equivocated: Vec<Slot>,
    pending: BTreeMap<Slot, (BlockId, BlockId)>,
    timers: BTreeSet<(u64, Slot)>,
    timed_windows: BTreeSet<u64>,
    /// What the step at hand caused.
    out: Vec<Seen>,
    said_horizon: (Slot, Slot),
    contradiction: bool,
}

impl Restated {
    pub(super) fn new(stakes: Vec<u64>) -> Self {
        let mut restated = Self {
            stakes,
            now_ms: 0,
            came: Vec::new(),
            accused: BTreeSet::new(),
            certificates: Vec::new(),
            held: Vec::new(),
            dead: Vec::new(),
            asked_for: Vec::new(),
            finalized: Vec::new(),
            closed: BlockId::GENESIS,
            chained: BlockId::GENESIS,
            skipped_for_good: BTreeSet::new(),
            ready: vec![(Slot(1), BlockId::GENESIS)],
            due: VecDeque::new(),
            safe: VecDeque::new(),
            said_safe: Vec::new(),
            cast: Vec::new(),
            entering: VecDeque::new(),
            notarized: Vec::new(),
            ready_handled: vec![(Slot(1), BlockId::GENESIS)],
            equivocated: Vec::new(),
            pending: BTreeMap::new(),
            timers: BTreeSet::new(),
            timed_windows: BTreeSet::new(),
            out: Vec::new(),
            said_horizon: (Slot(0), Slot(41)),
            contradiction: false,
        };
        restated.set_timers(Slot(1));
        restated
    }

    pub(super) fn validators(&self) -> usize {
        self.stakes.len()
    }

    /// What the steps since the last look caused. `None` if final blocks contradict each other or two blocks of a slot
    /// are notarized: what follows from a fifth of byzantine stake is not restated.
    pub(super) fn take_seen(&mut self) -> Option<Vec<Seen>> {
        (!self.contradiction).then(|| std::mem::take(&mut self.out))
    }

    pub(super) fn horizon(&self) -> (Slot, Slot) {
        let ready = self.ready.iter().map(|(slot, _)| *slot).max().unwrap_or_default();
        (self.closed.slot, Slot(self.closed.slot.max(ready).0 + 40))
    }

    pub(super) fn parents_ready(&self, slot: Slot) -> BTreeSet<BlockId> {
        let open = |(first, _): &&(Slot, BlockId)| *first == slot && slot > self.closed.slot;
        self.ready_handled.iter().filter(open).map(|(_, parent)| *parent).collect()
    }

    pub(super) fn next_timeout_ms(&self) -> Option<u64> {
        self.timers.first().map(|(due, _)| *due)
    }

    pub(super) const fn chained(&self) -> BlockId {
        self.chained
    }

    // Stakes.

    fn reaches(&self, stake: u128, fifths: u128) -> bool {
        5 * stake >= fifths * self.stakes.iter().map(|stake| u128::from(*stake)).sum::<u128>()
    }

    fn stake_of(&self, validators: &BTreeSet<u16>) -> u128 {
        validators.iter().map(|validator| u128::from(self.stakes[usize::from(*validator)])).sum()
    }

    fn voters(&self, payload: VotePayload) -> BTreeSet<u16> {
        let checked = self.came.iter().filter(|vote| vote.checked && vote.payload == payload);
        checked.map(|vote| vote.validator).collect()
    }

    // Votes.

    fn of(&self, validator: u16, slot: Slot) -> impl Iterator<Item = &Came> {
        self.came.iter().filter(move |vote| vote.validator == validator && vote.payload.slot() == slot)
    }

    fn excluding(&self, validator: u16, payload: VotePayload) -> impl Iterator<Item = &Came> {
        self.of(validator, payload.slot()).filter(move |before| match (payload, before.payload) {
            (Notar(one), Notar(two)) => one != two,
            (Notar(_), Skip(_)) | (Skip(_), Notar(_)) => true,
            (Final(_), Skip(_) | SkipFallback(_) | NotarFallback(_)) => true,
            (Skip(_) | SkipFallback(_) | NotarFallback(_), Final(_)) => true,
            _ => false,
        })
    }

    /// The checked votes that exclude this one: any of them makes it evidence.
    pub(super) fn excluded_by(&self, validator: u16, payload: VotePayload) -> Vec<VotePayload> {
        self.excluding(validator, payload).filter(|vote| vote.checked).map(|vote| vote.payload).collect()
    }

    pub(super) fn is_accused(&self, validator: u16, slot: Slot) -> bool {
        self.accused.contains(&(validator, slot))
    }

    pub(super) fn judge(&self, validator: u16, payload: VotePayload) -> Judged {
        let slot = payload.slot();
        let before: Vec<VotePayload> = self.of(validator, slot).map(|vote| vote.payload).collect();
        let fallbacks = before.iter().filter(|vote| matches!(vote, NotarFallback(_))).count();
        let implied = match payload {
            NotarFallback(block) => before.contains(&Notar(block)) || fallbacks == 3,
            SkipFallback(_) => before.contains(&Skip(slot)),
            Notar(_) | Skip(_) | Final(_) => false,
        };
        if slot <= self.closed.slot {
            Judged::Closed
        } else if slot > self.horizon().1 {
            Judged::Ahead
        } else if self.excluding(validator, payload).next().is_some() {
            Judged::Conflict
        } else if implied || before.contains(&payload) {
            Judged::Redundant
        } else {
            Judged::Fits
        }
    }

    /// A vote takes its place.
    pub(super) fn admit(&mut self, validator: u16, payload: VotePayload) {
        self.came.push(Came { validator, payload, checked: false });
    }

    pub(super) fn reject(&mut self, validator: u16, payload: VotePayload) {
        self.came.retain(|vote| vote.checked || vote.validator != validator || vote.payload != payload);
    }

    /// A checked batch.
    pub(super) fn votes(&mut self, payload: VotePayload, signers: &[u16]) {
        let waits = |validator| self.of(validator, payload.slot()).any(|vote| vote.payload == payload && !vote.checked);
        let judged: Vec<(u16, Judged)> = signers.iter().map(|signer| (*signer, self.judge(*signer, payload))).collect();
        if judged.iter().any(|(_, judged)| matches!(judged, Judged::Closed | Judged::Ahead)) {
            return;
        }
        let fits = |(signer, judged): &&(u16, Judged)| {
            *judged == Judged::Fits || (*judged != Judged::Conflict && waits(*signer))
        };
        let fitting: Vec<u16> = judged.iter().filter(fits).map(|(signer, _)| *signer).collect();
        if fitting.len() == signers.len() {
            self.store(payload, signers);
        } else if let [(signer, Judged::Conflict)] = judged[..] {
            if !self.excluded_by(signer, payload).is_empty() {
                self.accused.insert((signer, payload.slot()));
                self.out.push(Seen::Evidence(signer, payload));
            }
        } else if !fitting.is_empty() {
            self.out.push(Seen::Recheck(payload, fitting));
        }
        self.settle();
    }

    fn store(&mut self, payload: VotePayload, signers: &[u16]) {
        for signer in signers {
            self.reject(*signer, payload);
            self.came.push(Came { validator: *signer, payload, checked: true });
        }
        let list = |voters: BTreeSet<u16>| voters.into_iter().collect::<Vec<u16>>();
        let (first, second, candidates) = match payload {
            Notar(block) | NotarFallback(block) => {
                let (first, second) = (self.voters(Notar(block)), self.voters(NotarFallback(block)));
                let either = self.stake_of(&first.union(&second).copied().collect());
                let notar = self.stake_of(&first);
                let candidates = vec![
                    (Statement::Fast(block), self.reaches(notar, 4)),
                    (Statement::Notarization(block), self.reaches(notar, 3)),
                    (Statement::NotarFallback(block), self.reaches(either, 3)),
                ];
                (first, second, candidates)
            }
            Skip(slot) | SkipFallback(slot) => {
                let (first, second) = (self.voters(Skip(slot)), self.voters(SkipFallback(slot)));
                let either = self.stake_of(&first.union(&second).copied().collect());
                (first, second, vec![(Statement::Skip(slot), self.reaches(either, 3))])
            }
            Final(slot) => {
                let first = self.voters(Final(slot));
                let enough = self.reaches(self.stake_of(&first), 3);
                (first, BTreeSet::new(), vec![(Statement::Finalization(slot), enough)])
            }
        };
        let Some((strongest, _)) = candidates.into_iter().find(|(_, enough)| *enough) else { return };
        if !self.is_implied(strongest) {
            let both = matches!(strongest, Statement::NotarFallback(_) | Statement::Skip(_));
            self.certify(strongest, list(first), if both { list(second) } else { Vec::new() });
        }
    }

    // Certificates.

    fn is_implied(&self, statement: Statement) -> bool {
        self.certificates.iter().any(|held| match (held, statement) {
            (Statement::Fast(one), Statement::Notarization(two) | Statement::NotarFallback(two)) => *one == two,
            (Statement::Notarization(one), Statement::NotarFallback(two)) => *one == two,
            _ => *held == statement,
        })
    }

    /// Whether a certificate is worth a check.
    pub(super) fn wants(&self, statement: Statement, first: &[u16], second: &[u16]) -> bool {
        let has_second = matches!(statement, Statement::NotarFallback(_) | Statement::Skip(_));
        let fifths = if matches!(statement, Statement::Fast(_)) { 4 } else { 3 };
        let in_reach = !has_second || statement.slot().0 <= self.horizon().1.0 + 1_024;
        statement.slot() > self.closed.slot
            && in_reach
            && !self.is_implied(statement)
            && (has_second || second.is_empty())
            && self.reaches(self.stake_of(&first.iter().chain(second).copied().collect()), fifths)
    }

    pub(super) fn certificate(&mut self, statement: Statement, first: Vec<u16>, second: Vec<u16>) {
        if self.wants(statement, &first, &second) {
            self.certify(statement, first, second);
        }
        self.settle();
    }

    fn certify(&mut self, statement: Statement, first: Vec<u16>, second: Vec<u16>) {
        let slot = statement.slot();
        let notarizes = |held: &Statement| matches!(held, Statement::Fast(_) | Statement::Notarization(_));
        let another = |held: &&Statement| held.slot() == slot && notarizes(held) && held.block() != statement.block();
        self.contradiction |= notarizes(&statement) && self.certificates.iter().any(|held| another(&held));
        self.certificates.push(statement);
        self.due.push_back(Due::Report(Seen::Certificate(statement, first, second)));
        if let Some(block) = statement.block() {
            self.want(block);
        }
        let slow = self.certificates.contains(&Statement::Finalization(slot));
        let notarized = self.certificates.iter().find_map(|held| match held {
            Statement::Notarization(block) if block.slot == slot => Some(*block),
            _ => None,
        });
        match (statement, notarized) {
            (Statement::Fast(block), _) => self.finalize(block, "fast"),
            (Statement::Notarization(_) | Statement::Finalization(_), Some(block)) if slow => {
                self.finalize(block, "slow");
            }
            (Statement::Notarization(block), _) => self.due.push_back(Due::Notarized(block)),
            _ => {}
        }
        self.find_ready();
    }

    fn find_ready(&mut self) {
        let certified: Vec<BlockId> =
            self.certificates.iter().filter_map(Statement::block).chain([self.closed]).collect();
        let skipped = |slot| self.certificates.contains(&Statement::Skip(Slot(slot)));
        let mut found = Vec::new();
        for parent in certified {
            let mut slot = parent.slot.0 + 1;
            loop {
                if slot.is_multiple_of(4) {
                    found.push((Slot(slot), parent));
                }
                if !skipped(slot) {
                    break;
                }
                slot += 1;
            }
        }
        // Lower windows first, then later parents: the order is free, and matters to a node that can finalize alone.
        found.sort_by_key(|(slot, parent)| (*slot, Reverse(parent.slot)));
        for (slot, parent) in found {
            if !self.ready.contains(&(slot, parent)) {
                self.ready.push((slot, parent));
                self.due.push_back(Due::Ready(slot, parent));
            }
        }
    }

    // Blocks and finality.

    fn parent(&self, block: BlockId) -> Option<BlockId> {
        self.held.iter().find(|(held, _)| *held == block).map(|(_, parent)| *parent)
    }

    fn want(&mut self, block: BlockId) {
        let known = self.asked_for.contains(&block) || self.dead.contains(&block);
        if !known && self.parent(block).is_none() && block.slot > self.chained.slot {
            self.asked_for.push(block);
            self.due.push_back(Due::Report(Seen::Repair(block)));
        }
    }

    fn finalize(&mut self, block: BlockId, how: &'static str) {
        self.closed = block;
        self.finalized.push(block);
        self.due.push_back(Due::Finalized(block, how));
        self.follow_links();
        self.came.retain(|vote| vote.payload.slot() > block.slot);
        self.certificates.retain(|held| held.slot() > block.slot);
        self.timers.retain(|(_, slot)| *slot > block.slot);
        self.safe.retain(|safe| match safe {
            Safe::ToNotar(BlockId { slot, .. }) | Safe::ToSkip(slot) => *slot > block.slot,
        });
    }

    /// Everything that follows from final blocks and the parents that are known.
    fn follow_links(&mut self) {
        let mut at = 0;
        while let Some(block) = self.finalized.get(at).copied() {
            at += 1;
            let Some(parent) = self.parent(block) else {
                self.want(block);
                continue;
            };
            self.contradiction |= parent.slot == Slot(0) && parent != BlockId::GENESIS;
            self.contradiction |= self.finalized.iter().any(|other| {
                (parent.slot < other.slot && other.slot < block.slot) || (other.slot == parent.slot && *other != parent)
            });
            let skipped = (parent.slot.next(), Slot(block.slot.0 - 1));
            if parent.slot.0 + 1 < block.slot.0 && self.skipped_for_good.insert(skipped) {
                self.due.push_back(Due::Report(Seen::SkippedForGood(skipped.0, skipped.1)));
            }
            if parent.slot != Slot(0) && !self.finalized.contains(&parent) {
                self.finalized.push(parent);
                self.due.push_back(Due::Report(Seen::Finalized(parent, "ancestor")));
            }
        }
        while let Some(next) = self.finalized.iter().copied().find(|block| self.parent(*block) == Some(self.chained)) {
            self.due.push_back(Due::Report(Seen::Chained(next, self.chained)));
            self.chained = next;
        }
    }

    pub(super) fn block(&mut self, block: BlockId, parent: BlockId) {
        let first_of_window = is_first_of_window(block.slot);
        let allowed = parent.slot.0 + 1 == block.slot.0 || (first_of_window && parent.slot < block.slot);
        if block.slot > self.chained.slot && self.parent(block).is_none() && !self.dead.contains(&block) {
            if allowed {
                let first = !self.held.iter().any(|(held, _)| held.slot == block.slot);
                self.held.push((block, parent));
                if block.slot <= self.closed.slot {
                    self.follow_links();
                } else if first {
                    self.on_block(block, parent);
                }
            } else {
                self.dead.push(block);
            }
        }
        self.settle();
    }

    pub(super) fn block_dead(&mut self, block: BlockId) {
        if self.parent(block).is_none() && block.slot > self.chained.slot {
            self.dead.push(block);
        }
    }

    // The order of events.

    fn settle(&mut self) {
        loop {
            if let Some(payload) = self.entering.pop_front() {
                self.out.push(Seen::Vote(payload));
                if payload.slot() > self.closed.slot {
                    self.store(payload, &[OWN]);
                }
            } else if let Some(due) = self.due.pop_front() {
                self.handle(due);
            } else if let Some(safe) = self.safe.pop_front() {
                self.on_safe(safe);
            } else if !self.find_safe() {
                break;
            }
        }
        if self.horizon() != self.said_horizon {
            self.said_horizon = self.horizon();
            self.out.push(Seen::Horizon(self.said_horizon.0, self.said_horizon.1));
        }
    }

    fn handle(&mut self, due: Due) {
        match due {
            Due::Report(seen) => self.out.push(seen),
            Due::Notarized(block) if block.slot > self.closed.slot => {
                self.out.push(Seen::Notarized(block));
                self.notarized.push(block);
                self.try_final(block);
            }
            Due::Ready(slot, parent) if slot > self.closed.slot => {
                self.out.push(Seen::Ready(slot, parent));
                self.ready_handled.push((slot, parent));
                self.set_timers(slot);
                self.check_pending();
            }
            Due::Notarized(_) | Due::Ready(..) => {}
            Due::Finalized(block, how) => {
                self.out.push(Seen::Finalized(block, how));
                if block.slot.0 % 4 != 3 {
                    self.set_timers(block.slot.next());
                }
                self.check_pending();
            }
        }
    }

    /// Finds what is safe in the lowest slot where something is and was not said yet.
    fn find_safe(&mut self) -> bool {
        let open = self.closed.slot.next();
        let slots: BTreeSet<Slot> =
            self.came.iter().map(|vote| vote.payload.slot()).filter(|slot| *slot >= open).collect();
        for slot in slots {
            self.find_safe_in(slot);
            if !self.safe.is_empty() || !self.due.is_empty() {
                return true;
            }
        }
        false
    }

    fn find_safe_in(&mut self, slot: Slot) {
        let Some(own) = self.first_vote(slot) else { return };
        let mut blocks: Vec<BlockId> = Vec::new();
        for vote in self.came.iter().filter(|vote| vote.checked && vote.payload.slot() == slot) {
            if let Notar(block) = vote.payload
                && !blocks.contains(&block)
            {
                blocks.push(block);
            }
        }
        // In the order in which their stake reached 20%. The order is free, and matters to a node that can finalize
        // alone.
        blocks.sort_by_key(|block| {
            let votes = |through: &usize| {
                let came = self.came[..=*through].iter().filter(|vote| vote.checked && vote.payload == Notar(*block));
                self.stake_of(&came.map(|vote| vote.validator).collect())
            };
            (0..self.came.len()).find(|through| self.reaches(votes(through), 1)).unwrap_or(usize::MAX)
        });
        let skip = self.stake_of(&self.voters(Skip(slot)));
        let stakes: Vec<u128> = blocks.iter().map(|block| self.stake_of(&self.voters(Notar(*block)))).collect();
        for (block, stake) in blocks.iter().zip(&stakes) {
            let enough = self.reaches(*stake, 2) || (self.reaches(skip + stake, 3) && self.reaches(*stake, 1));
            if !enough || own == Notar(*block) {
                continue;
            }
            let first_of_window = is_first_of_window(slot);
            match self.parent(*block) {
                None => self.want(*block),
                Some(parent) if first_of_window || self.is_certified(parent) => self.say_safe(Safe::ToNotar(*block)),
                Some(_) => {}
            }
        }
        let highest = stakes.iter().max().copied().unwrap_or_default();
        if own != Skip(slot) && self.reaches(skip + stakes.iter().sum::<u128>() - highest, 2) {
            self.say_safe(Safe::ToSkip(slot));
        }
    }

    fn is_certified(&self, block: BlockId) -> bool {
        let open = block.slot > self.closed.slot;
        block == self.closed || (open && self.certificates.iter().any(|held| held.block() == Some(block)))
    }

    fn say_safe(&mut self, safe: Safe) {
        if !self.said_safe.contains(&safe) {
            self.said_safe.push(safe);
            self.safe.push_back(safe);
        }
    }

    // Votor.

    fn first_vote(&self, slot: Slot) -> Option<VotePayload> {
        self.cast.iter().copied().find(|vote| vote.slot() == slot && matches!(vote, Notar(_) | Skip(_)))
    }

    fn cast(&mut self, payload: VotePayload) {
        self.cast.push(payload);
        self.entering.push_back(payload);
    }

    fn is_bad_window(&self, slot: Slot) -> bool {
        let bad = |vote: &VotePayload| matches!(vote, Skip(_) | SkipFallback(_) | NotarFallback(_));
        self.cast.iter().any(|vote| vote.slot() == slot && bad(vote))
    }

    fn set_timers(&mut self, first: Slot) {
        if self.timed_windows.insert(first.0 / 4) {
            for slot in first.0.max(self.closed.slot.0 + 1)..=first.0 / 4 * 4 + 3 {
                let due = self.now_ms + DELTA_TIMEOUT_MS + (slot - first.0 + 1) * DELTA_BLOCK_MS;
                self.timers.insert((due, Slot(slot)));
            }
        }
    }

    pub(super) fn advance(&mut self, now_ms: u64) {
        self.now_ms = now_ms;
        while let Some((_, slot)) = self.timers.first().copied().filter(|(due, _)| *due <= now_ms) {
            self.timers.pop_first();
            if slot > self.closed.slot && self.first_vote(slot).is_none() {
                self.try_skip_window(slot);
            }
            self.settle();
        }
    }

    pub(super) fn equivocation(&mut self, slot: Slot) {
        if slot > self.closed.slot {
            self.equivocated.push(slot);
            self.pending.remove(&slot);
        }
    }

    fn on_block(&mut self, block: BlockId, parent: BlockId) {
        if self.try_notar(block, parent) {
            self.check_pending();
        } else if self.first_vote(block.slot).is_none() && !self.equivocated.contains(&block.slot) {
            self.pending.insert(block.slot, (block, parent));
        }
    }

    fn check_pending(&mut self) {
        for (slot, (block, parent)) in self.pending.clone() {
            if slot > self.closed.slot {
                self.try_notar(block, parent);
            }
        }
    }

    fn try_notar(&mut self, block: BlockId, parent: BlockId) -> bool {
        let slot = block.slot;
        let allowed = if is_first_of_window(slot) {
            self.ready_handled.contains(&(slot, parent))
        } else {
            let voted_for = parent.slot > self.closed.slot && self.cast.contains(&Notar(parent));
            parent.slot.next() == slot && (voted_for || parent == self.closed)
        };
        let may = allowed && self.first_vote(slot).is_none() && !self.equivocated.contains(&slot);
        if may {
            self.cast(Notar(block));
            self.pending.remove(&slot);
            self.try_final(block);
        }
        may
    }

    fn try_final(&mut self, block: BlockId) {
        let voted_for = self.cast.contains(&Notar(block)) && !self.cast.contains(&Final(block.slot));
        if self.notarized.contains(&block) && voted_for && !self.is_bad_window(block.slot) {
            self.cast(Final(block.slot));
        }
    }

    fn try_skip_window(&mut self, slot: Slot) {
        for slot in (slot.0 / 4 * 4..=slot.0 / 4 * 4 + 3).map(Slot) {
            if slot > self.closed.slot && slot.0 > 0 && self.first_vote(slot).is_none() {
                self.cast(Skip(slot));
                self.pending.remove(&slot);
            }
        }
    }

    fn on_safe(&mut self, safe: Safe) {
        let (slot, fallback) = match safe {
            Safe::ToNotar(block) => (block.slot, NotarFallback(block)),
            Safe::ToSkip(slot) => (slot, SkipFallback(slot)),
        };
        self.try_skip_window(slot);
        if !self.cast.contains(&Final(slot)) {
            self.cast(fallback);
        }
    }
}
