//! The way down from a final block, for a node that is far behind: who holds the block names its ancestors, which are
//! then fetched side by side instead of each when its child is here.
//!
//! A list proves nothing. Blocks on it are fetched as what they are, blocks of that hash, and kept until somebody needs
//! them, which happens from above: a final block that is here names its parent, and that is final too. If it names
//! another than the list, all that was named below is let go, and the one who named the highest wrong block is asked
//! less. That one lied: whoever was asked about a block above it was asked about an ancestor of the final one, since
//! all there is right.

use alpenglow_rotor::types::{BlockId, Slot, Time, ValidatorIndex, WINDOW_SLOTS};

use super::{BLOCKS_MAX, Fetch, Requester, SliceSource, first_of};
use crate::counters::Counters;

/// A final block so many slots past what is settled is asked for its ancestors. Closer ones are found soon enough by
/// their children's first slices.
const FAR_BEHIND_SLOTS: u64 = 2 * WINDOW_SLOTS;
/// Blocks on their way while named ones are added: what is needed has the rest.
const BLOCKS_WITH_NAMED_MAX: usize = BLOCKS_MAX / 2;

impl Requester {
    /// Lets final blocks that lie far ahead be asked for their ancestors, once.
    pub(super) fn look_down(&mut self) {
        let far = Slot(self.settled_through.0.saturating_add(FAR_BEHIND_SLOTS).saturating_add(1));
        if far <= self.closed_through {
            let range = first_of(far)..first_of(self.closed_through.next());
            for (_, fetch) in
                self.fetches.range_mut(range).filter(|(_, fetch)| fetch.is_final && !fetch.ancestors_asked)
            {
                fetch.ask_for_ancestors();
            }
        }
    }

    /// `by` names the ancestors of a block, from its parent downwards: fetches them, and asks what the last one
    /// descends from.
    pub(super) fn follow_down(&mut self, now: Time, by: ValidatorIndex, named: &[BlockId], held: &dyn SliceSource) {
        let mut lowest = None;
        let settled_through = self.settled_through;
        for &id in named.iter().take_while(|id| id.slot > settled_through) {
            let is_known = held.is_settled(id) || self.fetches.contains_key(&id);
            let is_disputed = self.of_slot(id.slot).any(|fetch| fetch.named_by.is_some());
            if is_known || is_disputed {
                lowest = None;
            } else if self.fetches.len() < BLOCKS_WITH_NAMED_MAX {
                self.fetches.insert(id, Fetch::named(id, now, by));
                lowest = Some(id);
            } else {
                return;
            }
        }
        let goes_on = |id: &BlockId| id.slot > settled_through.next();
        if let Some(fetch) = lowest.filter(goes_on).and_then(|id| self.fetches.get_mut(&id)) {
            fetch.ask_for_ancestors();
        }
    }

    /// A final block is here, and has this parent, which is final too: what was named for the slots from the parent's
    /// up to its own must be the parent.
    pub(super) fn compare_named(&mut self, now: Time, block: BlockId, parent: BlockId, counters: &mut Counters) {
        if parent.slot >= block.slot {
            return;
        }
        let mut between = self.fetches.range(first_of(parent.slot)..first_of(block.slot)).rev();
        let wrong = between.find_map(|(id, fetch)| fetch.named_by.filter(|_| *id != parent));
        if let Some(liar) = wrong {
            counters.count("repair_ancestors_wrong");
            self.peers.misled(now, liar);
            self.forget_named(block.slot);
        }
    }

    /// Lets go of what was named of slots below this one.
    fn forget_named(&mut self, below: Slot) {
        let named = self.fetches.range(..first_of(below)).filter(|(_, fetch)| fetch.named_by.is_some());
        let named: Vec<BlockId> = named.map(|(id, _)| *id).collect();
        for id in named {
            self.satisfied(id);
        }
    }

    /// Lets go of the lowest blocks that were named, until there is memory for so many bytes, or none is left.
    pub(super) fn make_room(&mut self, bytes: usize) {
        while self.reserved_bytes + bytes > self.limits.bytes_max {
            let mut named = self.fetches.iter().filter(|(_, fetch)| fetch.named_by.is_some());
            let Some(lowest) = named.find(|(_, fetch)| fetch.reserved_bytes > 0).map(|(id, _)| *id) else { return };
            self.satisfied(lowest);
        }
    }
}
