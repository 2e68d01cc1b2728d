//! Shreds in any order, duplicated or hostile, become slices again, or evidence that their leader lied.
//!
//! For every shred: [`Assembler::verify`] (with what [`Assembler::hash_leaves`] made of several, if they came
//! together), then relay it if [`Assembler::claim_relay`] agrees, then [`Assembler::insert`]; when that says
//! [`Inserted::Complete`], [`Assembler::decode`].
//!
//! - The first shred of a slice pays for a signature check, which takes less the more slices of one leader were
//!   checked; what it proves is kept. Further shreds with the same signature are hashed up to the first node of the
//!   tree that is already known.
//! - Data is written where it belongs in the slice's memory, so a slice of which all data shreds came needs no further
//!   copy.
//! - Decoding computes every shred that is missing, and the root: it is the signed one, or the slice is malformed for
//!   everybody. After that a shred is checked by comparing bytes.
//! - Memory is fixed at construction. When it is full, the leader window that takes the most gives up its farthest
//!   slice, to a nearer slice or to a window that takes clearly less. So a leader's slices, however many it signs and
//!   whether or not its window is ever finalized, do not keep those of other leaders out. A slice that was handed over
//!   and evicted may be decoded and handed over again.
//! - That a slice lies beyond its block's last one is not seen here, because a block's slices come to different shards:
//!   who joins them finds it in what the slices were signed as.

mod entry;
mod known_nodes;
mod leaders;
mod outcome;
mod pool;
mod senders;
mod shown;
#[cfg(test)]
mod tests;

use ed25519_dalek::VerifyingKey;

use self::entry::{Entry, State};
use self::leaders::Leaders;
pub use self::outcome::{Decoded, Defect, Equivocation, Inserted, MalformedSlice, Reject};
use self::pool::Pool;
use self::senders::FailedChecks;
use self::shown::Shown;
pub use self::shown::Unproven;
use crate::erasure::{ErasureCode, Kernel};
use crate::merkle;
use crate::parameters::CodingParameters;
use crate::shred::ShredView;
use crate::signature::SignedRoot;
use crate::slice::{Slice, SliceId, SlicePayload};
use crate::types::{ClusterId, Hash, ShredIndex, Slot, Time, VALIDATORS_MAX, ValidatorIndex};

/// Shreds whose leaves are hashed together at most.
pub const TOGETHER_MAX: usize = 16;

/// Permission to relay and insert the one shred it was given for.
#[derive(Debug)]
#[must_use = "a verified shred is to be relayed or inserted"]
pub struct Verified {
    slice: SliceId,
    index: ShredIndex,
    entry: u32,
    generation: u32,
    is_first: bool,
}

impl Verified {
    /// Whether no shred of its slice was held.
    #[must_use]
    pub const fn is_first(&self) -> bool {
        self.is_first
    }
}

/// Collects the shreds of the slices of one shard. All memory is allocated at construction.
pub struct Assembler {
    parameters: CodingParameters,
    cluster: ClusterId,
    code: ErasureCode,
    pool: Pool,
    failed: FailedChecks,
    leaders: Leaders,
    shown: Shown,
    closed_through: Slot,
}

impl Assembler {
    /// With `budget_bytes` of memory, all of it allocated here (most of it not touched), and none later. There is room
    /// for one slice at least.
    #[must_use]
    pub fn new(parameters: CodingParameters, cluster: ClusterId, budget_bytes: usize) -> Self {
        Self::with_kernel(parameters, cluster, budget_bytes, Kernel::best())
    }

    /// With a given erasure kernel.
    ///
    /// # Panics
    /// If this processor cannot run it.
    #[must_use]
    pub fn with_kernel(parameters: CodingParameters, cluster: ClusterId, budget_bytes: usize, kernel: Kernel) -> Self {
        let code = ErasureCode::with_kernel(&parameters, kernel);
        let capacity = capacity_within(&parameters, &code, budget_bytes);
        Self {
            parameters,
            cluster,
            code,
            pool: Pool::new(&parameters, capacity),
            failed: FailedChecks::new(),
            leaders: Leaders::new(),
            shown: Shown::new(&parameters),
            closed_through: Slot::GENESIS,
        }
    }

    /// Slices that an assembler with `budget_bytes` of memory has room for.
    #[must_use]
    pub fn capacity_within(parameters: &CodingParameters, budget_bytes: usize) -> usize {
        capacity_within(parameters, &ErasureCode::with_kernel(parameters, Kernel::best()), budget_bytes)
    }

    /// Slices there is memory for.
    #[must_use]
    pub const fn capacity(&self) -> usize {
        self.pool.capacity()
    }

    /// Slices held, whether decoded or not.
    #[must_use]
    pub const fn held(&self) -> usize {
        self.pool.held()
    }

    /// Slices dropped for others so far.
    #[must_use]
    pub const fn evictions(&self) -> u64 {
        self.pool.evictions()
    }

    /// Hashes the leaves of shreds that came together, each with its sender, which takes less time than one by one: of
    /// up to [`TOGETHER_MAX`] of them those that [`Self::verify`] would hash and that are of one length. For the others
    /// there is `None`.
    #[must_use]
    pub fn hash_leaves<'s, 'd: 's>(
        &self,
        shreds: impl IntoIterator<Item = (&'s ShredView<'d>, ValidatorIndex)>,
    ) -> [Option<Hash>; TOGETHER_MAX] {
        let (mut data, mut places, mut count): ([&[u8]; TOGETHER_MAX], _, _) =
            ([&[]; TOGETHER_MAX], [0; TOGETHER_MAX], 0);
        for (place, (shred, sender)) in shreds.into_iter().take(TOGETHER_MAX).enumerate() {
            let is_as_long = count == 0 || shred.data().len() == data[0].len();
            if is_as_long && self.will_hash(shred, sender) {
                (data[count], places[count]) = (shred.data(), place);
                count += 1;
            }
        }
        let mut hashes = [[0; 32]; TOGETHER_MAX];
        merkle::leaves(data[..count].iter().copied(), &mut hashes[..count]);
        let mut leaves = [None; TOGETHER_MAX];
        for (place, hash) in places[..count].iter().zip(hashes) {
            leaves[*place] = Some(Hash(hash));
        }
        leaves
    }

    /// Whether [`Self::verify`] has to hash a shred, unless it is of a slice in dispute.
    fn will_hash(&self, shred: &ShredView<'_>, sender: ValidatorIndex) -> bool {
        shred.slice().slot > self.closed_through
            && match self.pool.find(shred.slice()) {
                Some(position) => self.pool.entry(position).will_hash(shred),
                None => self.failed.may_check(sender, shred.slice()),
            }
    }

    /// Checks that `leader`, the leader of the shred's slot, signed it. `sender` is the authenticated sender, which has
    /// at most one signature checked in vain for each slice. `leaf` is the hash of the shred's leaf, if it is known by
    /// [`Self::hash_leaves`].
    ///
    /// # Errors
    /// [`Reject`] says why the shred is to be dropped.
    ///
    /// # Panics
    /// If `sender` is not below [`VALIDATORS_MAX`].
    pub fn verify(
        &mut self,
        shred: &ShredView<'_>,
        leaf: Option<Hash>,
        sender: ValidatorIndex,
        leader: &VerifyingKey,
    ) -> Result<Verified, Reject> {
        assert!(sender.get() < VALIDATORS_MAX, "no validator has the index {}", sender.get());
        if shred.slice().slot <= self.closed_through {
            return Err(Reject::Late);
        }
        let held = self.pool.find(shred.slice());
        let position = match held {
            Some(position) => position,
            None => self.introduce(shred, leaf, sender, leader)?,
        };
        let entry = self.pool.entry_mut(position);
        if shred.signature() == entry.signed.signature {
            if shred.is_last() != entry.signed.is_last {
                return Err(Reject::WrongLastFlag);
            }
        } else {
            let is_spent = self.failed.contains(sender, shred.slice());
            check_other_signature(entry, shred, leaf, sender, is_spent, |claimed| {
                self.leaders.verify(claimed, leader, self.cluster)
            })?;
        }
        entry.verify(shred, leaf, &self.parameters)?;
        Ok(Verified {
            slice: shred.slice(),
            index: shred.index(),
            entry: position,
            generation: entry.generation,
            is_first: held.is_none(),
        })
    }

    /// The first shred of a slice: what it says was signed becomes what the slice is, if the leader did sign it.
    fn introduce(
        &mut self,
        shred: &ShredView<'_>,
        leaf: Option<Hash>,
        sender: ValidatorIndex,
        leader: &VerifyingKey,
    ) -> Result<u32, Reject> {
        let slice = shred.slice();
        if !self.failed.may_check(sender, slice) {
            return Err(Reject::SenderSpent);
        }
        if !self.pool.has_room(slice) {
            return Err(Reject::Budget);
        }
        let signed = claim(shred, leaf);
        if !self.leaders.verify(&signed, leader, self.cluster) {
            self.failed.note(sender, slice);
            return Err(Reject::BadSignature);
        }
        self.pool.take(signed, shred.data().len()).ok_or(Reject::Budget)
    }

    /// Whether the shred is still to be relayed: `true` once for each shred. To be asked, right after the check, when
    /// this node is the shred's relay and its sender is the slot's leader: so neither replayed nor echoed datagrams are
    /// relayed again, nor does a copy from somebody else keep the leader's from being relayed.
    pub const fn claim_relay(&mut self, verified: &Verified) -> bool {
        let entry = self.pool.entry_mut(verified.entry);
        entry.generation == verified.generation && entry.relayed.insert(verified.index.get())
    }

    /// Keeps a verified shred: the one copy from receive buffer to slice memory.
    ///
    /// # Panics
    /// If `verified` was given for another shred.
    pub fn insert(&mut self, shred: &ShredView<'_>, verified: Verified, received: Time) -> Inserted {
        assert!((shred.slice(), shred.index()) == (verified.slice, verified.index), "verified was another shred");
        let entry = self.pool.entry_mut(verified.entry);
        if entry.generation != verified.generation {
            return Inserted::Evicted;
        }
        entry.first_received.get_or_insert(received);
        let inserted = entry.insert(shred, &self.parameters);
        if inserted == Inserted::Complete && entry.state == State::Suspect(Defect::Lengths) {
            self.shown.keep_lengths(entry, shred, &self.parameters);
        }
        inserted
    }

    /// Decides a slice of which enough is known, once: `None` if that is not (or no longer) so.
    pub fn decode(&mut self, slice: SliceId) -> Option<Decoded> {
        let position = self.pool.find(slice)?;
        let entry = self.pool.entry_mut(position);
        let rebuilt = match entry.state {
            State::Suspect(defect) => Err(defect),
            State::Collecting if entry.is_complete(&self.parameters) => entry.rebuild(&self.parameters, &mut self.code),
            _ => return None,
        };
        let signed = entry.signed;
        match rebuilt {
            Err(defect) => {
                entry.state = State::Malformed;
                let shreds = self.shown.of(entry, defect, &self.parameters);
                Some(Decoded::Malformed(MalformedSlice { signed, defect, shreds }))
            }
            Ok((leader_stamp_ns, payload)) => {
                entry.state = State::Decoded;
                Some(Decoded::Slice(Slice {
                    id: signed.id,
                    is_last: signed.is_last,
                    root: signed.root,
                    signature: signed.signature,
                    leader_stamp_ns,
                    payload: SlicePayload::new(entry.memory.clone(), payload),
                }))
            }
        }
    }

    /// When the first shred of a slice held was received.
    #[must_use]
    pub fn first_received(&self, slice: SliceId) -> Option<Time> {
        self.pool.entry(self.pool.find(slice)?).first_received
    }

    /// The two versions of a slice held that its leader signed.
    #[must_use]
    pub fn equivocation(&self, slice: SliceId) -> Option<Equivocation> {
        let entry = self.pool.entry(self.pool.find(slice)?);
        entry.second.map(|second| Equivocation { first: entry.signed, second })
    }

    /// Forgets all slices of slots up to `through`; shreds of those are late from now on.
    pub fn close(&mut self, through: Slot) {
        if through > self.closed_through {
            self.closed_through = through;
            self.pool.close(through);
        }
    }
}

fn capacity_within(parameters: &CodingParameters, code: &ErasureCode, budget_bytes: usize) -> usize {
    Pool::capacity_within(parameters, budget_bytes.saturating_sub(fixed_bytes(parameters, code)))
}

/// Memory for other things than slices.
fn fixed_bytes(parameters: &CodingParameters, code: &ErasureCode) -> usize {
    FailedChecks::BYTES + Leaders::BYTES + Shown::bytes(parameters) + code.heap_bytes()
}

/// What a shred says was signed.
fn claim(shred: &ShredView<'_>, leaf: Option<Hash>) -> SignedRoot {
    let leaf = leaf.unwrap_or_else(|| merkle::leaf(shred.data()));
    let root = merkle::root_from_path(leaf, shred.index().get(), shred.path());
    SignedRoot { id: shred.slice(), is_last: shred.is_last(), root, signature: shred.signature() }
}

/// A shred of a slice held, with another signature than the slice's: the leader may have signed the same twice, which
/// is harmless, or something else. Nothing more is to be learned once it is known to have signed something else.
fn check_other_signature(
    entry: &mut Entry,
    shred: &ShredView<'_>,
    leaf: Option<Hash>,
    sender: ValidatorIndex,
    is_spent: bool,
    is_leaders: impl FnOnce(&SignedRoot) -> bool,
) -> Result<(), Reject> {
    if entry.second.is_some() {
        return Err(Reject::AfterEquivocation);
    }
    if is_spent || !entry.checked.insert(sender) {
        return Err(Reject::SenderSpent);
    }
    let claimed = claim(shred, leaf);
    if !is_leaders(&claimed) {
        return Err(Reject::BadSignature);
    }
    if (claimed.root, claimed.is_last) != (entry.signed.root, entry.signed.is_last) {
        entry.second = Some(claimed);
        return Err(Reject::Equivocation);
    }
    Ok(())
}
