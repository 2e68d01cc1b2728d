//! How much longer a window's leader is waited for while nothing is finalized (paper §3.4): if messages take longer
//! than was thought when delta_timeout was chosen, nodes skip every window before its blocks are there, until they wait
//! long enough.
//!
//! Only delta_timeout grows. Blocks keep their pace: a leader that everybody waits longer for has no longer blocks.

use std::time::Duration;

use alpenglow_rotor::types::Time;

/// The longest that a window is waited for, unless the cluster's own delta_timeout is longer.
const GROWN_MAX: Duration = Duration::from_hours(1);

/// delta_timeout, as it is now.
#[derive(Debug)]
pub(crate) struct DynamicTimeout {
    normal: Duration,
    standstill_interval: Duration,
    last_finalization: Time,
    /// The first window that began in this standstill; none while there is no standstill, or no window began in it.
    first_window: Option<u64>,
}

impl DynamicTimeout {
    /// With the cluster's delta_timeout. It grows when nothing was finalized for `standstill_interval`, counting from
    /// `start`.
    pub(crate) const fn new(normal: Duration, standstill_interval: Duration, start: Time) -> Self {
        Self { normal, standstill_interval, last_finalization: start, first_window: None }
    }

    /// Without growth.
    pub(crate) const fn normal(&self) -> Duration {
        self.normal
    }

    /// A slot was finalized. Whether there was a standstill with longer timeouts.
    pub(crate) fn finalized(&mut self, now: Time) -> bool {
        self.last_finalization = now;
        self.first_window.take().is_some()
    }

    /// How long the leader of `window` is waited for, which begins now: the longer the more windows the standstill has
    /// seen. Windows are counted by their number, so that nodes that learn late of some wait as long as the others.
    pub(crate) fn at_window(&mut self, now: Time, window: u64) -> Duration {
        if now.since(self.last_finalization) < self.standstill_interval {
            return self.normal;
        }
        let first = *self.first_window.get_or_insert(window);
        grown(self.normal, window.saturating_sub(first).saturating_add(1))
    }
}

/// `normal` and 5% more for each of `windows`, rounded up to nanoseconds, at most [`GROWN_MAX`].
fn grown(normal: Duration, windows: u64) -> Duration {
    let (mut grown_ns, most_ns) = (normal.as_nanos(), GROWN_MAX.as_nanos());
    // Ends soon, however many there are: rounded up, a nanosecond has become an hour after some 650 steps.
    for _ in 0..windows {
        if grown_ns == 0 || grown_ns >= most_ns {
            break;
        }
        grown_ns = (grown_ns * 21).div_ceil(20);
    }
    normal.max(Duration::from_nanos_u128(grown_ns.min(most_ns)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NORMAL: Duration = Duration::from_millis(1_200);
    const INTERVAL: Duration = Duration::from_secs(10);
    const START: Time = Time(5_000_000_000);

    fn dynamic() -> DynamicTimeout {
        DynamicTimeout::new(NORMAL, INTERVAL, START)
    }

    #[test]
    fn nothing_grows_before_there_is_a_standstill() {
        let mut dynamic = dynamic();
        let just_before = Time(START.after(INTERVAL).0 - 1);
        assert_eq!(dynamic.at_window(just_before, 7), NORMAL);
        assert!(!dynamic.finalized(just_before));
        assert_eq!(dynamic.at_window(START.after(INTERVAL), 8), NORMAL, "it counts from the last finalization");
    }

    #[test]
    fn defect_9_each_window_of_a_standstill_adds_five_percent() {
        let mut dynamic = dynamic();
        let now = START.after(INTERVAL);
        let ms: Vec<u128> = [7, 8, 9, 11].map(|window| dynamic.at_window(now, window).as_micros()).into();
        assert_eq!(ms, [1_260_000, 1_323_000, 1_389_150, 1_531_537]);
        assert_eq!(dynamic.at_window(now, 3), Duration::from_millis(1_260), "an earlier window that began late");
    }

    #[test]
    fn defect_9_the_next_finalization_brings_the_normal_timeout_back() {
        let mut dynamic = dynamic();
        let now = START.after(2 * INTERVAL);
        assert!(dynamic.at_window(now, 40) > NORMAL);
        assert!(dynamic.finalized(now));
        assert_eq!(dynamic.at_window(now, 41), NORMAL);
        assert_eq!(dynamic.at_window(now.after(INTERVAL), 60), Duration::from_millis(1_260), "and it begins anew");
    }

    #[test]
    fn growth_ends_at_an_hour_whatever_it_began_with() {
        assert!(grown(NORMAL, 160) < GROWN_MAX);
        for normal in [Duration::from_nanos(1), Duration::from_nanos(19), NORMAL, GROWN_MAX] {
            assert_eq!(grown(normal, u64::MAX), GROWN_MAX);
        }
        assert_eq!(grown(Duration::ZERO, u64::MAX), Duration::ZERO);
        assert_eq!(grown(2 * GROWN_MAX, 5), 2 * GROWN_MAX, "what the cluster asks for is kept");
    }
}
