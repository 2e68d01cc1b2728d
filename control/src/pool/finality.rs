//! Which blocks are final, and in which order they are handed over.
//!
//! A block final by certificate makes its ancestors final as soon as the links to them are known. Links can be missing
//! in several places at once: after each finalization of a block that is not held. Blocks are handed over from the
//! bottom, when all below them is linked. A link that stays unknown is waited for while [`LINKS_MAX`] blocks are final
//! above it; then the chain goes on after the gap.

use std::collections::{BTreeMap, VecDeque};

use alpenglow_rotor::types::{BlockId, Hash, Slot};

use super::PoolEvent;
use super::blocks::Blocks;
use crate::consensus::{ConsensusEvent, Finalization};

/// Final blocks kept because something below them is missing: those of the slots that Blokstor keeps anything of. What
/// is missing for longer is no longer held by anybody who could be asked.
const LINKS_MAX: usize = 1_024;

/// A final block that is not handed over yet.
struct Link {
    hash: Hash,
    /// Known once the block is held.
    parent: Option<BlockId>,
}

/// Final blocks above the last one handed over.
pub(super) struct Finality {
    highest: BlockId,
    chained: BlockId,
    /// At most [`LINKS_MAX`].
    links: BTreeMap<Slot, Link>,
}

impl Finality {
    /// Genesis is final and handed over.
    pub(super) const fn new() -> Self {
        Self { highest: BlockId::GENESIS, chained: BlockId::GENESIS, links: BTreeMap::new() }
    }

    /// The highest block final by certificate.
    pub(super) const fn highest(&self) -> BlockId {
        self.highest
    }

    /// The last block handed over or given up.
    pub(super) const fn chained(&self) -> BlockId {
        self.chained
    }

    /// The chain up to this block was handed over before a restart.
    pub(super) const fn restore(&mut self, chained: BlockId) {
        self.chained = chained;
    }

    /// A block above the highest is final by certificate.
    pub(super) fn finalize(
        &mut self,
        block: BlockId,
        how: Finalization,
        blocks: &mut Blocks,
        events: &mut VecDeque<PoolEvent>,
    ) {
        assert!(block.slot > self.highest.slot, "slots up to the highest finalized one are closed");
        self.highest = block;
        events.push_back(PoolEvent::Finalized { block, how });
        self.links.insert(block.slot, Link { hash: block.hash, parent: None });
        self.descend(block, blocks, events);
        self.hand_over(blocks, events);
    }

    /// A block of a closed slot is held now: perhaps the missing link to its ancestors.
    pub(super) fn held(&mut self, block: BlockId, blocks: &mut Blocks, events: &mut VecDeque<PoolEvent>) {
        let unlinked = |link: &Link| link.hash == block.hash && link.parent.is_none();
        if self.links.get(&block.slot).is_some_and(unlinked) {
            self.descend(block, blocks, events);
            self.hand_over(blocks, events);
        }
    }

    /// Follows the parent links down from a final block, as far as they are known.
    fn descend(&mut self, from: BlockId, blocks: &mut Blocks, events: &mut VecDeque<PoolEvent>) {
        let mut block = from;
        loop {
            let Some(parent) = blocks.parent(block) else {
                if blocks.want(block) {
                    events.push_back(PoolEvent::Report(ConsensusEvent::RepairNeeded(block)));
                }
                return;
            };
            if let Some(other) = self.contradiction(block, parent) {
                events.push_back(PoolEvent::Report(ConsensusEvent::Contradiction { block: parent, other }));
                return;
            }
            if let Some(link) = self.links.get_mut(&block.slot) {
                link.parent = Some(parent);
            }
            if parent.slot.next() < block.slot {
                let last = block.slot.previous().expect("a block with a parent is past genesis");
                events.push_back(PoolEvent::Report(ConsensusEvent::SkippedForGood { first: parent.slot.next(), last }));
            }
            if parent == self.chained || self.links.contains_key(&parent.slot) {
                return;
            }
            if self.links.len() > LINKS_MAX {
                // What lies below is given up.
                return;
            }
            let how = Finalization::Ancestor;
            events.push_back(PoolEvent::Report(ConsensusEvent::Finalized { block: parent, how }));
            self.links.insert(parent.slot, Link { hash: parent.hash, parent: None });
            block = parent;
        }
    }

    /// A final block that `block` bypasses by having `parent`.
    fn contradiction(&self, block: BlockId, parent: BlockId) -> Option<BlockId> {
        let below = self.links.range(..block.slot).next_back();
        let (slot, hash) = below.map_or((self.chained.slot, self.chained.hash), |(slot, link)| (*slot, link.hash));
        let next_below = BlockId { slot, hash };
        (parent.slot < slot || (parent.slot == slot && parent != next_below)).then_some(next_below)
    }

    fn hand_over(&mut self, blocks: &mut Blocks, events: &mut VecDeque<PoolEvent>) {
        let mut too_many = self.links.len() > LINKS_MAX;
        while let Some(entry) = self.links.first_entry() {
            let block = BlockId { slot: *entry.key(), hash: entry.get().hash };
            if entry.get().parent == Some(self.chained) {
                events.push_back(PoolEvent::Report(ConsensusEvent::Chained { block, parent: self.chained }));
            } else if !too_many {
                break;
            }
            too_many = false;
            entry.remove();
            self.chained = block;
        }
        blocks.forget_through(self.chained.slot);
    }
}
