//! Interleaved measurement: in every round each candidate once, so that what disturbs the machine disturbs all of them
//! alike.

use std::time::{Duration, Instant};

/// Rounds of which medians are taken.
pub(crate) const ROUNDS: usize = 31;
/// Where every round starts nodes anew, or delivers many slices.
pub(crate) const ROUNDS_OVER_LOOPBACK: usize = 15;
/// A sample repeats a kernel until it takes about this long, so that reading the clock does not count.
const SAMPLE: Duration = Duration::from_micros(100);

/// Something that gives one sample, in microseconds, each time it is asked.
pub(crate) type Sampler<'a> = Box<dyn FnMut() -> f64 + Send + 'a>;

/// A sampler that repeats `step` and gives microseconds per call, after one that does not count: what ran before has
/// left caches and branch predictors with other things.
pub(crate) fn repeated<'a>(mut step: impl FnMut() + Send + 'a) -> Sampler<'a> {
    let start = Instant::now();
    let mut calls: u32 = 0;
    while calls < 3 || start.elapsed() < 10 * SAMPLE {
        step();
        calls += 1;
    }
    let per_call_ns = (start.elapsed().as_nanos() / u128::from(calls)).max(1);
    let repetitions = (SAMPLE.as_nanos() / per_call_ns).clamp(1, 100_000) as u32;
    Box::new(move || {
        step();
        let start = Instant::now();
        (0..repetitions).for_each(|_| step());
        start.elapsed().as_secs_f64() * 1e6 / f64::from(repetitions)
    })
}

/// The median of each sampler over `rounds` rounds, after one that is not counted.
pub(crate) fn medians(samplers: &mut [Sampler<'_>], rounds: usize) -> Vec<f64> {
    samplers.iter_mut().for_each(|sampler| {
        sampler();
    });
    let mut samples = vec![Vec::with_capacity(rounds); samplers.len()];
    for _ in 0..rounds {
        for (sampler, samples) in samplers.iter_mut().zip(&mut samples) {
            samples.push(sampler());
        }
    }
    samples.into_iter().map(median).collect()
}

/// The middle of the samples, or of the two in the middle.
///
/// # Panics
/// If there are none.
pub(crate) fn median(samples: Vec<f64>) -> f64 {
    assert!(!samples.is_empty(), "a median of nothing");
    (percentile(&samples, 50.0, f64::floor) + percentile(&samples, 50.0, f64::ceil)) / 2.0
}

/// The median of the ratios of samples to floors, round by round.
///
/// # Panics
/// If there are none.
pub(crate) fn median_ratio(samples: &[f64], floors: &[f64]) -> f64 {
    median(samples.iter().zip(floors).map(|(sample, floor)| sample / floor).collect())
}

/// The sample below or at which `percent` of the samples are; `round` decides between two.
pub(crate) fn percentile(samples: &[f64], percent: f64, round: fn(f64) -> f64) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[round((sorted.len() - 1) as f64 * percent / 100.0) as usize]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_in_any_order() {
        assert_eq!(median(vec![5.0, 1.0, 3.0]), 3.0);
        assert_eq!(median(vec![4.0, 1.0, 3.0, 2.0]), 2.5);
        assert_eq!(median(vec![7.0]), 7.0);
    }

    #[test]
    fn a_ratio_is_that_of_a_round_and_not_of_medians() {
        assert_eq!(median_ratio(&[2.0, 30.0, 8.0], &[1.0, 10.0, 2.0]), 3.0);
    }

    #[test]
    fn defect_29_percentiles_are_samples() {
        let samples: Vec<f64> = (0..101).rev().map(f64::from).collect();
        assert_eq!(percentile(&samples, 99.0, f64::ceil), 99.0);
        assert_eq!(percentile(&samples, 100.0, f64::ceil), 100.0);
        assert_eq!(percentile(&samples, 0.0, f64::ceil), 0.0);
    }

    #[test]
    fn samplers_take_turns() {
        let turns = std::sync::Mutex::new(Vec::new());
        let turn = |index: usize| {
            let mut turns = turns.lock().unwrap();
            turns.push(index);
            turns.len() as f64
        };
        let medians = medians(&mut [Box::new(|| turn(0)), Box::new(|| turn(1))], 3);
        assert_eq!(*turns.lock().unwrap(), [0, 1, 0, 1, 0, 1, 0, 1], "one round before the three");
        assert_eq!(medians, [5.0, 6.0]);
    }
}
