//! What the Pool knows of blocks: held with which parent, asked for, or dead.

use std::collections::BTreeMap;

use alpenglow_rotor::types::{BlockId, Hash, Slot};

use super::CERTIFIED_PER_SLOT_MAX;

/// Blocks remembered in a slot: the first one that came through Rotor, and what is asked for: the certified ones, and
/// those with notarization votes of 20%, of which there are at most five.
const BLOCKS_PER_SLOT_MAX: usize = 1 + CERTIFIED_PER_SLOT_MAX + 5;

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Wanted,
    Held { parent: BlockId },
    Dead,
}

/// Whether a block became held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Held {
    /// It is the first that is held in its slot.
    First,
    /// It is another one.
    Another,
    /// It was held or is dead.
    Unchanged,
}

/// Blocks by slot, above the last one handed over in chain order.
pub(super) struct Blocks(BTreeMap<Slot, Vec<(Hash, State)>>);

impl Blocks {
    pub(super) const fn new() -> Self {
        Self(BTreeMap::new())
    }

    fn state(&self, block: BlockId) -> Option<State> {
        let entries = self.0.get(&block.slot)?;
        entries.iter().find(|(hash, _)| *hash == block.hash).map(|(_, state)| *state)
    }

    /// Sets a state; past the bound the block stays unknown.
    fn set(&mut self, block: BlockId, state: State) -> bool {
        let entries = self.0.entry(block.slot).or_default();
        if let Some((_, known)) = entries.iter_mut().find(|(hash, _)| *hash == block.hash) {
            *known = state;
            return true;
        }
        let room = entries.len() < BLOCKS_PER_SLOT_MAX;
        if room {
            entries.push((block.hash, state));
        }
        room
    }

    /// Notes that a block is held.
    pub(super) fn hold(&mut self, block: BlockId, parent: BlockId) -> Held {
        if matches!(self.state(block), Some(State::Held { .. } | State::Dead)) {
            return Held::Unchanged;
        }
        let holds = |entries: &Vec<(Hash, State)>| entries.iter().any(|(_, state)| matches!(state, State::Held { .. }));
        let first = !self.0.get(&block.slot).is_some_and(holds);
        match self.set(block, State::Held { parent }) {
            true if first => Held::First,
            true => Held::Another,
            false => Held::Unchanged,
        }
    }

    /// Notes that a block is malformed, unless it is held.
    pub(super) fn kill(&mut self, block: BlockId) {
        if !self.is_held(block) {
            self.set(block, State::Dead);
        }
    }

    /// Notes that a block is needed. Whether it must be asked for: true once, and only if it is neither held nor dead.
    pub(super) fn want(&mut self, block: BlockId) -> bool {
        self.state(block).is_none() && self.set(block, State::Wanted)
    }

    pub(super) fn is_held(&self, block: BlockId) -> bool {
        self.parent(block).is_some()
    }

    /// The parent of a held block.
    pub(super) fn parent(&self, block: BlockId) -> Option<BlockId> {
        match self.state(block) {
            Some(State::Held { parent }) => Some(parent),
            _ => None,
        }
    }

    /// Forgets everything up to a slot.
    pub(super) fn forget_through(&mut self, slot: Slot) {
        self.0 = self.0.split_off(&slot.next());
    }
}
