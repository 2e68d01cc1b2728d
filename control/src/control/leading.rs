//! When this node leads: what its blocks begin on.

use alpenglow_rotor::types::{BlockId, Slot, Time};

use super::Control;
use crate::output::Event;
use crate::transactions::Selection;

impl Control {
    /// A block is held. If it ends the current window and this node leads the next one, it begins there, before it is
    /// known whether it may. If production waits for it, that goes on.
    pub(super) fn lead_on(&mut self, now: Time, block: BlockId) {
        if self.production.missing() == Some(block) {
            let (on_chain, missing) = self.blokstor.chain_transactions(block);
            self.production.found(on_chain, missing);
        }
        let first = block.slot.next();
        let is_next = block.slot == self.window.window_last() && first > self.consensus.highest_finalized().slot;
        if is_next && self.leads(first) && self.production.slot().is_none() {
            self.production.stream(now, first, block, self.selection_on(block));
            self.observe_production();
        }
    }

    /// The window that begins at `first` is ready: its leader produces, every other one stops.
    pub(super) fn begin_window(&mut self, now: Time, first: Slot, parent: BlockId) {
        self.window = first;
        let leader = self.schedule.leader(first);
        let next_leader = self.schedule.leader(first.window_last().next());
        self.transactions.window_changed(now, leader, next_leader);
        if !self.leads(first) || first <= self.consensus.highest_finalized().slot {
            self.production.stop();
            return;
        }
        match self.production.streaming().filter(|(streamed, _)| *streamed == first) {
            None => {
                self.production.stream(now, first, parent, self.selection_on(parent));
                self.observe_production();
            }
            Some((_, from)) if from != parent && !self.consensus.parents_ready(first).contains(&from) => {
                self.production.change_parent(now, parent, self.selection_on(parent));
                self.observe(Event::ParentChanged { slot: first, from, to: parent });
            }
            Some(_) => {}
        }
        self.production.ready(now);
    }

    pub(super) fn observe_production(&mut self) {
        if let Some(slot) = self.production.slot() {
            self.observe(Event::ProductionBegan(slot));
        }
    }

    fn leads(&self, first: Slot) -> bool {
        self.schedule.leader(first) == self.own && self.may_lead(first)
    }

    /// Passes over what is on the chain that ends with `parent`.
    fn selection_on(&self, parent: BlockId) -> Selection {
        let (on_chain, missing) = self.blokstor.chain_transactions(parent);
        Selection::excluding(on_chain, missing)
    }
}
