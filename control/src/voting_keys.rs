//! The voting keys of a validator set: checked once, when the set is loaded.

use std::collections::BTreeMap;

use alpenglow_rotor::types::{VALIDATORS_MAX, ValidatorIndex};

use crate::bls::{BlsError, ProofOfPossession, PublicKey, PublicKeyBytes, PublicKeySum, Scheme};
use crate::certificate::Signers;

/// Public keys by validator index, each proven to be held by its validator, and their sum.
pub struct VotingKeys {
    keys: Box<[PublicKey]>,
    sum: PublicKeySum,
}

/// Why a set of keys is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VotingKeysError {
    /// None, or more than [`VALIDATORS_MAX`].
    #[error("between 1 and 2000 voting keys are needed, found {0}")]
    Count(usize),
    /// Not a usable key.
    #[error("voting key of validator {validator}: {reason}")]
    Key {
        /// Whose.
        validator: usize,
        /// What is wrong.
        reason: BlsError,
    },
    /// Not signed by the key's owner, or for another key.
    #[error("the proof of possession of validator {0}'s voting key does not verify")]
    Possession(usize),
    /// Equal to another key or to its negative. Equal keys count one vote twice; a key and its negative cancel out.
    #[error("the voting key of validator {validator} equals that of validator {other} or its negative")]
    Duplicate {
        /// Whose.
        validator: usize,
        /// The one before it.
        other: usize,
    },
}

impl VotingKeys {
    /// Checks keys and proofs in the order of the validator set, some 1.5 ms each.
    ///
    /// # Errors
    /// The first [`VotingKeysError`] found.
    pub fn new(keys: &[(PublicKeyBytes, ProofOfPossession)]) -> Result<Self, VotingKeysError> {
        if keys.is_empty() || keys.len() > VALIDATORS_MAX {
            return Err(VotingKeysError::Count(keys.len()));
        }
        let mut checked = Vec::with_capacity(keys.len());
        let mut seen = BTreeMap::new();
        for (validator, (bytes, proof)) in keys.iter().enumerate() {
            let key = PublicKey::from_bytes(bytes).map_err(|reason| VotingKeysError::Key { validator, reason })?;
            if let Some(other) = seen.insert(key.abscissa(), validator) {
                return Err(VotingKeysError::Duplicate { validator, other });
            }
            if !key.verify_possession(proof) {
                return Err(VotingKeysError::Possession(validator));
            }
            checked.push(key);
        }
        let sum = PublicKeySum::of(&checked);
        Ok(Self { keys: checked.into_boxed_slice(), sum })
    }

    /// Keys that protect nothing, without proofs of possession; see
    /// [`SecretKey::stand_in`](crate::bls::SecretKey::stand_in).
    ///
    /// # Panics
    /// If there are none or more than [`VALIDATORS_MAX`], or one is of the curve.
    #[cfg(feature = "stand-in-signatures")]
    #[must_use]
    pub fn stand_in(keys: Vec<PublicKey>) -> Self {
        assert!((1..=VALIDATORS_MAX).contains(&keys.len()));
        assert!(keys.iter().all(PublicKey::is_stand_in), "keys of one scheme");
        let sum = PublicKeySum::of(&keys);
        Self { keys: keys.into_boxed_slice(), sum }
    }

    /// The scheme that all these validators sign in: the curve's in every set that was read.
    #[must_use]
    pub fn scheme(&self) -> Scheme {
        self.keys[0].scheme()
    }

    /// How many validators there are.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "never empty")]
    pub const fn len(&self) -> usize {
        self.keys.len()
    }

    /// One validator's key, `None` if there is no such validator.
    #[must_use]
    pub fn get(&self, validator: ValidatorIndex) -> Option<&PublicKey> {
        self.keys.get(validator.get())
    }

    /// The sum of the signers' keys: added up, or the sum of all less those missing, whichever is fewer additions.
    ///
    /// # Panics
    /// If a signer is no validator.
    #[must_use]
    pub fn sum_of(&self, signers: &Signers) -> PublicKeySum {
        let present = signers.len();
        if present * 2 <= self.keys.len() {
            return PublicKeySum::of_refs(signers.iter().map(|index| &self.keys[index.get()]));
        }
        let missing = self.keys.iter().enumerate().filter(|(at, _)| !signers.contains(ValidatorIndex(*at as u16)));
        self.sum.minus(&PublicKeySum::of_refs(missing.map(|(_, key)| key)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bls::SecretKey;

    fn entry(key: &SecretKey) -> (PublicKeyBytes, ProofOfPossession) {
        (key.public_key().to_bytes(), key.prove_possession())
    }

    fn entries(count: u8) -> Vec<(PublicKeyBytes, ProofOfPossession)> {
        (0..count).map(|seed| entry(&SecretKey::from_entropy(&[seed; 32]))).collect()
    }

    #[test]
    fn defect_25_the_same_key_twice_is_refused() {
        let mut keys = entries(3);
        keys.push(keys[1]);
        assert_eq!(VotingKeys::new(&keys).err(), Some(VotingKeysError::Duplicate { validator: 3, other: 1 }));
    }

    #[test]
    fn defect_24_a_key_and_its_negative_are_refused_together() {
        let mut keys = entries(3);
        // Flips the sign of the ordinate, which is the negative key. No proof is needed to show that it is refused.
        let mut negative = keys[2];
        negative.0.0[0] ^= 0x20;
        keys.push(negative);
        assert_eq!(VotingKeys::new(&keys).err(), Some(VotingKeysError::Duplicate { validator: 3, other: 2 }));
    }

    #[test]
    fn defect_24_a_key_without_its_own_proof_is_refused() {
        let mut keys = entries(3);
        keys[1].1 = keys[2].1;
        assert_eq!(VotingKeys::new(&keys).err(), Some(VotingKeysError::Possession(1)));
    }

    #[test]
    fn defect_24_keys_at_infinity_and_none_at_all_are_refused() {
        let mut keys = entries(2);
        keys[1].0 = PublicKeyBytes([0; 96]);
        keys[1].0.0[0] = 0xc0;
        let reason = BlsError::Infinity;
        assert_eq!(VotingKeys::new(&keys).err(), Some(VotingKeysError::Key { validator: 1, reason }));
        assert_eq!(VotingKeys::new(&[]).err(), Some(VotingKeysError::Count(0)));
    }

    #[test]
    fn sums_over_few_and_over_nearly_all_signers_are_sums_of_their_keys() {
        let keys = VotingKeys::new(&entries(6)).unwrap();
        for mask in 0u16..1 << 6 {
            let indices: Vec<ValidatorIndex> = (0..6).filter(|at| mask >> at & 1 == 1).map(ValidatorIndex).collect();
            let summed = keys.sum_of(&Signers::of(6, indices.iter().copied()));
            let plain = PublicKeySum::of_refs(indices.iter().filter_map(|index| keys.get(*index)));
            assert!(summed.minus(&plain).is_infinity(), "{mask:#b}");
        }
    }
}
