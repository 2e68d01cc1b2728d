//! Pool and Votor joined: votes, certificates, blocks and time in; own votes, certificates and decisions out.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use alpenglow_rotor::types::{BlockId, ClusterId, Slot, Time, ValidatorIndex, WINDOW_SLOTS};

use crate::block::check_parent_slot;
use crate::bls::{SecretKey, SignatureBytes};
use crate::certificate::{Certificate, Statement, UnverifiedCertificate, VerifiedCertificate};
use crate::message::Message;
use crate::payload_hash::{PayloadHash, PayloadHashes};
use crate::pool::{Pool, PoolEvent};
use crate::stakes::Stakes;
use crate::timers::Patience;
use crate::vote::{UnverifiedVote, VerifiedVotes, Vote, VotePayload};
use crate::vote_record::{Bar, Restoration, UNKNOWN_SLOTS};
use crate::votor::Votor;

/// What a node must know to vote.
pub struct ConsensusConfig {
    /// This node.
    pub own: ValidatorIndex,
    /// Its voting key.
    pub secret_key: SecretKey,
    /// The stakes of each epoch.
    pub stakes: Arc<Stakes>,
    /// Signed into every vote.
    pub cluster: ClusterId,
    /// The time of one block (paper: Δblock).
    pub delta_block: Duration,
    /// What a window's first block may take besides (paper: Δtimeout).
    pub delta_timeout: Duration,
    /// After this long without a newly finalized slot delta_timeout grows.
    pub standstill_interval: Duration,
    /// The crashed-leader timer: a window is skipped this long after delta_timeout if no valid shred of its first slot
    /// came and no vote was cast in it. `None`: it is off.
    pub crashed_leader: Option<Duration>,
}

/// What to do with a vote that has just arrived, before any signature is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// Check it, in a batch. Its place is taken: later votes are measured against it, until
    /// [`Consensus::vote_rejected`].
    Check,
    /// It conflicts with one that came before: check it singly; then [`Consensus::votes`] makes it evidence.
    Conflict,
    /// It conflicts, and there is evidence of this validator in this slot already: check it only if there is nothing
    /// else to do.
    ConflictAgain,
    /// Nothing new. Drop.
    Redundant,
    /// Its slot is closed, or so far below the highest ready one that votes there decide nothing any more. Drop.
    Closed,
    /// Its slot is past the horizon. Drop.
    Ahead,
    /// No such validator, or this node itself. Drop.
    Signer,
    /// A validator that is no member of the slot's epoch. Drop.
    NotMember,
}

/// How a block became final.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finalization {
    /// By a fast-finalization certificate.
    Fast,
    /// By a finalization certificate and a notarization certificate.
    Slow,
    /// As an ancestor of such a block.
    Ancestor,
}

/// What happened. Events come in the order in which things happened.
#[derive(Clone, Debug, PartialEq)]
pub enum ConsensusEvent {
    /// An own vote was cast: broadcast it.
    Vote(Vote),
    /// An own vote was not cast, for those cast before it in its slot: as a fourth notar-fallback vote, which a node
    /// may come to that was started again and has forgotten how others voted. Nothing else that others send leads to
    /// one.
    Withheld(VotePayload),
    /// A certificate was newly stored, made here or received: broadcast it once.
    Certificate(Arc<Certificate>),
    /// A block has a notarization or fast-finalization certificate. Not reported for a block that is finalized at once.
    BlockNotarized(BlockId),
    /// The leader of the window that begins at `slot` may build on `parent`.
    ParentReady {
        /// First slot of a window.
        slot: Slot,
        /// A certified block before it.
        parent: BlockId,
    },
    /// A block is final. Ancestors follow their descendants.
    Finalized {
        /// Which.
        block: BlockId,
        /// By what.
        how: Finalization,
    },
    /// The next final block in chain order: reported once all its ancestors were, or were given up because a block
    /// among them did not come while a thousand others became final.
    Chained {
        /// Which.
        block: BlockId,
        /// The one before it: reported or given up, or genesis.
        parent: BlockId,
    },
    /// These slots hold no final block and never will: they lie between a final block and its parent.
    SkippedForGood {
        /// The first.
        first: Slot,
        /// The last.
        last: Slot,
    },
    /// This block is not held and now needed. Reported once for each block.
    RepairNeeded(BlockId),
    /// A validator signed two votes that exclude each other.
    Evidence(Evidence),
    /// Those votes of a checked batch that fit, while others did not: they must be checked anew, without the others,
    /// before they can be used. Never happens to votes that were admitted.
    Recheck(Vec<UnverifiedVote>),
    /// What is taken changed.
    Horizon(Horizon),
    /// Two final blocks contradict each other: at least 20% of the stake are byzantine, or a node is defective.
    Contradiction {
        /// Final, by certificate or as an ancestor.
        block: BlockId,
        /// Final as well.
        other: BlockId,
    },
}

/// A vote that conflicts with one stored before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Evidence {
    /// Who signed both.
    pub validator: ValidatorIndex,
    /// What was stored.
    pub stored: VotePayload,
    /// What came later.
    pub conflicting: VotePayload,
    /// The signature of the latter.
    pub signature: SignatureBytes,
}

/// What is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Horizon {
    /// Slots up to this one are closed.
    pub closed_through: Slot,
    /// The last slot that votes are taken for.
    pub votes_through: Slot,
    /// The last slot that shreds are taken for.
    pub shreds_through: Slot,
}

/// Signs a payload as this node.
type Signer = Box<dyn Fn(&PayloadHash) -> (Vote, VerifiedVotes) + Send>;

/// Pool and Votor of one node.
pub struct Consensus {
    sign: Signer,
    stakes: Arc<Stakes>,
    pool: Pool,
    votor: Votor,
    hashes: PayloadHashes,
    /// Votes cast in open slots.
    own_votes: BTreeMap<Slot, Vec<Vote>>,
    /// Votes above this slot wait.
    reservation: Slot,
    /// The highest slot that a vote was cast in or waits for.
    highest_voted: Slot,
    /// No vote before a finalization is seen, and then none up to some way past it, nor up to this slot.
    unknown_through: Option<Slot>,
    /// Up to where, once that is found out.
    found_bar: Option<Slot>,
    reported_horizon: Horizon,
    events: VecDeque<ConsensusEvent>,
}

impl Consensus {
    /// A node at genesis. The timers of window 0 run from `start`: the later of the node's start and the cluster's.
    ///
    /// # Panics
    /// If the node is not in the set.
    #[must_use]
    pub fn new(config: ConsensusConfig, start: Time) -> Self {
        let ConsensusConfig { own, secret_key, stakes, cluster, .. } = config;
        let patience = Patience {
            delta_block: config.delta_block,
            delta_timeout: config.delta_timeout,
            standstill_interval: config.standstill_interval,
            first_shred: config.crashed_leader,
        };
        assert!(own.get() < stakes.len());
        let sign = Box::new(move |hash: &PayloadHash| {
            Vote::sign(hash.payload(), hash.point(cluster, secret_key.scheme()), own, &secret_key)
        });
        Self::with_signer(sign, Pool::new(own, Arc::clone(&stakes)), stakes, Votor::new(patience, start))
    }

    fn with_signer(sign: Signer, pool: Pool, stakes: Arc<Stakes>, votor: Votor) -> Self {
        Self {
            reported_horizon: horizon(&pool),
            votor,
            pool,
            sign,
            stakes,
            hashes: PayloadHashes::new(),
            own_votes: BTreeMap::new(),
            reservation: Slot(u64::MAX),
            highest_voted: Slot::GENESIS,
            unknown_through: None,
            found_bar: None,
            events: VecDeque::new(),
        }
    }

    /// Goes on from a block that was reported in chain order before a restart, and is final by these certificates.
    ///
    /// Right after [`Self::new`] only, and before [`Self::restore`].
    pub fn restore_tip(&mut self, now: Time, tip: BlockId, parent: BlockId, certificates: &[Arc<Certificate>]) {
        self.pool.restore_tip(tip, parent);
        for certificate in certificates {
            self.certificate(now, VerifiedCertificate(Certificate::clone(certificate)));
        }
    }

    /// Goes on from before a restart: the highest finalization as if it had just happened, then the votes cast after
    /// it, which are neither reported nor bound to the horizon. From now on votes wait that are above the reservation.
    ///
    /// Right after [`Self::new`] and [`Self::restore_tip`] only.
    pub fn restore(&mut self, now: Time, restoration: &Restoration) {
        self.reservation = restoration.reservation();
        for certificate in restoration.finalization() {
            if self.wants(&UnverifiedCertificate(Certificate::clone(certificate))) {
                self.certificate(now, VerifiedCertificate(Certificate::clone(certificate)));
            }
        }
        match restoration.bar() {
            Bar::Through(slot) => self.votor.bar(slot),
            Bar::PastFirstFinalization(least) => {
                self.votor.bar(Slot(u64::MAX));
                self.unknown_through = Some(least);
            }
        }
        for payload in restoration.votes() {
            if !self.stakes.at(payload.slot()).is_member(self.pool.own()) {
                continue;
            }
            self.votor.replay(payload);
            let (vote, checked) = (self.sign)(&self.hashes.of(payload));
            if self.pool.add_own_vote(&checked) {
                self.own_votes.entry(payload.slot()).or_default().push(vote);
                self.highest_voted = self.highest_voted.max(payload.slot());
            }
        }
        self.settle(now);
    }

    /// Votes up to this slot wait no more.
    pub fn reserved(&mut self, now: Time, through: Slot) {
        self.reservation = self.reservation.max(through);
        self.settle(now);
    }

    /// The highest slot that a vote was cast in or waits for a reservation.
    #[must_use]
    pub const fn highest_voted(&self) -> Slot {
        self.highest_voted
    }

    /// Up to where no vote is cast, because one may have been before a restart.
    #[must_use]
    pub const fn barred_through(&self) -> Slot {
        self.votor.barred_through()
    }

    /// [`Self::barred_through`], when it has just been found out.
    pub(crate) const fn take_found_bar(&mut self) -> Option<Slot> {
        self.found_bar.take()
    }

    /// The certificates that finalize the highest finalized block: none for genesis.
    #[must_use]
    pub fn finalized_by(&self) -> &[Arc<Certificate>] {
        self.pool.finalized_by()
    }

    /// A complete block is held now: received or repaired, first of its slot or another. One whose parent is not
    /// allowed for its slot is taken for dead. Blocks that are neither the first one from Rotor of a slot that shreds
    /// are taken for nor asked for by [`ConsensusEvent::RepairNeeded`] must not be given: that bounds what is
    /// remembered.
    pub fn block_held(&mut self, now: Time, block: BlockId, parent: BlockId) {
        if check_parent_slot(block.slot, parent).is_err() {
            self.pool.block_dead(block);
            return;
        }
        if self.pool.block_held(block, parent) {
            self.votor.on_block(block, parent);
        }
        self.settle(now);
    }

    /// A block is known to be malformed: it is never asked for and never voted for.
    pub fn block_dead(&mut self, block: BlockId) {
        self.pool.block_dead(block);
    }

    /// The leader of a slot signed slices that exclude each other: no notar vote is cast there if none was. Everything
    /// else, a notar-fallback vote included, goes on by the usual rules.
    pub fn equivocation(&mut self, slot: Slot) {
        if slot <= self.horizon().shreds_through {
            self.votor.on_equivocation(slot);
        }
    }

    /// A valid shred of a slot came, or this node leads it. Only the first slots of windows matter.
    pub fn leader_seen(&mut self, slot: Slot) {
        if slot.is_window_first() && slot <= self.horizon().shreds_through {
            self.votor.on_leader_seen(slot);
        }
    }

    /// Decides what is to be done with a vote that has just arrived, and takes its place if it is to be checked.
    pub fn admit(&mut self, vote: &UnverifiedVote) -> Admission {
        self.pool.admit(vote)
    }

    /// Gives back the place of a vote that was admitted and found wrong.
    pub fn vote_rejected(&mut self, vote: &UnverifiedVote) {
        self.pool.vote_rejected(vote);
    }

    /// A checked batch. The thresholds are looked at when all of it is stored.
    pub fn votes(&mut self, now: Time, votes: VerifiedVotes) {
        self.pool.add_votes(votes);
        self.settle(now);
    }

    /// Whether a certificate is worth checking: neither implied by what is held nor out of reach, and its bitmaps and
    /// stake suffice.
    #[must_use]
    pub fn wants(&self, certificate: &UnverifiedCertificate) -> bool {
        self.pool.wants(&certificate.0.statement) && certificate.0.check_quorum(&self.stakes).is_ok()
    }

    /// Whether a certificate with this statement would be news.
    pub(crate) fn is_news(&self, statement: &Statement) -> bool {
        self.pool.wants(statement)
    }

    /// What excludes a vote, if anything does: a vote that came before, checked or not.
    pub(crate) fn conflict_of(&self, vote: &UnverifiedVote) -> Option<VotePayload> {
        self.pool.conflict_of(vote)
    }

    /// Of how many slots votes are kept at most.
    pub(crate) const fn vote_slots_max(&self) -> usize {
        self.pool.vote_slots_max()
    }

    /// The hash of a payload, shared between signing and checking.
    pub(crate) fn hash_of(&mut self, payload: VotePayload) -> PayloadHash {
        self.hashes.of(payload)
    }

    /// A checked certificate.
    pub fn certificate(&mut self, now: Time, certificate: VerifiedCertificate) {
        self.pool.add_certificate(certificate);
        self.settle(now);
    }

    /// Fires the timers that are due, each at `now`, in order of their due time and then of their slot.
    pub fn advance(&mut self, now: Time) {
        while let Some(timeout) = self.votor.pop_timeout(now) {
            self.votor.on_timeout(timeout);
            self.settle(now);
        }
    }

    /// When [`Consensus::advance`] has something to do next.
    #[must_use]
    pub fn next_timeout(&self) -> Option<Time> {
        self.votor.next_timeout()
    }

    /// The next thing that happened.
    pub fn poll(&mut self) -> Option<ConsensusEvent> {
        self.events.pop_front()
    }

    /// Hands events to and fro until nothing is left to do. Votes that a handler cast enter the Pool before any other
    /// event.
    fn settle(&mut self, now: Time) {
        loop {
            while let Some(payload) = self.votor.next_cast(self.reservation) {
                self.enter_own_vote(payload);
            }
            self.highest_voted = self.highest_voted.max(self.votor.next_cast_slot().unwrap_or_default());
            let Some(event) = self.pool.next_event() else { break };
            self.votor.close(self.pool.highest_finalized());
            self.handle(now, event);
        }
        let horizon = horizon(&self.pool);
        if horizon != self.reported_horizon {
            if horizon.closed_through != self.reported_horizon.closed_through {
                self.own_votes = self.own_votes.split_off(&horizon.closed_through.next());
            }
            self.reported_horizon = horizon;
            self.events.push_back(ConsensusEvent::Horizon(horizon));
        }
    }

    /// A node follows epochs that it is no member of as if it voted, and keeps its votes to itself.
    fn enter_own_vote(&mut self, payload: VotePayload) {
        if !self.stakes.at(payload.slot()).is_member(self.pool.own()) {
            return;
        }
        self.highest_voted = self.highest_voted.max(payload.slot());
        if self.has_cast(&payload) {
            // Cast before a restart, by a reason that came up once more.
            return;
        }
        if !self.pool.allows_own(&payload) {
            // An error and no assertion: whoever starts again comes to the same vote again, and what led one node here
            // may lead all of them. Not to say it is safe, whatever led here.
            self.events.push_back(ConsensusEvent::Withheld(payload));
            return;
        }
        let (vote, checked) = (self.sign)(&self.hashes.of(payload));
        self.own_votes.entry(payload.slot()).or_default().push(vote);
        self.events.push_back(ConsensusEvent::Vote(vote));
        self.pool.add_own_vote(&checked);
    }

    fn handle(&mut self, now: Time, event: PoolEvent) {
        match event {
            PoolEvent::Report(event) => self.events.push_back(event),
            PoolEvent::BlockNotarized(block) => {
                if !self.pool.is_closed(block.slot) {
                    self.events.push_back(ConsensusEvent::BlockNotarized(block));
                    self.votor.on_block_notarized(block);
                }
            }
            PoolEvent::ParentReady { slot, parent } => {
                if !self.pool.is_closed(slot) {
                    self.events.push_back(ConsensusEvent::ParentReady { slot, parent });
                    self.votor.on_parent_ready(now, slot, parent);
                }
            }
            PoolEvent::Finalized { block, how } => {
                self.events.push_back(ConsensusEvent::Finalized { block, how });
                if let Some(least) = self.unknown_through.take() {
                    self.votor.bar(Slot(block.slot.0.saturating_add(UNKNOWN_SLOTS)).max(least));
                    self.found_bar = Some(self.votor.barred_through());
                }
                self.votor.on_finalized(now, block);
            }
            PoolEvent::SafeToNotar(block) => self.votor.on_safe_to_notar(block),
            PoolEvent::SafeToSkip(slot) => self.votor.on_safe_to_skip(slot),
            PoolEvent::Forgotten(block) => self.votor.on_forgotten(block),
        }
    }

    /// The highest block that is final by certificate; slots up to its own are closed.
    #[must_use]
    pub const fn highest_finalized(&self) -> BlockId {
        self.pool.highest_finalized()
    }

    /// The last block reported or given up in chain order, see [`ConsensusEvent::Chained`].
    #[must_use]
    pub const fn highest_chained(&self) -> BlockId {
        self.pool.highest_chained()
    }

    /// The highest slot with a ParentReady.
    #[must_use]
    pub const fn highest_parent_ready(&self) -> Slot {
        self.pool.highest_parent_ready()
    }

    /// The blocks that the window beginning at `slot` may build on, in the order in which they became ready; none once
    /// the slot is closed.
    #[must_use]
    pub fn parents_ready(&self, slot: Slot) -> &[BlockId] {
        self.votor.parents_ready(slot)
    }

    /// What is taken now.
    #[must_use]
    pub fn horizon(&self) -> Horizon {
        horizon(&self.pool)
    }

    /// The certificates that finalize the highest finalized block: none for genesis.
    #[must_use]
    pub fn finalization_messages(&self) -> Vec<Message> {
        self.pool.finalized_by().iter().map(|certificate| Message::Certificate(Arc::clone(certificate))).collect()
    }

    /// The first slot after `slot` that certificates are held for or own votes were cast in.
    #[must_use]
    pub fn next_open_slot(&self, slot: Slot) -> Option<Slot> {
        let slot = slot.max(self.highest_finalized().slot);
        let voted = self.own_votes.range(slot.next()..).next().map(|(slot, _)| *slot);
        voted.into_iter().chain(self.pool.next_certified_slot(slot)).min()
    }

    /// Whether this node has cast a vote in an open slot.
    #[must_use]
    pub fn has_voted(&self, slot: Slot) -> bool {
        self.own_votes.contains_key(&slot)
    }

    fn has_cast(&self, payload: &VotePayload) -> bool {
        self.own_votes.get(&payload.slot()).is_some_and(|votes| votes.iter().any(|vote| vote.payload == *payload))
    }

    /// The own votes cast in open slots.
    pub fn own_votes(&self) -> impl Iterator<Item = &Vote> {
        self.own_votes.values().flatten()
    }

    /// The certificates held for an open slot, then the own votes cast in it.
    #[must_use]
    pub fn messages_of(&self, slot: Slot) -> Vec<Message> {
        let certificates = self.pool.certificates_of(slot).map(|held| Message::Certificate(Arc::clone(held)));
        let votes = self.own_votes.get(&slot).into_iter().flatten().map(|vote| Message::Vote(*vote));
        certificates.chain(votes).collect()
    }
}

fn horizon(pool: &Pool) -> Horizon {
    let closed_through = pool.highest_finalized().slot;
    // After a finalization by certificate only, the slots that follow it are in play though no window is ready there.
    let in_play = pool.highest_parent_ready().max(closed_through.next());
    let second_after = in_play.0.saturating_add(2 * WINDOW_SLOTS);
    Horizon { closed_through, votes_through: pool.votes_through(), shreds_through: Slot(second_after).window_last() }
}

#[cfg(test)]
mod restated;
#[cfg(test)]
mod streams;
#[cfg(test)]
mod tests;
