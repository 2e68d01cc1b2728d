//! Blokstor: the blocks that this node holds (paper §2.5), and their hand-over to the application in chain order.
//!
//! **Which version.** A leader may sign several blocks for one slot. Of those that Rotor brings the first that is
//! complete is held, and the others are evidence; those that repair brings because they are needed are held beside it.
//! Every block ends complete or dead, by a verdict that is the same on every node (see [`crate::block`]), or its slot
//! falls behind the hand-over point and takes it along.
//!
//! **Hand-over.** Finalized blocks go to the application one after the other, each the child of the one before. If
//! one is missing, those after it wait, but at most until the highest finalized slot is
//! [`BlokstorConfig::handover_slots`] past the last block handed over. Then the missing one is given up: the
//! application is told of the gap, and goes on after it.
//!
//! **Memory.** Slices stay in the memory they were decoded into, which their owner needs back soon. When more than
//! [`BlokstorConfig::bytes_max`] is held, this goes first: slots past the one that the next leader may stream already,
//! farthest first, so that what lies ahead never costs what is at hand; then older blocks of windows that went by,
//! lowest first, so that a chain which grows without finalizing is not stopped by its own past; then the farthest. What
//! repair brings has memory of its own, as have copies of the blocks handed over, which are kept for others to repair:
//! the latest ones.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use alpenglow_rotor::assembler::Equivocation;
use alpenglow_rotor::signature::SignedRoot;
use alpenglow_rotor::slice::{Slice, SliceId};
use alpenglow_rotor::types::{BlockId, Hash, SLICES_MAX, Slot};

use crate::assembly::{Assembly, SLICE_OVERHEAD_BYTES, Stated, Verdict};
use crate::block::{Block, InvalidBlock, TransactionId};
use crate::repair::{BlockSource, SliceSource};

/// Slots of which anything is kept, whatever it costs: far more than are in flight while the chain finalizes.
const SLOTS_MAX: usize = 1_024;

/// Finalized blocks that are looked at for those that are missing. More are fetched when these were handed over.
const MISSING_MAX: usize = 4;

/// Bounds of the store.
#[derive(Clone, Copy, Debug)]
pub struct BlokstorConfig {
    /// Memory that one slice takes, however short its payload is.
    pub slice_memory_bytes: usize,
    /// Most memory held of what Rotor brings.
    pub bytes_max: usize,
    /// Most memory of repaired blocks that are not handed over yet.
    pub repaired_bytes: usize,
    /// A block stays at most this many slots after it was handed over.
    pub retained_slots: u64,
    /// Most memory of blocks that were handed over.
    pub retained_bytes: usize,
    /// Most slots that the hand-over may lag behind the highest finalized one.
    pub handover_slots: u64,
}

impl BlokstorConfig {
    /// Most slices of a block that nodes with these bounds can hold beside what else is in flight.
    #[must_use]
    pub fn block_slices_max(&self) -> usize {
        (self.bytes_max / 4 / self.slice_memory_bytes.max(1)).clamp(1, SLICES_MAX)
    }
}

/// Why a slice was not taken in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SliceRefusal {
    /// Its slot is handed over, or too far ahead.
    #[error("slot is closed or too far ahead")]
    Outside,
    /// It is known, or of no use any more.
    #[error("slice is known or of no use any more")]
    Duplicate,
    /// Slices of its slot had to make room.
    #[error("slices of its slot had to make room")]
    Evicted,
}

impl SliceRefusal {
    /// A stable name for counters.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Outside => "slice_outside",
            Self::Duplicate => "slice_duplicate",
            Self::Evicted => "slice_evicted",
        }
    }
}

/// What happened in the store.
#[derive(Clone, Debug)]
pub enum BlokstorEvent {
    /// A block that Rotor brought is complete and held.
    Complete(Arc<Block>),
    /// A block that repair brought is held.
    Repaired(Arc<Block>),
    /// A slot's block is dead. Its hash is unknown if it has no last slice.
    Dead {
        /// The slot.
        slot: Slot,
        /// The block, if it has a hash.
        block: Option<BlockId>,
        /// What is wrong with it.
        reason: InvalidBlock,
    },
    /// The leader contradicted itself. Reported once per slot.
    Equivocation(Equivocation),
    /// A slot's slices or block had to make room.
    Evicted(Slot),
    /// A finalized block, the next in the chain.
    HandOver(Arc<Block>),
    /// Finalized blocks after `after`, up to and with `through`, were never held: the next block handed over follows
    /// them.
    Gap {
        /// Last block of the chain that was handed over or given up before.
        after: BlockId,
        /// Last block given up.
        through: BlockId,
    },
    /// A finalized block is not on the chain that was handed over: more than a fifth of the stake lied. Nothing is
    /// handed over any more.
    Conflict(BlockId),
}

#[derive(Debug)]
struct SlotState {
    assembly: Assembly,
    block: Option<Arc<Block>>,
    evicted: bool,
    equivocated: bool,
}

impl SlotState {
    const fn new(slot: Slot, slice_memory_bytes: usize) -> Self {
        let assembly = Assembly::new(slot, slice_memory_bytes);
        Self { assembly, block: None, evicted: false, equivocated: false }
    }
}

/// See the module's documentation.
#[derive(Debug)]
pub struct Blokstor {
    config: BlokstorConfig,
    slots: BTreeMap<Slot, SlotState>,
    bytes: usize,
    /// Blocks that repair brought, of slots after the last one handed over.
    repaired: BTreeMap<BlockId, Arc<Block>>,
    repaired_bytes: usize,
    /// The latest blocks handed over.
    retained: BTreeMap<BlockId, Arc<Block>>,
    retained_bytes: usize,
    /// Finalized and not handed over yet.
    finalized: BTreeMap<Slot, Hash>,
    highest_finalized: Slot,
    handed_over: BlockId,
    conflict: bool,
    /// First slot of the current window.
    window_first: Slot,
    /// Last slot that slices are taken for.
    through: Slot,
    events: VecDeque<BlokstorEvent>,
}

impl Blokstor {
    /// Holds genesis, which counts as handed over. Takes slices for slots up to `through`.
    #[must_use]
    pub const fn new(config: BlokstorConfig, through: Slot) -> Self {
        Self {
            config,
            slots: BTreeMap::new(),
            bytes: 0,
            repaired: BTreeMap::new(),
            repaired_bytes: 0,
            retained: BTreeMap::new(),
            retained_bytes: 0,
            finalized: BTreeMap::new(),
            highest_finalized: Slot::GENESIS,
            handed_over: BlockId::GENESIS,
            conflict: false,
            window_first: Slot(1),
            through,
            events: VecDeque::new(),
        }
    }

    /// The current window begins at `window_first`; slices are taken up to slot `through`.
    pub fn set_window(&mut self, window_first: Slot, through: Slot) {
        self.window_first = window_first;
        self.through = through;
    }

    /// Slices up to this slot are not wanted any more. It follows the hand-over, not the certificates, so that a slow
    /// node still completes blocks that others finalized a moment ago.
    #[must_use]
    pub fn closed_through(&self) -> Slot {
        let lag_max = Slot(self.highest_finalized.0.saturating_sub(self.config.handover_slots));
        self.handed_over.slot.max(lag_max)
    }

    /// Takes in a slice that was decoded or made here.
    ///
    /// # Errors
    /// [`SliceRefusal`] says why it was not kept. Contradictions among slices are reported as events either way.
    pub fn insert(&mut self, slice: Slice) -> Result<(), SliceRefusal> {
        let Slice { id, is_last, root, signature, .. } = slice;
        self.take(SignedRoot { id, is_last, root, signature }, |assembly| assembly.insert(slice))
    }

    /// Takes note of a slice that is provably none: its block is dead.
    ///
    /// # Errors
    /// As [`Self::insert`].
    pub fn insert_malformed(&mut self, signed: SignedRoot) -> Result<(), SliceRefusal> {
        self.take(signed, |assembly| assembly.insert_malformed(signed))
    }

    /// Takes note that a leader signed one slice twice.
    pub fn equivocation(&mut self, equivocation: Equivocation) {
        if self.is_open(equivocation.first.id.slot) {
            self.report_equivocation(equivocation);
        }
    }

    /// The block is finalized, by certificate or as an ancestor. Call [`Self::hand_over`] when all that became final
    /// with it was told.
    pub fn finalized(&mut self, block: BlockId) {
        self.highest_finalized = self.highest_finalized.max(block.slot);
        if block.slot > self.handed_over.slot && !self.conflict {
            self.finalized.insert(block.slot, block.hash);
        }
    }

    /// Hands over what is next in the chain, gives up what was waited for too long, and lets go of what that makes
    /// useless.
    pub fn hand_over(&mut self) {
        let before = self.handed_over;
        while let Some((&slot, &hash)) = self.finalized.first_key_value()
            && !self.conflict
        {
            let id = BlockId { slot, hash };
            let too_far = self.highest_finalized.0 - self.handed_over.slot.0 > self.config.handover_slots;
            match self.block(id).cloned() {
                Some(block) if block.parent == self.handed_over => {
                    self.finalized.pop_first();
                    self.handed_over = id;
                    self.retain(&block);
                    self.events.push_back(BlokstorEvent::HandOver(block));
                }
                Some(block) if block.parent.slot <= self.handed_over.slot => {
                    self.conflict = true;
                    self.finalized.clear();
                    self.events.push_back(BlokstorEvent::Conflict(id));
                }
                Some(block) if too_far => self.give_up(block.parent),
                None if too_far => {
                    self.finalized.pop_first();
                    self.give_up(id);
                }
                Some(_) | None => break,
            }
        }
        if self.handed_over != before {
            self.let_go();
        }
    }

    /// The block, if it is held.
    #[must_use]
    pub fn block(&self, id: BlockId) -> Option<&Arc<Block>> {
        let from_rotor = self.slots.get(&id.slot).and_then(|state| state.block.as_ref()).filter(|block| block.id == id);
        from_rotor.or_else(|| self.repaired.get(&id)).or_else(|| self.retained.get(&id))
    }

    /// At start: the chain up to this final block was handed over before.
    pub fn restore_tip(&mut self, block: Arc<Block>) {
        self.highest_finalized = block.id.slot;
        self.handed_over = block.id;
        self.retain(&block);
    }

    /// Takes in a block that repair brought. It need not be the first one of its slot.
    pub fn insert_repaired(&mut self, block: Arc<Block>) {
        let id = block.id;
        if id.slot <= self.handed_over.slot || self.block(id).is_some() {
            return;
        }
        self.repaired_bytes += own_bytes(&block);
        self.repaired.insert(id, block.clone());
        self.events.push_back(BlokstorEvent::Repaired(block));
        // The lowest ones are handed over first; the others can be fetched once more.
        while self.repaired_bytes > self.config.repaired_bytes
            && let Some((_, farthest)) = self.repaired.pop_last()
        {
            self.repaired_bytes -= own_bytes(&farthest);
        }
    }

    /// The lowest finalized blocks that the hand-over waits for and that are not held: they never came, or had to make
    /// room.
    pub fn missing(&self) -> impl Iterator<Item = BlockId> + '_ {
        let finalized = self.finalized.iter().take(MISSING_MAX).map(|(&slot, &hash)| BlockId { slot, hash });
        finalized.filter(|id| self.block(*id).is_none())
    }

    /// Transactions in the blocks on the chain that ends with `tip`, back to the last one that was handed over, or to
    /// one that is not held, which is given too.
    #[must_use]
    pub fn chain_transactions(&self, tip: BlockId) -> (BTreeSet<TransactionId>, Option<BlockId>) {
        let mut transactions = BTreeSet::new();
        let mut next = tip;
        while next.slot > self.handed_over.slot {
            let Some(block) = self.block(next) else { return (transactions, Some(next)) };
            transactions.extend(block.transaction_ids.iter().copied());
            next = block.parent;
        }
        (transactions, None)
    }

    /// What happened, in order.
    pub fn poll(&mut self) -> Option<BlokstorEvent> {
        self.events.pop_front()
    }

    /// Memory held, by the reckoning of the bounds.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.bytes + self.repaired_bytes + self.retained_bytes
    }

    /// Slots of which anything is kept.
    #[must_use]
    pub fn slots(&self) -> usize {
        self.slots.len()
    }

    const fn is_open(&self, slot: Slot) -> bool {
        slot.0 > self.handed_over.slot.0 && slot.0 <= self.through.0
    }

    fn take(&mut self, signed: SignedRoot, insert: impl FnOnce(&mut Assembly) -> Stated) -> Result<(), SliceRefusal> {
        let SliceId { slot, .. } = signed.id;
        if !self.is_open(slot) {
            return Err(SliceRefusal::Outside);
        }
        let memory = self.config.slice_memory_bytes;
        let state = self.slots.entry(slot).or_insert_with(|| SlotState::new(slot, memory));
        if state.evicted {
            return Err(SliceRefusal::Evicted);
        }
        let before = state.assembly.bytes();
        let stated = insert(&mut state.assembly);
        self.bytes += state.assembly.bytes() - before;
        if let Some(first) = stated.contradicts {
            self.report_equivocation(Equivocation { first, second: signed });
        }
        if !stated.kept {
            return Err(SliceRefusal::Duplicate);
        }
        self.make_room();
        self.judge(slot);
        Ok(())
    }

    fn judge(&mut self, slot: Slot) {
        let Some(state) = self.slots.get_mut(&slot).filter(|state| !state.evicted) else { return };
        let before = state.assembly.bytes();
        let Some(verdict) = state.assembly.verdict() else { return };
        self.bytes = self.bytes - before + state.assembly.bytes();
        match verdict {
            Verdict::Complete(block) => {
                let block = Arc::new(block);
                state.block = Some(block.clone());
                if let Some(known) = self.repaired.remove(&block.id) {
                    self.repaired_bytes -= own_bytes(&known);
                } else {
                    self.events.push_back(BlokstorEvent::Complete(block));
                }
            }
            Verdict::Dead(block, reason) => self.events.push_back(BlokstorEvent::Dead { slot, block, reason }),
        }
    }

    fn report_equivocation(&mut self, equivocation: Equivocation) {
        let slot = equivocation.first.id.slot;
        let memory = self.config.slice_memory_bytes;
        let state = self.slots.entry(slot).or_insert_with(|| SlotState::new(slot, memory));
        if !std::mem::replace(&mut state.equivocated, true) {
            self.events.push_back(BlokstorEvent::Equivocation(equivocation));
        }
    }

    fn give_up(&mut self, through: BlockId) {
        self.events.push_back(BlokstorEvent::Gap { after: self.handed_over, through });
        self.handed_over = through;
    }

    /// Keeps a block handed over, in memory of its own.
    fn retain(&mut self, block: &Arc<Block>) {
        let copy = if self.repaired.contains_key(&block.id) { block.clone() } else { Arc::new(copy(block)) };
        self.retained_bytes += own_bytes(&copy);
        self.retained.insert(copy.id, copy);
        let oldest = self.handed_over.slot.0.saturating_sub(self.config.retained_slots);
        while let Some(entry) = self.retained.first_entry()
            && (entry.key().slot.0 <= oldest || self.retained_bytes > self.config.retained_bytes)
        {
            self.retained_bytes -= own_bytes(&entry.remove());
        }
    }

    /// Drops what the hand-over left behind.
    fn let_go(&mut self) {
        let handed_over = self.handed_over.slot;
        while let Some((&slot, _)) = self.slots.first_key_value()
            && slot <= handed_over
        {
            self.remove(slot);
        }
        while let Some(entry) = self.repaired.first_entry()
            && entry.key().slot <= handed_over
        {
            self.repaired_bytes -= own_bytes(&entry.remove());
        }
    }

    fn make_room(&mut self) {
        while self.slots.len() > SLOTS_MAX {
            let lowest = *self.slots.first_key_value().expect("it is longer than its bound").0;
            self.remove(lowest);
        }
        while self.bytes > self.config.bytes_max
            && let Some(slot) = self.least_needed()
        {
            self.evict(slot);
        }
    }

    /// See the order in the module's documentation.
    fn least_needed(&self) -> Option<Slot> {
        let holds = |state: &SlotState| state.assembly.bytes() > 0;
        let unfinalized = |slot: &Slot| !self.finalized.contains_key(slot);
        let streamed = self.window_first.window_last().next();
        let mut ahead = self.slots.range(streamed.next()..).rev();
        let mut past =
            self.slots.range(self.handed_over.slot.next()..).take_while(|(slot, _)| **slot < self.window_first);
        ahead
            .find(|(slot, state)| holds(state) && unfinalized(slot))
            .or_else(|| past.find(|(slot, state)| holds(state) && unfinalized(slot)))
            .or_else(|| self.slots.iter().rev().find(|(_, state)| holds(state)))
            .map(|(&slot, _)| slot)
    }

    fn evict(&mut self, slot: Slot) {
        let memory = self.config.slice_memory_bytes;
        let state = self.slots.get_mut(&slot).expect("only slots held are evicted");
        self.bytes -= state.assembly.bytes();
        state.assembly = Assembly::new(slot, memory);
        state.block = None;
        state.evicted = true;
        self.events.push_back(BlokstorEvent::Evicted(slot));
    }

    fn remove(&mut self, slot: Slot) {
        if let Some(state) = self.slots.remove(&slot) {
            self.bytes -= state.assembly.bytes();
        }
    }
}

impl BlockSource for Blokstor {
    fn block(&self, id: BlockId) -> Option<Arc<Block>> {
        self.block(id).cloned()
    }
}

impl SliceSource for Blokstor {
    fn slice(&self, id: SliceId, root: Hash) -> Option<Slice> {
        let state = self.slots.get(&id.slot)?;
        let of_block = state.block.as_ref().and_then(|block| block.slices.get(id.index.get()));
        of_block.or_else(|| state.assembly.slice(id.index)).filter(|slice| slice.root == root).cloned()
    }

    fn is_settled(&self, block: BlockId) -> bool {
        block.slot <= self.closed_through() || self.block(block).is_some()
    }
}

/// Memory of a block that shares none with what its slices were decoded into.
fn own_bytes(block: &Block) -> usize {
    let payloads: usize = block.slices.iter().map(|slice| slice.payload.len()).sum();
    payloads + block.slices.len() * SLICE_OVERHEAD_BYTES + size_of_val(block.transaction_ids.as_slice())
}

/// The block, with its payloads in memory that is no longer than they are.
fn copy(block: &Block) -> Block {
    let slices = block.slices.iter().map(|slice| Slice { payload: slice.payload.to_vec().into(), ..slice.clone() });
    let Block { id, parent, first_counted, ref transaction_ids, .. } = *block;
    Block { id, parent, slices: slices.collect(), first_counted, transaction_ids: transaction_ids.clone() }
}

#[cfg(test)]
mod tests;
