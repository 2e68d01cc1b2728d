//! Which blocks a window may build on (paper §2.5): certified ones with nothing but skipped slots in between.

use std::collections::{BTreeMap, BTreeSet};

use alpenglow_rotor::types::{BlockId, Hash, Slot};

/// A first slot of a window with a block that it may build on.
pub(super) type ReadyParent = (Slot, BlockId);

/// Certified blocks and skipped slots above the highest finalized block.
///
/// Nothing is remembered of what was reported: every path from a block to a window becomes complete once, with the last
/// certificate on it.
pub(super) struct ParentReady {
    /// The highest finalized block, certified by definition.
    root: BlockId,
    certified: BTreeMap<Slot, Vec<Hash>>,
    skipped: BTreeSet<Slot>,
    highest: Slot,
}

impl ParentReady {
    /// At genesis, on which window 0 may build.
    pub(super) const fn new() -> Self {
        Self { root: BlockId::GENESIS, certified: BTreeMap::new(), skipped: BTreeSet::new(), highest: Slot(1) }
    }

    /// The highest slot that was ready.
    pub(super) const fn highest(&self) -> Slot {
        self.highest
    }

    /// Whether a block has a certificate or is the highest finalized one.
    pub(super) fn is_certified(&self, block: BlockId) -> bool {
        block == self.root || self.certified.get(&block.slot).is_some_and(|hashes| hashes.contains(&block.hash))
    }

    /// A block has its first certificate.
    pub(super) fn certify(&mut self, block: BlockId) -> Vec<ReadyParent> {
        if block.slot < self.root.slot || self.is_certified(block) {
            return Vec::new();
        }
        self.certified.entry(block.slot).or_default().push(block.hash);
        self.reach(block.slot.next(), &[block])
    }

    /// A slot has a skip certificate.
    pub(super) fn skip(&mut self, slot: Slot) -> Vec<ReadyParent> {
        if slot <= self.root.slot || !self.skipped.insert(slot) {
            return Vec::new();
        }
        let mut parents = Vec::new();
        let mut below = slot.previous();
        while let Some(at) = below.filter(|at| *at >= self.root.slot) {
            if at == self.root.slot {
                parents.push(self.root);
                break;
            }
            let hashes = self.certified.get(&at).into_iter().flatten();
            parents.extend(hashes.map(|hash| BlockId { slot: at, hash: *hash }));
            below = if self.skipped.contains(&at) { at.previous() } else { None };
        }
        self.reach(slot.next(), &parents)
    }

    /// The windows that begin at `from`, or after it with skipped slots only in between, are ready for `parents`.
    fn reach(&mut self, from: Slot, parents: &[BlockId]) -> Vec<ReadyParent> {
        let mut ready = Vec::new();
        let mut slot = from;
        loop {
            if slot.is_window_first() && slot > self.root.slot {
                ready.extend(parents.iter().map(|parent| (slot, *parent)));
                if !parents.is_empty() {
                    self.highest = self.highest.max(slot);
                }
            }
            if !self.skipped.contains(&slot) || slot == slot.next() {
                return ready;
            }
            slot = slot.next();
        }
    }

    /// Forgets what lies below a block that is finalized by certificate.
    pub(super) fn finalize(&mut self, block: BlockId) {
        self.root = block;
        self.certified = self.certified.split_off(&block.slot.next());
        self.skipped = self.skipped.split_off(&block.slot.next());
    }

    /// Forgets a certified block again.
    pub(super) fn forget(&mut self, block: BlockId) {
        if let Some(hashes) = self.certified.get_mut(&block.slot) {
            hashes.retain(|hash| *hash != block.hash);
        }
    }
}
