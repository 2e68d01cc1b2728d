//! The stakes of a validator set, as the Pool reads them.

use alpenglow_rotor::types::{Stake, VALIDATORS_MAX, ValidatorIndex};

/// Stake by validator index, and the total.
#[derive(Clone, Debug)]
pub struct Stakes {
    by_validator: Box<[Stake]>,
    total: Stake,
}

impl Stakes {
    /// Stakes in the order of the validator set.
    ///
    /// # Panics
    /// If there are none or more than [`VALIDATORS_MAX`], or if the total is zero or overflows: a validator set
    /// excludes all of it.
    #[must_use]
    pub fn new(stakes: Vec<Stake>) -> Self {
        assert!(!stakes.is_empty() && stakes.len() <= VALIDATORS_MAX);
        let total = stakes.iter().try_fold(0u64, |sum, stake| sum.checked_add(stake.0)).map(Stake);
        let total = total.expect("a validator set's total fits u64");
        assert!(total > Stake(0));
        Self { by_validator: stakes.into_boxed_slice(), total }
    }

    /// How many validators there are.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "never empty")]
    pub const fn len(&self) -> usize {
        self.by_validator.len()
    }

    /// The stake of all.
    #[must_use]
    pub const fn total(&self) -> Stake {
        self.total
    }

    /// The stake of one.
    ///
    /// # Panics
    /// If there is no such validator.
    #[must_use]
    pub fn of(&self, validator: ValidatorIndex) -> Stake {
        self.by_validator[validator.get()]
    }
}
