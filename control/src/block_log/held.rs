//! Slices of blocks that this node may vote for, as bytes, and what can be made of them after the process has ended.
//!
//! ```text
//! slice:  1 | slot u64 | slice u16 | last u8 | root 32 | stamp u64 | payload
//! block:  2 | slot u64 | hash 32 | root 32 of each slice
//! ```
//! Integers are little-endian. A block comes after its slices. Leaders' signatures are left out: the block hash vouches
//! for every slice.

use std::collections::BTreeMap;

use alpenglow_rotor::slice::{Slice, SliceId, SliceSignature};
use alpenglow_rotor::types::{BlockId, Hash, SLICES_MAX, SliceIndex, Slot};

use crate::assembly::{Assembly, Verdict};
use crate::block::Block;

const SLICE: u8 = 1;
const BLOCK: u8 = 2;
const SLICE_HEAD_BYTES: usize = 1 + 8 + 2 + 1 + 32 + 8;
/// Longest record of a block.
pub const HELD_BLOCK_BYTES_MAX: usize = 1 + 8 + 32 + 32 * SLICES_MAX;

/// How long the record of a slice with so much payload is.
#[must_use]
pub const fn held_slice_bytes(payload: usize) -> usize {
    SLICE_HEAD_BYTES + payload
}

/// Appends the record of a slice.
pub fn encode_held_slice(slice: &Slice, to: &mut Vec<u8>) {
    to.push(SLICE);
    to.extend_from_slice(&slice.id.slot.0.to_le_bytes());
    to.extend_from_slice(&(slice.id.index.get() as u16).to_le_bytes());
    to.push(slice.is_last.into());
    to.extend_from_slice(&slice.root.0);
    to.extend_from_slice(&slice.leader_stamp_ns.to_le_bytes());
    to.extend_from_slice(&slice.payload);
}

/// Appends the record of a complete block.
pub fn encode_held_block(block: &Block, to: &mut Vec<u8>) {
    to.push(BLOCK);
    to.extend_from_slice(&block.id.slot.0.to_le_bytes());
    to.extend_from_slice(&block.id.hash.0);
    block.slices.iter().for_each(|slice| to.extend_from_slice(&slice.root.0));
}

/// What records make, taken in the order in which they were written.
#[derive(Default)]
pub struct HeldRecords {
    slices: BTreeMap<(SliceId, Hash), Slice>,
}

impl HeldRecords {
    /// Takes a record; the block that is complete with it. Bytes that are no record, and blocks whose slices are
    /// missing or are not those that its hash vouches for, are passed over.
    pub fn take(&mut self, record: &[u8]) -> Option<Block> {
        let (&kind, rest) = record.split_first()?;
        let (slot, rest) = rest.split_first_chunk()?;
        let slot = Slot(u64::from_le_bytes(*slot));
        match kind {
            SLICE => {
                let slice = decode_slice(slot, rest)?;
                self.slices.insert((slice.id, slice.root), slice);
                None
            }
            BLOCK => {
                let (hash, roots) = rest.split_first_chunk()?;
                self.assemble(BlockId { slot, hash: Hash(*hash) }, roots)
            }
            _ => None,
        }
    }

    fn assemble(&self, id: BlockId, roots: &[u8]) -> Option<Block> {
        let (roots, []) = roots.as_chunks::<32>() else { return None };
        let mut assembly = Assembly::new(id.slot, 0);
        for (index, root) in roots.iter().enumerate() {
            let slice_id = SliceId { slot: id.slot, index: SliceIndex::new(index)? };
            assembly.insert(self.slices.get(&(slice_id, Hash(*root)))?.clone());
        }
        match assembly.verdict() {
            Some(Verdict::Complete(block)) if block.id == id => Some(block),
            _ => None,
        }
    }
}

fn decode_slice(slot: Slot, bytes: &[u8]) -> Option<Slice> {
    let (index, bytes) = bytes.split_first_chunk()?;
    let (&is_last, bytes) = bytes.split_first()?;
    let (root, bytes) = bytes.split_first_chunk()?;
    let (stamp, payload) = bytes.split_first_chunk()?;
    Some(Slice {
        id: SliceId { slot, index: SliceIndex::new(u16::from_le_bytes(*index).into())? },
        is_last: match is_last {
            0 => false,
            1 => true,
            _ => return None,
        },
        root: Hash(*root),
        signature: SliceSignature([0; 64]),
        leader_stamp_ns: u64::from_le_bytes(*stamp),
        payload: payload.to_vec().into(),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::block_log::tests::block;

    fn records(block: &Block) -> Vec<Vec<u8>> {
        let slices = block.slices.iter().map(|slice| {
            let mut record = Vec::new();
            encode_held_slice(slice, &mut record);
            assert_eq!(record.len(), held_slice_bytes(slice.payload.len()));
            record
        });
        let mut records: Vec<_> = slices.collect();
        let mut last = Vec::new();
        encode_held_block(block, &mut last);
        assert!(last.len() <= HELD_BLOCK_BYTES_MAX);
        records.push(last);
        records
    }

    fn take_all<'r>(records: impl IntoIterator<Item = &'r Vec<u8>>) -> Vec<Block> {
        let mut held = HeldRecords::default();
        records.into_iter().filter_map(|record| held.take(record)).collect()
    }

    #[test]
    fn the_layout_is_this() {
        let block = block(6, &[3]);
        let [slice, last] = &records(&block)[..] else { panic!("a slice and the block") };
        let head = [&[1, 6, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1][..], &block.slices[0].root.0, &[77, 0, 0, 0, 0, 0, 0, 0]];
        assert_eq!(*slice, [&head.concat(), &block.slices[0].payload[..]].concat());
        assert_eq!(*last, [&[2, 6, 0, 0, 0, 0, 0, 0, 0][..], &block.id.hash.0, &block.slices[0].root.0].concat());
    }

    #[test]
    fn the_version_of_a_slice_that_the_block_names_is_taken() {
        let (mine, other) = (block(6, &[3, 4]), block(6, &[3, 5]));
        let mixed = [&records(&other)[..2], &records(&mine)].concat();
        assert_eq!(take_all(&mixed).iter().map(|block| block.id).collect::<Vec<_>>(), [mine.id]);
    }

    proptest! {
        #[test]
        fn a_block_is_made_of_its_records_in_any_order_and_not_without_one_of_them(
            lengths in prop::collection::vec(1..900usize, 1..6), slot in 1..1_000u64, missing: prop::sample::Index,
        ) {
            let block = block(slot, &lengths);
            let mut records = records(&block);
            records[..lengths.len()].reverse();
            let made = take_all(&records);
            prop_assert_eq!(made.len(), 1);
            prop_assert_eq!((made[0].id, made[0].parent), (block.id, block.parent));
            prop_assert_eq!(&made[0].transaction_ids, &block.transaction_ids);
            let same = made[0].slices.iter().zip(&block.slices).all(|(made, slice)| made.payload[..] == slice.payload[..]);
            prop_assert!(same);
            records.remove(missing.index(records.len()));
            prop_assert!(take_all(&records).is_empty());
        }

        #[test]
        fn no_bytes_make_the_reader_panic(bytes in prop::collection::vec(prop_oneof![0..3u8, any::<u8>()], 0..200)) {
            prop_assert!(take_all([&bytes]).is_empty());
        }
    }
}
