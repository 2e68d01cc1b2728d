//! A node: its control core, what checks signatures for it, its shreds, and its clock.

use std::sync::Arc;

use alpenglow_control::block_log::ChainTip;
use alpenglow_control::checker::Checker;
use alpenglow_control::control::{Control, ControlConfig};
use alpenglow_control::output::ShredHorizon;
use alpenglow_control::vote_record::Restoration;
use alpenglow_rotor::assembler::Assembler;
use alpenglow_rotor::types::{Slot, Time, ValidatorIndex};

use super::cluster::{CLUSTER, Cluster};
use super::scenario::Plan;

const ASSEMBLER_BYTES: usize = 4 << 20;

/// What a node's clock shows: it began at some time and runs fast or slow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Clock {
    /// What it shows when the run begins, in nanoseconds.
    pub(super) start_ns: u64,
    /// How fast it runs, in millionths more than it should.
    pub(super) per_million: i64,
}

impl Clock {
    const MILLION: i128 = 1_000_000;

    /// What it shows so many nanoseconds after the beginning.
    pub(super) fn shows(&self, elapsed_ns: u64) -> Time {
        let shown = i128::from(elapsed_ns) * (Self::MILLION + i128::from(self.per_million)) / Self::MILLION;
        Time(self.start_ns + shown as u64)
    }

    /// The first moment, in nanoseconds after the beginning, at which it shows `time` or more.
    pub(super) fn reaches(&self, time: Time) -> u64 {
        let rate = Self::MILLION + i128::from(self.per_million);
        let shown = i128::from(time.0.saturating_sub(self.start_ns)) * Self::MILLION;
        u64::try_from((shown + rate - 1) / rate).unwrap_or(u64::MAX)
    }
}

pub(super) struct Node {
    pub(super) control: Control,
    pub(super) checker: Checker,
    pub(super) assembler: Assembler,
    pub(super) horizon: ShredHorizon,
    /// First slot of the last window whose leader was reported to be alive.
    pub(super) leader_seen: Option<Slot>,
}

impl Node {
    /// Starts now, by its own clock.
    pub(super) fn start(
        cluster: &Cluster,
        own: usize,
        now: Time,
        plan: &Plan,
        record: &Restoration,
        tip: Option<ChainTip>,
    ) -> Self {
        let mut config = ControlConfig::new(
            ValidatorIndex(own as u16),
            cluster.scheme.secret(own),
            Arc::clone(&cluster.stakes),
            Arc::clone(&cluster.schedule),
            CLUSTER,
            cluster.coding,
        );
        config.repair.seed[0] = own as u8;
        config.standstill_interval = plan.standstill_interval;
        (config.keeps_blocks, config.tip) = (plan.keeps_blocks, tip);
        config.crashed_leader_timer = plan.crashed_leader_timers.contains(own);
        Self {
            control: Control::restore(config, now, record).expect("a valid configuration"),
            checker: Checker::new(CLUSTER, Arc::clone(&cluster.keys), Arc::clone(&cluster.stakes)),
            assembler: Assembler::new(cluster.coding, CLUSTER, ASSEMBLER_BYTES),
            horizon: ShredHorizon { closed_through: Slot::GENESIS, shreds_through: Slot::GENESIS },
            leader_seen: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_reaches_what_it_shows() {
        for per_million in [-20_000, -1, 0, 7, 20_000] {
            let clock = Clock { start_ns: 5_000, per_million };
            for elapsed_ns in [0, 1, 999, 1_000_000, 123_456_789_012] {
                let reached = clock.reaches(clock.shows(elapsed_ns));
                assert!(reached <= elapsed_ns && clock.shows(reached) >= clock.shows(elapsed_ns));
                assert!(clock.shows(clock.reaches(Time(5_000 + elapsed_ns))).0 >= 5_000 + elapsed_ns);
            }
        }
    }
}
