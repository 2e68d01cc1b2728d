//! Which blocks the log holds, and where: in memory, some 150 bytes for each, of as many slots as are kept.

use std::collections::BTreeMap;

use alpenglow_control::block_log::BlockHead;
use alpenglow_rotor::types::{BlockId, Hash, Slot};

use super::segment::{Head, Placed};

/// Blocks that are reported lost from one look at the chain. When they are found again there is another look.
pub(super) const LOST_MAX: usize = 256;

/// Where a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) segment: u64,
    pub(super) at: u64,
    pub(super) frame_bytes: u32,
}

#[derive(Clone, Copy, Debug)]
struct FinalPlace {
    place: Place,
    in_order: bool,
    certified: bool,
}

#[derive(Clone, Copy, Debug, Default)]
struct Known {
    block: Option<(Place, BlockId)>,
    is_final: Option<FinalPlace>,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Index(BTreeMap<BlockId, Known>);

/// What the chain lacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lost {
    /// The block is not there.
    Block(BlockId),
    /// It is there, but nothing says that it is final.
    Finality(BlockId),
}

impl Index {
    /// Takes in a record. What is said already is only written again if it could not be read where it was.
    pub(super) fn add(&mut self, segment: u64, placed: &Placed) {
        let place = Place { segment, at: placed.at, frame_bytes: placed.frame_bytes };
        match placed.head {
            Head::Block(BlockHead { id, parent }) => {
                self.0.entry(id).or_default().block = Some((place, parent));
            }
            Head::Final { id, in_order, certified } => {
                self.0.entry(id).or_default().is_final = Some(FinalPlace { place, in_order, certified });
            }
            Head::Parameters => {}
        }
    }

    /// Where a block is.
    pub(super) fn block(&self, id: BlockId) -> Option<Place> {
        self.0.get(&id)?.block.map(|(place, _)| place)
    }

    /// Whether a block is known to be final.
    pub(super) fn is_final(&self, id: BlockId) -> bool {
        self.0.get(&id).is_some_and(|known| known.is_final.is_some())
    }

    /// Whether a block is there and known to be final.
    pub(super) fn is_whole(&self, id: BlockId) -> bool {
        self.0.get(&id).is_some_and(|known| known.block.is_some() && known.is_final.is_some())
    }

    /// Blocks with certificates that make them final, the highest first: where the block is, and they are.
    pub(super) fn certified(&self) -> impl Iterator<Item = (BlockId, Place, Place)> {
        self.0.iter().rev().filter_map(|(id, known)| {
            let is_final = known.is_final.filter(|is_final| is_final.certified)?;
            Some((*id, known.block?.0, is_final.place))
        })
    }

    /// The first record at or after a block, for a look at all of them: each with its block.
    pub(super) fn places_after(&self, after: Option<BlockId>) -> Option<(BlockId, [Option<Place>; 2])> {
        use std::ops::Bound::{Excluded, Unbounded};
        let (id, known) = self.0.range((after.map_or(Unbounded, Excluded), Unbounded)).next()?;
        Some((*id, [known.block.map(|(place, _)| place), known.is_final.map(|is_final| is_final.place)]))
    }

    /// The record there cannot be read.
    pub(super) fn forget_place(&mut self, id: BlockId, place: Place) {
        if let Some(known) = self.0.get_mut(&id) {
            known.block = known.block.filter(|(other, _)| *other != place);
            // That it is final its child still says.
            known.is_final = known.is_final.filter(|is_final| is_final.place != place);
        }
    }

    /// A segment is gone.
    pub(super) fn forget_segment(&mut self, segment: u64) {
        self.0.retain(|_, known| {
            known.block = known.block.filter(|(place, _)| place.segment != segment);
            known.is_final = known.is_final.filter(|is_final| is_final.place.segment != segment);
            known.block.is_some() || known.is_final.is_some()
        });
    }

    /// The lowest block that was written in its turn: what lies below was let go.
    pub(super) fn lowest(&self) -> Option<Slot> {
        self.in_order().find(|(_, known)| known.block.is_some()).map(|(id, _)| id.slot)
    }

    /// The highest one.
    pub(super) fn highest(&self) -> Option<BlockId> {
        self.in_order().next_back().map(|(id, _)| *id)
    }

    fn in_order(&self) -> impl DoubleEndedIterator<Item = (&BlockId, &Known)> {
        self.0.iter().filter(|(_, known)| known.is_final.is_some_and(|is_final| is_final.in_order))
    }

    /// What is missing in the chain above its lowest block: final blocks that cannot be read, and parents of final
    /// ones.
    pub(super) fn lost(&self) -> Vec<Lost> {
        let Some(lowest) = self.lowest() else { return Vec::new() };
        let from = BlockId { slot: lowest, hash: Hash([0; 32]) };
        self.0.range(from..).filter_map(|(id, _)| self.lost_at(*id, lowest)).take(LOST_MAX).collect()
    }

    /// Whether something is missing at a block: itself, or its parent.
    pub(super) fn lost_at(&self, id: BlockId, lowest: Slot) -> Option<Lost> {
        let known = self.0.get(&id).filter(|known| known.is_final.is_some())?;
        match known.block {
            None => Some(Lost::Block(id)),
            Some((_, parent)) if parent.slot <= lowest => None,
            Some((_, parent)) => match self.0.get(&parent) {
                Some(Known { is_final: Some(_), .. }) => None,
                Some(Known { block: Some(_), .. }) => Some(Lost::Finality(parent)),
                _ => Some(Lost::Block(parent)),
            },
        }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}
