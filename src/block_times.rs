//! When blocks reached which stage at this node, counted from their leader's stamp.
//!
//! A certificate can come before the block that it is for, and the stamp is in the block: what is known of a slot waits
//! here until both are.

use std::collections::BTreeMap;

use alpenglow_rotor::types::{Hash, Slot, Time};

use crate::report::{BlockSamples, Stage, StageHistograms};

/// Slots in flight that are remembered, several times the votes' horizon; the lowest makes room.
const SLOTS_MAX: usize = 256;

/// Times of the blocks in flight, and the samples made of them.
#[derive(Default)]
pub(crate) struct BlockTimes {
    slots: BTreeMap<Slot, SlotTimes>,
    /// Histograms over all blocks.
    pub(crate) stages: StageHistograms,
    /// Time to completeness of each block of another leader.
    pub(crate) block_dissemination: BlockSamples,
    /// Time to finality of each block.
    pub(crate) finalized: BlockSamples,
}

#[derive(Default)]
struct SlotTimes {
    complete: Option<Complete>,
    reached: Vec<(Stage, Hash, Time)>,
}

#[derive(Clone, Copy)]
struct Complete {
    hash: Hash,
    leader_stamp_ns: u64,
}

impl BlockTimes {
    /// A block is complete at this node; `of_other` says that another node is its leader.
    pub(crate) fn complete(&mut self, now: Time, slot: Slot, hash: Hash, leader_stamp_ns: u64, of_other: bool) {
        let times = self.of(slot);
        if times.complete.is_some() {
            return;
        }
        times.complete = Some(Complete { hash, leader_stamp_ns });
        let waiting = std::mem::take(&mut times.reached);
        if of_other {
            let took_ns = now.0.saturating_sub(leader_stamp_ns);
            self.stages.record_ns(Stage::BlockDissemination, took_ns);
            self.block_dissemination.record_ns(slot, took_ns);
        }
        for (stage, block, at) in waiting {
            self.reached(at, stage, slot, block);
        }
    }

    /// A block reached `stage`: one of notarized, finalized_fast, finalized_slow, finalized.
    pub(crate) fn reached(&mut self, now: Time, stage: Stage, slot: Slot, hash: Hash) {
        let times = self.of(slot);
        match times.complete {
            None if times.reached.len() < Stage::ALL.len() => times.reached.push((stage, hash, now)),
            Some(complete) if complete.hash == hash => {
                let took_ns = now.0.saturating_sub(complete.leader_stamp_ns);
                self.stages.record_ns(stage, took_ns);
                if stage == Stage::Finalized {
                    self.finalized.record_ns(slot, took_ns);
                }
            }
            None | Some(_) => {}
        }
    }

    fn of(&mut self, slot: Slot) -> &mut SlotTimes {
        if self.slots.len() >= SLOTS_MAX && !self.slots.contains_key(&slot) {
            self.slots.pop_first();
        }
        self.slots.entry(slot).or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BLOCK: Hash = Hash([1; 32]);

    fn count(times: &BlockTimes, stage: Stage) -> u64 {
        times.stages.get(stage).map_or(0, hdrhistogram::Histogram::len)
    }

    #[test]
    fn a_certificate_before_its_block_is_measured_when_the_block_comes() {
        let mut times = BlockTimes::default();
        times.reached(Time(500), Stage::Finalized, Slot(3), BLOCK);
        assert_eq!(count(&times, Stage::Finalized), 0);
        times.complete(Time(900), Slot(3), BLOCK, 100, true);
        assert_eq!(times.finalized.iter().collect::<Vec<_>>(), [(Slot(3), 400)]);
        assert_eq!(times.block_dissemination.iter().collect::<Vec<_>>(), [(Slot(3), 800)]);
    }

    #[test]
    fn another_block_of_the_slot_is_not_measured_by_this_ones_stamp() {
        let mut times = BlockTimes::default();
        times.complete(Time(900), Slot(3), BLOCK, 100, false);
        times.reached(Time(950), Stage::Notarized, Slot(3), Hash([2; 32]));
        assert_eq!((count(&times, Stage::Notarized), count(&times, Stage::BlockDissemination)), (0, 0));
    }

    #[test]
    fn slots_that_never_complete_are_forgotten() {
        let mut times = BlockTimes::default();
        for slot in 0..10 * SLOTS_MAX as u64 {
            times.reached(Time(slot), Stage::Notarized, Slot(slot), BLOCK);
        }
        assert_eq!(times.slots.len(), SLOTS_MAX);
    }
}
