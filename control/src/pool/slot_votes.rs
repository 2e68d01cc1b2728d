//! The votes of one slot: one place per validator and kind of vote, and stake sums kept as votes come in.
//!
//! A place is taken when a vote arrives and counts once the vote is checked, so that of two conflicting votes the one
//! that arrived first wins, in whatever order the checks end. Memory is a few fixed arrays of n, and one entry for each
//! hash voted for: at most four per validator, whatever the validators send.

use std::collections::BTreeMap;

use alpenglow_rotor::epochs::EpochStakes;
use alpenglow_rotor::types::{BlockId, Hash, Slot, Stake, ValidatorIndex};

use super::Quorums;
use super::batch_sum::BatchSum;
use crate::bls::{Signature, SignatureSum};
use crate::certificate::{Certificate, Signers, Statement};
use crate::vote::VotePayload;

/// Notar-fallback votes that a validator may cast in a slot: no correct one needs more (paper §2.5).
pub(crate) const NOTAR_FALLBACK_MAX: usize = 3;

/// Index into [`SlotVotes::hashes`].
type HashIndex = u16;

/// What takes a validator's place for its first vote.
const FIRST_NONE: u16 = 0;
const FIRST_SKIP: u16 = 1;
const FIRST_NOTAR: u16 = 2;

/// Bits of [`Places::flags`]. A `STORED` bit says that the vote in the place was checked.
const FIRST_STORED: u8 = 1;
const FALLBACK_STORED: [u8; NOTAR_FALLBACK_MAX] = [2, 4, 8];
const SKIP_FALLBACK_TAKEN: u8 = 16;
const SKIP_FALLBACK_STORED: u8 = 32;
const FINAL_TAKEN: u8 = 64;
const FINAL_STORED: u8 = 128;

/// How a vote fits what its validator's places hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fit {
    /// Its place is free.
    New,
    /// Its place is taken for exactly this vote, which is not checked yet.
    Taken,
    /// Stored already, implied by one that is, or one notar-fallback vote too many.
    Redundant,
    /// It excludes a vote before it.
    Conflict {
        /// That vote.
        with: VotePayload,
        /// Whether that vote was checked.
        stored: bool,
    },
}

/// A validator's first vote, if it is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum First {
    Skip,
    Notar(Hash),
}

/// The places of one validator.
#[derive(Clone, Copy, Default)]
struct Places {
    /// [`FIRST_NONE`], [`FIRST_SKIP`], or [`FIRST_NOTAR`] plus the index of a hash.
    first: u16,
    /// One more than the index of a hash; zero is free.
    fallback: [u16; NOTAR_FALLBACK_MAX],
    flags: u8,
}

impl Places {
    const fn has(&self, bit: u8) -> bool {
        self.flags & bit != 0
    }

    fn fallback_of(&self, hash: HashIndex) -> Option<usize> {
        self.fallback.iter().position(|place| *place == hash + 1)
    }

    const fn stored_notar(&self, hash: HashIndex) -> bool {
        self.first == FIRST_NOTAR + hash && self.has(FIRST_STORED)
    }

    fn stored_fallback(&self, hash: HashIndex) -> bool {
        self.fallback_of(hash).is_some_and(|at| self.has(FALLBACK_STORED[at]))
    }
}

/// The votes for one hash.
struct HashVotes {
    hash: Hash,
    /// Places that name it; an entry without any is used again.
    references: u32,
    notar: Stake,
    /// Of those that cast a notar or a notar-fallback vote for it.
    notar_or_fallback: Stake,
    notar_sum: BatchSum,
    fallback_sum: BatchSum,
    safe_to_notar: bool,
}

/// See the module.
pub(super) struct SlotVotes {
    slot: Slot,
    places: Box<[Places]>,
    hashes: Vec<HashVotes>,
    index: BTreeMap<Hash, HashIndex>,
    unused: Vec<HashIndex>,
    /// Where the hash looked up last is: most votes of a slot are for one hash.
    latest: HashIndex,
    /// Hashes with notar votes of 20%: at most five, the only ones that can become safe to notarize.
    weighty: Vec<HashIndex>,
    notar_total: Stake,
    notar_highest: Stake,
    skip: Stake,
    skip_or_fallback: Stake,
    finals: Stake,
    skip_sum: BatchSum,
    skip_fallback_sum: BatchSum,
    final_sum: BatchSum,
    safe_to_skip: bool,
}

impl SlotVotes {
    pub(super) fn new(slot: Slot, validators: usize) -> Self {
        Self {
            slot,
            places: vec![Places::default(); validators].into_boxed_slice(),
            hashes: Vec::new(),
            index: BTreeMap::new(),
            unused: Vec::new(),
            latest: 0,
            weighty: Vec::new(),
            notar_total: Stake(0),
            notar_highest: Stake(0),
            skip: Stake(0),
            skip_or_fallback: Stake(0),
            finals: Stake(0),
            skip_sum: BatchSum::default(),
            skip_fallback_sum: BatchSum::default(),
            final_sum: BatchSum::default(),
            safe_to_skip: false,
        }
    }

    fn find(&self, hash: Hash) -> Option<HashIndex> {
        match self.hashes.get(usize::from(self.latest)) {
            Some(entry) if entry.hash == hash && entry.references > 0 => Some(self.latest),
            _ => self.index.get(&hash).copied(),
        }
    }

    fn find_or_add(&mut self, hash: Hash) -> HashIndex {
        let found = self.find(hash).unwrap_or_else(|| {
            let entry = HashVotes {
                hash,
                references: 0,
                notar: Stake(0),
                notar_or_fallback: Stake(0),
                notar_sum: BatchSum::default(),
                fallback_sum: BatchSum::default(),
                safe_to_notar: false,
            };
            let at = self.unused.pop().unwrap_or_else(|| {
                // Each place names one hash, so there are at most 4 * 2,000 entries in use.
                HashIndex::try_from(self.hashes.len()).expect("at most four hashes per validator")
            });
            if usize::from(at) == self.hashes.len() {
                self.hashes.push(entry);
            } else {
                self.hashes[usize::from(at)] = entry;
            }
            self.index.insert(hash, at);
            at
        });
        self.latest = found;
        found
    }

    fn entry(&self, hash: HashIndex) -> &HashVotes {
        &self.hashes[usize::from(hash)]
    }

    fn block(&self, hash: HashIndex) -> BlockId {
        BlockId { slot: self.slot, hash: self.entry(hash).hash }
    }

    /// How a vote fits. Conflicts come before redundancy: a second notar-fallback vote after a final one is evidence
    /// again.
    pub(super) fn fit(&self, validator: ValidatorIndex, payload: &VotePayload) -> Fit {
        let places = &self.places[validator.get()];
        if let Some((with, stored)) = self.conflict(places, payload) {
            return Fit::Conflict { with, stored };
        }
        let state = |taken: bool, stored: bool| match (taken, stored) {
            (_, true) => Fit::Redundant,
            (true, false) => Fit::Taken,
            (false, false) => Fit::New,
        };
        match payload {
            VotePayload::Notar(_) | VotePayload::Skip(_) => state(places.first != FIRST_NONE, places.has(FIRST_STORED)),
            VotePayload::NotarFallback(block) => {
                let hash = self.find(block.hash);
                match hash.and_then(|hash| places.fallback_of(hash)) {
                    Some(at) => state(true, places.has(FALLBACK_STORED[at])),
                    None if hash.is_some_and(|hash| places.first == FIRST_NOTAR + hash) => Fit::Redundant,
                    None if places.fallback.contains(&0) => Fit::New,
                    None => Fit::Redundant,
                }
            }
            VotePayload::SkipFallback(_) => {
                let taken = places.has(SKIP_FALLBACK_TAKEN);
                if !taken && places.first == FIRST_SKIP {
                    Fit::Redundant
                } else {
                    state(taken, places.has(SKIP_FALLBACK_STORED))
                }
            }
            VotePayload::Final(_) => state(places.has(FINAL_TAKEN), places.has(FINAL_STORED)),
        }
    }

    /// A vote in `places` that excludes `payload`, a checked one if there is one, and whether it is checked.
    fn conflict(&self, places: &Places, payload: &VotePayload) -> Option<(VotePayload, bool)> {
        let first_stored = places.has(FIRST_STORED);
        let skip = (places.first == FIRST_SKIP).then_some((VotePayload::Skip(self.slot), first_stored));
        let notar = (places.first >= FIRST_NOTAR)
            .then(|| (VotePayload::Notar(self.block(places.first - FIRST_NOTAR)), first_stored));
        let finalization = places.has(FINAL_TAKEN).then_some((VotePayload::Final(self.slot), places.has(FINAL_STORED)));
        match payload {
            VotePayload::Notar(block) => {
                let other = notar.filter(|(with, _)| *with != VotePayload::Notar(*block));
                skip.or(other)
            }
            VotePayload::Skip(_) => better(notar, finalization),
            VotePayload::NotarFallback(_) | VotePayload::SkipFallback(_) => finalization,
            VotePayload::Final(_) => {
                let skip_fallback = places
                    .has(SKIP_FALLBACK_TAKEN)
                    .then_some((VotePayload::SkipFallback(self.slot), places.has(SKIP_FALLBACK_STORED)));
                let fallbacks = places.fallback.iter().zip(FALLBACK_STORED).filter(|(place, _)| **place != 0);
                fallbacks
                    .map(|(place, bit)| (VotePayload::NotarFallback(self.block(place - 1)), places.has(bit)))
                    .fold(better(skip, skip_fallback), |best, next| better(best, Some(next)))
            }
        }
    }

    /// Takes the place of a vote that is [`Fit::New`].
    pub(super) fn take(&mut self, validator: ValidatorIndex, payload: &VotePayload) {
        let hash = payload.hash().map(|hash| self.find_or_add(hash));
        if let Some(hash) = hash {
            self.hashes[usize::from(hash)].references += 1;
        }
        let places = &mut self.places[validator.get()];
        match (payload, hash) {
            (VotePayload::Notar(_), Some(hash)) => places.first = FIRST_NOTAR + hash,
            (VotePayload::NotarFallback(_), Some(hash)) => {
                let free = places.fallback.iter_mut().find(|place| **place == 0);
                *free.expect("a vote that fits has a free place") = hash + 1;
            }
            (VotePayload::Skip(_), _) => places.first = FIRST_SKIP,
            (VotePayload::SkipFallback(_), _) => places.flags |= SKIP_FALLBACK_TAKEN,
            (VotePayload::Final(_), _) => places.flags |= FINAL_TAKEN,
            (VotePayload::Notar(_) | VotePayload::NotarFallback(_), None) => unreachable!("such payloads have a hash"),
        }
    }

    /// Frees the place of a vote that is [`Fit::Taken`].
    pub(super) fn give_back(&mut self, validator: ValidatorIndex, payload: &VotePayload) {
        if self.fit(validator, payload) != Fit::Taken {
            return;
        }
        let hash = payload.hash().and_then(|hash| self.find(hash));
        let places = &mut self.places[validator.get()];
        match payload {
            VotePayload::Notar(_) | VotePayload::Skip(_) => places.first = FIRST_NONE,
            VotePayload::NotarFallback(_) => {
                if let Some(at) = hash.and_then(|hash| places.fallback_of(hash)) {
                    places.fallback[at] = 0;
                }
            }
            VotePayload::SkipFallback(_) => places.flags &= !SKIP_FALLBACK_TAKEN,
            VotePayload::Final(_) => places.flags &= !FINAL_TAKEN,
        }
        if let Some(hash) = hash {
            let entry = &mut self.hashes[usize::from(hash)];
            entry.references -= 1;
            if entry.references == 0 {
                self.index.remove(&entry.hash);
                self.unused.push(hash);
            }
        }
    }

    /// Counts a batch of checked votes whose places are all taken for them.
    pub(super) fn store(
        &mut self,
        payload: &VotePayload,
        signers: impl Iterator<Item = ValidatorIndex>,
        sum: Signature,
        stakes: &EpochStakes,
        quorums: &Quorums,
    ) {
        match payload {
            VotePayload::Notar(block) => {
                let hash = self.find(block.hash).expect("the hash of a place taken is known");
                self.store_notar(hash, signers, sum, stakes, quorums);
            }
            VotePayload::NotarFallback(block) => {
                let hash = self.find(block.hash).expect("the hash of a place taken is known");
                let entry = &mut self.hashes[usize::from(hash)];
                for validator in signers {
                    let places = &mut self.places[validator.get()];
                    let at = places.fallback_of(hash).expect("the place was taken");
                    places.flags |= FALLBACK_STORED[at];
                    if !places.stored_notar(hash) {
                        entry.notar_or_fallback += stakes.of(validator);
                    }
                }
                entry.fallback_sum.add(sum);
            }
            VotePayload::Skip(_) => {
                for validator in signers {
                    let places = &mut self.places[validator.get()];
                    places.flags |= FIRST_STORED;
                    self.skip += stakes.of(validator);
                    if !places.has(SKIP_FALLBACK_STORED) {
                        self.skip_or_fallback += stakes.of(validator);
                    }
                }
                self.skip_sum.add(sum);
            }
            VotePayload::SkipFallback(_) => {
                for validator in signers {
                    let places = &mut self.places[validator.get()];
                    places.flags |= SKIP_FALLBACK_STORED;
                    if !(places.first == FIRST_SKIP && places.has(FIRST_STORED)) {
                        self.skip_or_fallback += stakes.of(validator);
                    }
                }
                self.skip_fallback_sum.add(sum);
            }
            VotePayload::Final(_) => {
                for validator in signers {
                    self.places[validator.get()].flags |= FINAL_STORED;
                    self.finals += stakes.of(validator);
                }
                self.final_sum.add(sum);
            }
        }
    }

    fn store_notar(
        &mut self,
        hash: HashIndex,
        signers: impl Iterator<Item = ValidatorIndex>,
        sum: Signature,
        stakes: &EpochStakes,
        quorums: &Quorums,
    ) {
        let entry = &mut self.hashes[usize::from(hash)];
        let before = entry.notar;
        for validator in signers {
            let places = &mut self.places[validator.get()];
            places.flags |= FIRST_STORED;
            entry.notar += stakes.of(validator);
            if !places.stored_fallback(hash) {
                entry.notar_or_fallback += stakes.of(validator);
            }
        }
        entry.notar_sum.add(sum);
        let after = entry.notar;
        self.notar_total += after - before;
        self.notar_highest = self.notar_highest.max(after);
        if before < quorums.percent_20 && after >= quorums.percent_20 {
            self.weighty.push(hash);
        }
    }

    /// A validator's first vote, once checked.
    pub(super) fn first(&self, validator: ValidatorIndex) -> Option<First> {
        let places = &self.places[validator.get()];
        match places.first {
            _ if !places.has(FIRST_STORED) => None,
            FIRST_NONE => None,
            FIRST_SKIP => Some(First::Skip),
            notar => Some(First::Notar(self.entry(notar - FIRST_NOTAR).hash)),
        }
    }

    /// The strongest statement about `payload`'s block, or about skipping or finalizing, that the stored votes prove.
    pub(super) fn proven(&self, payload: &VotePayload, quorums: &Quorums) -> Option<Statement> {
        let votes_for = |hash| self.find(hash).map(|at| self.entry(at));
        match payload {
            VotePayload::Notar(block) | VotePayload::NotarFallback(block) => {
                let votes = votes_for(block.hash)?;
                if votes.notar >= quorums.percent_80 {
                    Some(Statement::Fast(*block))
                } else if votes.notar >= quorums.percent_60 {
                    Some(Statement::Notarization(*block))
                } else {
                    (votes.notar_or_fallback >= quorums.percent_60).then_some(Statement::NotarFallback(*block))
                }
            }
            VotePayload::Skip(slot) | VotePayload::SkipFallback(slot) => {
                (self.skip_or_fallback >= quorums.percent_60).then_some(Statement::Skip(*slot))
            }
            VotePayload::Final(slot) => (self.finals >= quorums.percent_60).then_some(Statement::Finalization(*slot)),
        }
    }

    /// The certificate for a proven statement: all votes for it that are stored now, except those of one kind whose
    /// signatures cancel out. Colluding validators can choose keys for that, and nobody accepts such a sum; without
    /// them the certificate may be short of its quorum.
    pub(super) fn certify(&mut self, statement: Statement) -> Certificate {
        let hash = statement.block().map(|block| self.find(block.hash).expect("a hash with votes is known"));
        let (first, second) = match (statement, hash) {
            (Statement::NotarFallback(_), Some(hash)) => {
                let votes = &mut self.hashes[usize::from(hash)];
                (votes.notar_sum.add_up(), votes.fallback_sum.add_up())
            }
            (_, Some(hash)) => (self.hashes[usize::from(hash)].notar_sum.add_up(), None),
            (Statement::Skip(_), None) => (self.skip_sum.add_up(), self.skip_fallback_sum.add_up()),
            (_, None) => (self.final_sum.add_up(), None),
        };
        let those = |sum: Option<Signature>, chosen: &dyn Fn(&Places) -> bool| {
            let indices = self.places.iter().enumerate().filter(|(_, places)| sum.is_some() && chosen(places));
            Signers::of(self.places.len(), indices.map(|(at, _)| ValidatorIndex(at as u16)))
        };
        let (signers, fallback_signers) = match hash {
            Some(hash) => (
                those(first, &|places| places.stored_notar(hash)),
                those(second, &|places| places.stored_fallback(hash)),
            ),
            None if matches!(statement, Statement::Skip(_)) => (
                those(first, &|places| places.first == FIRST_SKIP && places.has(FIRST_STORED)),
                those(second, &|places| places.has(SKIP_FALLBACK_STORED)),
            ),
            None => (those(first, &|places| places.has(FINAL_STORED)), those(second, &|_| false)),
        };
        let sums: Vec<Signature> = first.into_iter().chain(second).collect();
        Certificate { statement, signers, fallback_signers, signature: SignatureSum::of(&sums).to_bytes() }
    }

    /// Hashes that have the stake to be safe to notarize for a validator whose first vote is `own`, and were not
    /// reported.
    pub(super) fn safe_to_notar_candidates(&self, own: First, quorums: &Quorums) -> impl Iterator<Item = Hash> + '_ {
        let (enough, enough_with_skip, skip) = (quorums.percent_40, quorums.percent_60, self.skip);
        self.weighty.iter().map(|hash| self.entry(*hash)).filter_map(move |votes| {
            let stake = votes.notar >= enough || skip + votes.notar >= enough_with_skip;
            (stake && own != First::Notar(votes.hash) && !votes.safe_to_notar).then_some(votes.hash)
        })
    }

    /// Notes that a hash was reported as safe to notarize.
    pub(super) fn mark_safe_to_notar(&mut self, hash: Hash) {
        if let Some(at) = self.find(hash) {
            self.hashes[usize::from(at)].safe_to_notar = true;
        }
    }

    /// Whether the slot has just become safe to skip for a validator whose first vote is `own`: true once.
    pub(super) fn becomes_safe_to_skip(&mut self, own: First, quorums: &Quorums) -> bool {
        let against = self.skip + self.notar_total - self.notar_highest;
        let safe = own != First::Skip && against >= quorums.percent_40 && !self.safe_to_skip;
        self.safe_to_skip |= safe;
        safe
    }
}

/// The conflict to report: a checked one if there is one.
fn better(left: Option<(VotePayload, bool)>, right: Option<(VotePayload, bool)>) -> Option<(VotePayload, bool)> {
    match (left, right) {
        (Some((_, false)) | None, Some(right)) => Some(right),
        (left, _) => left,
    }
}
