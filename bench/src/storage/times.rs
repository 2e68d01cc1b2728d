//! Times of single calls that take turns, so that what disturbs the machine or its disk disturbs all of them alike.

use std::time::Instant;

use crate::rounds::{median, median_ratio, percentile};

/// Microseconds that each of some calls took.
#[derive(Debug, Default)]
pub(super) struct Times(Vec<f64>);

impl Times {
    pub(super) fn add(&mut self, start: Instant) {
        self.0.push(start.elapsed().as_secs_f64() * 1e6);
    }

    pub(super) fn median(&self) -> f64 {
        median(self.0.clone())
    }

    pub(super) fn p99(&self) -> f64 {
        percentile(&self.0, 99.0, f64::ceil)
    }

    /// The median of the ratios to a floor, round by round.
    pub(super) fn ratio(&self, floor: &Self) -> f64 {
        median_ratio(&self.0, &floor.0)
    }
}

/// The times of each candidate, of which each is called once in every round, and once before.
pub(super) fn in_turns<const N: usize>(rounds: usize, mut candidates: [&mut dyn FnMut(); N]) -> [Times; N] {
    let mut times = [const { Times(Vec::new()) }; N];
    candidates.iter_mut().for_each(|candidate| candidate());
    for _ in 0..rounds {
        for (candidate, times) in candidates.iter_mut().zip(&mut times) {
            let start = Instant::now();
            candidate();
            times.add(start);
        }
    }
    times
}
