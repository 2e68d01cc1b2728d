//! One block on its way by repair: what of it is proven, what is here, and what is still to be asked for.

use std::collections::{BTreeSet, VecDeque};

use alpenglow_rotor::merkle;
use alpenglow_rotor::parameters::CodingParameters;
use alpenglow_rotor::recoder::Recoder;
use alpenglow_rotor::slice::{Slice, SliceId, SliceSignature};
use alpenglow_rotor::types::{BlockId, Hash, SliceIndex, Time, ValidatorIndex};

use super::proofs;
use super::wire::{ROOTS_PER_GROUP, SHREDS_PER_REQUEST, Want};
use crate::assembly::{Assembly, Verdict};
use crate::block::{Block, InvalidBlock, ParentStatement, SliceContent};

/// Something to ask for, and how often it was asked for in vain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Pending {
    pub(super) want: Want,
    pub(super) attempts: u8,
}

/// How a block ended.
pub(super) type Outcome = Result<Block, InvalidBlock>;

/// Slices that are held though their block is not complete.
pub trait SliceSource {
    /// The slice of that place and root, if it is at hand.
    fn slice(&self, id: SliceId, root: Hash) -> Option<Slice>;

    /// Whether the block is of no use: it is held, or nobody waits for it any more.
    fn is_settled(&self, block: BlockId) -> bool;
}

enum SliceState {
    /// Its root is not known.
    Unknown,
    /// Some of its data shreds are here, each proven to lie under the root.
    Fetching { root: Hash, shreds: Vec<Option<Vec<u8>>>, missing: usize },
    /// It is here.
    Held(Slice),
}

/// See the module.
pub(super) struct Fetch {
    pub(super) id: BlockId,
    /// When it became needed.
    pub(super) needed: Time,
    /// When the first request may leave.
    pub(super) starts: Time,
    /// Until when nothing is asked for, after all others said that they do not hold it.
    pub(super) paused_until: Time,
    /// Peers that said that they do not hold it.
    pub(super) lacking: BTreeSet<ValidatorIndex>,
    pub(super) pending: VecDeque<Pending>,
    /// Requests under way.
    pub(super) open: usize,
    /// Requests sent.
    pub(super) requests: u32,
    /// Memory set aside for its slices.
    pub(super) reserved_bytes: usize,
    /// Whether it is known to be final.
    pub(super) is_final: bool,
    /// Who named it as an ancestor of a final block, until it is known to be one.
    pub(super) named_by: Option<ValidatorIndex>,
    /// Whether its ancestors were asked for, or named by the same answer.
    pub(super) ancestors_asked: bool,
    /// What came of it, if it is here and not yet known to be needed.
    pub(super) kept: Option<Outcome>,
    /// Whether the block log lacks it: its slot may be closed.
    pub(super) for_log: bool,
    /// Whether nothing but the block log waits for it.
    pub(super) can_wait: bool,
    /// Whether [`Self::named_parent`] was told.
    parent_told: bool,
    slices: Vec<SliceState>,
    missing: usize,
}

impl Fetch {
    pub(super) fn new(id: BlockId, needed: Time, starts: Time) -> Self {
        Self {
            id,
            needed,
            starts,
            paused_until: needed,
            lacking: BTreeSet::new(),
            pending: [Pending { want: Want::LastSlice, attempts: 0 }].into(),
            open: 0,
            requests: 0,
            reserved_bytes: 0,
            is_final: false,
            named_by: None,
            ancestors_asked: false,
            kept: None,
            for_log: false,
            can_wait: false,
            parent_told: false,
            slices: Vec::new(),
            missing: 0,
        }
    }

    /// Of a block that is an ancestor of a final one, if `by` says the truth.
    pub(super) fn named(id: BlockId, now: Time, by: ValidatorIndex) -> Self {
        Self { named_by: Some(by), ancestors_asked: true, ..Self::new(id, now, now) }
    }

    /// Lets its ancestors be asked for before anything else.
    pub(super) fn ask_for_ancestors(&mut self) {
        self.ancestors_asked = true;
        self.pending.push_front(Pending { want: Want::Ancestors, attempts: 0 });
    }

    /// Whether it waits for its ancestors to be asked for.
    pub(super) fn descends(&self) -> bool {
        self.pending.front().is_some_and(|pending| pending.want == Want::Ancestors)
    }

    /// How many slices it has, once that is known.
    pub(super) const fn length(&self) -> usize {
        self.slices.len()
    }

    /// Takes in the last slice's proof. All roots are to be asked for then, except the first group, which comes with
    /// it.
    pub(super) fn last_slice(&mut self, index: SliceIndex, root: Hash, path: &[Hash]) -> bool {
        if !merkle::verify_last_slice(self.id.hash, index.get(), root, path) {
            return false;
        }
        self.missing = index.get() + 1;
        self.slices = (0..self.missing).map(|_| SliceState::Unknown).collect();
        let others = 1..proofs::groups(self.missing);
        self.pending.extend(others.map(|group| Pending { want: Want::Roots { group: group as u16 }, attempts: 0 }));
        true
    }

    /// Takes in a group of roots. Slices that `held` has are here at once; shreds of the others are to be asked for.
    pub(super) fn roots(
        &mut self,
        group: u16,
        roots: &[Hash],
        path: &[Hash],
        coding: &CodingParameters,
        held: &dyn SliceSource,
    ) -> bool {
        let group = usize::from(group);
        if !proofs::verify_group(self.id.hash, self.slices.len(), group, roots, path) {
            return false;
        }
        for (offset, &root) in roots.iter().enumerate() {
            let at = group * ROOTS_PER_GROUP + offset;
            if !matches!(self.slices[at], SliceState::Unknown) {
                continue;
            }
            let id = self.slice_id(at);
            if let Some(slice) = held.slice(id, root) {
                self.slices[at] = SliceState::Held(Slice { is_last: at + 1 == self.slices.len(), ..slice });
                self.missing -= 1;
                continue;
            }
            let gamma = coding.data_shreds();
            self.slices[at] = SliceState::Fetching { root, shreds: vec![None; gamma], missing: gamma };
            for first in (0..gamma).step_by(SHREDS_PER_REQUEST) {
                let count = (gamma - first).min(SHREDS_PER_REQUEST);
                let mask = u32::MAX >> (SHREDS_PER_REQUEST - count);
                let want = Want::Shreds { slice: id.index, first: first as u16, mask };
                self.pending.push_back(Pending { want, attempts: 0 });
            }
        }
        true
    }

    /// Takes in a shred: whether its proof leads to the slice's root. When it was the last one missing, the slice is
    /// decoded; shreds that are no slice end the block.
    pub(super) fn shred(
        &mut self,
        slice: SliceIndex,
        index: usize,
        path: &[[u8; 32]],
        data: Vec<u8>,
        recoder: &mut Recoder,
    ) -> Result<bool, InvalidBlock> {
        let at = slice.get();
        let id = self.slice_id(at);
        let Some(SliceState::Fetching { root, shreds, missing }) = self.slices.get_mut(at) else { return Ok(false) };
        if merkle::root_from_path(merkle::leaf(&data), index, path) != *root {
            return Ok(false);
        }
        if shreds[index].replace(data).is_none() {
            *missing -= 1;
        }
        if *missing > 0 {
            return Ok(true);
        }
        let root = *root;
        let data: Vec<&[u8]> = shreds.iter().flatten().map(Vec::as_slice).collect();
        let (leader_stamp_ns, payload) = recoder.decode(root, &data).map_err(|_| InvalidBlock::MalformedSlice)?;
        self.slices[at] = SliceState::Held(Slice {
            id,
            is_last: at + 1 == self.slices.len(),
            root,
            // The block hash vouches for the root.
            signature: SliceSignature([0; 64]),
            leader_stamp_ns,
            payload: payload.into(),
        });
        self.missing -= 1;
        Ok(true)
    }

    /// The parent that its first slice names, once, when that slice is here. The block hash vouches for the slice, so
    /// this is the parent unless a later slice changes it.
    pub(super) fn named_parent(&mut self) -> Option<BlockId> {
        let Some(SliceState::Held(slice)) = self.slices.first().filter(|_| !self.parent_told) else { return None };
        self.parent_told = true;
        match SliceContent::parse(slice.id.index, &slice.payload).ok()?.parent {
            ParentStatement::Parent(parent) => Some(parent).filter(|parent| parent.slot < self.id.slot),
            ParentStatement::Nothing | ParentStatement::Changed(_) => None,
        }
    }

    /// The block, or what is wrong with it, when all its slices are here. It can be taken once.
    pub(super) fn outcome(&mut self) -> Option<Outcome> {
        if self.slices.is_empty() || self.missing > 0 {
            return None;
        }
        let mut assembly = Assembly::new(self.id.slot, 0);
        for state in std::mem::take(&mut self.slices) {
            let SliceState::Held(slice) = state else { unreachable!("no slice is missing") };
            assembly.insert(slice);
        }
        Some(match assembly.verdict().expect("its last slice is flagged as such") {
            Verdict::Complete(block) => {
                assert_eq!(block.id, self.id, "all roots are proven under its hash");
                Ok(block)
            }
            Verdict::Dead(_, reason) => Err(reason),
        })
    }

    fn slice_id(&self, at: usize) -> SliceId {
        let index = SliceIndex::new(at).expect("a block has as many slices as can be");
        SliceId { slot: self.id.slot, index }
    }
}
