//! Never sign twice: what a node writes down before it says anything, and what it may still say after a restart.
//!
//! # Two things are kept
//! - The *log*: [`Entry`]s in order, appended without sync. It outlives the process, and a power loss may cost any end
//!   of it.
//! - The [`Durable`] part: small, replaced as a whole, and on disk when the write is reported done. It holds the
//!   *reservation*, a slot number renewed ahead of time, a few slots past the highest one voted in.
//!
//! # What the driver owes
//! - [`Output::Record`](crate::output::Output::Record) comes before what it allows: append it, and carry out nothing
//!   that follows before the append has returned. If it fails, carry out nothing until it succeeds: not what is sent,
//!   and not what is final either, which may follow from an own vote.
//! - [`Output::Reserve`](crate::output::Output::Reserve) asks for a higher reservation. Write
//!   [`Durable::renewed`] beside the vote path and answer with
//!   [`Input::ReservationDurable`](crate::input::Input::ReservationDurable) when it is on disk; if that takes long,
//!   votes and slices above the old one wait inside. A later request covers the earlier ones.
//! - At start: [`Restoration::of`] what was found, write [`Restoration::durable`], and only then a new log of
//!   [`Restoration::entries`] in place of the old one; then [`Control::restore`](crate::control::Control::restore).
//! - At a clean stop: sync the log, then write the durable part with [`Durable::clean`] set.
//! - Once in a while: a new log of [`Kept::entries`] in place of the old one, by a rename, so that it stays small.
//!
//! # What is allowed after a restart
//! If the log is whole (a clean stop, the same boot, or a log that was synced at each append) it is replayed. Otherwise
//! every slot up to the reservation counts as voted in and over. Without a reservation, or on another machine, nothing
//! says how far this node has voted: it does not vote up to [`UNKNOWN_SLOTS`] past the first finalization that it sees.
//! In no case are slices made of a window that was begun before.

mod entry;
mod live;
mod restoration;
#[cfg(test)]
mod tests;

pub use self::entry::{Entry, EntryError, Kept};
pub(crate) use self::live::Live;
pub use self::restoration::{Bar, Doubt, Durable, Found, FoundLog, Host, Restoration, UNKNOWN_SLOTS};

/// How far the reservation may lie past the highest slot used: what a power loss may cost.
pub const RESERVED_AHEAD_SLOTS: u64 = 8;
