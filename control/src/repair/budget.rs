//! What may be spent per time: a bucket that fills at a constant rate.

use std::time::Duration;

use alpenglow_rotor::types::Time;

/// How a bucket fills.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allowance {
    /// What comes in every second.
    pub per_second: u64,
    /// Most that can be saved up, and what is there at first.
    pub burst: u64,
}

/// See the module.
#[derive(Clone, Copy, Debug)]
pub(super) struct Budget {
    allowance: Allowance,
    left: u64,
    /// Until when what came in is counted in `left`.
    counted: Time,
}

impl Budget {
    pub(super) const fn new(allowance: Allowance) -> Self {
        Self { allowance, left: allowance.burst, counted: Time(0) }
    }

    fn fill(&mut self, now: Time) {
        let per_second = u128::from(self.allowance.per_second);
        let nanoseconds = now.since(self.counted).as_nanos();
        let income = nanoseconds * per_second / Duration::from_secs(1).as_nanos();
        let room = self.allowance.burst - self.left;
        if income >= u128::from(room) {
            (self.left, self.counted) = (self.allowance.burst, now);
        } else if income > 0 {
            // Only the time that whole units took is used up, however often this is called.
            let used = income * Duration::from_secs(1).as_nanos() / per_second;
            self.left += income as u64;
            self.counted = Time(self.counted.0 + used as u64);
        }
    }

    /// Whether so much is there.
    pub(super) fn has(&mut self, now: Time, cost: u64) -> bool {
        self.fill(now);
        self.left >= cost
    }

    /// Half of the most that can be there.
    pub(super) const fn half(&self) -> u64 {
        self.allowance.burst / 2
    }

    /// Takes so much, or all that is left.
    pub(super) fn spend(&mut self, cost: u64) {
        self.left = self.left.saturating_sub(cost);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALLOWANCE: Allowance = Allowance { per_second: 10, burst: 20 };

    #[test]
    fn no_more_is_spent_than_comes_in() {
        for step_ms in [1, 7, 99, 100, 101, 1_500] {
            let mut budget = Budget::new(ALLOWANCE);
            let mut spent = 0;
            for now_ms in (0..60_000).step_by(step_ms) {
                while budget.has(Time(now_ms * 1_000_000), 3) {
                    budget.spend(3);
                    spent += 3;
                }
            }
            assert!((20 + 580..=20 + 600).contains(&spent), "{spent} with steps of {step_ms} ms");
        }
    }

    #[test]
    fn no_more_than_the_burst_is_saved() {
        let mut budget = Budget::new(ALLOWANCE);
        assert!(budget.has(Time(u64::MAX), 20) && !budget.has(Time(u64::MAX), 21));
    }
}
