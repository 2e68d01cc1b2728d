//! A shred as it travels, read in place.
//!
//! ```text
//! 0         8            10            12         16          80             80 + 32·path nodes
//! ┌─────────┬────────────┬─────────────┬──────────┬───────────┬──────────────┬──────────────────┐
//! │ slot u64│ slice u16, │ shred index │ four     │ signature │ Merkle path, │ data, to the end │
//! │         │ bit 15:last│ u16         │ zeroes   │ 64 bytes  │ leaf upwards │                  │
//! └─────────┴────────────┴─────────────┴──────────┴───────────┴──────────────┴──────────────────┘
//! ```
//! Integers are little-endian. The path has exactly as many nodes as the cluster's Gamma demands, so a proof that is
//! too short or too long has no representation. All shreds of a slice carry equally many data bytes.

use crate::parameters::CodingParameters;
use crate::signature::SignedRoot;
use crate::slice::{FRAME_BYTES, SliceId, SliceSignature};
use crate::types::{Hash, ShredIndex, SliceIndex, Slot};

/// Bytes before the signature.
pub const SHRED_HEADER_BYTES: usize = 16;
/// Bytes before the Merkle path: header and signature, the part a datagram's MAC covers.
pub const SHRED_SIGNED_BYTES: usize = SHRED_HEADER_BYTES + 64;
/// Set in the slice field on shreds of a block's last slice.
const LAST_FLAG: u16 = 1 << 15;

/// Bytes of a shred with `data_bytes` of data.
#[must_use]
pub const fn wire_bytes(parameters: &CodingParameters, data_bytes: usize) -> usize {
    SHRED_SIGNED_BYTES + 32 * parameters.path_nodes() + data_bytes
}

/// Bytes of data in each shred of a slice with `payload_bytes` of payload: the least even number with which gamma
/// shreds hold frame and payload.
#[must_use]
pub const fn data_bytes(parameters: &CodingParameters, payload_bytes: usize) -> usize {
    (payload_bytes + FRAME_BYTES).div_ceil(parameters.data_shreds()).next_multiple_of(2)
}

/// Why bytes are not a shred.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ShredError {
    /// Ends before its data.
    #[error("a shred needs more than {least} bytes, found {found}")]
    Truncated {
        /// Bytes up to the data.
        least: usize,
        /// Bytes found.
        found: usize,
    },
    /// Not a slice of any block.
    #[error("slice field {0:#06x} names no slice of a block")]
    Slice(u16),
    /// Not below Gamma.
    #[error("shred index {0} is not below Gamma")]
    Index(u16),
    /// Reserved bytes are not zero.
    #[error("reserved bytes are not zero")]
    Reserved,
    /// No slice of this cluster has shreds with so much or so little data.
    #[error("{0} data bytes: odd, too few for the slice frame, or too many")]
    DataLength(usize),
}

impl ShredError {
    /// Name for counters.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Truncated { .. } => "shred_truncated",
            Self::Slice(_) => "shred_slice",
            Self::Index(_) => "shred_index",
            Self::Reserved => "shred_reserved",
            Self::DataLength(_) => "shred_data_length",
        }
    }
}

/// A shred in its receive buffer. Well-formed, nothing more: whether its leader signed it is for
/// [`crate::assembler::Assembler::verify`] to say.
#[derive(Clone, Copy, Debug)]
pub struct ShredView<'a> {
    slice: SliceId,
    is_last: bool,
    index: ShredIndex,
    signature: &'a [u8; 64],
    path: &'a [[u8; 32]],
    data: &'a [u8],
}

impl<'a> ShredView<'a> {
    /// Reads the shred that `bytes` (all of them, from the shred header on) hold.
    ///
    /// # Errors
    /// [`ShredError`] if they hold none.
    pub fn parse(bytes: &'a [u8], parameters: &CodingParameters) -> Result<Self, ShredError> {
        let least = wire_bytes(parameters, 0);
        let truncated = ShredError::Truncated { least, found: bytes.len() };
        let (header, rest) = bytes.split_first_chunk::<SHRED_HEADER_BYTES>().ok_or(truncated)?;
        let (signature, rest) = rest.split_first_chunk::<64>().ok_or(truncated)?;
        let (path, data) = rest.split_at_checked(32 * parameters.path_nodes()).ok_or(truncated)?;

        let [s0, s1, s2, s3, s4, s5, s6, s7, slice0, slice1, index0, index1, reserved @ ..] = *header;
        if reserved != [0; 4] {
            return Err(ShredError::Reserved);
        }
        let slice_field = u16::from_le_bytes([slice0, slice1]);
        let slice_index =
            SliceIndex::new(usize::from(slice_field & !LAST_FLAG)).ok_or(ShredError::Slice(slice_field))?;
        let index = ShredIndex(u16::from_le_bytes([index0, index1]));
        if index.get() >= parameters.total_shreds() {
            return Err(ShredError::Index(index.0));
        }
        let shortest = data_bytes(parameters, 0);
        if !data.len().is_multiple_of(2) || data.len() < shortest || data.len() > parameters.shred_bytes() {
            return Err(ShredError::DataLength(data.len()));
        }
        let slot = Slot(u64::from_le_bytes([s0, s1, s2, s3, s4, s5, s6, s7]));
        Ok(Self {
            slice: SliceId { slot, index: slice_index },
            is_last: slice_field & LAST_FLAG != 0,
            index,
            signature,
            path: path.as_chunks().0,
            data,
        })
    }

    /// The slice it is of.
    #[must_use]
    pub const fn slice(&self) -> SliceId {
        self.slice
    }

    /// Whether it calls its slice the last of the block.
    #[must_use]
    pub const fn is_last(&self) -> bool {
        self.is_last
    }

    /// Its place in the slice, below Gamma.
    #[must_use]
    pub const fn index(&self) -> ShredIndex {
        self.index
    }

    /// The leader's signature over place, flag and root.
    #[must_use]
    pub const fn signature(&self) -> SliceSignature {
        SliceSignature(*self.signature)
    }

    /// Sibling hashes from the leaf up to below the root.
    #[must_use]
    pub const fn path(&self) -> &'a [[u8; 32]] {
        self.path
    }

    /// The erasure-coded data: even length, between what holds an empty slice and the cluster's `shred_bytes`.
    #[must_use]
    pub const fn data(&self) -> &'a [u8] {
        self.data
    }

    /// The root that path and data lead to.
    #[must_use]
    pub fn claimed_root(&self) -> Hash {
        crate::merkle::root_from_path(crate::merkle::leaf(self.data), self.index.get(), self.path)
    }
}

/// The 16 header bytes.
pub(crate) fn header(slice: SliceId, is_last: bool, index: ShredIndex) -> [u8; SHRED_HEADER_BYTES] {
    let mut header = [0; SHRED_HEADER_BYTES];
    let flag = if is_last { LAST_FLAG } else { 0 };
    let slice_index = u16::try_from(slice.index.get()).expect("a slice index is below 1,024");
    header[..8].copy_from_slice(&slice.slot.0.to_le_bytes());
    header[8..10].copy_from_slice(&(slice_index | flag).to_le_bytes());
    header[10..12].copy_from_slice(&index.0.to_le_bytes());
    header
}

/// Writes everything that precedes a shred's data: header, signature, and its leaf's path.
pub(crate) fn write_head<'p>(
    signed: &SignedRoot,
    index: ShredIndex,
    path: impl Iterator<Item = &'p [u8; 32]>,
    shred: &mut [u8],
) {
    shred[..SHRED_HEADER_BYTES].copy_from_slice(&header(signed.id, signed.is_last, index));
    shred[SHRED_HEADER_BYTES..SHRED_SIGNED_BYTES].copy_from_slice(&signed.signature.0);
    for (node, sibling) in shred[SHRED_SIGNED_BYTES..].as_chunks_mut().0.iter_mut().zip(path) {
        *node = *sibling;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parameters::Code;

    fn parameters() -> CodingParameters {
        CodingParameters::new(Code::Rs8, 2, 4, 64, 1_232).unwrap()
    }

    /// A shred of a cluster with 2 of 4, written out by hand.
    fn golden() -> Vec<u8> {
        let mut bytes = vec![0x08, 0x07, 0x06, 0x05, 0x04, 0x03, 0x02, 0x01]; // slot
        bytes.extend([0x2a, 0x81]); // slice 0x012a, flagged last
        bytes.extend([0x03, 0x00]); // shred 3
        bytes.extend([0; 4]);
        bytes.extend([0x51; 64]);
        bytes.extend([0xa0; 32]);
        bytes.extend([0xa1; 32]);
        bytes.extend([0xd0, 0xd1, 0xd2, 0xd3, 0xd4, 0xd5]);
        bytes
    }

    #[test]
    fn the_layout_is_this() {
        let bytes = golden();
        let shred = ShredView::parse(&bytes, &parameters()).unwrap();
        let slice = SliceId { slot: Slot(0x0102_0304_0506_0708), index: SliceIndex::new(0x12a).unwrap() };
        assert_eq!((shred.slice(), shred.is_last(), shred.index()), (slice, true, ShredIndex(3)));
        assert_eq!(shred.signature(), SliceSignature([0x51; 64]));
        assert_eq!(shred.path(), [[0xa0; 32], [0xa1; 32]]);
        assert_eq!(shred.data(), [0xd0, 0xd1, 0xd2, 0xd3, 0xd4, 0xd5]);
        assert_eq!(header(slice, true, ShredIndex(3)), bytes[..SHRED_HEADER_BYTES]);
        assert_eq!(wire_bytes(&parameters(), 6), bytes.len());
        assert_eq!(SHRED_SIGNED_BYTES, 80);
    }

    #[test]
    fn what_is_no_shred_is_refused_with_the_reason() {
        let refused = |change: &dyn Fn(&mut Vec<u8>)| {
            let mut bytes = golden();
            change(&mut bytes);
            ShredView::parse(&bytes, &parameters()).unwrap_err()
        };
        assert_eq!(refused(&|bytes| bytes[9] = 0x84), ShredError::Slice(0x842a));
        assert_eq!(refused(&|bytes| bytes[9] = 0x04), ShredError::Slice(0x042a));
        assert_eq!(refused(&|bytes| bytes[10] = 4), ShredError::Index(4));
        assert_eq!(refused(&|bytes| bytes[11] = 1), ShredError::Index(0x103));
        (12..16).for_each(|at| assert_eq!(refused(&|bytes| bytes[at] = 1), ShredError::Reserved));
        assert_eq!(refused(&|bytes| bytes.push(0)), ShredError::DataLength(7));
        assert_eq!(refused(&|bytes| bytes.truncate(80 + 64 + 4)), ShredError::DataLength(4));
        assert_eq!(refused(&|bytes| bytes.extend([0; 60])), ShredError::DataLength(66));
    }

    /// Lesson: answers with proofs that are empty or too short were accepted, so that a false root was bound.
    #[test]
    fn a_shorter_path_has_no_representation() {
        let bytes = golden();
        for length in 0..80 + 64 {
            let error = ShredView::parse(&bytes[..length], &parameters()).unwrap_err();
            assert_eq!(error, ShredError::Truncated { least: 80 + 64, found: length });
        }
        let mut one_node_less = bytes[..80].to_vec();
        one_node_less.extend(&bytes[80 + 32..]);
        assert!(ShredView::parse(&one_node_less, &parameters()).is_err());
    }

    #[test]
    fn data_is_as_short_as_the_frame_allows() {
        let lengths = |payload| data_bytes(&CodingParameters::default(), payload);
        assert_eq!((lengths(0), lengths(52), lengths(53), lengths(32 * 896 - 12)), (2, 2, 4, 896));
        assert_eq!(data_bytes(&parameters(), 0), 6);
    }
}
