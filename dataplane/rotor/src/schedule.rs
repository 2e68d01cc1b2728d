//! Who leads which window: the same answer on every validator, from the epoch's stakes and seed alone.

use std::sync::Arc;

use crate::draw;
use crate::epochs::{EpochStakes, Epochs};
use crate::types::{Slot, ValidatorIndex};
use crate::validators::ValidatorSet;

const DOMAIN: &str = "alpenglow leader window 1";

/// The randomness of an epoch, in the genesis file. Leaders and relays are drawn from it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct EpochSeed(pub [u8; 32]);

/// How leaders follow each other.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ScheduleKind {
    /// Each window's leader is drawn in proportion to stake.
    StakeWeighted,
    /// Window w is led by the epoch's member number w mod n of n, in index order.
    RoundRobin,
}

/// The leader of every window.
#[derive(Clone, Debug)]
pub struct LeaderSchedule {
    kind: ScheduleKind,
    epochs: Arc<Epochs>,
    /// By set of [`Epochs::sets`], for each validator its own stake and those of all before it.
    stake_through: Box<[Box<[u64]>]>,
}

impl LeaderSchedule {
    /// The schedule that `seed` gives for `validators`, in one epoch without end.
    #[must_use]
    pub fn new(kind: ScheduleKind, seed: EpochSeed, validators: &ValidatorSet) -> Self {
        Self::of_epochs(kind, Arc::new(Epochs::of_set(validators, seed)))
    }

    /// The schedule of all epochs.
    #[must_use]
    pub fn of_epochs(kind: ScheduleKind, epochs: Arc<Epochs>) -> Self {
        let stake_through = |stakes: &EpochStakes| {
            let through = (0..epochs.validators() as u16).scan(0, |total, v| {
                *total += stakes.of(ValidatorIndex(v)).0;
                Some(*total)
            });
            through.collect()
        };
        Self { kind, stake_through: epochs.sets().map(stake_through).collect(), epochs }
    }

    /// The epochs that it is for.
    #[must_use]
    pub const fn epochs(&self) -> &Arc<Epochs> {
        &self.epochs
    }

    /// The leader of `slot`'s window. Weighted by stake it is the validator that owns the unit of stake numbered by a
    /// uniform draw below the total (stakes laid out in index order), from the ChaCha20 stream keyed by
    /// SHA-256("alpenglow leader window 1" | epoch seed | window as u64 little-endian).
    ///
    /// Costs a hash or two and a ChaCha20 block and allocates nothing; a caller that asks for every shred should
    /// remember the answer for the window.
    #[must_use]
    pub fn leader(&self, slot: Slot) -> ValidatorIndex {
        let window = slot.window();
        match self.kind {
            ScheduleKind::RoundRobin => {
                let members = self.epochs.stakes(slot).members();
                members[(window % members.len() as u64) as usize]
            }
            ScheduleKind::StakeWeighted => {
                let stake_through = &self.stake_through[self.epochs.set_index(slot)];
                let total = stake_through[stake_through.len() - 1];
                let seed = self.epochs.seed(slot);
                let unit = draw::below(&mut draw::stream(DOMAIN, &seed, &window.to_le_bytes()), total);
                ValidatorIndex(stake_through.partition_point(|&through| through <= unit) as u16)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::WINDOW_SLOTS;
    use crate::validators::tests::set;

    fn leaders(schedule: &LeaderSchedule, windows: u64) -> Vec<u16> {
        (0..windows).map(|window| schedule.leader(Slot(window * WINDOW_SLOTS)).0).collect()
    }

    #[test]
    fn all_slots_of_a_window_have_one_leader() {
        for kind in [ScheduleKind::StakeWeighted, ScheduleKind::RoundRobin] {
            let schedule = LeaderSchedule::new(kind, EpochSeed([3; 32]), &set(&[1; 20]));
            for slot in 0..400 {
                assert_eq!(schedule.leader(Slot(slot)), schedule.leader(Slot(slot / 4 * 4)));
            }
        }
    }

    #[test]
    fn round_robin_takes_turns_in_index_order_up_to_the_last_slot() {
        let schedule = LeaderSchedule::new(ScheduleKind::RoundRobin, EpochSeed([3; 32]), &set(&[1, 50, 1]));
        assert_eq!(leaders(&schedule, 7), [0, 1, 2, 0, 1, 2, 0]);
        assert_eq!(u64::from(schedule.leader(Slot(u64::MAX)).0), (u64::MAX / WINDOW_SLOTS) % 3);
    }

    /// Expected values come from an independent implementation of SHA-256, ChaCha20 and the draws as documented. Totals
    /// near 64 bits make rejected draws part of it.
    #[test]
    fn golden_leaders() {
        let seed = EpochSeed(std::array::from_fn(|i| i as u8));
        let weighted = |stakes: &[u64]| LeaderSchedule::new(ScheduleKind::StakeWeighted, seed, &set(stakes));
        assert_eq!(leaders(&weighted(&[5, 1, 10, 3, 81]), 12), [4, 4, 4, 4, 4, 4, 4, 2, 1, 4, 0, 4]);
        let large = weighted(&[1 << 63, 1 << 62, 1 << 61, 12_345]);
        assert_eq!(leaders(&large, 12), [0, 2, 1, 1, 0, 1, 2, 0, 0, 1, 0, 1]);
        assert_eq!(large.leader(Slot(u64::MAX)), ValidatorIndex(0));
    }

    #[test]
    fn leaders_come_in_proportion_to_stake() {
        let stakes = [100, 300, 1, 599];
        let schedule = LeaderSchedule::new(ScheduleKind::StakeWeighted, EpochSeed([5; 32]), &set(&stakes));
        let mut counts = [0_u32; 4];
        for leader in leaders(&schedule, 20_000) {
            counts[usize::from(leader)] += 1;
        }
        // 6 standard deviations of a binomial distribution; the draws are fixed by the seed.
        for (count, stake) in counts.iter().zip(stakes) {
            let share = stake as f64 / 1_000.0;
            let deviation = (20_000.0 * share * (1.0 - share)).sqrt();
            assert!((f64::from(*count) - 20_000.0 * share).abs() < 6.0 * deviation, "{counts:?}");
        }
    }
}
