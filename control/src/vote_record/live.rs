//! The record of a running node: what it has reserved, and the slices that wait for that.

use std::collections::{BTreeSet, VecDeque};

use alpenglow_rotor::types::Slot;

use super::{Entry, RESERVED_AHEAD_SLOTS, Restoration};
use crate::output::Output;
use crate::production::OutgoingSlice;

/// See the module. Without a record (`None` within) everything may leave at once and nothing is remembered.
#[derive(Debug, Default)]
pub(crate) struct Live(Option<Reserving>);

#[derive(Debug)]
struct Reserving {
    /// On disk.
    durable: Slot,
    /// Asked for.
    requested: Slot,
    /// The highest slot that something was said in, or is to be.
    used: Slot,
    /// Windows up to this slot may have been begun before the start.
    led_through: Slot,
    /// Windows of this node that were begun before the start, by their first slots: those logged and still open.
    led: BTreeSet<Slot>,
    /// First slot of the window begun last, after the start.
    window: Option<Slot>,
    /// Slices above the reservation: bounded by how many production has under way.
    waiting: VecDeque<OutgoingSlice>,
}

impl Live {
    pub(crate) fn restored(restoration: &Restoration) -> Self {
        Self(Some(Reserving {
            durable: restoration.reservation(),
            requested: restoration.reservation(),
            used: restoration.highest_used(),
            led_through: restoration.reservation(),
            led: restoration.led_windows().collect(),
            window: None,
            waiting: VecDeque::new(),
        }))
    }

    /// What is to be written down, if anything is written down.
    pub(crate) fn record(&self, entry: impl FnOnce() -> Entry) -> Option<Output> {
        self.0.as_ref().map(|_| Output::Record(entry()))
    }

    /// Whether no slice of the window that begins at `first` can have left before the start.
    pub(crate) fn may_lead(&self, first: Slot) -> bool {
        self.0.as_ref().is_none_or(|live| first > live.led_through && !live.led.contains(&first))
    }

    /// A slice of an own block, of a window that may be led, is to leave.
    pub(crate) fn send(&mut self, slice: OutgoingSlice, outputs: &mut VecDeque<Output>) {
        let Some(live) = &mut self.0 else {
            outputs.push_back(Output::SendSlice(slice));
            return;
        };
        live.used = live.used.max(slice.id.slot.window_first());
        live.waiting.push_back(slice);
        live.release(outputs);
    }

    /// The reservation is on disk up to there.
    pub(crate) fn durable(&mut self, through: Slot, outputs: &mut VecDeque<Output>) {
        if let Some(live) = &mut self.0 {
            live.durable = live.durable.max(through);
            live.release(outputs);
        }
    }

    /// Asks for a higher reservation when it is time to. `voted` is the highest slot that a vote was cast in.
    pub(crate) fn renew(&mut self, voted: Slot, outputs: &mut VecDeque<Output>) {
        let Some(live) = &mut self.0 else { return };
        live.used = live.used.max(voted);
        if live.used.0.saturating_add(RESERVED_AHEAD_SLOTS / 2) > live.requested.0 {
            live.requested = Slot(live.used.0.saturating_add(RESERVED_AHEAD_SLOTS));
            outputs.push_back(Output::Reserve(live.requested));
        }
    }
}

impl Reserving {
    fn release(&mut self, outputs: &mut VecDeque<Output>) {
        while let Some(slice) = self.waiting.pop_front_if(|slice| slice.id.slot.window_first() <= self.durable) {
            let first = slice.id.slot.window_first();
            if self.window.replace(first) != Some(first) {
                outputs.push_back(Output::Record(Entry::Window(first)));
            }
            outputs.push_back(Output::SendSlice(slice));
        }
    }
}
