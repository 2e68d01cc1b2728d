//! Votor (paper §2.6): decides what this node votes, from blocks, timers and what the Pool makes of the votes.
//!
//! Handlers put the votes they cast into a queue, in order. Slots up to the highest finalized one are closed: no
//! handler casts anything there.

use std::collections::{BTreeMap, VecDeque};

use alpenglow_rotor::types::{BlockId, Hash, Slot, Time};

use crate::timers::{Patience, Timeout, Timers};
use crate::vote::VotePayload;

/// What Votor remembers of an open slot (paper, Definition 18).
#[derive(Default)]
struct SlotState {
    /// ParentReady: in the first slot of a window, what its block may build on, in the order of events.
    parents: Vec<BlockId>,
    /// Voted.
    voted: bool,
    /// VotedNotar.
    voted_notar: Option<Hash>,
    /// BlockNotarized. More than one only if 20% of the stake are byzantine.
    notarized: Vec<Hash>,
    /// ItsOver.
    its_over: bool,
    /// BadWindow.
    bad_window: bool,
    /// The leader signed contradicting slices: no first vote for a block.
    equivocated: bool,
    /// In the first slot of a window: its leader was heard of.
    leader_seen: bool,
    /// A block that came before it could be voted for, and its parent.
    pending: Option<(Hash, BlockId)>,
}

/// See the module.
pub(crate) struct Votor {
    /// The highest finalized block; its slot and those below are closed.
    finalized: BlockId,
    /// Slots up to this one may have been voted in before the start: no vote of any kind there.
    barred_through: Slot,
    /// Open slots in which something happened: those of blocks held, certificates held, windows that are ready, and
    /// windows within the shred horizon whose leaders were heard of.
    slots: BTreeMap<Slot, SlotState>,
    timers: Timers,
    /// What one handler cast: at most two votes for each slot of a window and each pending block.
    cast: VecDeque<VotePayload>,
}

impl Votor {
    /// At genesis, with window 0 ready and its timers running from `start`.
    pub(crate) fn new(patience: Patience, start: Time) -> Self {
        let mut votor = Self {
            finalized: BlockId::GENESIS,
            barred_through: Slot::GENESIS,
            slots: BTreeMap::new(),
            timers: Timers::new(patience, start),
            cast: VecDeque::new(),
        };
        votor.on_parent_ready(start, Slot(1), BlockId::GENESIS);
        votor
    }

    /// The next vote that was cast, unless it is of a slot above `through`.
    pub(crate) fn next_cast(&mut self, through: Slot) -> Option<VotePayload> {
        self.cast.pop_front_if(|payload| payload.slot() <= through)
    }

    /// The slot of the next vote that was cast.
    pub(crate) fn next_cast_slot(&self) -> Option<Slot> {
        self.cast.front().map(VotePayload::slot)
    }

    /// Up to where no vote is cast.
    pub(crate) const fn barred_through(&self) -> Slot {
        self.barred_through
    }

    /// Sets the slot up to which no vote is cast: every slot there is voted in and over. None above it may have been
    /// voted in if it was higher before.
    pub(crate) fn bar(&mut self, through: Slot) {
        let before = std::mem::replace(&mut self.barred_through, through);
        let (low, high) = (before.min(through), before.max(through));
        if low < high {
            for (_, state) in self.slots.range_mut(low.next()..=high) {
                let barred = through == high;
                (state.voted, state.bad_window, state.its_over) = (barred, barred, barred);
            }
        }
    }

    /// A vote cast before a restart, in the order of casting.
    pub(crate) fn replay(&mut self, payload: VotePayload) {
        if self.is_closed(payload.slot()) {
            return;
        }
        let state = self.state(payload.slot());
        match payload {
            VotePayload::Notar(block) => {
                state.voted = true;
                state.voted_notar = Some(block.hash);
            }
            VotePayload::Skip(_) => {
                state.voted = true;
                state.bad_window = true;
            }
            VotePayload::NotarFallback(_) | VotePayload::SkipFallback(_) => state.bad_window = true,
            VotePayload::Final(_) => state.its_over = true,
        }
    }

    fn state(&mut self, slot: Slot) -> &mut SlotState {
        let barred = slot <= self.barred_through;
        let unseen = || SlotState { voted: barred, bad_window: barred, its_over: barred, ..SlotState::default() };
        self.slots.entry(slot).or_insert_with(unseen)
    }

    /// Closes the slots up to that of the highest finalized block.
    pub(crate) fn close(&mut self, finalized: BlockId) {
        if finalized.slot > self.finalized.slot {
            self.finalized = finalized;
            self.slots = self.slots.split_off(&finalized.slot.next());
            self.timers.close(finalized.slot);
            // Only votes that wait for the vote record can be here.
            self.cast.retain(|payload| payload.slot() > finalized.slot);
        }
    }

    fn is_closed(&self, slot: Slot) -> bool {
        slot <= self.finalized.slot
    }

    /// The blocks that the window beginning at `slot` may build on, in the order of events.
    pub(crate) fn parents_ready(&self, slot: Slot) -> &[BlockId] {
        self.slots.get(&slot).map_or(&[], |state| &state.parents)
    }

    /// When the next timer is due.
    pub(crate) fn next_timeout(&self) -> Option<Time> {
        self.timers.next()
    }

    /// Takes the next timer that is due at `now`.
    pub(crate) fn pop_timeout(&mut self, now: Time) -> Option<Timeout> {
        self.timers.pop(now)
    }

    /// The first complete block of a slot.
    pub(crate) fn on_block(&mut self, block: BlockId, parent: BlockId) {
        if self.is_closed(block.slot) {
            return;
        }
        if self.try_notar(block, parent) {
            self.check_pending();
        } else {
            let state = self.state(block.slot);
            if !state.voted && !state.equivocated {
                state.pending = Some((block.hash, parent));
            }
        }
    }

    /// The leader of a slot signed slices that exclude each other: no notar vote there if none was cast.
    pub(crate) fn on_equivocation(&mut self, slot: Slot) {
        if !self.is_closed(slot) {
            let state = self.state(slot);
            state.equivocated = true;
            state.pending = None;
        }
    }

    /// A valid shred of a window's first slot came, or its leader is this node.
    pub(crate) fn on_leader_seen(&mut self, slot: Slot) {
        if !self.is_closed(slot) {
            self.state(slot).leader_seen = true;
        }
    }

    /// A timer fired.
    pub(crate) fn on_timeout(&mut self, timeout: Timeout) {
        let slot = timeout.slot();
        if self.is_closed(slot) {
            return;
        }
        let voted = |slot: Slot| self.slots.get(&slot).is_some_and(|state| state.voted);
        let skips = match timeout {
            Timeout::Block(slot) => !voted(slot),
            Timeout::CrashedLeader(first) => {
                let seen = self.slots.get(&first).is_some_and(|state| state.leader_seen);
                !seen && !(first.0..=first.window_last().0).map(Slot).any(voted)
            }
        };
        if skips {
            self.try_skip_window(slot);
        }
    }

    /// A block has a notarization certificate.
    pub(crate) fn on_block_notarized(&mut self, block: BlockId) {
        if self.is_closed(block.slot) {
            return;
        }
        self.state(block.slot).notarized.push(block.hash);
        self.try_final(block);
    }

    /// The Pool forgot a notarization far ahead.
    pub(crate) fn on_forgotten(&mut self, block: BlockId) {
        if let Some(state) = self.slots.get_mut(&block.slot) {
            state.notarized.retain(|hash| *hash != block.hash);
        }
    }

    /// A window may build on a block.
    pub(crate) fn on_parent_ready(&mut self, now: Time, slot: Slot, parent: BlockId) {
        if self.is_closed(slot) {
            return;
        }
        self.state(slot).parents.push(parent);
        self.timers.set(now, slot, self.finalized.slot);
        self.check_pending();
    }

    /// A block was finalized by certificate; its slot is closed already.
    pub(crate) fn on_finalized(&mut self, now: Time, block: BlockId) {
        self.timers.finalized(now);
        if block.slot < block.slot.window_last() {
            self.timers.set(now, block.slot.next(), self.finalized.slot);
        }
        self.check_pending();
    }

    /// The Pool found a notar-fallback vote for a block to be safe.
    pub(crate) fn on_safe_to_notar(&mut self, block: BlockId) {
        if self.is_closed(block.slot) {
            return;
        }
        self.try_skip_window(block.slot);
        self.cast_fallback(VotePayload::NotarFallback(block));
    }

    /// The Pool found a skip-fallback vote to be safe.
    pub(crate) fn on_safe_to_skip(&mut self, slot: Slot) {
        if self.is_closed(slot) {
            return;
        }
        self.try_skip_window(slot);
        self.cast_fallback(VotePayload::SkipFallback(slot));
    }

    fn cast_fallback(&mut self, payload: VotePayload) {
        let state = self.state(payload.slot());
        if !state.its_over {
            state.bad_window = true;
            self.cast.push_back(payload);
        }
    }

    /// Votes for a block if its parent allows it.
    fn try_notar(&mut self, block: BlockId, parent: BlockId) -> bool {
        let allowed = if block.slot.is_window_first() {
            self.parents_ready(block.slot).contains(&parent)
        } else {
            let voted = self.slots.get(&parent.slot).and_then(|state| state.voted_notar);
            block.slot.previous() == Some(parent.slot) && (voted == Some(parent.hash) || parent == self.finalized)
        };
        let state = self.state(block.slot);
        if !allowed || state.voted || state.equivocated {
            return false;
        }
        state.voted = true;
        state.voted_notar = Some(block.hash);
        state.pending = None;
        self.cast.push_back(VotePayload::Notar(block));
        self.try_final(block);
        true
    }

    fn try_final(&mut self, block: BlockId) {
        let state = self.state(block.slot);
        let notarized = state.notarized.contains(&block.hash) && state.voted_notar == Some(block.hash);
        if notarized && !state.bad_window && !state.its_over {
            state.its_over = true;
            self.cast.push_back(VotePayload::Final(block.slot));
        }
    }

    fn try_skip_window(&mut self, slot: Slot) {
        let first_open = slot.window_first().max(self.finalized.slot.next());
        for slot in first_open.0..=slot.window_last().0 {
            let state = self.state(Slot(slot));
            if !state.voted {
                state.voted = true;
                state.bad_window = true;
                state.pending = None;
                self.cast.push_back(VotePayload::Skip(Slot(slot)));
            }
        }
    }

    fn check_pending(&mut self) {
        let pending: Vec<(BlockId, BlockId)> = self
            .slots
            .iter()
            .filter_map(|(slot, state)| state.pending.map(|(hash, parent)| (BlockId { slot: *slot, hash }, parent)))
            .collect();
        for (block, parent) in pending {
            self.try_notar(block, parent);
        }
    }
}
