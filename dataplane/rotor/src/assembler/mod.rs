//! Shreds in any order, duplicated or hostile, become slices again, or evidence that their leader lied.

use ed25519_dalek::VerifyingKey;

use crate::erasure::Kernel;
use crate::parameters::CodingParameters;
use crate::shred::ShredView;
use crate::signature::SignedRoot;
use crate::slice::{Slice, SliceId};
use crate::types::{ClusterId, ShredIndex, Slot, Time, ValidatorIndex};

/// Why a shred is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Reject {
    /// Its slot is closed.
    #[error("slot is closed")]
    Late,
    /// No memory for another slice, and all slices held are nearer than this one.
    #[error("no memory for a slice this far ahead")]
    Budget,
    /// Its path does not lead to the slice's root.
    #[error("path does not lead to the slice's root")]
    WrongPath,
    /// It carries the slice's signature, but not the last flag that was signed.
    #[error("last flag is not the signed one")]
    WrongLastFlag,
    /// Its place in the slice is known, and its bytes are not those.
    #[error("bytes differ from those known to be the leader's")]
    WrongBytes,
    /// Its signature is not the leader's for this root and flag.
    #[error("signature is not the leader's")]
    BadSignature,
    /// A signature other than the slice's, from a sender that had one checked for this slice before. Not checked.
    #[error("another signature, and this sender's one check for the slice is spent")]
    SenderSpent,
    /// The leader signed this slice twice, differently. Returned once for a slice: fetch [`Assembler::equivocation`].
    #[error("the leader signed two versions of the slice")]
    Equivocation,
    /// Another signature for a slice of which two versions are known to be signed. Not checked.
    #[error("another signature for a slice signed twice")]
    AfterEquivocation,
}

impl Reject {
    /// Every reason, for tables of counters.
    pub const ALL: [Self; 9] = [
        Self::Late,
        Self::Budget,
        Self::WrongPath,
        Self::WrongLastFlag,
        Self::WrongBytes,
        Self::BadSignature,
        Self::SenderSpent,
        Self::Equivocation,
        Self::AfterEquivocation,
    ];

    /// Name for counters.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Late => "shred_late",
            Self::Budget => "shred_budget",
            Self::WrongPath => "shred_wrong_path",
            Self::WrongLastFlag => "shred_wrong_last_flag",
            Self::WrongBytes => "shred_wrong_bytes",
            Self::BadSignature => "shred_bad_signature",
            Self::SenderSpent => "shred_sender_spent",
            Self::Equivocation => "shred_equivocation",
            Self::AfterEquivocation => "shred_after_equivocation",
        }
    }
}

/// Permission to relay and insert the one shred it was given for.
#[derive(Debug)]
#[must_use = "a verified shred is to be relayed or inserted"]
pub struct Verified {
    slice: SliceId,
    index: ShredIndex,
    entry: u32,
    generation: u32,
}

/// What became of a shred.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inserted {
    /// Kept.
    Stored,
    /// Kept or not, the slice can now be decided: call [`Assembler::decode`]. Shreds that are at hand may be inserted before.
    Complete,
    /// Was held already, or its slice has been decoded.
    Duplicate,
    /// Its slice is known to be malformed; nothing is kept of it any more.
    Malformed,
    /// Its slice was evicted, or its slot closed, since it was verified.
    Evicted,
}

/// What a slice that can be decided turns out to be.
#[derive(Debug)]
pub enum Decoded {
    /// A slice: what was decoded, encoded again, has the signed root.
    Slice(Slice),
    /// No slice: its block is dead.
    Malformed(MalformedSlice),
}

/// A root signed over something that is no slice. Every node that gets enough shreds of it finds that out by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MalformedSlice {
    /// What the leader signed.
    pub signed: SignedRoot,
    /// What is wrong with it.
    pub defect: Defect,
}

/// What is wrong with a malformed slice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Defect {
    /// Shreds under the root differ in length.
    #[error("shreds differ in length")]
    Lengths,
    /// The shreds under the root are no code word: other shreds would decode to another slice.
    #[error("shreds are no code word")]
    Code,
    /// The length in the frame is more than the shreds hold.
    #[error("frame claims more payload than there is")]
    Frame,
    /// The bytes after the payload are not all zero.
    #[error("padding is not zero")]
    Padding,
    /// The last slice that a block can have is not flagged as the last: the block would never end.
    #[error("the last possible slice is not flagged last")]
    Endless,
}

/// Two versions of one slice, both signed by its leader: roots or last flags differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Equivocation {
    /// The version held.
    pub first: SignedRoot,
    /// The version dropped.
    pub second: SignedRoot,
}

/// Collects the shreds of the slices of one shard. All memory is allocated at construction.
pub struct Assembler {
    parameters: CodingParameters,
}

#[allow(unused_variables, clippy::todo, clippy::missing_const_for_fn)]
impl Assembler {
    /// With `budget_bytes` of memory, all of it allocated here (but not touched), and none later.
    #[must_use]
    pub fn new(parameters: CodingParameters, cluster: ClusterId, budget_bytes: usize) -> Self {
        todo!()
    }

    /// With a given erasure kernel.
    ///
    /// # Panics
    /// If this processor cannot run it.
    #[must_use]
    pub fn with_kernel(parameters: CodingParameters, cluster: ClusterId, budget_bytes: usize, kernel: Kernel) -> Self {
        todo!()
    }

    /// Checks that `leader`, the leader of the shred's slot, signed it. `sender` is the authenticated sender.
    ///
    /// # Errors
    /// [`Reject`] says why the shred is to be dropped.
    ///
    /// # Panics
    /// If `sender` is not below [`crate::types::VALIDATORS_MAX`].
    pub fn verify(
        &mut self,
        shred: &ShredView<'_>,
        sender: ValidatorIndex,
        leader: &VerifyingKey,
    ) -> Result<Verified, Reject> {
        todo!()
    }

    /// Whether the shred is still to be relayed: `true` once for each shred. To be asked when this node is the shred's relay
    /// and `sender` is the leader, so that neither replayed nor echoed datagrams are relayed again, nor a copy from
    /// somebody else keeps the leader's from being relayed.
    pub fn claim_relay(&mut self, verified: &Verified) -> bool {
        todo!()
    }

    /// Keeps a verified shred: the one copy from receive buffer to slice memory.
    ///
    /// # Panics
    /// If `verified` was given for another shred.
    pub fn insert(&mut self, shred: &ShredView<'_>, verified: Verified, received: Time) -> Inserted {
        todo!()
    }

    /// Decides a slice of which enough is known, once: `None` if that is not (or no longer) so.
    pub fn decode(&mut self, slice: SliceId) -> Option<Decoded> {
        todo!()
    }

    /// When the first shred of a slice held was received.
    #[must_use]
    pub fn first_received(&self, slice: SliceId) -> Option<Time> {
        todo!()
    }

    /// The two versions of a slice that its leader signed.
    #[must_use]
    pub fn equivocation(&self, slice: SliceId) -> Option<Equivocation> {
        todo!()
    }

    /// Forgets all slices of slots up to `through`; shreds of those are late from now on.
    pub fn close(&mut self, through: Slot) {
        todo!()
    }

    /// Slices dropped for nearer ones so far.
    #[must_use]
    pub fn evictions(&self) -> u64 {
        todo!()
    }
}
