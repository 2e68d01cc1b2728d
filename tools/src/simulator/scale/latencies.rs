//! When which stake had got how far with each block.

use alpenglow_control::consensus::Finalization;
use alpenglow_rotor::types::{Slot, Stake, Time, ValidatorIndex};

/// How far a validator is with a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stage {
    /// A message sent straight from the leader would be here.
    Network,
    /// The block is complete.
    Rotor,
    /// It is notarized.
    Notarized,
    /// It is final.
    Finalized,
}

impl Stage {
    pub(super) const ALL: [Self; 4] = [Self::Network, Self::Rotor, Self::Notarized, Self::Finalized];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Network => "network",
            Self::Rotor => "rotor",
            Self::Notarized => "notarized",
            Self::Finalized => "finalized",
        }
    }
}

/// Shares of stake for which latencies are told, in percent.
pub(super) const PERCENT: std::ops::RangeInclusive<u32> = 1..=100;

/// One slot's block.
struct Block {
    /// When its last slice was sent.
    sent: Time,
    /// By stage and validator, in nanoseconds since then.
    after_ns: [Vec<Option<u64>>; Stage::ALL.len()],
}

/// Of the slots from 1 on.
pub(super) struct Latencies {
    stakes: Vec<Stake>,
    blocks: Vec<Option<Block>>,
    decided: Vec<usize>,
    pub(super) fast: u64,
    pub(super) slow: u64,
}

impl Latencies {
    pub(super) fn new(stakes: Vec<Stake>, slots: u64) -> Self {
        let blocks = (0..slots).map(|_| None).collect();
        Self { stakes, blocks, decided: vec![0; slots as usize], fast: 0, slow: 0 }
    }

    fn position(&self, slot: Slot) -> Option<usize> {
        let position = usize::try_from(slot.0.checked_sub(1)?).ok()?;
        (position < self.blocks.len()).then_some(position)
    }

    /// The last slice of a block leaves its leader.
    pub(super) fn sent(&mut self, now: Time, slot: Slot) {
        if let Some(position) = self.position(slot) {
            let none = || vec![None; self.stakes.len()];
            self.blocks[position] = Some(Block { sent: now, after_ns: [none(), none(), none(), none()] });
        }
    }

    /// A validator has got so far.
    pub(super) fn reached(&mut self, now: Time, slot: Slot, validator: ValidatorIndex, stage: Stage) {
        if let Some(position) = self.position(slot)
            && let Some(block) = &mut self.blocks[position]
        {
            let after_ns = now.0.saturating_sub(block.sent.0);
            block.after_ns[stage as usize][validator.get()].get_or_insert(after_ns);
        }
    }

    /// A validator decided a slot, if its block is final by `how`.
    pub(super) fn decided(&mut self, slot: Slot, how: Option<Finalization>) {
        let Some(position) = self.position(slot) else { return };
        self.decided[position] += 1;
        match how {
            Some(Finalization::Fast) => self.fast += 1,
            Some(Finalization::Slow) => self.slow += 1,
            Some(Finalization::Ancestor) | None => {}
        }
    }

    /// Whether all have decided all slots.
    pub(super) fn all_decided(&self) -> bool {
        self.decided.iter().all(|validators| *validators == self.stakes.len())
    }

    /// Slots that some validator has not decided.
    pub(super) fn undecided(&self) -> usize {
        self.decided.iter().filter(|validators| **validators < self.stakes.len()).count()
    }

    /// For each block that was final somewhere, the latency at which each of [`PERCENT`] of the stake had got so far;
    /// `None` for what never did.
    pub(super) fn by_stake(&self, stage: Stage) -> Vec<Vec<Option<u64>>> {
        let is_final = |block: &&Block| block.after_ns[Stage::Finalized as usize].iter().any(Option::is_some);
        let blocks = self.blocks.iter().flatten().filter(is_final);
        blocks.map(|block| self.reached_at(&block.after_ns[stage as usize])).collect()
    }

    fn reached_at(&self, after_ns: &[Option<u64>]) -> Vec<Option<u64>> {
        let total: u128 = self.stakes.iter().map(|stake| u128::from(stake.0)).sum();
        let mut sorted: Vec<_> =
            after_ns.iter().zip(&self.stakes).filter_map(|(at, stake)| Some(((*at)?, stake.0))).collect();
        sorted.sort_unstable();
        let (mut next, mut stake, mut at) = (sorted.iter(), 0_u128, None);
        let reached = |percent: u32| {
            while 100 * stake < u128::from(percent) * total {
                let &(after_ns, more) = next.next()?;
                (stake, at) = (stake + u128::from(more), Some(after_ns));
            }
            at
        };
        PERCENT.map(reached).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_of_stake_are_reached_in_the_order_of_time() {
        let mut latencies = Latencies::new([10, 50, 39, 1].map(Stake).into(), 1);
        latencies.sent(Time(100), Slot(1));
        for (validator, at) in [(1, 130), (0, 110), (2, 120)] {
            latencies.reached(Time(at), Slot(1), ValidatorIndex(validator), Stage::Finalized);
        }
        latencies.reached(Time(999), Slot(1), ValidatorIndex(1), Stage::Finalized);
        latencies.reached(Time(999), Slot(2), ValidatorIndex(1), Stage::Finalized);
        let reached = latencies.by_stake(Stage::Finalized);
        let of = |percent: usize| reached[0][percent - 1];
        assert_eq!([of(1), of(10), of(11), of(49)], [Some(10), Some(10), Some(20), Some(20)]);
        assert_eq!([of(50), of(99), of(100)], [Some(30), Some(30), None]);
    }

    #[test]
    fn a_block_that_is_never_final_does_not_count() {
        let mut latencies = Latencies::new([1, 1].map(Stake).into(), 2);
        latencies.sent(Time(1), Slot(1));
        latencies.reached(Time(5), Slot(1), ValidatorIndex(0), Stage::Rotor);
        assert!(latencies.by_stake(Stage::Rotor).is_empty());
        assert_eq!(latencies.undecided(), 2);
    }
}
