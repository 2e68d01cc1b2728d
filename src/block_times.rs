//! When blocks reached which stage at this node, counted from their leader's stamp.
//!
//! A certificate can come before the block that it is for, and the stamp is in the block: what is known of a slot waits
//! here until both are.

use std::collections::BTreeMap;

use alpenglow_rotor::types::{BlockId, Hash, Slot, Time};

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

    /// An own block, the first one of its window and a child of `parent`, began with a slice of that stamp. Measured if
    /// the parent is of the slot before, which is another window's last.
    pub(crate) fn began(&mut self, slot: Slot, parent: BlockId, first_stamp_ns: u64) {
        let adjacent = slot.is_window_first() && slot.previous() == Some(parent.slot);
        let complete = self.slots.get(&parent.slot).and_then(|times| times.complete);
        if let Some(complete) = complete.filter(|complete| adjacent && complete.hash == parent.hash) {
            self.stages.record_ns(Stage::Handover, first_stamp_ns.saturating_sub(complete.leader_stamp_ns));
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
    fn a_handover_is_measured_from_the_slot_before_only() {
        let mut times = BlockTimes::default();
        let of = |slot, hash| BlockId { slot: Slot(slot), hash };
        times.complete(Time(900), Slot(7), BLOCK, 100, true);
        times.complete(Time(900), Slot(8), BLOCK, 100, true);
        times.began(Slot(8), of(6, BLOCK), 350);
        times.began(Slot(8), of(7, Hash([2; 32])), 350);
        times.began(Slot(9), of(8, BLOCK), 350);
        times.began(Slot(12), of(7, BLOCK), 350);
        assert_eq!(count(&times, Stage::Handover), 0);
        times.began(Slot(8), of(7, BLOCK), 350);
        assert_eq!(times.stages.get(Stage::Handover).map(|gaps| (gaps.len(), gaps.max())), Some((1, 250)));
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
