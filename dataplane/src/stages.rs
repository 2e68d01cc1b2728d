//! Latency histograms of the stages that a shard goes through, allocated at start-up.

use std::sync::Arc;

use alpenglow_rotor::types::Time;
use hdrhistogram::Histogram;

use crate::counters::Counters;

/// A stage that a shard measures, in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// From the kernel's timestamp of a datagram to its turn in the shard; one sample for each receive buffer.
    RxQueue,
    /// Checking one shred's signature or path: the mean of those that were checked together.
    ShredVerify,
    /// From a shred's arrival in the shard to the submission of the last copy that is relayed.
    Relay,
    /// From the first shred of a slice to its payload.
    SliceAssembly,
    /// From a slice given out for sending to the submission of its last shred.
    Encode,
    /// From the leader's stamp to the slice decoded here.
    SliceDissemination,
}

impl Stage {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::RxQueue, Self::ShredVerify, Self::Relay, Self::SliceAssembly, Self::Encode, Self::SliceDissemination];

    /// The stage's name in reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::RxQueue => "rx_queue",
            Self::ShredVerify => "shred_verify",
            Self::Relay => "relay",
            Self::SliceAssembly => "slice_assembly",
            Self::Encode => "encode",
            Self::SliceDissemination => "slice_dissemination",
        }
    }
}

/// Longest duration told apart; longer ones count as this.
const NANOSECONDS_MAX: u64 = 60_000_000_000;
/// Two digits: buckets at most 1% wide.
const SIGNIFICANT_DIGITS: u8 = 2;

/// One histogram for each stage.
#[derive(Clone, Debug)]
pub struct Stages([Histogram<u64>; Stage::ALL.len()]);

impl Stages {
    pub(crate) fn new() -> Self {
        Self(Stage::ALL.map(|_| {
            Histogram::new_with_bounds(1, NANOSECONDS_MAX, SIGNIFICANT_DIGITS)
                .expect("the bounds are constants in range")
        }))
    }

    /// The histogram of `stage`.
    #[must_use]
    pub const fn histogram(&self, stage: Stage) -> &Histogram<u64> {
        &self.0[stage as usize]
    }

    /// Does not allocate: the bounds are fixed and larger values saturate.
    pub(crate) fn record(&mut self, stage: Stage, nanoseconds: u64) {
        self.0[stage as usize].saturating_record(nanoseconds);
    }

    /// `count` samples of the same duration.
    pub(crate) fn record_many(&mut self, stage: Stage, start: Time, end: Time, count: u64) {
        self.0[stage as usize].saturating_record_n(end.0.saturating_sub(start.0), count);
    }

    pub(crate) fn record_between(&mut self, stage: Stage, start: Time, end: Time) {
        self.record(stage, end.0.saturating_sub(start.0));
    }
}

/// What one shard did from start to stop.
#[derive(Clone, Debug)]
pub struct ShardReport {
    /// Which shard.
    pub shard: usize,
    /// How long its stages took.
    pub stages: Stages,
    /// What it counted; it counts no more.
    pub counters: Arc<Counters>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_beyond_the_bounds_are_counted_at_the_bound() {
        let mut stages = Stages::new();
        stages.record(Stage::Relay, 0);
        stages.record(Stage::Relay, u64::MAX);
        assert_eq!(stages.histogram(Stage::Relay).len(), 2);
        assert!(stages.histogram(Stage::Relay).max() >= NANOSECONDS_MAX);
    }
}
