//! Votor's timers (paper, Algorithm 1): one for each slot of a window that is ready, and an earlier one for the window
//! whose leader shows no sign of life.

use std::collections::BTreeSet;
use std::time::Duration;

use alpenglow_rotor::types::{Slot, Time};

use crate::dynamic_timeout::DynamicTimeout;

/// How long blocks are waited for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    /// The time of one block (paper: Δblock).
    pub(crate) delta_block: Duration,
    /// What a window's first block may take besides (paper: Δtimeout).
    pub(crate) delta_timeout: Duration,
    /// delta_timeout grows when nothing was finalized for this long.
    pub(crate) standstill_interval: Duration,
    /// What a window's first shred may take besides delta_timeout; `None`: it is not waited for.
    pub(crate) first_shred: Option<Duration>,
}

/// What a timer is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Timeout {
    /// The window that begins with this slot should have shown a shred.
    CrashedLeader(Slot),
    /// The slot should have a block.
    Block(Slot),
}

impl Timeout {
    pub(crate) const fn slot(self) -> Slot {
        match self {
            Self::CrashedLeader(slot) | Self::Block(slot) => slot,
        }
    }
}

/// See the module.
pub(crate) struct Timers {
    delta_block: Duration,
    delta_timeout: DynamicTimeout,
    first_shred: Option<Duration>,
    /// At most one for each slot of a window that is ready, and one for the window.
    due: BTreeSet<(Time, Slot, Timeout)>,
    /// Windows whose timers were set.
    windows: BTreeSet<u64>,
}

impl Timers {
    /// None is set. Standstill counts from `start`.
    pub(crate) const fn new(patience: Patience, start: Time) -> Self {
        let Patience { delta_block, delta_timeout, standstill_interval, first_shred } = patience;
        Self {
            delta_block,
            delta_timeout: DynamicTimeout::new(delta_timeout, standstill_interval, start),
            first_shred,
            due: BTreeSet::new(),
            windows: BTreeSet::new(),
        }
    }

    /// When the next one is due.
    pub(crate) fn next(&self) -> Option<Time> {
        self.due.first().map(|(due, ..)| *due)
    }

    /// Takes the next one that is due at `now`, in order of due times and then of slots.
    pub(crate) fn pop(&mut self, now: Time) -> Option<Timeout> {
        self.due.first().filter(|(due, ..)| *due <= now)?;
        self.due.pop_first().map(|(.., timeout)| timeout)
    }

    /// Sets those of a window's slots from `first` on that are above `closed_through`, unless some of the window were
    /// set before. More than `first`'s predecessor can be closed: a higher finalization may follow while the event of a
    /// lower one waits.
    pub(crate) fn set(&mut self, now: Time, first: Slot, closed_through: Slot) {
        if first.window_last() <= closed_through || !self.windows.insert(first.window()) {
            return;
        }
        let begin = now.after(self.delta_timeout.at_window(now, first.window()));
        for slot in (first.max(closed_through.next()).0..=first.window_last().0).map(Slot) {
            let after = slot.0 - first.0 + 1;
            self.insert(begin.after(self.delta_block * after as u32), Timeout::Block(slot));
        }
        if let Some(allowance) = self.first_shred
            && first.is_window_first()
            && first > closed_through
        {
            self.insert(begin.after(allowance), Timeout::CrashedLeader(first));
        }
    }

    fn insert(&mut self, due: Time, timeout: Timeout) {
        self.due.insert((due, timeout.slot(), timeout));
    }

    /// Drops those of slots up to `through`.
    pub(crate) fn close(&mut self, through: Slot) {
        self.due.retain(|(_, slot, _)| *slot > through);
        self.windows = self.windows.split_off(&through.window());
    }

    /// A slot was finalized by certificate. If that ends a standstill, timers set with a longer timeout fire no later
    /// than if their window began now: a leader that fails after the standstill does not cost an hour.
    pub(crate) fn finalized(&mut self, now: Time) {
        if !self.delta_timeout.finalized(now) {
            return;
        }
        let mut set: Vec<(Timeout, Time)> = self.due.iter().map(|&(due, _, timeout)| (timeout, due)).collect();
        set.sort_unstable_by_key(|(timeout, _)| (timeout.slot(), *timeout));
        self.due.clear();
        let begin = now.after(self.delta_timeout.normal());
        for of_window in set.chunk_by(|(one, _), (next, _)| one.slot().window() == next.slot().window()) {
            let mut latest = begin;
            for &(timeout, due) in of_window {
                let latest = match timeout {
                    Timeout::CrashedLeader(_) => begin.after(self.first_shred.unwrap_or_default()),
                    Timeout::Block(_) => {
                        latest = latest.after(self.delta_block);
                        latest
                    }
                };
                self.insert(due.min(latest), timeout);
            }
        }
    }
}
