//! What was found after a restart, and what it allows.

use std::sync::Arc;

use alpenglow_rotor::types::Slot;

use super::{Entry, Kept};
use crate::certificate::Certificate;
use crate::vote::VotePayload;

/// How far past the first finalization seen a node may have voted that knows nothing of its votes: correct nodes vote
/// no further (the vote horizon).
pub const UNKNOWN_SLOTS: u64 = 40;

/// Where a node runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Host {
    /// The machine.
    pub machine: [u8; 16],
    /// Its boot: another one after every power loss.
    pub boot: [u8; 16],
}

/// Where a node may not vote at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bar {
    /// In slots up to this one; [`Slot::GENESIS`] for nowhere.
    Through(Slot),
    /// In slots up to [`UNKNOWN_SLOTS`] past the first finalization that it sees after its start, and this one at
    /// least.
    PastFirstFinalization(Slot),
}

impl Bar {
    fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Through(one), Self::Through(other)) => Self::Through(one.max(other)),
            (
                Self::Through(one) | Self::PastFirstFinalization(one),
                Self::Through(other) | Self::PastFirstFinalization(other),
            ) => Self::PastFirstFinalization(one.max(other)),
        }
    }
}

/// The part that is on disk when its write is reported done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Durable {
    /// Where the node last started; `None` if it never did.
    pub host: Option<Host>,
    /// No vote above it and no slice of a window that begins above it has ever left.
    pub reservation: Slot,
    /// Where it may not vote, from earlier restarts.
    pub bar: Bar,
    /// The node was stopped, and the log was synced before this was written.
    pub clean: bool,
    /// The log is synced at each append.
    pub synced: bool,
}

impl Durable {
    /// Of a node that has never started, and never will have with these keys.
    #[must_use]
    pub const fn new() -> Self {
        Self { host: None, reservation: Slot::GENESIS, bar: Bar::Through(Slot::GENESIS), clean: true, synced: false }
    }

    /// With a higher reservation.
    #[must_use]
    pub fn renewed(self, reservation: Slot) -> Self {
        Self { reservation: reservation.max(self.reservation), ..self }
    }
}

impl Default for Durable {
    fn default() -> Self {
        Self::new()
    }
}

/// The log as found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FoundLog {
    /// There is none.
    Missing,
    /// Every record can be read, except perhaps a last one that was not written to its end.
    Whole(Vec<Entry>),
    /// So can these, and zeros follow: the power failed before what belongs there was on disk.
    Unwritten(Vec<Entry>),
    /// Something in it cannot be read: what can.
    Corrupt(Vec<Entry>),
}

/// What a node finds at its start.
#[derive(Clone, Debug)]
pub struct Found {
    /// The durable part, if there is one.
    pub durable: Option<Durable>,
    /// The log.
    pub log: FoundLog,
}

/// Why a log is not to be trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doubt {
    /// The machine was started anew, and the log was not synced: its end may be missing, or be anything.
    PowerLoss,
    /// There is none.
    LogMissing,
    /// It cannot be read.
    LogCorrupt,
    /// It comes from another machine, where the node may have gone on.
    OtherMachine,
    /// There is no reservation beside it.
    ReservationMissing,
}

/// What a node may do after a start.
#[derive(Clone, Debug)]
pub struct Restoration {
    kept: Kept,
    durable: Durable,
    doubt: Option<Doubt>,
}

impl Restoration {
    /// Of what was found, on this host. `synced`: whether the log is synced at each append from now on.
    #[must_use]
    pub fn of(found: Found, host: Host, synced: bool) -> Self {
        let Found { durable, log } = found;
        let doubt = doubt(durable.as_ref(), &log, host);
        let entries = match log {
            FoundLog::Missing => Vec::new(),
            FoundLog::Whole(entries) | FoundLog::Unwritten(entries) | FoundLog::Corrupt(entries) => entries,
        };
        let before = durable.unwrap_or_default();
        let seen = entries.iter().map(Entry::slot).max().unwrap_or(Slot::GENESIS).max(before.reservation);
        let bar = match doubt {
            None => known(before.bar, &entries),
            Some(Doubt::PowerLoss | Doubt::LogMissing | Doubt::LogCorrupt) => before.bar.and(Bar::Through(seen)),
            Some(Doubt::OtherMachine | Doubt::ReservationMissing) => before.bar.and(Bar::PastFirstFinalization(seen)),
        };
        let trusted = |entry: &Entry| doubt.is_none() || matches!(entry, Entry::Finalized(_));
        let kept = entries.into_iter().filter(trusted).collect();
        let reservation = if doubt.is_none() { before.reservation } else { seen };
        Self { kept, durable: Durable { host: Some(host), reservation, bar, clean: false, synced }, doubt }
    }

    /// Of a node that starts for the first time, on any host.
    #[must_use]
    pub fn fresh() -> Self {
        let found = Found { durable: Some(Durable::new()), log: FoundLog::Missing };
        Self::of(found, Host { machine: [0; 16], boot: [0; 16] }, false)
    }

    /// What is to be on disk before the node starts.
    #[must_use]
    pub const fn durable(&self) -> Durable {
        self.durable
    }

    /// What the log begins with.
    pub fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.kept.entries()
    }

    /// Why the log was not trusted, if it was not.
    #[must_use]
    pub const fn doubt(&self) -> Option<Doubt> {
        self.doubt
    }

    /// Where the node may not vote.
    #[must_use]
    pub const fn bar(&self) -> Bar {
        self.durable.bar
    }

    pub(crate) const fn reservation(&self) -> Slot {
        self.durable.reservation
    }

    /// The votes to be replayed, in the order in which they were cast.
    pub(crate) fn votes(&self) -> impl Iterator<Item = VotePayload> {
        self.entries().filter_map(|entry| if let Entry::Vote(payload) = entry { Some(*payload) } else { None })
    }

    pub(crate) fn finalization(&self) -> impl Iterator<Item = &Arc<Certificate>> {
        self.entries().flat_map(|entry| if let Entry::Finalized(held) = entry { held.as_slice() } else { &[] })
    }

    pub(crate) fn led_windows(&self) -> impl Iterator<Item = Slot> {
        self.entries().filter_map(|entry| if let Entry::Window(first) = entry { Some(*first) } else { None })
    }

    /// The highest slot of what is kept: from here on slots are reserved.
    pub(crate) fn highest_used(&self) -> Slot {
        let used = |entry: &Entry| if let Entry::Barred(_) = entry { Slot::GENESIS } else { entry.slot() };
        self.entries().map(used).max().unwrap_or(Slot::GENESIS)
    }
}

fn doubt(durable: Option<&Durable>, log: &FoundLog, host: Host) -> Option<Doubt> {
    let Some(durable) = durable else { return Some(Doubt::ReservationMissing) };
    let Some(before) = durable.host else {
        // Made for a node that never started; with the log of one that did, it belongs to another.
        let is_empty = matches!(log, FoundLog::Missing) || *log == FoundLog::Whole(Vec::new());
        return (!is_empty).then_some(Doubt::ReservationMissing);
    };
    if before.machine != host.machine {
        return Some(Doubt::OtherMachine);
    }
    let lost_power = before.boot != host.boot && !durable.clean;
    match log {
        FoundLog::Missing => Some(Doubt::LogMissing),
        _ if lost_power && !durable.synced => Some(Doubt::PowerLoss),
        FoundLog::Whole(_) => None,
        // What is missing was still waiting for the disk, so nothing that it is about had left.
        FoundLog::Unwritten(_) if lost_power => None,
        FoundLog::Unwritten(_) | FoundLog::Corrupt(_) => Some(Doubt::LogCorrupt),
    }
}

/// A bar of unknown length, once it was found out. What the log tells of an earlier one is not above `least`: the log
/// is replaced only after the durable part, and a crash or a full disk may come between.
fn known(bar: Bar, entries: &[Entry]) -> Bar {
    let found_out = entries.iter().filter_map(|entry| if let Entry::Barred(slot) = entry { Some(*slot) } else { None });
    match (bar, found_out.max()) {
        (Bar::PastFirstFinalization(least), Some(through)) if through > least => Bar::Through(through),
        (bar, _) => bar,
    }
}
