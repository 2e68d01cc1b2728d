//! The stakes of each epoch's validators, as the Pool reads them.

use std::sync::Arc;

use alpenglow_rotor::epochs::{EpochStakes, Epochs};
use alpenglow_rotor::schedule::EpochSeed;
use alpenglow_rotor::types::{Slot, Stake};

/// Stakes by slot.
#[derive(Clone, Debug)]
pub struct Stakes {
    epochs: Arc<Epochs>,
}

impl Stakes {
    /// Stakes that never change, in the order of the validator set.
    ///
    /// # Panics
    /// If there are none or more than [`VALIDATORS_MAX`](alpenglow_rotor::types::VALIDATORS_MAX), if one is zero, or if
    /// the total overflows: a validator set excludes all of it.
    #[must_use]
    pub fn new(stakes: Vec<Stake>) -> Self {
        let epochs = Epochs::endless(stakes, EpochSeed([0; 32])).expect("the stakes of a validator set");
        Self::of_epochs(Arc::new(epochs))
    }

    /// The stakes of every epoch of a cluster.
    #[must_use]
    pub const fn of_epochs(epochs: Arc<Epochs>) -> Self {
        Self { epochs }
    }

    /// How many validators the cluster has, members of an epoch or not.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "never empty")]
    pub fn len(&self) -> usize {
        self.epochs.validators()
    }

    /// What counts in a slot.
    #[must_use]
    pub fn at(&self, slot: Slot) -> &EpochStakes {
        self.epochs.stakes(slot)
    }

    /// Which of [`Stakes::sets`] a slot has.
    #[must_use]
    pub fn set_index(&self, slot: Slot) -> usize {
        self.epochs.set_index(slot)
    }

    /// All sets that follow each other.
    pub fn sets(&self) -> impl ExactSizeIterator<Item = &EpochStakes> {
        self.epochs.sets()
    }
}
