//! The validators of a cluster: who they are and what stake each has.

use ed25519_dalek::VerifyingKey;

use crate::types::{Stake, VALIDATORS_MAX, ValidatorIndex};

/// The validators of a cluster, in the order of the genesis file. Every one has an identity that is its alone, and
/// their stakes at genesis have a sum that fits 64 bits.
#[derive(Clone, Debug)]
pub struct ValidatorSet {
    identities: Vec<VerifyingKey>,
    stakes: Vec<Stake>,
    total: Stake,
    by_decreasing_stake: Vec<ValidatorIndex>,
    by_identity: Vec<ValidatorIndex>,
}

/// Why a list of validators is refused. Positions count from 0.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ValidatorSetError {
    /// Nobody is in the list.
    #[error("there is no validator")]
    Empty,
    /// More than [`VALIDATORS_MAX`].
    #[error("{found} validators, at most {VALIDATORS_MAX} are possible")]
    TooMany {
        /// Length of the list.
        found: usize,
    },
    /// A validator without stake, where all must have some.
    #[error("validator {validator} has no stake")]
    ZeroStake {
        /// Its position.
        validator: usize,
    },
    /// The sum of all stakes does not fit 64 bits.
    #[error("the total stake exceeds {}", u64::MAX)]
    StakeOverflow,
    /// The identity is not the canonical encoding of a point of the curve.
    #[error("the identity of validator {validator} is not an Ed25519 public key")]
    InvalidIdentity {
        /// Its position.
        validator: usize,
    },
    /// The identity has small order: signatures by it prove nothing.
    #[error("the identity of validator {validator} is a weak key, for which anybody can sign")]
    WeakIdentity {
        /// Its position.
        validator: usize,
    },
    /// Two validators have the same identity.
    #[error("validators {first} and {second} have the same identity")]
    DuplicateIdentity {
        /// The earlier position.
        first: usize,
        /// The later position.
        second: usize,
    },
}

impl ValidatorSet {
    /// Takes identities (Ed25519 public keys) and stakes in index order.
    ///
    /// # Errors
    /// [`ValidatorSetError`] names the first defect.
    pub fn new(validators: Vec<([u8; 32], Stake)>) -> Result<Self, ValidatorSetError> {
        let without = validators.iter().position(|(_, stake)| stake.0 == 0);
        let set = Self::with_later_members(validators)?;
        without.map_or(Ok(set), |validator| Err(ValidatorSetError::ZeroStake { validator }))
    }

    /// Like [`ValidatorSet::new`], but those that become members in a later epoch have no stake yet.
    ///
    /// # Errors
    /// [`ValidatorSetError`] names the first defect.
    pub fn with_later_members(validators: Vec<([u8; 32], Stake)>) -> Result<Self, ValidatorSetError> {
        match validators.len() {
            0 => return Err(ValidatorSetError::Empty),
            found if found > VALIDATORS_MAX => return Err(ValidatorSetError::TooMany { found }),
            _ => {}
        }
        let mut total = 0_u64;
        let mut identities = Vec::with_capacity(validators.len());
        for (validator, (identity, stake)) in validators.iter().enumerate() {
            total = total.checked_add(stake.0).ok_or(ValidatorSetError::StakeOverflow)?;
            identities.push(checked_identity(identity, validator)?);
        }
        let indices = || (0..validators.len() as u16).map(ValidatorIndex);
        let mut by_identity: Vec<_> = indices().collect();
        by_identity.sort_unstable_by_key(|&v| (validators[v.get()].0, v));
        for pair in by_identity.windows(2) {
            if validators[pair[0].get()].0 == validators[pair[1].get()].0 {
                return Err(ValidatorSetError::DuplicateIdentity { first: pair[0].get(), second: pair[1].get() });
            }
        }
        let stakes: Vec<_> = validators.iter().map(|&(_, stake)| stake).collect();
        let mut by_decreasing_stake: Vec<_> = indices().collect();
        by_decreasing_stake.sort_unstable_by_key(|&v| (std::cmp::Reverse(stakes[v.get()]), v));
        Ok(Self { identities, stakes, total: Stake(total), by_decreasing_stake, by_identity })
    }

    /// Number of validators, at least 1.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "a set is never empty")]
    pub const fn len(&self) -> usize {
        self.stakes.len()
    }

    /// Sum of all stakes at genesis.
    #[must_use]
    pub const fn total_stake(&self) -> Stake {
        self.total
    }

    /// Stake of `validator` at genesis; see [`crate::epochs`] for that of a later epoch.
    ///
    /// # Panics
    /// If `validator` is not in the set.
    #[must_use]
    pub fn stake(&self, validator: ValidatorIndex) -> Stake {
        self.stakes[validator.get()]
    }

    /// Public key of `validator`.
    ///
    /// # Panics
    /// If `validator` is not in the set.
    #[must_use]
    pub fn identity(&self, validator: ValidatorIndex) -> &VerifyingKey {
        &self.identities[validator.get()]
    }

    /// Every validator, in index order.
    pub fn indices(&self) -> impl ExactSizeIterator<Item = ValidatorIndex> + DoubleEndedIterator + use<> {
        (0..self.len() as u16).map(ValidatorIndex)
    }

    /// Every validator, those with most stake first; equal stakes in index order.
    #[must_use]
    pub fn by_decreasing_stake(&self) -> &[ValidatorIndex] {
        &self.by_decreasing_stake
    }

    /// The validator with this identity.
    #[must_use]
    pub fn index_of(&self, identity: &[u8; 32]) -> Option<ValidatorIndex> {
        let position = self.by_identity.binary_search_by_key(identity, |v| self.identities[v.get()].to_bytes()).ok()?;
        Some(self.by_identity[position])
    }
}

/// A second encoding of one point would pass for a second identity, so only the canonical one is accepted.
fn checked_identity(identity: &[u8; 32], validator: usize) -> Result<VerifyingKey, ValidatorSetError> {
    let key = VerifyingKey::from_bytes(identity).map_err(|_| ValidatorSetError::InvalidIdentity { validator })?;
    if key.is_weak() {
        return Err(ValidatorSetError::WeakIdentity { validator });
    }
    if key.to_edwards().compress().as_bytes() != identity {
        return Err(ValidatorSetError::InvalidIdentity { validator });
    }
    Ok(key)
}

#[cfg(test)]
pub(crate) mod tests {
    use ed25519_dalek::SigningKey;
    use proptest::prelude::*;

    use super::*;

    fn identity(index: usize) -> [u8; 32] {
        let mut secret = [7; 32];
        secret[..8].copy_from_slice(&(index as u64).to_le_bytes());
        SigningKey::from_bytes(&secret).verifying_key().to_bytes()
    }

    pub(crate) fn set(stakes: &[u64]) -> ValidatorSet {
        let validators = stakes.iter().enumerate().map(|(index, &stake)| (identity(index), Stake(stake)));
        ValidatorSet::new(validators.collect()).unwrap()
    }

    #[test]
    fn validators_are_found_by_identity_and_ordered_by_stake() {
        let set = set(&[5, 9, 5, 1]);
        assert_eq!((set.len(), set.total_stake()), (4, Stake(20)));
        assert_eq!(set.by_decreasing_stake(), [1, 0, 2, 3].map(ValidatorIndex));
        for v in set.indices() {
            assert_eq!(set.index_of(&identity(v.get())), Some(v));
            assert_eq!(set.identity(v).to_bytes(), identity(v.get()));
        }
        assert_eq!(set.index_of(&identity(4)), None);
    }

    #[test]
    fn every_defect_of_a_list_is_refused_with_its_reason() {
        let with = |list: &[([u8; 32], u64)]| {
            ValidatorSet::new(list.iter().map(|&(identity, stake)| (identity, Stake(stake))).collect()).unwrap_err()
        };
        assert_eq!(with(&[]), ValidatorSetError::Empty);
        let many: Vec<_> = (0..=VALIDATORS_MAX).map(|_| (identity(0), 1)).collect();
        assert_eq!(with(&many), ValidatorSetError::TooMany { found: VALIDATORS_MAX + 1 });
        assert_eq!(with(&[(identity(0), 1), (identity(1), 0)]), ValidatorSetError::ZeroStake { validator: 1 });
        assert_eq!(with(&[(identity(0), u64::MAX), (identity(1), 1)]), ValidatorSetError::StakeOverflow);
    }

    /// Counting one identity twice would count its votes twice.
    #[test]
    fn defect_25_the_same_identity_twice_in_a_validator_set_is_refused() {
        let list = [(identity(0), Stake(1)), (identity(1), Stake(1)), (identity(0), Stake(2))];
        let error = ValidatorSet::new(list.to_vec()).unwrap_err();
        assert_eq!(error, ValidatorSetError::DuplicateIdentity { first: 0, second: 2 });
    }

    #[test]
    fn identities_that_are_no_sound_keys_are_refused() {
        let refused = |identity: [u8; 32]| ValidatorSet::new(vec![(identity, Stake(1))]).unwrap_err();
        let mut neutral = [0; 32];
        neutral[0] = 1;
        assert_eq!(refused(neutral), ValidatorSetError::WeakIdentity { validator: 0 });
        let off_curve = (0..=u8::MAX).map(|byte| [byte; 32]).find(|bytes| VerifyingKey::from_bytes(bytes).is_err());
        assert_eq!(refused(off_curve.unwrap()), ValidatorSetError::InvalidIdentity { validator: 0 });
        // y = p + small: a second encoding of y = small. Of those, at least one is a point of large order.
        let second_encodings = (2..19_u8).map(|small| {
            let mut bytes = [0xff; 32];
            (bytes[0], bytes[31]) = (0xed + small, 0x7f);
            bytes
        });
        let on_curve: Vec<_> = second_encodings.filter(|bytes| VerifyingKey::from_bytes(bytes).is_ok()).collect();
        assert!(!on_curve.is_empty());
        for bytes in on_curve {
            assert_eq!(refused(bytes), ValidatorSetError::InvalidIdentity { validator: 0 });
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_taken_or_refused_without_a_panic(list: Vec<([u8; 32], u64)>) {
            let length = list.len();
            let list = list.into_iter().map(|(identity, stake)| (identity, Stake(stake))).collect();
            if let Ok(set) = ValidatorSet::new(list) {
                prop_assert_eq!(set.len(), length);
            }
        }
    }
}
