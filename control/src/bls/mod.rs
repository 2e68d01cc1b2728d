//! BLS12-381 signatures as votes and certificates use them: signatures in G1, public keys in G2.
//!
//! Infinity, the neutral element, is refused wherever a point comes in and wherever a sum is verified: a key sum at
//! infinity would accept any payload.

mod curve;
mod schemes;
mod stand_in;
#[cfg(test)]
pub(crate) mod tests;

use std::fmt;

#[cfg(test)]
use self::schemes::Of;
pub use self::schemes::{
    HashedPayload, PublicKey, PublicKeySum, Scheme, SecretKey, Signature, SignatureSum, verify, verify_terms,
};

/// Bytes of a signature: an uncompressed point of G1. Parsing the compressed form would cost a square root per vote.
pub const SIGNATURE_BYTES: usize = 96;
/// Bytes of a public key: a compressed point of G2.
pub const PUBLIC_KEY_BYTES: usize = 96;

/// Domain separation of vote signatures, in the form of the BLS signature draft's proof-of-possession scheme.
const SIGNATURE_DOMAIN: &[u8] = b"BLS_SIG_BLS12381G1_XMD:SHA-256_SSWU_RO_POP_";
/// Domain separation of proofs of possession: a vote can never be taken for one.
const POSSESSION_DOMAIN: &[u8] = b"BLS_POP_BLS12381G1_XMD:SHA-256_SSWU_RO_POP_";

/// Why bytes are no key, signature or proof.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BlsError {
    /// Not the one canonical encoding of a point.
    #[error("not a canonical encoding of a curve point")]
    Encoding,
    /// The neutral element, which signs and verifies anything.
    #[error("the point at infinity")]
    Infinity,
    /// On the curve, outside the prime-order subgroup.
    #[error("outside the prime-order subgroup")]
    Subgroup,
    /// Not a scalar between 1 and the group order.
    #[error("not a secret key: zero or not below the group order")]
    Scalar,
}

/// A signature as it travels, not known to be a point.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct SignatureBytes(pub [u8; SIGNATURE_BYTES]);

/// A public key as genesis files hold it, not known to be a point.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct PublicKeyBytes(pub [u8; PUBLIC_KEY_BYTES]);

/// Shows that who names a public key holds its secret key: a signature over the key itself, in a domain of its own.
/// Without it, a key computed from the keys of others could cancel them out of a sum.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct ProofOfPossession(pub SignatureBytes);

fn write_hex(f: &mut fmt::Formatter<'_>, bytes: &[u8]) -> fmt::Result {
    bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
}

impl fmt::Debug for SignatureBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(f, &self.0)
    }
}

impl fmt::Debug for PublicKeyBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(f, &self.0)
    }
}

impl fmt::Debug for ProofOfPossession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(f, &self.0.0)
    }
}
