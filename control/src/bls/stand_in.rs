//! A scheme in the curve's place for simulations of many validators: linear as the curve's, a thousand times as fast,
//! and safe against nobody, because a public key is the secret one. A signature is `key · hash(payload)` modulo 2^61 −
//! 1.
//!
//! No node can take part in it. Without the feature `stand-in-signatures` none of its values exists. With it, the only
//! ways in are the functions of that name of [`SecretKey`](super::SecretKey) and
//! [`VotingKeys`](crate::voting_keys::VotingKeys), which no file and no datagram leads to: its bytes carry flags that
//! the readers of the curve's points and keys refuse, and bytes are read in this scheme only if a set of keys is of it.
#![cfg_attr(
    not(feature = "stand-in-signatures"),
    allow(unreachable_code, unused_variables, reason = "what there are no values of is never reached")
)]

use sha2::{Digest, Sha256};

use super::BlsError;

const MODULUS: u64 = (1 << 61) - 1;
/// First byte of all its encodings: compressed, infinity and sign at once, which is no point of the curve; nor is a
/// number with it below the group order.
const FLAGS: u8 = 0xe0;

/// Shows that the program has this scheme.
#[cfg(feature = "stand-in-signatures")]
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct BuiltIn(());

/// Nothing shows that the program has this scheme, for it has not.
#[cfg(not(feature = "stand-in-signatures"))]
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum BuiltIn {}

/// A key, a hash, a signature or a sum of those: a number below the modulus. Of no size where there is none.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Scalar {
    #[cfg(feature = "stand-in-signatures")]
    value: u64,
    pub(super) built_in: BuiltIn,
}

#[cfg(feature = "stand-in-signatures")]
impl Scalar {
    const fn new(built_in: BuiltIn, value: u64) -> Self {
        Self { value, built_in }
    }

    const fn value(self) -> u64 {
        self.value
    }

    pub(super) fn key(entropy: &[u8; 32]) -> Self {
        Self::hash(BuiltIn(()), b"key", entropy)
    }
}

#[cfg(not(feature = "stand-in-signatures"))]
impl Scalar {
    const fn new(built_in: BuiltIn, _: u64) -> Self {
        match built_in {}
    }

    const fn value(self) -> u64 {
        match self.built_in {}
    }
}

impl Scalar {
    /// Never zero.
    pub(super) fn hash(built_in: BuiltIn, domain: &[u8], payload: &[u8]) -> Self {
        let digest = Sha256::new().chain_update(domain).chain_update([0]).chain_update(payload).finalize();
        let number = digest.iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte));
        Self::new(built_in, number % (MODULUS - 1) + 1)
    }

    pub(super) const fn plus(self, other: Self) -> Self {
        Self::new(self.built_in, (self.value() + other.value()) % MODULUS)
    }

    pub(super) const fn negative(self) -> Self {
        Self::new(self.built_in, (MODULUS - self.value()) % MODULUS)
    }

    pub(super) const fn times(self, other: Self) -> Self {
        let product = self.value() as u128 * other.value() as u128 % MODULUS as u128;
        Self::new(self.built_in, product as u64)
    }

    pub(super) const fn is_zero(self) -> bool {
        self.value() == 0
    }

    pub(super) fn to_bytes<const LENGTH: usize>(self) -> [u8; LENGTH] {
        let mut bytes = [0; LENGTH];
        bytes[0] = FLAGS;
        bytes[LENGTH - 8..].copy_from_slice(&self.value().to_be_bytes());
        bytes
    }

    pub(super) fn from_bytes<const LENGTH: usize>(built_in: BuiltIn, bytes: &[u8; LENGTH]) -> Result<Self, BlsError> {
        let value = bytes[LENGTH - 8..].iter().fold(0, |number, byte| number << 8 | u64::from(*byte));
        let read = Self::new(built_in, value);
        match () {
            () if value >= MODULUS || read.to_bytes() != *bytes => Err(BlsError::Encoding),
            () if read.is_zero() => Err(BlsError::Infinity),
            () => Ok(read),
        }
    }
}
