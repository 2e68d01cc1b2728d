//! What a node's log says of the chain from time to time.

use std::time::{Duration, Instant};

use alpenglow_rotor::types::Slot;

/// Between two lines, unless slots take so long that less would be expected in that time.
const EVERY: Duration = Duration::from_secs(10);

/// What to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    /// The chain goes on.
    FinalThrough(Slot),
    /// It has not since the last line.
    StandsStillAt(Slot),
}

/// Says when it is time to say something.
pub(crate) struct ProgressWatch {
    every: Duration,
    due: Instant,
    last: Slot,
}

impl ProgressWatch {
    /// For a chain that goes on from `start` and has something new within `window`, if all is well.
    pub(crate) fn new(start: Instant, window: Duration) -> Self {
        let every = EVERY.max(window);
        Self { every, due: start + every, last: Slot::GENESIS }
    }

    /// What to say at `now`, if anything.
    pub(crate) fn look(&mut self, now: Instant, final_through: Slot) -> Option<Progress> {
        if now < self.due {
            return None;
        }
        self.due = now + self.every;
        let last = std::mem::replace(&mut self.last, final_through);
        Some(if final_through > last {
            Progress::FinalThrough(final_through)
        } else {
            Progress::StandsStillAt(final_through)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_comes_each_interval_after_the_start_and_tells_a_standstill() {
        let start = Instant::now() + Duration::from_secs(100);
        let mut watch = ProgressWatch::new(start, Duration::from_secs(1));
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(watch.look(at(9), Slot(20)), None);
        assert_eq!(watch.look(at(10), Slot(22)), Some(Progress::FinalThrough(Slot(22))));
        assert_eq!(watch.look(at(19), Slot(40)), None);
        assert_eq!(watch.look(at(21), Slot(44)), Some(Progress::FinalThrough(Slot(44))));
        assert_eq!(watch.look(at(30), Slot(44)), None, "ten seconds after the last line");
        assert_eq!(watch.look(at(31), Slot(44)), Some(Progress::StandsStillAt(Slot(44))));
        assert_eq!(watch.look(at(60), Slot(45)), Some(Progress::FinalThrough(Slot(45))));
    }

    #[test]
    fn slow_chains_are_given_their_time() {
        let start = Instant::now();
        let mut watch = ProgressWatch::new(start, Duration::from_secs(60));
        assert_eq!(watch.look(start + Duration::from_secs(59), Slot::GENESIS), None);
        assert_eq!(
            watch.look(start + Duration::from_secs(60), Slot::GENESIS),
            Some(Progress::StandsStillAt(Slot::GENESIS))
        );
    }
}
