//! The slices of one slot on their way to a block, in whatever order they come.
//!
//! A block ends when its slices are there without a hole up to one that is flagged as the last. Only then is it
//! judged, and only by those slices: so every node that gets the same slices comes to the same verdict, whatever else
//! the leader signed for the slot. What else it signed is equivocation.

use std::collections::BTreeMap;

use alpenglow_rotor::merkle::block_hash;
use alpenglow_rotor::signature::SignedRoot;
use alpenglow_rotor::slice::Slice;
use alpenglow_rotor::types::{BlockId, Hash, SliceIndex, Slot};

use crate::block::{Block, InvalidBlock, ParentStatement, SliceContent, TransactionId, check_parent_slot};

/// Bytes of bookkeeping that a slice costs beside its memory and its transactions' identities.
pub(crate) const SLICE_OVERHEAD_BYTES: usize = 512;

/// How a block ended.
#[derive(Debug)]
pub(crate) enum Verdict {
    Complete(Block),
    /// The hash is not known if the leader left no place for a last slice.
    Dead(Option<BlockId>, InvalidBlock),
}

/// What became of a slice. One that is neither kept nor contradicts anything is known already, or of no use any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stated {
    pub(crate) kept: bool,
    pub(crate) contradicts: Option<SignedRoot>,
}

#[derive(Debug)]
struct Content {
    slice: Slice,
    parent: ParentStatement,
    transaction_ids: Vec<TransactionId>,
}

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Assembly {
    slot: Slot,
    /// Memory that a slice takes, however short its payload is.
    slice_memory_bytes: usize,
    signed: BTreeMap<SliceIndex, SignedRoot>,
    contents: BTreeMap<SliceIndex, Result<Content, InvalidBlock>>,
    /// Slices without a hole from the first one on.
    contiguous: usize,
    ended: bool,
    bytes: usize,
}

impl Assembly {
    pub(crate) const fn new(slot: Slot, slice_memory_bytes: usize) -> Self {
        Self {
            slot,
            slice_memory_bytes,
            signed: BTreeMap::new(),
            contents: BTreeMap::new(),
            contiguous: 0,
            ended: false,
            bytes: 0,
        }
    }

    /// Memory held, also by the block that was made of it: slices, identities of transactions, bookkeeping.
    pub(crate) const fn bytes(&self) -> usize {
        self.bytes
    }

    /// A slice that waits for others of its block.
    pub(crate) fn slice(&self, index: SliceIndex) -> Option<&Slice> {
        self.contents.get(&index)?.as_ref().ok().map(|content| &content.slice)
    }

    /// Lets go of everything but what the leader signed. No verdict comes any more.
    pub(crate) fn give_up(&mut self) {
        self.ended = true;
        self.contents.clear();
        self.bytes = self.signed.len() * SLICE_OVERHEAD_BYTES;
    }

    /// Takes in a slice.
    pub(crate) fn insert(&mut self, slice: Slice) -> Stated {
        let Slice { id, is_last, root, signature, .. } = slice;
        let stated = self.state(SignedRoot { id, is_last, root, signature });
        if stated.kept {
            let parsed = SliceContent::parse(id.index, &slice.payload)
                .map(|content| (content.parent, content.transactions().map(TransactionId::of).collect::<Vec<_>>()));
            let content = parsed.map(|(parent, transaction_ids)| Content { slice, parent, transaction_ids });
            self.bytes += SLICE_OVERHEAD_BYTES;
            if let Ok(Content { transaction_ids, .. }) = &content {
                self.bytes += self.slice_memory_bytes + size_of_val(transaction_ids.as_slice());
            }
            self.contents.insert(id.index, content);
        }
        stated
    }

    /// Takes in the root of a slice that is provably none.
    pub(crate) fn insert_malformed(&mut self, signed: SignedRoot) -> Stated {
        let stated = self.state(signed);
        if stated.kept {
            self.bytes += SLICE_OVERHEAD_BYTES;
            self.contents.insert(signed.id.index, Err(InvalidBlock::MalformedSlice));
        }
        stated
    }

    /// Judges the block if it ends with what was inserted so far. Gives a verdict once.
    pub(crate) fn verdict(&mut self) -> Option<Verdict> {
        while !self.ended {
            let Some(index) = SliceIndex::new(self.contiguous) else {
                self.give_up();
                return Some(Verdict::Dead(None, InvalidBlock::NoLastSlice));
            };
            let is_last = self.signed.get(&index)?.is_last;
            self.contiguous += 1;
            if is_last {
                return Some(self.judge());
            }
        }
        None
    }

    /// Records what the leader signed, unless it is known, of no use, or another word on a slice that is known.
    fn state(&mut self, signed: SignedRoot) -> Stated {
        let index = signed.id.index;
        if let Some(&known) = self.signed.get(&index) {
            let same = known.root == signed.root && known.is_last == signed.is_last;
            return Stated { kept: false, contradicts: (!same).then_some(known) };
        }
        let last_before = self.signed.range(..index).map(|(_, &known)| known).find(|known| known.is_last);
        let after = self.signed.range(index..).map(|(_, &known)| known).next_back();
        let contradicts = last_before.or(after.filter(|_| signed.is_last));
        // A last slice before others may still end the block; what lies beyond a last slice cannot belong to it.
        let kept = last_before.is_none() && !self.ended;
        if kept {
            self.signed.insert(index, signed);
        }
        Stated { kept, contradicts }
    }

    fn judge(&mut self) -> Verdict {
        let count = self.contiguous;
        let roots: Vec<Hash> = self.signed.values().take(count).map(|signed| signed.root).collect();
        let id = BlockId { slot: self.slot, hash: block_hash(&roots) };
        let contents: Result<Vec<Content>, InvalidBlock> =
            std::mem::take(&mut self.contents).into_values().take(count).collect();
        let block = contents.and_then(|contents| build(id, contents));
        self.give_up();
        match block {
            Ok(block) => {
                self.bytes += count * self.slice_memory_bytes + size_of_val(block.transaction_ids.as_slice());
                Verdict::Complete(block)
            }
            Err(reason) => Verdict::Dead(Some(id), reason),
        }
    }
}

/// The block of these slices. Its first slice states the parent; a window's first block may change it once, and what
/// stands before the change does not count.
fn build(id: BlockId, contents: Vec<Content>) -> Result<Block, InvalidBlock> {
    let mut parent = None;
    let mut first_counted = SliceIndex::default();
    for content in &contents {
        let stated = match content.parent {
            ParentStatement::Nothing => continue,
            ParentStatement::Parent(stated) | ParentStatement::Changed(stated) => stated,
        };
        check_parent_slot(id.slot, stated)?;
        if let Some(before) = parent.replace(stated) {
            let changed_before = first_counted != SliceIndex::default();
            if changed_before || before == stated || !id.slot.is_window_first() {
                return Err(InvalidBlock::MisplacedChange);
            }
            first_counted = content.slice.id.index;
        }
    }
    let parent = parent.ok_or(InvalidBlock::MisplacedStatement)?;
    let counted = &contents[first_counted.get()..];
    let transaction_ids = counted.iter().flat_map(|content| content.transaction_ids.iter().copied()).collect();
    let slices = contents.into_iter().map(|content| content.slice).collect();
    Ok(Block { id, parent, slices, first_counted, transaction_ids })
}

#[cfg(test)]
mod tests {
    use alpenglow_rotor::slice::{SliceId, SliceSignature};
    use alpenglow_rotor::types::SLICES_MAX;

    use super::*;
    use crate::block::SliceBuilder;

    const PARENT: BlockId = BlockId { slot: Slot(7), hash: Hash([7; 32]) };
    const OTHER_PARENT: BlockId = BlockId { slot: Slot(5), hash: Hash([5; 32]) };

    fn slice(slot: u64, index: usize, is_last: bool, parent: ParentStatement, transaction: u8) -> Slice {
        let mut builder = SliceBuilder::new(parent, 4_096);
        assert!(builder.push(&[transaction]));
        raw(slot, index, is_last, builder.finish())
    }

    fn raw(slot: u64, index: usize, is_last: bool, payload: Vec<u8>) -> Slice {
        let root = Hash(TransactionId::of(&payload).0);
        let id = SliceId { slot: Slot(slot), index: SliceIndex::new(index).unwrap() };
        Slice { id, is_last, root, signature: SliceSignature([0; 64]), leader_stamp_ns: 0, payload: payload.into() }
    }

    fn first(slot: u64, parent: BlockId) -> Slice {
        slice(slot, 0, false, ParentStatement::Parent(parent), 0)
    }

    fn plain(slot: u64, index: usize, is_last: bool) -> Slice {
        slice(slot, index, is_last, ParentStatement::Nothing, index as u8)
    }

    /// Inserts in this order and in the reverse one, which must come to the same verdict.
    fn judged(slices: &[Slice]) -> Verdict {
        let judged = |slices: &mut dyn Iterator<Item = &Slice>| {
            let mut assembly = Assembly::new(slices.next().unwrap().id.slot, 1_000);
            let mut verdict = None;
            for slice in slices {
                assembly.insert(slice.clone());
                verdict = verdict.or_else(|| assembly.verdict());
            }
            verdict.expect("the block ends")
        };
        let forward = judged(&mut slices[..1].iter().chain(slices));
        let backward = judged(&mut slices[..1].iter().chain(slices.iter().rev()));
        assert_eq!(format!("{forward:?}"), format!("{backward:?}"));
        forward
    }

    fn dead(slices: &[Slice]) -> InvalidBlock {
        match judged(slices) {
            Verdict::Dead(Some(_), reason) => reason,
            other => panic!("{other:?}"),
        }
    }

    fn complete(slices: &[Slice]) -> Block {
        match judged(slices) {
            Verdict::Complete(block) => block,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn slices_in_any_order_make_the_block() {
        let block = complete(&[first(8, PARENT), plain(8, 1, false), plain(8, 2, true)]);
        assert_eq!(block.parent, PARENT);
        assert_eq!(block.transactions().collect::<Vec<_>>(), [[0], [1], [2]]);
        let roots: Vec<Hash> = block.slices.iter().map(|slice| slice.root).collect();
        assert_eq!(block.id, BlockId { slot: Slot(8), hash: block_hash(&roots) });
    }

    #[test]
    fn defect_12_a_block_with_an_impossible_parent_is_dead() {
        for (slot, parent_slot) in [(8, 8), (8, 9), (9, 7), (9, 9), (8, u64::MAX)] {
            let parent = BlockId { slot: Slot(parent_slot), hash: Hash([1; 32]) };
            let reason = dead(&[first(slot, parent), plain(slot, 1, true)]);
            assert_eq!(reason, InvalidBlock::ParentSlot(Slot(parent_slot)));
        }
    }

    #[test]
    fn defect_13_a_parent_change_drops_what_was_before_it() {
        let change = slice(8, 1, false, ParentStatement::Changed(OTHER_PARENT), 1);
        let block = complete(&[first(8, PARENT), change, plain(8, 2, true)]);
        assert_eq!((block.parent, block.transaction_ids.len()), (OTHER_PARENT, 2));
        assert_eq!(block.transactions().collect::<Vec<_>>(), [[1], [2]]);
    }

    #[test]
    fn defect_13_a_parent_change_elsewhere_is_dead() {
        let change = |slot, index, parent| slice(slot, index, false, ParentStatement::Changed(parent), 1);
        let before = BlockId { slot: Slot(8), hash: Hash([1; 32]) };
        let before_too = BlockId { slot: Slot(8), hash: Hash([2; 32]) };
        let outside_first = [first(9, before), change(9, 1, before_too), plain(9, 2, true)];
        assert_eq!(dead(&outside_first), InvalidBlock::MisplacedChange);
        let twice = [first(8, PARENT), change(8, 1, OTHER_PARENT), change(8, 2, PARENT), plain(8, 3, true)];
        assert_eq!(dead(&twice), InvalidBlock::MisplacedChange);
        let to_the_same = [first(8, PARENT), change(8, 1, PARENT), plain(8, 2, true)];
        assert_eq!(dead(&to_the_same), InvalidBlock::MisplacedChange);
        let to_itself = [first(8, PARENT), change(8, 1, before), plain(8, 2, true)];
        assert_eq!(dead(&to_itself), InvalidBlock::ParentSlot(Slot(8)));
    }

    #[test]
    fn defect_17_a_block_without_a_last_slice_is_dead_when_no_more_can_come() {
        let mut assembly = Assembly::new(Slot(8), 1_000);
        for index in (1..SLICES_MAX).rev() {
            assembly.insert(plain(8, index, false));
            assert!(assembly.verdict().is_none());
        }
        assembly.insert(first(8, PARENT));
        assert!(matches!(assembly.verdict(), Some(Verdict::Dead(None, InvalidBlock::NoLastSlice))));
        assert!(assembly.verdict().is_none(), "one verdict only");
    }

    #[test]
    fn one_bad_slice_kills_the_block_whenever_it_comes() {
        let bad = raw(8, 1, false, vec![0, 9, 9]);
        assert_eq!(dead(&[first(8, PARENT), bad, plain(8, 2, true)]), InvalidBlock::TransactionLength(0x0909));
        let mut assembly = Assembly::new(Slot(8), 1_000);
        let Slice { id, is_last, root, signature, .. } = plain(8, 1, false);
        assert!(assembly.insert_malformed(SignedRoot { id, is_last, root, signature }).kept);
        assembly.insert(first(8, PARENT));
        assembly.insert(plain(8, 2, true));
        assert!(matches!(assembly.verdict(), Some(Verdict::Dead(Some(_), InvalidBlock::MalformedSlice))));
        assert_eq!(assembly.bytes(), 3 * SLICE_OVERHEAD_BYTES);
    }

    #[test]
    fn what_lies_beyond_the_last_slice_neither_helps_nor_harms() {
        let beyond = raw(8, 2, false, vec![99]);
        let block = complete(&[first(8, PARENT), plain(8, 1, true), beyond]);
        assert_eq!(block.slices.len(), 2);
    }

    #[test]
    fn contradictions_are_seen_in_every_order() {
        let signed = |slice: &Slice| slice.root;
        let (end, beyond, second_end) = (plain(8, 1, true), plain(8, 2, false), plain(8, 3, true));
        let mut assembly = Assembly::new(Slot(8), 1_000);
        assert_eq!(assembly.insert(end.clone()).contradicts, None);
        assert_eq!(assembly.insert(end.clone()), Stated { kept: false, contradicts: None });
        assert_eq!(assembly.insert(beyond.clone()).contradicts.unwrap().root, signed(&end));
        assert_eq!(assembly.insert(second_end.clone()).contradicts.unwrap().root, signed(&end));
        assert_eq!(assembly.insert(plain(8, 1, false)).contradicts.unwrap().root, signed(&end), "another flag");
        let other_root = slice(8, 1, true, ParentStatement::Nothing, 77);
        assert_eq!(assembly.insert(other_root).contradicts.unwrap().root, signed(&end));

        let mut assembly = Assembly::new(Slot(8), 1_000);
        assert_eq!(assembly.insert(beyond.clone()).contradicts, None);
        assert_eq!(assembly.insert(second_end).contradicts, None);
        let ended = assembly.insert(end.clone());
        assert!(ended.kept && ended.contradicts.is_some());
        assembly.insert(first(8, PARENT));
        assert!(matches!(assembly.verdict(), Some(Verdict::Complete(block)) if block.slices.len() == 2));
        assert_eq!(assembly.insert(beyond).contradicts, None, "recorded before: a repetition");
        assert_eq!(assembly.insert(plain(8, 4, false)).contradicts.unwrap().root, signed(&end));
    }
}
