//! Who has had a signature checked in vain: what keeps a validator from making this node check signatures without end.

use crate::slice::SliceId;
use crate::types::{Slot, VALIDATORS_MAX, ValidatorIndex};

/// Slices of one slot for which a sender's failed checks are remembered; a sender with so many has none left in the
/// slot.
const SLICES: usize = 8;

/// A set of validators.
#[derive(Clone)]
pub(super) struct SenderSet([u64; VALIDATORS_MAX.div_ceil(64)]);

impl SenderSet {
    pub(super) const EMPTY: Self = Self([0; VALIDATORS_MAX.div_ceil(64)]);

    /// Adds `sender`; whether it is new.
    pub(super) const fn insert(&mut self, sender: ValidatorIndex) -> bool {
        let (word, bit) = (sender.get() / 64, 1 << (sender.get() % 64));
        let is_new = self.0[word] & bit == 0;
        self.0[word] |= bit;
        is_new
    }
}

/// For every sender the slices of its latest such slot whose signature, carried by a shred of its, was not the
/// leader's, while no shred of that slice was held.
///
/// An honest validator never sends such a shred (only the way here can have spoilt it), so it does not matter that a
/// sender with a failed check in one slot cannot introduce slices of earlier ones, nor that it has eight failures a
/// slot: shreds of slices held are not concerned.
pub(super) struct FailedChecks(Box<[Failed]>);

#[derive(Clone, Copy, Default)]
struct Failed {
    slot: Slot,
    slices: [u16; SLICES],
    count: u8,
}

impl Failed {
    fn slices(&self) -> &[u16] {
        &self.slices[..usize::from(self.count)]
    }
}

impl FailedChecks {
    pub(super) const BYTES: usize = VALIDATORS_MAX * size_of::<Failed>();

    pub(super) fn new() -> Self {
        Self(vec![Failed::default(); VALIDATORS_MAX].into_boxed_slice())
    }

    /// Whether a shred of `sender` may introduce `slice` at the price of a signature check.
    pub(super) fn may_check(&self, sender: ValidatorIndex, slice: SliceId) -> bool {
        let failed = &self.0[sender.get()];
        failed.slot < slice.slot
            || failed.slot == slice.slot && failed.slices().len() < SLICES && !self.contains(sender, slice)
    }

    /// Whether a check of `slice` failed for `sender`.
    pub(super) fn contains(&self, sender: ValidatorIndex, slice: SliceId) -> bool {
        let failed = &self.0[sender.get()];
        failed.slot == slice.slot && failed.slices().iter().any(|index| usize::from(*index) == slice.index.get())
    }

    /// Notes a failed check that [`Self::may_check`] allowed.
    pub(super) fn note(&mut self, sender: ValidatorIndex, slice: SliceId) {
        let failed = &mut self.0[sender.get()];
        if failed.slot != slice.slot {
            *failed = Failed { slot: slice.slot, ..Failed::default() };
        }
        failed.slices[usize::from(failed.count)] = slice.index.get() as u16;
        failed.count += 1;
    }
}
