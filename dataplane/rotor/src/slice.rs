//! A slice outside of its shreds: where it belongs, and its payload in shared memory.

use std::fmt;
use std::ops::{Deref, Range};
#[cfg(not(loom))]
pub(crate) use std::sync::Arc;

#[cfg(loom)]
pub(crate) use loom::sync::Arc;

use crate::types::{Hash, SliceIndex, Slot};

/// Bytes that precede the payload in a slice's coded data: payload length (u32), the leader's stamp (u64), both
/// little-endian.
pub const FRAME_BYTES: usize = 12;

/// Where a slice belongs: what the leader signs beside the root.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SliceId {
    /// The block's slot.
    pub slot: Slot,
    /// Position in the block.
    pub index: SliceIndex,
}

impl SliceId {
    /// The lane that all shreds of this slice travel on; `lane % shards` is the shard that takes them.
    /// Consecutive slices take consecutive lanes, so that every shard gets its share of a block.
    #[must_use]
    pub const fn lane(&self) -> u8 {
        (self.slot.0 as u8).wrapping_mul(97).wrapping_add(self.index.get() as u8)
    }
}

/// An Ed25519 signature of a slice's leader over the slice's place and root.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct SliceSignature(pub [u8; 64]);

impl fmt::Debug for SliceSignature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// A slice that was rebuilt from shreds and whose root was recomputed, or that this node made.
#[derive(Clone, Debug)]
pub struct Slice {
    /// Where it belongs.
    pub id: SliceId,
    /// Whether it is the last of its block.
    pub is_last: bool,
    /// Root of the tree over its shreds.
    pub root: Hash,
    /// The leader's signature over the three above.
    pub signature: SliceSignature,
    /// When the leader began to encode it, in nanoseconds on the leader's clock. Measurement only: nothing may depend
    /// on it.
    pub leader_stamp_ns: u64,
    /// What the leader put in.
    pub payload: SlicePayload,
}

/// Memory that a slice's data shreds are written to, allocated once and used for one slice after the other.
pub struct SliceMemory(Vec<u8>);

impl SliceMemory {
    /// `bytes` of zeroes.
    #[must_use]
    pub fn zeroed(bytes: usize) -> Arc<Self> {
        Arc::new(Self(vec![0; bytes]))
    }

    /// No bytes yet, but room for `bytes` of them ([`Self::lay_out`]): allocated, but not touched, so that it takes no
    /// memory of the machine before it is used.
    #[must_use]
    pub fn reserved(bytes: usize) -> Arc<Self> {
        Arc::new(Self(Vec::with_capacity(bytes)))
    }

    /// Makes it `bytes` long, the first time with zeroes.
    ///
    /// # Panics
    /// If there is no room for them.
    pub fn lay_out(&mut self, bytes: usize) {
        assert!(bytes <= self.0.capacity(), "slice memory never grows");
        self.0.resize(bytes, 0);
    }

    /// The bytes, for writing, while no other handle exists (see [`Arc::get_mut`]).
    pub const fn bytes_mut(&mut self) -> &mut [u8] {
        self.0.as_mut_slice()
    }

    /// The bytes.
    #[must_use]
    pub const fn bytes(&self) -> &[u8] {
        self.0.as_slice()
    }
}

/// A slice's payload: a shared, read-only view into its memory. The memory can be used for another slice when the last
/// view of it is dropped: its owner finds out by [`Arc::get_mut`], so that returning it takes no queue and no lock.
#[derive(Clone)]
pub struct SlicePayload {
    memory: Arc<SliceMemory>,
    start: u32,
    end: u32,
}

impl SlicePayload {
    /// The part `range` of `memory`.
    ///
    /// # Panics
    /// If `range` does not lie in `memory`.
    #[must_use]
    pub fn new(memory: Arc<SliceMemory>, range: Range<usize>) -> Self {
        assert!(range.start <= range.end && range.end <= memory.0.len());
        let bound = |offset| u32::try_from(offset).expect("slice memory is far below 4 GiB");
        Self { start: bound(range.start), end: bound(range.end), memory }
    }
}

impl From<Vec<u8>> for SlicePayload {
    fn from(bytes: Vec<u8>) -> Self {
        let length = bytes.len();
        Self::new(Arc::new(SliceMemory(bytes)), 0..length)
    }
}

impl Deref for SlicePayload {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.memory.0[self.start as usize..self.end as usize]
    }
}

impl fmt::Debug for SlicePayload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SlicePayload({} bytes)", self.len())
    }
}
