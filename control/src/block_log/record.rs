//! A block as bytes.
//!
//! ```text
//! slot u64 | hash 32 | parent: slot u64, hash 32 | slices u16 | for each: root 32, stamp u64, payload bytes u32 | payloads
//! ```
//! Integers are little-endian, and nothing may be left over. Leaders' signatures are left out: the block hash vouches
//! for every slice.

use alpenglow_rotor::slice::{Slice, SliceId, SliceSignature};
use alpenglow_rotor::types::{BlockId, Hash, SLICES_MAX, SliceIndex, Slot};

use crate::assembly::{Assembly, Verdict};
use crate::block::{Block, InvalidBlock};

const HEAD_BYTES: usize = 2 * (8 + 32) + 2;
const SLICE_HEAD_BYTES: usize = 32 + 8 + 4;

/// Why bytes are no block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BlockRecordError {
    /// Too short, too long, or with a number of slices that no block has.
    #[error("not the encoding of a block")]
    Layout,
    /// The slices are no valid block.
    #[error("its slices are no block: {0}")]
    Invalid(#[from] InvalidBlock),
    /// The slice roots make another hash, or the slices name another parent.
    #[error("its slices are those of another block")]
    Identity,
}

/// What the first bytes tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockHead {
    /// The block.
    pub id: BlockId,
    /// Its parent.
    pub parent: BlockId,
}

/// How long [`encode_block`] gets.
#[must_use]
pub fn encoded_bytes(block: &Block) -> usize {
    HEAD_BYTES + block.slices.len() * SLICE_HEAD_BYTES + block.payload_bytes()
}

/// Appends the block's bytes.
pub fn encode_block(block: &Block, to: &mut Vec<u8>) {
    to.reserve(encoded_bytes(block));
    for BlockId { slot, hash } in [block.id, block.parent] {
        to.extend_from_slice(&slot.0.to_le_bytes());
        to.extend_from_slice(&hash.0);
    }
    to.extend_from_slice(&(block.slices.len() as u16).to_le_bytes());
    for slice in &block.slices {
        to.extend_from_slice(&slice.root.0);
        to.extend_from_slice(&slice.leader_stamp_ns.to_le_bytes());
        to.extend_from_slice(&(slice.payload.len() as u32).to_le_bytes());
    }
    block.slices.iter().for_each(|slice| to.extend_from_slice(&slice.payload));
}

/// The head of an encoded block; `None` if the bytes are too few.
#[must_use]
pub fn decode_head(bytes: &[u8]) -> Option<BlockHead> {
    let (id, rest) = block_id(bytes)?;
    Some(BlockHead { id, parent: block_id(rest)?.0 })
}

/// The block of these bytes. Its hash is recomputed from the slice roots; that the roots are those of the payloads is
/// left to the caller.
///
/// # Errors
/// [`BlockRecordError`] for anything that [`encode_block`] does not make of a valid block.
pub fn decode_block(bytes: &[u8]) -> Result<Block, BlockRecordError> {
    let head = decode_head(bytes).ok_or(BlockRecordError::Layout)?;
    let (count, rest) = bytes[HEAD_BYTES - 2..].split_first_chunk().ok_or(BlockRecordError::Layout)?;
    let count = usize::from(u16::from_le_bytes(*count));
    if !(1..=SLICES_MAX).contains(&count) {
        return Err(BlockRecordError::Layout);
    }
    let (heads, mut payloads) = rest.split_at_checked(count * SLICE_HEAD_BYTES).ok_or(BlockRecordError::Layout)?;
    let mut assembly = Assembly::new(head.id.slot, 0);
    for (at, slice_head) in heads.as_chunks::<SLICE_HEAD_BYTES>().0.iter().enumerate() {
        let (root, rest) = slice_head.split_first_chunk().ok_or(BlockRecordError::Layout)?;
        let (stamp, length) = rest.split_first_chunk().ok_or(BlockRecordError::Layout)?;
        let length = u32::from_le_bytes(length.try_into().map_err(|_| BlockRecordError::Layout)?) as usize;
        let (payload, after) = payloads.split_at_checked(length).ok_or(BlockRecordError::Layout)?;
        payloads = after;
        assembly.insert(Slice {
            id: SliceId { slot: head.id.slot, index: SliceIndex::new(at).ok_or(BlockRecordError::Layout)? },
            is_last: at + 1 == count,
            root: Hash(*root),
            signature: SliceSignature([0; 64]),
            leader_stamp_ns: u64::from_le_bytes(*stamp),
            payload: payload.to_vec().into(),
        });
    }
    if !payloads.is_empty() {
        return Err(BlockRecordError::Layout);
    }
    match assembly.verdict() {
        Some(Verdict::Complete(block)) if block.id == head.id && block.parent == head.parent => Ok(block),
        Some(Verdict::Complete(_)) | None => Err(BlockRecordError::Identity),
        Some(Verdict::Dead(_, reason)) => Err(reason.into()),
    }
}

fn block_id(bytes: &[u8]) -> Option<(BlockId, &[u8])> {
    let (slot, rest) = bytes.split_first_chunk()?;
    let (hash, rest) = rest.split_first_chunk()?;
    Some((BlockId { slot: Slot(u64::from_le_bytes(*slot)), hash: Hash(*hash) }, rest))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::block_log::tests::block;

    fn encoded(block: &Block) -> Vec<u8> {
        let mut bytes = Vec::new();
        encode_block(block, &mut bytes);
        assert_eq!(bytes.len(), encoded_bytes(block));
        bytes
    }

    #[test]
    fn the_layout_is_this() {
        let block = block(6, &[3]);
        let mut golden =
            [&[6, 0, 0, 0, 0, 0, 0, 0], &block.id.hash.0[..], &[5, 0, 0, 0, 0, 0, 0, 0], &[5; 32]].concat();
        golden.extend([1, 0]);
        golden.extend(block.slices[0].root.0);
        golden.extend([77, 0, 0, 0, 0, 0, 0, 0, 46, 0, 0, 0]);
        golden.extend([1, 5, 0, 0, 0, 0, 0, 0, 0]);
        golden.extend([5; 32]);
        golden.extend([3, 0, 0, 0, 0]);
        assert_eq!(encoded(&block), golden);
    }

    #[test]
    fn slices_of_another_block_are_refused() {
        let bytes = encoded(&block(6, &[3, 4]));
        for (at, refused) in [
            (0, BlockRecordError::Invalid(InvalidBlock::ParentSlot(Slot(5)))),
            (8, BlockRecordError::Identity),
            (48, BlockRecordError::Identity),
            (HEAD_BYTES, BlockRecordError::Identity),
        ] {
            let mut spoilt = bytes.clone();
            spoilt[at] ^= 1;
            assert_eq!(decode_block(&spoilt).unwrap_err(), refused, "byte {at}");
        }
    }

    proptest! {
        #[test]
        fn blocks_round_trip_and_cut_ones_are_refused(
            lengths in prop::collection::vec(1..900usize, 1..6), slot in 1..1_000u64, cut: prop::sample::Index,
        ) {
            let block = block(slot, &lengths);
            let bytes = encoded(&block);
            prop_assert_eq!(decode_head(&bytes), Some(BlockHead { id: block.id, parent: block.parent }));
            let read = decode_block(&bytes).unwrap();
            prop_assert_eq!((read.id, read.parent, read.first_counted), (block.id, block.parent, block.first_counted));
            prop_assert_eq!(&read.transaction_ids, &block.transaction_ids);
            prop_assert_eq!(encoded(&read), bytes.clone());
            prop_assert!(decode_block(&bytes[..cut.index(bytes.len())]).is_err());
            prop_assert!(decode_block(&[&bytes[..], &[0]].concat()).is_err());
        }

        #[test]
        fn no_bytes_make_the_reader_panic(bytes in prop::collection::vec(prop_oneof![0..3u8, any::<u8>()], 0..400)) {
            let _ = decode_block(&bytes);
        }
    }
}
