//! What is written down before it is said; see [`crate::vote_record`].

use alpenglow_rotor::types::{Slot, Time};

use super::Control;
use crate::message::Message;
use crate::output::Output;
use crate::production::OutgoingSlice;
use crate::vote_record::Entry;

impl Control {
    /// After a start: lets everything follow from what was restored, and says the own votes again, which may not have
    /// been sent.
    pub(super) fn resume(&mut self, start: Time) {
        let votes: Vec<Message> = self.consensus.own_votes().map(|vote| Message::Vote(*vote)).collect();
        self.outputs.extend(votes.into_iter().map(Output::Broadcast));
        self.follow(start);
        self.record.renew(self.consensus.highest_voted(), &mut self.outputs);
        self.update_horizon();
    }

    /// Whether no slice of the window that begins at `first` can have left before a restart.
    pub(super) fn may_lead(&self, first: Slot) -> bool {
        first > self.consensus.barred_through() && self.record.may_lead(first)
    }

    /// Lets a slice go as soon as its window is recorded.
    pub(super) fn send_slice(&mut self, slice: OutgoingSlice) {
        if self.may_lead(slice.id.slot.window_first()) {
            self.record.send(slice, &mut self.outputs);
        } else {
            self.production.stop();
        }
    }

    /// The highest finalized block changed, or the start's bar was found out with it.
    pub(super) fn record_finalization(&mut self) {
        let finalized = self.consensus.finalized_by().to_vec();
        self.outputs.extend(self.record.record(|| Entry::Finalized(finalized)));
        if let Some(through) = self.consensus.take_found_bar() {
            self.outputs.extend(self.record.record(|| Entry::Barred(through)));
        }
    }
}
