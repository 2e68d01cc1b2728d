//! The curve's arithmetic.
//!
//! blst's safe wrappers hash the message anew for every operation and cannot sum points of ours, so this file calls the
//! bindings beneath them. It is the only file of this crate that may be unsafe.
#![allow(unsafe_code)]

use std::ptr;

use blst::{
    BLS12_381_NEG_G2, BLST_ERROR, blst_bendian_from_scalar, blst_fp12, blst_fp12_finalverify, blst_fp12_one,
    blst_hash_to_g1, blst_keygen, blst_miller_loop_n, blst_p1, blst_p1_add_or_double, blst_p1_add_or_double_affine,
    blst_p1_affine, blst_p1_affine_in_g1, blst_p1_affine_is_inf, blst_p1_affine_serialize, blst_p1_cneg,
    blst_p1_deserialize, blst_p1_from_affine, blst_p1_is_inf, blst_p1_to_affine, blst_p1s_add, blst_p2,
    blst_p2_add_or_double, blst_p2_affine, blst_p2_affine_compress, blst_p2_affine_in_g2, blst_p2_affine_is_inf,
    blst_p2_cneg, blst_p2_is_inf, blst_p2_to_affine, blst_p2_uncompress, blst_p2s_add, blst_scalar,
    blst_scalar_from_bendian, blst_sign_pk_in_g2, blst_sk_check, blst_sk_to_pk_in_g2,
};
use zeroize::Zeroizing;

use super::{BlsError, PUBLIC_KEY_BYTES, ProofOfPossession, PublicKeyBytes, SIGNATURE_BYTES, SignatureBytes};

/// Domain separation of vote signatures, in the form of the BLS signature draft's proof-of-possession scheme.
const SIGNATURE_DOMAIN: &[u8] = b"BLS_SIG_BLS12381G1_XMD:SHA-256_SSWU_RO_POP_";
/// Domain separation of proofs of possession: a vote can never be taken for one.
const POSSESSION_DOMAIN: &[u8] = b"BLS_POP_BLS12381G1_XMD:SHA-256_SSWU_RO_POP_";

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

/// A validator's secret voting key. Its memory is zeroed when it is dropped, and it cannot be shown:
///
/// ```compile_fail
/// fn show(_: impl std::fmt::Debug) {}
/// show(alpenglow_control::bls::SecretKey::from_entropy(&[1; 32]));
/// ```
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

/// A point of the curve that is not infinity, offered as a signature. Whether it lies in the subgroup is checked on
/// sums.
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

    /// What cancels it out.
    #[cfg(test)]
    pub(crate) fn negative(mut self) -> Self {
        let ordinate = self.0.y;
        // SAFETY: both are live.
        unsafe { blst::blst_fp_cneg(&mut self.0.y, &ordinate, true) };
        self
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

    /// This sum and another.
    #[must_use]
    pub fn plus(mut self, other: &Self) -> Self {
        self.add_sum(other);
        self
    }

    /// This sum less another.
    #[must_use]
    pub fn minus(&self, other: &Self) -> Self {
        let mut negative = other.0;
        // SAFETY: the point is live and changed in place.
        unsafe { blst_p1_cneg(&mut negative, true) };
        self.plus(&Self(negative))
    }

    /// Whether nothing is in it, or what is cancels out.
    #[must_use]
    pub fn is_infinity(&self) -> bool {
        // SAFETY: the point is live.
        unsafe { blst_p1_is_inf(&self.0) }
    }

    fn affine(&self) -> blst_p1_affine {
        let mut affine = blst_p1_affine::default();
        // SAFETY: both points are live.
        unsafe { blst_p1_to_affine(&mut affine, &self.0) };
        affine
    }

    /// The sum as one point, `None` if it is infinity.
    #[must_use]
    pub fn point(&self) -> Option<Signature> {
        (!self.is_infinity()).then(|| Signature(self.affine()))
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

    fn affine(&self) -> blst_p2_affine {
        let mut affine = blst_p2_affine::default();
        // SAFETY: both points are live.
        unsafe { blst_p2_to_affine(&mut affine, &self.0) };
        affine
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
    if signatures.is_infinity() || terms.is_empty() || terms.iter().any(|(_, keys)| keys.is_infinity()) {
        return false;
    }
    let signature = signatures.affine();
    // SAFETY: the point was filled in above.
    if !unsafe { blst_p1_affine_in_g1(&signature) } {
        return false;
    }
    let mut products = blst_fp12::default();
    let mut key_points: Vec<blst_p2_affine> = terms.iter().map(|(_, keys)| keys.affine()).collect();
    let mut points: Vec<blst_p1_affine> = terms.iter().map(|(payload, _)| payload.affine).collect();
    points.push(signature);
    // SAFETY: the static is a constant of the library; the others are filled in, and each list is as long as said. A list of
    // pointers that ends with null after the first one stands for points that lie side by side.
    unsafe {
        key_points.push(BLS12_381_NEG_G2);
        let keys = [key_points.as_ptr(), ptr::null()];
        let points_at = [points.as_ptr(), ptr::null()];
        blst_miller_loop_n(&mut products, keys.as_ptr(), points_at.as_ptr(), points.len());
        blst_fp12_finalverify(&products, blst_fp12_one())
    }
}

#[cfg(test)]
mod tests {
    use blst::min_sig;

    use super::*;

    fn key(seed: u8) -> SecretKey {
        SecretKey::from_entropy(&[seed; 32])
    }

    #[test]
    fn blst_itself_accepts_our_signatures_and_keys() {
        let signature =
            min_sig::Signature::deserialize(&key(1).sign(&HashedPayload::new(b"payload")).to_bytes().0).unwrap();
        let public = min_sig::PublicKey::uncompress(&key(1).public_key().to_bytes().0).unwrap();
        let verdict = signature.verify(true, b"payload", SIGNATURE_DOMAIN, &[], &public, true);
        assert_eq!(verdict, BLST_ERROR::BLST_SUCCESS);
    }

    /// A point of the curve outside of the subgroup: nearly all of them are.
    fn stray_signature() -> Signature {
        let strays = (1u8..=255).filter_map(|x| {
            let mut compressed = [0; 48];
            (compressed[0], compressed[47]) = (0x80, x);
            let mut affine = blst_p1_affine::default();
            // SAFETY: blst reads the 48 bytes of a compressed point, which is what the array holds.
            let stray = unsafe {
                blst::blst_p1_uncompress(&mut affine, compressed.as_ptr()) == BLST_ERROR::BLST_SUCCESS
                    && !blst_p1_affine_in_g1(&affine)
            };
            stray.then_some(Signature(affine))
        });
        strays.into_iter().next().unwrap()
    }

    #[test]
    fn a_sum_outside_the_subgroup_does_not_verify() {
        let payload = HashedPayload::new(b"payload");
        let keys = PublicKeySum::of(&[key(1).public_key()]);
        let signatures = [key(1).sign(&payload), stray_signature()];
        assert!(Signature::from_bytes(&signatures[1].to_bytes()).is_ok(), "single points are not checked for it");
        assert!(!verify(&payload, &keys, &SignatureSum::of(&signatures)));
        assert!(!verify(&payload, &keys, &SignatureSum::from(signatures[1])));
    }

    #[test]
    fn a_secret_key_leaves_no_trace_when_it_is_dropped() {
        let mut key = std::mem::ManuallyDrop::new(key(3));
        assert_ne!(key.0.b, [0; 32]);
        // SAFETY: dropped once. What is read afterwards is plain bytes in a place that this function still owns.
        unsafe { std::mem::ManuallyDrop::drop(&mut key) };
        assert_eq!(key.0.b, [0; 32]);
    }
}
