//! An upper limit on how fast a shard sends, so that what a leader or relay has at once does not overflow a queue of
//! the network.

use std::time::Duration;

use alpenglow_rotor::types::Time;

/// Bits in a megabit, over nanoseconds in a second: a byte takes so many nanoseconds at 1 Mbit/s.
const NANOSECONDS_PER_BYTE: u64 = 8_000;
/// Unused time that can be made up for: timers are late by some tens of microseconds, and the rate should be reached
/// nevertheless.
const CREDIT_NS_MAX: u64 = 1_000_000;

/// A token bucket that counts in time: whatever is sent takes as long as the limit says, and nothing may be sent before
/// what was sent has passed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pacer {
    mbit: u64,
    shards: u64,
    /// When all that was sent will have passed.
    passed: Time,
}

impl Pacer {
    /// For one of `shards` equal shares of `mbit` Mbit/s (10⁶ bits per second of UDP payload), neither of them 0.
    pub(crate) fn new(mbit: u32, shards: usize) -> Self {
        assert!(mbit > 0 && shards > 0);
        Self { mbit: mbit.into(), shards: shards as u64, passed: Time(0) }
    }

    /// How long to wait at `now` before anything may be sent; 0 for not at all.
    pub(crate) const fn wait(&self, now: Time) -> Duration {
        Duration::from_nanos(self.passed.0.saturating_sub(now.0))
    }

    /// Lets go of what was not used long before `now`.
    pub(crate) fn refill(&mut self, now: Time) {
        self.passed = self.passed.max(Time(now.0.saturating_sub(CREDIT_NS_MAX)));
    }

    /// Bytes that may be sent at `now`, after [`Self::refill`]. What is sent last may exceed them, and is made up for.
    pub(crate) const fn allowance(&self, now: Time) -> usize {
        match now.0.checked_sub(self.passed.0) {
            None => 0,
            Some(credit_ns) => (credit_ns * self.mbit / (NANOSECONDS_PER_BYTE * self.shards)) as usize + 1,
        }
    }

    /// Notes what was sent, allowed or not.
    pub(crate) const fn spend(&mut self, bytes: usize) {
        self.passed.0 += bytes as u64 * NANOSECONDS_PER_BYTE * self.shards / self.mbit;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn after_a_send_nothing_leaves_before_it_has_passed() {
        let mut pacer = Pacer::new(100, 1);
        let now = Time(5_000_000_000);
        pacer.refill(now);
        assert_eq!(pacer.wait(now), Duration::ZERO);
        assert_eq!(pacer.allowance(now), 12_501, "what 100 Mbit/s carry in a millisecond");
        pacer.spend(25_000);
        assert_eq!(pacer.allowance(now), 0);
        assert_eq!(pacer.wait(now), Duration::from_millis(1));
        let later = Time(now.0 + 1_000_000);
        pacer.refill(later);
        assert_eq!(pacer.allowance(later), 1);
    }

    #[test]
    fn shards_have_equal_shares() {
        let now = Time(5_000_000_000);
        let [quarter, whole] = [Pacer::new(100, 4), Pacer::new(25, 1)].map(|mut pacer| {
            pacer.refill(now);
            pacer.allowance(now)
        });
        assert_eq!(quarter, whole);
    }

    proptest! {
        /// Whoever asks now and then, for as much as is there, is given the rate and no more than that, but for what
        /// could be saved up and what the last send exceeds.
        #[test]
        fn the_rate_is_kept_and_reached(mbit in 1..100_000_u32, shards in 1..64_usize, steps_ns in prop::collection::vec(1..500_000_u64, 1..200), send_bytes in 1..65_000_usize) {
            let mut pacer = Pacer::new(mbit, shards);
            let start = Time(5_000_000_000);
            let (mut now, mut sent) = (start, 0);
            pacer.refill(now);
            for step_ns in steps_ns {
                now.0 += step_ns;
                pacer.refill(now);
                while pacer.allowance(now) > 0 {
                    pacer.spend(send_bytes);
                    sent += send_bytes;
                }
            }
            let rate = f64::from(mbit) / 8_000.0 / shards as f64;
            let most = (now.0 - start.0 + CREDIT_NS_MAX) as f64 * rate + send_bytes as f64;
            // A send's time is rounded down to whole nanoseconds.
            let rounding = (sent / send_bytes) as f64 * rate;
            prop_assert!(sent as f64 <= most + rounding + 1.0, "{sent} bytes, at most {most}");
            prop_assert!(sent as f64 >= (now.0 - start.0) as f64 * rate - 1.0, "{sent} bytes of {most}");
        }
    }
}
