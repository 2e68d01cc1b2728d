//! BLS12-381 signatures as votes and certificates use them: signatures in G1, public keys in G2.
//!
//! blst's safe wrappers hash the message anew for every operation and cannot sum points of ours, so this file calls the
//! bindings beneath them. It is the only file of this crate that may be unsafe. Infinity, the neutral element, is refused
//! wherever a point comes in and wherever a sum is verified: a key sum at infinity would accept any payload.
#![allow(unsafe_code)]

use std::fmt;
use std::ptr;

use blst::{
    BLST_ERROR, blst_aggregated_in_g1, blst_bendian_from_scalar, blst_fp12, blst_fp12_finalverify, blst_hash_to_g1,
    blst_keygen, blst_miller_loop, blst_p1, blst_p1_add_or_double, blst_p1_add_or_double_affine, blst_p1_affine,
    blst_p1_affine_in_g1, blst_p1_affine_is_inf, blst_p1_affine_serialize, blst_p1_deserialize, blst_p1_from_affine,
    blst_p1_is_inf, blst_p1_to_affine, blst_p1s_add, blst_p2, blst_p2_add_or_double, blst_p2_affine,
    blst_p2_affine_compress, blst_p2_affine_in_g2, blst_p2_affine_is_inf, blst_p2_cneg, blst_p2_is_inf,
    blst_p2_to_affine, blst_p2_uncompress, blst_p2s_add, blst_scalar, blst_scalar_from_bendian, blst_sign_pk_in_g2,
    blst_sk_check, blst_sk_to_pk_in_g2,
};
use zeroize::Zeroizing;

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

/// A payload hashed to G1: the costly part of signing (and a quarter of it) that all signers of a payload share.
#[derive(Clone)]
pub struct HashedPayload {
    point: blst_p1,
    affine: blst_p1_affine,
}

impl HashedPayload {
    /// Hashes the bytes of a vote payload, some 100 µs.
    #[must_use]
    pub fn new(payload: &[u8]) -> Self {
        Self::in_domain(payload, SIGNATURE_DOMAIN)
    }

    fn in_domain(payload: &[u8], domain: &[u8]) -> Self {
        let mut point = blst_p1::default();
        let mut affine = blst_p1_affine::default();
        // SAFETY: pointers and lengths are those of live slices; the augmentation is empty; outputs are owned here.
        unsafe {
            blst_hash_to_g1(&mut point, payload.as_ptr(), payload.len(), domain.as_ptr(), domain.len(), ptr::null(), 0);
            blst_p1_to_affine(&mut affine, &point);
        }
        Self { point, affine }
    }
}

/// A validator's secret voting key. Its memory is zeroed when it is dropped; it has neither `Debug` nor `Display`.
pub struct SecretKey(blst_scalar);

impl SecretKey {
    /// Derives a key from 32 bytes of entropy, as the BLS signature draft's KeyGen does. The result is never zero.
    #[must_use]
    pub fn from_entropy(entropy: &[u8; 32]) -> Self {
        let mut scalar = blst_scalar::default();
        // SAFETY: the entropy is a live array whose length is passed; the info is empty; the output is owned here.
        unsafe { blst_keygen(&mut scalar, entropy.as_ptr(), entropy.len(), ptr::null(), 0) };
        Self(scalar)
    }

    /// Reads a key from its 32 big-endian bytes.
    ///
    /// # Errors
    /// [`BlsError::Scalar`] for zero and for numbers not below the group order.
    pub fn from_bytes(bytes: &[u8; 32]) -> Result<Self, BlsError> {
        let mut scalar = blst_scalar::default();
        // SAFETY: both are live; blst reads and writes 32 bytes.
        let valid = unsafe {
            blst_scalar_from_bendian(&mut scalar, bytes.as_ptr());
            blst_sk_check(&scalar)
        };
        if valid { Ok(Self(scalar)) } else { Err(BlsError::Scalar) }
    }

    /// The key as 32 big-endian bytes, zeroed when dropped.
    #[must_use]
    pub fn to_bytes(&self) -> Zeroizing<[u8; 32]> {
        let mut bytes = Zeroizing::new([0; 32]);
        // SAFETY: blst writes 32 bytes, which is what the array holds.
        unsafe { blst_bendian_from_scalar(bytes.as_mut_ptr(), &self.0) };
        bytes
    }

    /// The public key that belongs to it.
    #[must_use]
    pub fn public_key(&self) -> PublicKey {
        let mut point = blst_p2::default();
        let mut affine = blst_p2_affine::default();
        // SAFETY: inputs and outputs are live and owned here.
        unsafe {
            blst_sk_to_pk_in_g2(&mut point, &self.0);
            blst_p2_to_affine(&mut affine, &point);
        }
        PublicKey(affine)
    }

    /// Signs a payload, some 160 µs.
    #[must_use]
    pub fn sign(&self, payload: &HashedPayload) -> Signature {
        let mut point = blst_p1::default();
        let mut affine = blst_p1_affine::default();
        // SAFETY: inputs and outputs are live and owned here.
        unsafe {
            blst_sign_pk_in_g2(&mut point, &payload.point, &self.0);
            blst_p1_to_affine(&mut affine, &point);
        }
        Signature(affine)
    }

    /// Proves that this key's owner holds it.
    #[must_use]
    pub fn prove_possession(&self) -> ProofOfPossession {
        let payload = HashedPayload::in_domain(&self.public_key().to_bytes().0, POSSESSION_DOMAIN);
        ProofOfPossession(self.sign(&payload).to_bytes())
    }
}

/// A public voting key: in the subgroup and not infinity.
#[derive(Clone, Copy, PartialEq)]
pub struct PublicKey(blst_p2_affine);

impl PublicKey {
    /// Reads a key and checks that it is in the subgroup and not infinity, some 100 µs.
    ///
    /// # Errors
    /// [`BlsError`] says what is wrong with it.
    pub fn from_bytes(bytes: &PublicKeyBytes) -> Result<Self, BlsError> {
        let mut affine = blst_p2_affine::default();
        // SAFETY: blst reads the 96 bytes of a compressed point, which is what the array holds.
        if unsafe { blst_p2_uncompress(&mut affine, bytes.0.as_ptr()) } != BLST_ERROR::BLST_SUCCESS {
            return Err(BlsError::Encoding);
        }
        // SAFETY: the point was filled in above.
        unsafe {
            if blst_p2_affine_is_inf(&affine) {
                return Err(BlsError::Infinity);
            }
            if !blst_p2_affine_in_g2(&affine) {
                return Err(BlsError::Subgroup);
            }
        }
        Ok(Self(affine))
    }

    /// The key's canonical encoding. A key and its negative differ in one bit of the first byte only, see
    /// [`PublicKey::abscissa`].
    #[must_use]
    pub fn to_bytes(&self) -> PublicKeyBytes {
        let mut bytes = [0; PUBLIC_KEY_BYTES];
        // SAFETY: blst writes 96 bytes, which is what the array holds.
        unsafe { blst_p2_affine_compress(bytes.as_mut_ptr(), &self.0) };
        PublicKeyBytes(bytes)
    }

    /// What a key shares with its negative and with no other key.
    #[must_use]
    pub fn abscissa(&self) -> [u8; PUBLIC_KEY_BYTES] {
        let mut bytes = self.to_bytes().0;
        bytes[0] &= 0x1f;
        bytes
    }

    /// Whether `proof` shows possession of this key's secret key, some 1.5 ms.
    #[must_use]
    pub fn verify_possession(&self, proof: &ProofOfPossession) -> bool {
        let payload = HashedPayload::in_domain(&self.to_bytes().0, POSSESSION_DOMAIN);
        Signature::from_bytes(&proof.0)
            .is_ok_and(|signature| verify(&payload, &PublicKeySum::of(&[*self]), &SignatureSum::from(signature)))
    }
}

/// A point of the curve that is not infinity, offered as a signature. Whether it lies in the subgroup is checked on sums.
#[derive(Clone, Copy)]
pub struct Signature(blst_p1_affine);

impl Signature {
    /// Reads a signature: some 0.5 µs, because the subgroup is left to [`verify`].
    ///
    /// # Errors
    /// [`BlsError::Encoding`] or [`BlsError::Infinity`].
    pub fn from_bytes(bytes: &SignatureBytes) -> Result<Self, BlsError> {
        // The three flag bits: compressed, infinity, sign. A compressed point would leave half of the bytes unread.
        match bytes.0[0] & 0xe0 {
            0 => {}
            0x40 => return Err(BlsError::Infinity),
            _ => return Err(BlsError::Encoding),
        }
        let mut affine = blst_p1_affine::default();
        // SAFETY: with the flag bits clear blst reads the 96 bytes of an uncompressed point.
        if unsafe { blst_p1_deserialize(&mut affine, bytes.0.as_ptr()) } != BLST_ERROR::BLST_SUCCESS {
            return Err(BlsError::Encoding);
        }
        // SAFETY: the point was filled in above.
        if unsafe { blst_p1_affine_is_inf(&affine) } { Err(BlsError::Infinity) } else { Ok(Self(affine)) }
    }

    /// The signature as it travels.
    #[must_use]
    pub fn to_bytes(&self) -> SignatureBytes {
        let mut bytes = [0; SIGNATURE_BYTES];
        // SAFETY: blst writes 96 bytes, which is what the array holds.
        unsafe { blst_p1_affine_serialize(bytes.as_mut_ptr(), &self.0) };
        SignatureBytes(bytes)
    }
}

/// A sum of signatures over one payload; empty to begin with.
#[derive(Clone, Copy, Default)]
pub struct SignatureSum(blst_p1);

impl From<Signature> for SignatureSum {
    fn from(signature: Signature) -> Self {
        let mut sum = blst_p1::default();
        // SAFETY: both points are live.
        unsafe { blst_p1_from_affine(&mut sum, &signature.0) };
        Self(sum)
    }
}

impl SignatureSum {
    /// The sum of many signatures, cheaper than adding them one by one.
    #[must_use]
    pub fn of(signatures: &[Signature]) -> Self {
        let points: Vec<*const blst_p1_affine> = signatures.iter().map(|signature| &raw const signature.0).collect();
        let mut sum = blst_p1::default();
        if !points.is_empty() {
            // SAFETY: `points` holds as many pointers as said, each into the borrowed slice.
            unsafe { blst_p1s_add(&mut sum, points.as_ptr(), points.len()) };
        }
        Self(sum)
    }

    /// Adds one signature.
    pub fn add(&mut self, signature: &Signature) {
        let sum = self.0;
        // SAFETY: all three points are live.
        unsafe { blst_p1_add_or_double_affine(&mut self.0, &sum, &signature.0) };
    }

    /// Adds another sum.
    pub fn add_sum(&mut self, other: &Self) {
        let sum = self.0;
        // SAFETY: all three points are live.
        unsafe { blst_p1_add_or_double(&mut self.0, &sum, &other.0) };
    }

    fn affine(&self) -> blst_p1_affine {
        let mut affine = blst_p1_affine::default();
        // SAFETY: both points are live.
        unsafe { blst_p1_to_affine(&mut affine, &self.0) };
        affine
    }

    /// The sum as it travels in a certificate.
    #[must_use]
    pub fn to_bytes(&self) -> SignatureBytes {
        Signature(self.affine()).to_bytes()
    }
}

/// A sum of public keys.
#[derive(Clone, Copy, Default)]
pub struct PublicKeySum(blst_p2);

impl PublicKeySum {
    /// The sum of many keys, some 1.3 µs each.
    #[must_use]
    pub fn of(keys: &[PublicKey]) -> Self {
        Self::of_refs(keys)
    }

    /// The sum of many keys that need not lie side by side.
    #[must_use]
    pub fn of_refs<'a>(keys: impl IntoIterator<Item = &'a PublicKey>) -> Self {
        let points: Vec<*const blst_p2_affine> = keys.into_iter().map(|key| &raw const key.0).collect();
        let mut sum = blst_p2::default();
        if !points.is_empty() {
            // SAFETY: `points` holds as many pointers as said, each to a key borrowed for this call.
            unsafe { blst_p2s_add(&mut sum, points.as_ptr(), points.len()) };
        }
        Self(sum)
    }

    /// This sum plus another.
    #[must_use]
    pub fn plus(&self, other: &Self) -> Self {
        let mut sum = blst_p2::default();
        // SAFETY: all three points are live.
        unsafe { blst_p2_add_or_double(&mut sum, &self.0, &other.0) };
        Self(sum)
    }

    /// This sum less another.
    #[must_use]
    pub fn minus(&self, other: &Self) -> Self {
        let mut negative = other.0;
        // SAFETY: the point is live and changed in place.
        unsafe { blst_p2_cneg(&mut negative, true) };
        self.plus(&Self(negative))
    }

    /// Whether the keys cancel out.
    #[must_use]
    pub fn is_infinity(&self) -> bool {
        // SAFETY: the point is live.
        unsafe { blst_p2_is_inf(&self.0) }
    }
}

/// Whether `signatures` is the sum of what the holders of the summed keys sign for `payload`, some 1.5 ms: the subgroup
/// check of the sum and one pairing check. Says nothing about single signatures in a sum: wrong ones can cancel out.
#[must_use]
pub fn verify(payload: &HashedPayload, keys: &PublicKeySum, signatures: &SignatureSum) -> bool {
    verify_terms(&[(payload, keys)], signatures)
}

/// As [`verify`], for a sum over up to a few payloads, each with the keys of its signers.
#[must_use]
pub fn verify_terms(terms: &[(&HashedPayload, &PublicKeySum)], signatures: &SignatureSum) -> bool {
    // SAFETY: the point is live.
    let empty = unsafe { blst_p1_is_inf(&signatures.0) };
    if empty || terms.is_empty() || terms.iter().any(|(_, keys)| keys.is_infinity()) {
        return false;
    }
    let signature = signatures.affine();
    // SAFETY: the point was filled in above.
    if !unsafe { blst_p1_affine_in_g1(&signature) } {
        return false;
    }
    let mut left = blst_fp12::default();
    for (payload, keys) in terms {
        left *= miller_loop(keys, payload);
    }
    let mut right = blst_fp12::default();
    // SAFETY: inputs and outputs are live; the second call reads what the first one filled in.
    unsafe {
        blst_aggregated_in_g1(&mut right, &signature);
        blst_fp12_finalverify(&left, &right)
    }
}

fn miller_loop(keys: &PublicKeySum, payload: &HashedPayload) -> blst_fp12 {
    let mut key = blst_p2_affine::default();
    let mut product = blst_fp12::default();
    // SAFETY: inputs and outputs are live; the second call reads what the first one filled in.
    unsafe {
        blst_p2_to_affine(&mut key, &keys.0);
        blst_miller_loop(&mut product, &key, &payload.affine);
    }
    product
}
