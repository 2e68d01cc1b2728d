//! What the assembler says about shreds and slices.

use crate::signature::SignedRoot;
use crate::slice::{Slice, SlicePayload};

/// Why a shred is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Reject {
    /// Its slot is closed.
    #[error("slot is closed")]
    Late,
    /// No memory for another slice, and those held are needed more than this one.
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
    /// The leader signed this slice twice, differently. Returned once for a slice: fetch
    /// [`super::Assembler::equivocation`].
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

/// What became of a shred.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inserted {
    /// Kept.
    Stored,
    /// Kept or not, the slice can now be decided: call [`super::Assembler::decode`]. Shreds that are at hand may be
    /// inserted before.
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
#[derive(Clone, Debug)]
pub struct MalformedSlice {
    /// What the leader signed.
    pub signed: SignedRoot,
    /// What is wrong with it.
    pub defect: Defect,
    /// Shreds that show it, each as it travels behind its length (u16, little-endian): gamma of them, or two that
    /// differ in length. `None` where the signed root alone shows it ([`Defect::Endless`]), and where the assembler had
    /// no room, because those of another slice had not been let go. See [`Self::check`].
    pub shreds: Option<SlicePayload>,
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
    /// Shreds are longer than the payload needs: with it, one payload would have several roots.
    #[error("shreds are longer than the payload needs")]
    Overlong,
    /// The last slice that a block can have is not flagged as the last: the block would never end.
    #[error("the last possible slice is not flagged last")]
    Endless,
}

/// Two statements about a block, both signed by its leader, that cannot both hold: two versions of one slice, or a
/// slice beyond one that is flagged as the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Equivocation {
    /// What came first.
    pub first: SignedRoot,
    /// What contradicts it.
    pub second: SignedRoot,
}

impl Equivocation {
    /// Whether the two contradict each other. Signatures are not looked at.
    #[must_use]
    pub fn is_contradiction(&self) -> bool {
        let (first, second) = (&self.first, &self.second);
        let differs = first.id == second.id && (first.root, first.is_last) != (second.root, second.is_last);
        let beyond = |last: &SignedRoot, other: &SignedRoot| last.is_last && other.id.index > last.id.index;
        first.id.slot == second.id.slot && (differs || beyond(first, second) || beyond(second, first))
    }
}
