//! Points at which a node can be told to end at once, as by `kill -9`: for tests of what a restart makes of it.

use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::process::{Signal, getpid, kill_process};

/// A moment in the life of what a node says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Point {
    /// While the record is read and written anew at the start: passed after each step.
    WithinStart,
    /// Before an entry is appended to the vote log.
    BeforeLog,
    /// When a part of it is.
    WithinLog,
    /// After that.
    AfterLog,
    /// Before a vote, certificate or slice is handed to a shard.
    BeforeSend,
    /// After a round of the control loop, when the shards have had time to send what it left them.
    AfterSend,
    /// Before the reservation is renewed.
    BeforeReservation,
    /// While it is: passed when a part of it is written, and after each step.
    WithinReservation,
    /// After that, before control knows.
    AfterReservation,
    /// When a part of a slice is written that may be voted for.
    WithinHeld,
}

const POINTS: [(&str, Point); 10] = [
    ("within-start", Point::WithinStart),
    ("before-log", Point::BeforeLog),
    ("within-log", Point::WithinLog),
    ("after-log", Point::AfterLog),
    ("before-send", Point::BeforeSend),
    ("after-send", Point::AfterSend),
    ("before-reservation", Point::BeforeReservation),
    ("within-reservation", Point::WithinReservation),
    ("after-reservation", Point::AfterReservation),
    ("within-held", Point::WithinHeld),
];

/// The moment at which to end: when a point is passed so many times. Written `POINT:COUNT`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FailAt {
    point: Point,
    count: u64,
}

/// Text that names no such moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected POINT:COUNT, as in after-log:7; points are {}", POINTS.map(|(name, _)| name).join(", "))]
pub(crate) struct FailAtError;

impl FromStr for FailAt {
    type Err = FailAtError;

    fn from_str(text: &str) -> Result<Self, FailAtError> {
        let (name, count) = text.split_once(':').ok_or(FailAtError)?;
        let (_, point) = POINTS.into_iter().find(|(known, _)| *known == name).ok_or(FailAtError)?;
        let count = count.parse().ok().filter(|count| *count > 0).ok_or(FailAtError)?;
        Ok(Self { point, count })
    }
}

/// What every thread passes its points with. A node that was told nothing compares with `None` and goes on.
#[derive(Clone, Debug, Default)]
pub(crate) struct FailPoints(Option<(Point, Arc<AtomicU64>)>);

impl FailPoints {
    pub(crate) fn new(at: Option<FailAt>) -> Self {
        Self(at.map(|FailAt { point, count }| (point, Arc::new(AtomicU64::new(count)))))
    }

    /// Ends the process if it is time to.
    pub(crate) fn pass(&self, point: Point) {
        self.pass_after(point, || {});
    }

    /// Ends the process if it is time to, after it has done this.
    pub(crate) fn pass_after(&self, point: Point, last: impl FnOnce()) {
        if let Some((at, left)) = &self.0
            && *at == point
            && left.fetch_sub(1, Ordering::Relaxed) == 1
        {
            last();
            let _ = kill_process(getpid(), Signal::KILL);
            // The signal arrives before the call returns, or at once.
            std::process::abort();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_read_and_nothing_else() {
        assert_eq!("after-log:7".parse(), Ok(FailAt { point: Point::AfterLog, count: 7 }));
        for wrong in ["", "after-log", "after-log:0", "after-log:-1", "later:1"] {
            assert_eq!(wrong.parse::<FailAt>(), Err(FailAtError), "{wrong}");
        }
    }

    #[test]
    fn a_node_that_was_told_nothing_goes_on() {
        let points = FailPoints::default();
        (0..10).for_each(|_| points.pass(Point::AfterLog));
        let other = FailPoints::new(Some("after-log:1".parse().unwrap()));
        other.pass(Point::BeforeLog);
    }
}
