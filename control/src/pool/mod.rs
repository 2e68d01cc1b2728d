//! The Pool (paper §2.5): stores votes and certificates, makes certificates of votes, and tells Votor what they mean.

mod batch_sum;
mod blocks;
mod finality;
mod parent_ready;
mod slot_votes;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use alpenglow_rotor::types::{BlockId, Hash, Slot, Stake, ValidatorIndex};

use self::blocks::{Blocks, Held};
use self::finality::Finality;
use self::parent_ready::{ParentReady, ReadyParent};
use self::slot_votes::{Fit, SlotVotes};
use crate::certificate::{Certificate, CertificateKind, Statement, VerifiedCertificate};
use crate::consensus::{Admission, ConsensusEvent, Evidence, Finalization};
use crate::stakes::Stakes;
use crate::vote::{UnverifiedVote, VerifiedVotes, VotePayload};

/// How far past the highest finalized or ready slot votes are taken.
const VOTES_AHEAD_SLOTS: u64 = 40;
/// How far past the vote horizon notar-fallback and skip certificates are taken.
const CERTIFICATES_AHEAD_SLOTS: u64 = 1_024;
/// Slots past the vote horizon, the highest ones, for which certificates that lead to a finalization are kept.
const FAR_SLOTS_MAX: usize = 8;
/// Blocks of a slot that can be certified: each takes 40% of correct stake, of which every validator has four votes in
/// a slot and which is at least 80% of all; so eight.
const CERTIFIED_PER_SLOT_MAX: usize = 8;

/// Places for votes over all open slots, from which follows of how many slots votes are kept; see [`Pool::votes_of`].
const VOTE_PLACES_MAX: usize = 1 << 16;
/// Of so many slots votes are kept however large the validator set is: the reach of the horizon, and more than a window
/// before it.
const VOTE_SLOTS_MIN: usize = 48;

/// The least stakes that reach the protocol's fractions of the total.
struct Quorums {
    percent_20: Stake,
    percent_40: Stake,
    percent_60: Stake,
    percent_80: Stake,
}

impl Quorums {
    fn new(total: Stake) -> Self {
        let least = |percent: u128| {
            // At most the total, which fits.
            Stake((percent * u128::from(total.0)).div_ceil(100) as u64)
        };
        Self { percent_20: least(20), percent_40: least(40), percent_60: least(60), percent_80: least(80) }
    }
}

/// What Votor, or the world, must know.
#[derive(Debug)]
pub(crate) enum PoolEvent {
    /// Only for the world.
    Report(ConsensusEvent),
    /// For Votor and the world.
    BlockNotarized(BlockId),
    /// For Votor and the world.
    ParentReady { slot: Slot, parent: BlockId },
    /// Final by certificate. For Votor and the world.
    Finalized { block: BlockId, how: Finalization },
    /// For Votor.
    SafeToNotar(BlockId),
    /// For Votor.
    SafeToSkip(Slot),
    /// A notarization of a slot far ahead is no longer held. For Votor.
    Forgotten(BlockId),
}

/// The certificates for one block.
struct BlockCertificates {
    hash: Hash,
    notarization: Option<Arc<Certificate>>,
    notar_fallback: Option<Arc<Certificate>>,
}

/// The certificates of one open slot. A fast-finalization certificate closes its slot, so it is never here.
#[derive(Default)]
struct SlotCertificates {
    blocks: Vec<BlockCertificates>,
    skip: Option<Arc<Certificate>>,
    finalization: Option<Arc<Certificate>>,
}

impl SlotCertificates {
    fn of_block(&self, hash: Hash) -> Option<&BlockCertificates> {
        self.blocks.iter().find(|block| block.hash == hash)
    }

    fn notarized(&self) -> Option<(Hash, &Arc<Certificate>)> {
        self.blocks.iter().find_map(|block| block.notarization.as_ref().map(|held| (block.hash, held)))
    }

    /// Whether a statement is among those held or implied by one of them.
    fn imply(&self, statement: &Statement) -> bool {
        match statement {
            Statement::Fast(_) => false,
            Statement::Notarization(block) => self.of_block(block.hash).is_some_and(|held| held.notarization.is_some()),
            Statement::NotarFallback(block) => self.of_block(block.hash).is_some(),
            Statement::Skip(_) => self.skip.is_some(),
            Statement::Finalization(_) => self.finalization.is_some(),
        }
    }

    fn has_room_for(&self, statement: &Statement) -> bool {
        let known = statement.block().is_none_or(|block| self.of_block(block.hash).is_some());
        known || self.blocks.len() < CERTIFIED_PER_SLOT_MAX
    }

    fn store(&mut self, certificate: Arc<Certificate>) {
        match certificate.statement {
            Statement::Skip(_) => self.skip = Some(certificate),
            Statement::Finalization(_) => self.finalization = Some(certificate),
            Statement::Fast(block) | Statement::Notarization(block) | Statement::NotarFallback(block) => {
                let at = self.blocks.iter().position(|held| held.hash == block.hash).unwrap_or_else(|| {
                    self.blocks.push(BlockCertificates { hash: block.hash, notarization: None, notar_fallback: None });
                    self.blocks.len() - 1
                });
                if certificate.statement.kind() == CertificateKind::NotarFallback {
                    self.blocks[at].notar_fallback = Some(certificate);
                } else {
                    self.blocks[at].notarization = Some(certificate);
                }
            }
        }
    }

    fn all(&self) -> impl Iterator<Item = &Arc<Certificate>> {
        let of_blocks = self.blocks.iter().flat_map(|block| block.notarization.iter().chain(&block.notar_fallback));
        of_blocks.chain(&self.skip).chain(&self.finalization)
    }
}

/// See the module.
///
/// Open slots are those above the highest finalized one. Validators below a quorum cannot open any: a slot is taken up
/// to a distance from the highest that is finalized or ready, and only certificates move these. While 60% of the stake
/// go on certifying blocks or skipping slots and nothing becomes final, what is kept of each slot is needed by nodes
/// that lag: a few certificates, less than a KiB each.
pub(crate) struct Pool {
    own: ValidatorIndex,
    stakes: Arc<Stakes>,
    /// By set of [`Stakes::sets`].
    quorums: Box<[Quorums]>,
    /// Of open slots, at most `vote_slots_max`, the highest ones.
    votes: BTreeMap<Slot, SlotVotes>,
    vote_slots_max: usize,
    /// Of open slots: up to [`CERTIFICATES_AHEAD_SLOTS`] past the vote horizon, and [`FAR_SLOTS_MAX`] beyond. In a
    /// slot, two for each of [`CERTIFIED_PER_SLOT_MAX`] blocks, and two more.
    certificates: BTreeMap<Slot, SlotCertificates>,
    /// Slots past the vote horizon that hold a notarization or finalization certificate: at most [`FAR_SLOTS_MAX`].
    far: BTreeSet<Slot>,
    /// Validators that there is evidence against, by slot: of the slots that votes are kept of, each validator once.
    accused: BTreeMap<Slot, BTreeSet<ValidatorIndex>>,
    blocks: Blocks,
    parent_ready: ParentReady,
    finality: Finality,
    /// The one or two certificates of the highest finalized block.
    finalized_by: Vec<Arc<Certificate>>,
    /// What one input caused: taken out before the next one.
    events: VecDeque<PoolEvent>,
    /// Slots where something may have become safe to notarize or to skip. Emptied with the events.
    unsettled: BTreeSet<Slot>,
    /// What one slot made safe, taken out before the next one is looked at: a notar-fallback vote for each of at most
    /// three hashes (what is safe has 20% each, and 60% with the skip votes), and a skip-fallback vote.
    safe: VecDeque<PoolEvent>,
}

impl Pool {
    pub(crate) fn new(own: ValidatorIndex, stakes: Arc<Stakes>) -> Self {
        Self {
            own,
            quorums: stakes.sets().map(|set| Quorums::new(set.total())).collect(),
            vote_slots_max: (VOTE_PLACES_MAX / stakes.len()).max(VOTE_SLOTS_MIN),
            stakes,
            votes: BTreeMap::new(),
            certificates: BTreeMap::new(),
            far: BTreeSet::new(),
            accused: BTreeMap::new(),
            blocks: Blocks::new(),
            parent_ready: ParentReady::new(),
            finality: Finality::new(),
            finalized_by: Vec::new(),
            events: VecDeque::new(),
            unsettled: BTreeSet::new(),
            safe: VecDeque::new(),
        }
    }

    pub(crate) const fn own(&self) -> ValidatorIndex {
        self.own
    }

    pub(crate) const fn highest_finalized(&self) -> BlockId {
        self.finality.highest()
    }

    pub(crate) const fn highest_chained(&self) -> BlockId {
        self.finality.chained()
    }

    pub(crate) const fn highest_parent_ready(&self) -> Slot {
        self.parent_ready.highest()
    }

    /// The last slot that votes are taken for.
    pub(crate) fn votes_through(&self) -> Slot {
        let base = self.finality.highest().slot.max(self.parent_ready.highest());
        Slot(base.0.saturating_add(VOTES_AHEAD_SLOTS))
    }

    pub(crate) const fn vote_slots_max(&self) -> usize {
        self.vote_slots_max
    }

    pub(crate) fn is_closed(&self, slot: Slot) -> bool {
        slot <= self.finality.highest().slot
    }

    /// The certificates that finalize the highest finalized block.
    pub(crate) fn finalized_by(&self) -> &[Arc<Certificate>] {
        &self.finalized_by
    }

    /// The first slot after `slot` with certificates.
    pub(crate) fn next_certified_slot(&self, slot: Slot) -> Option<Slot> {
        self.certificates.range(slot.next()..).next().map(|(slot, _)| *slot)
    }

    /// The certificates held for an open slot.
    pub(crate) fn certificates_of(&self, slot: Slot) -> impl Iterator<Item = &Arc<Certificate>> {
        self.certificates.get(&slot).into_iter().flat_map(SlotCertificates::all)
    }

    /// The next event. Those of certificates come before what is safe to notarize or to skip.
    pub(crate) fn next_event(&mut self) -> Option<PoolEvent> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Some(event);
            }
            if let Some(event) = self.safe.pop_front() {
                return Some(event);
            }
            let slot = self.unsettled.pop_first()?;
            self.settle(slot);
        }
    }

    /// The chain goes on after this block, which is about to be finalized.
    pub(crate) fn restore_tip(&mut self, tip: BlockId, parent: BlockId) {
        self.finality.restore(parent);
        self.blocks.hold(tip, parent);
    }

    /// A block with an allowed parent is held. Whether it is the first one of its open slot.
    pub(crate) fn block_held(&mut self, block: BlockId, parent: BlockId) -> bool {
        if block.slot <= self.finality.chained().slot {
            return false;
        }
        let held = self.blocks.hold(block, parent);
        if self.is_closed(block.slot) {
            self.finality.held(block, &mut self.blocks, &mut self.events);
            return false;
        }
        self.unsettled.insert(block.slot);
        held == Held::First
    }

    pub(crate) fn block_dead(&mut self, block: BlockId) {
        if block.slot > self.finality.chained().slot {
            self.blocks.kill(block);
        }
    }

    fn want(&mut self, block: BlockId) {
        if self.blocks.want(block) {
            self.events.push_back(PoolEvent::Report(ConsensusEvent::RepairNeeded(block)));
        }
    }

    /// The votes of an open slot. A certificate far ahead can leave a long row of slots open below the ready one, and
    /// nothing may grow with its length: the highest slots are kept, because only there can votes still be needed.
    /// Below them every correct node has, or gets with the next standstill, the certificates that lead past.
    fn votes_of(&mut self, slot: Slot) -> Option<&mut SlotVotes> {
        if !self.votes.contains_key(&slot) {
            if self.votes.len() >= self.vote_slots_max {
                if self.votes.first_key_value().is_some_and(|(lowest, _)| slot < *lowest) {
                    return None;
                }
                let (lowest, _) = self.votes.pop_first()?;
                self.accused.remove(&lowest);
            }
            self.votes.insert(slot, SlotVotes::new(slot, self.stakes.len()));
        }
        self.votes.get_mut(&slot)
    }

    /// See [`crate::consensus::Consensus::admit`].
    pub(crate) fn admit(&mut self, vote: &UnverifiedVote) -> Admission {
        let slot = vote.payload.slot();
        if vote.signer == self.own || vote.signer.get() >= self.stakes.len() {
            return Admission::Signer;
        }
        if !self.stakes.at(slot).is_member(vote.signer) {
            return Admission::NotMember;
        }
        if self.is_closed(slot) {
            return Admission::Closed;
        }
        if slot > self.votes_through() {
            return Admission::Ahead;
        }
        let Some(votes) = self.votes_of(slot) else { return Admission::Closed };
        match votes.fit(vote.signer, &vote.payload) {
            Fit::New => {
                votes.take(vote.signer, &vote.payload);
                Admission::Check
            }
            Fit::Taken | Fit::Redundant => Admission::Redundant,
            Fit::Conflict { .. } => {
                let accused = self.accused.get(&slot).is_some_and(|accused| accused.contains(&vote.signer));
                if accused { Admission::ConflictAgain } else { Admission::Conflict }
            }
        }
    }

    /// See [`crate::consensus::Consensus::conflict_of`].
    pub(crate) fn conflict_of(&self, vote: &UnverifiedVote) -> Option<VotePayload> {
        match self.votes.get(&vote.payload.slot())?.fit(vote.signer, &vote.payload) {
            Fit::Conflict { with, .. } => Some(with),
            Fit::New | Fit::Taken | Fit::Redundant => None,
        }
    }

    /// See [`crate::consensus::Consensus::vote_rejected`].
    pub(crate) fn vote_rejected(&mut self, vote: &UnverifiedVote) {
        if let Some(votes) = self.votes.get_mut(&vote.payload.slot())
            && vote.signer.get() < self.stakes.len()
        {
            votes.give_back(vote.signer, &vote.payload);
        }
    }

    /// Checked votes of others.
    pub(crate) fn add_votes(&mut self, batch: VerifiedVotes) {
        let slot = batch.payload.slot();
        if self.is_closed(slot) || slot > self.votes_through() {
            return;
        }
        let epoch = self.stakes.at(slot);
        assert!(batch.signers().all(|signer| epoch.is_member(signer)), "only members' votes are admitted");
        let Some(votes) = self.votes_of(slot) else { return };
        let fits = |vote: &UnverifiedVote| matches!(votes.fit(vote.signer, &vote.payload), Fit::New | Fit::Taken);
        if batch.votes.iter().all(fits) {
            self.store_votes(&batch);
        } else {
            self.refuse(batch);
        }
    }

    /// Whether an own vote may be cast beside those cast before.
    pub(crate) fn allows_own(&self, payload: &VotePayload) -> bool {
        self.votes.get(&payload.slot()).is_none_or(|votes| votes.fit(self.own, payload) == Fit::New)
    }

    /// An own vote, just cast or of before a restart; whether it is kept.
    pub(crate) fn add_own_vote(&mut self, batch: &VerifiedVotes) -> bool {
        let (slot, own) = (batch.payload.slot(), self.own);
        let fits = !self.is_closed(slot)
            && self.votes_of(slot).is_some_and(|votes| votes.fit(own, &batch.payload) == Fit::New);
        if fits {
            self.store_votes(batch);
        }
        fits
    }

    fn store_votes(&mut self, batch: &VerifiedVotes) {
        let slot = batch.payload.slot();
        let votes = self.votes.get_mut(&slot).expect("made before votes are stored");
        for validator in batch.signers() {
            if votes.fit(validator, &batch.payload) == Fit::New {
                votes.take(validator, &batch.payload);
            }
        }
        let quorums = &self.quorums[self.stakes.set_index(slot)];
        votes.store(&batch.payload, batch.signers(), batch.sum, self.stakes.at(slot), quorums);
        self.unsettled.insert(slot);
        let Some(statement) = votes.proven(&batch.payload, quorums) else { return };
        let known = self.certificates.get(&slot);
        if known.is_none_or(|known| !known.imply(&statement) && known.has_room_for(&statement)) {
            let certificate = votes.certify(statement);
            if certificate.check_quorum(&self.stakes).is_ok() {
                self.store_certificate(certificate);
            }
        }
    }

    /// A batch of which some votes do not fit. A single vote that conflicts is evidence: its signature was checked by
    /// itself. A larger batch cannot be used without them: those that fit must be checked anew.
    fn refuse(&mut self, batch: VerifiedVotes) {
        let Some(votes) = self.votes.get(&batch.payload.slot()) else { return };
        let single = batch.votes.len() == 1;
        let mut fitting = Vec::new();
        for vote in batch.votes {
            match votes.fit(vote.signer, &vote.payload) {
                Fit::New | Fit::Taken => fitting.push(vote),
                Fit::Conflict { with, stored: true } if single => {
                    self.accused.entry(vote.payload.slot()).or_default().insert(vote.signer);
                    self.events.push_back(PoolEvent::Report(ConsensusEvent::Evidence(Evidence {
                        validator: vote.signer,
                        stored: with,
                        conflicting: vote.payload,
                        signature: vote.signature,
                    })));
                }
                // Neither proves a fault: not a signature that was checked among others, nor a conflict with an
                // unchecked vote.
                Fit::Conflict { .. } | Fit::Redundant => {}
            }
        }
        if !fitting.is_empty() {
            self.events.push_back(PoolEvent::Report(ConsensusEvent::Recheck(fitting)));
        }
    }

    /// Whether a certificate is news: open, in reach, and not implied by what is held.
    pub(crate) fn wants(&self, statement: &Statement) -> bool {
        let slot = statement.slot();
        let known = self.certificates.get(&slot);
        !self.is_closed(slot)
            && self.is_in_reach(statement)
            && known.is_none_or(|known| !known.imply(statement) && known.has_room_for(statement))
    }

    fn is_in_reach(&self, statement: &Statement) -> bool {
        let (slot, horizon) = (statement.slot(), self.votes_through());
        match statement {
            Statement::NotarFallback(_) | Statement::Skip(_) => {
                slot.0 <= horizon.0.saturating_add(CERTIFICATES_AHEAD_SLOTS)
            }
            Statement::Fast(_) | Statement::Notarization(_) | Statement::Finalization(_) => {
                let lowest = self.far.first();
                slot <= horizon
                    || self.far.len() < FAR_SLOTS_MAX
                    || self.far.contains(&slot)
                    || lowest.is_some_and(|lowest| slot > *lowest)
            }
        }
    }

    /// A checked certificate. Dropped if it is no news or below its quorum.
    pub(crate) fn add_certificate(&mut self, certificate: VerifiedCertificate) {
        if self.wants(&certificate.0.statement) && certificate.0.check_quorum(&self.stakes).is_ok() {
            self.store_certificate(certificate.0);
        }
    }

    fn store_certificate(&mut self, certificate: Certificate) {
        let statement = certificate.statement;
        let certificate = Arc::new(certificate);
        self.events.push_back(PoolEvent::Report(ConsensusEvent::Certificate(Arc::clone(&certificate))));
        let slot = statement.slot();
        self.certificates.entry(slot).or_default().store(Arc::clone(&certificate));
        if let Some(block) = statement.block() {
            self.want(block);
            self.unsettled.insert(slot.next());
        }
        match statement {
            Statement::Fast(block) => {
                let ready = self.parent_ready.certify(block);
                self.finalize(block, Finalization::Fast, vec![certificate]);
                self.push_ready(ready);
            }
            Statement::Notarization(block) => {
                let ready = self.parent_ready.certify(block);
                if !self.finalize_slowly(slot) {
                    self.events.push_back(PoolEvent::BlockNotarized(block));
                }
                self.push_ready(ready);
            }
            Statement::NotarFallback(block) => {
                let ready = self.parent_ready.certify(block);
                self.push_ready(ready);
            }
            Statement::Skip(slot) => {
                let ready = self.parent_ready.skip(slot);
                self.push_ready(ready);
            }
            Statement::Finalization(slot) => {
                self.finalize_slowly(slot);
            }
        }
        self.keep_far(slot, statement.kind());
    }

    fn push_ready(&mut self, ready: Vec<ReadyParent>) {
        self.events.extend(ready.into_iter().map(|(slot, parent)| PoolEvent::ParentReady { slot, parent }));
    }

    /// Finalizes a slot's notarized block if there is a finalization certificate too.
    fn finalize_slowly(&mut self, slot: Slot) -> bool {
        let Some(known) = self.certificates.get(&slot) else { return false };
        let (Some((hash, notarization)), Some(finalization)) = (known.notarized(), &known.finalization) else {
            return false;
        };
        let certificates = vec![Arc::clone(finalization), Arc::clone(notarization)];
        self.finalize(BlockId { slot, hash }, Finalization::Slow, certificates);
        true
    }

    fn finalize(&mut self, block: BlockId, how: Finalization, certificates: Vec<Arc<Certificate>>) {
        self.finality.finalize(block, how, &mut self.blocks, &mut self.events);
        self.parent_ready.finalize(block);
        self.finalized_by = certificates;
        let open = block.slot.next();
        self.votes = self.votes.split_off(&open);
        self.certificates = self.certificates.split_off(&open);
        self.accused = self.accused.split_off(&open);
        self.unsettled = self.unsettled.split_off(&open);
        self.unsettled.insert(open);
        self.safe.retain(|event| match event {
            PoolEvent::SafeToNotar(safe) => safe.slot > block.slot,
            PoolEvent::SafeToSkip(slot) => *slot > block.slot,
            _ => true,
        });
    }

    /// Keeps the number of slots bounded that are taken because they may lead to a finalization far ahead.
    fn keep_far(&mut self, slot: Slot, kind: CertificateKind) {
        let horizon = self.votes_through();
        self.far = self.far.split_off(&horizon.next());
        let leads_to_finalization = matches!(kind, CertificateKind::Notarization | CertificateKind::Finalization);
        if slot <= horizon || !leads_to_finalization {
            return;
        }
        self.far.insert(slot);
        if self.far.len() > FAR_SLOTS_MAX
            && let Some(lowest) = self.far.pop_first()
        {
            self.forget_far(lowest);
        }
    }

    fn forget_far(&mut self, slot: Slot) {
        let Some(known) = self.certificates.get_mut(&slot) else { return };
        known.finalization = None;
        for held in &mut known.blocks {
            if held.notarization.take().is_some() {
                let block = BlockId { slot, hash: held.hash };
                if held.notar_fallback.is_none() {
                    self.parent_ready.forget(block);
                }
                self.events.push_back(PoolEvent::Forgotten(block));
            }
        }
        known.blocks.retain(|held| held.notar_fallback.is_some());
        if known.all().next().is_none() {
            self.certificates.remove(&slot);
        }
    }

    /// Looks whether something became safe to notarize or to skip in a slot.
    fn settle(&mut self, slot: Slot) {
        let Some(votes) = self.votes.get_mut(&slot) else { return };
        let Some(own) = votes.first(self.own) else { return };
        let quorums = &self.quorums[self.stakes.set_index(slot)];
        let candidates: Vec<Hash> = votes.safe_to_notar_candidates(own, quorums).collect();
        for hash in candidates {
            let block = BlockId { slot, hash };
            match self.blocks.parent(block) {
                None => self.want(block),
                Some(parent) if slot.is_window_first() || self.parent_ready.is_certified(parent) => {
                    self.mark_safe_to_notar(block);
                }
                Some(_) => {}
            }
        }
        let Some(votes) = self.votes.get_mut(&slot) else { return };
        if votes.becomes_safe_to_skip(own, &self.quorums[self.stakes.set_index(slot)]) {
            self.safe.push_back(PoolEvent::SafeToSkip(slot));
        }
    }

    fn mark_safe_to_notar(&mut self, block: BlockId) {
        if let Some(votes) = self.votes.get_mut(&block.slot) {
            votes.mark_safe_to_notar(block.hash);
        }
        self.safe.push_back(PoolEvent::SafeToNotar(block));
    }
}
