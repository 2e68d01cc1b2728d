//! How long a node waits for a window's first block before it skips the window.

use std::time::Duration;

use alpenglow_rotor::types::{Slot, Time};

use super::view::View;

/// Δtimeout and Δblock: how long at least a window's first block is waited for, from when the window is ready.
const FIRST_BLOCK: Duration = Duration::from_millis(1_600);
/// Δtimeout and a slice's share of Δblock: how long at least its first shred is.
const FIRST_SHRED: Duration = Duration::from_millis(1_210);

/// What came before a skip vote in the first slot of a window.
pub(super) enum Patience {
    /// The time of the slot.
    Ended,
    /// Less, since no shred of the leader came.
    CutShort,
    /// Not enough.
    Missing(&'static str),
}

/// Of a node that votes now to skip a window's first slot.
pub(super) fn of(view: &View, now: Time, first: Slot, has_crashed_leader_timer: bool) -> Patience {
    let Some(&ready) = view.ready_at.get(&first) else { return Patience::Missing("the window is not ready") };
    if now >= ready.after(FIRST_BLOCK) {
        return Patience::Ended;
    }
    if !has_crashed_leader_timer {
        return Patience::Missing("the slot's time is not over");
    }
    let due = ready.after(FIRST_SHRED);
    if now < due {
        return Patience::Missing("the time for a first shred is not over");
    }
    // What comes later may find the vote waiting for its reservation.
    if view.leaders_seen.get(&first).is_some_and(|seen| *seen < due) {
        return Patience::Missing("the slot's time is not over, and its leader is alive");
    }
    Patience::CutShort
}
