//! The curve's arithmetic.
//!
//! blst's safe wrappers hash the message anew for every operation and cannot sum points of ours, so this file calls the
//! bindings beneath them. It is the only file of this crate that may be unsafe. What the operations mean is said where
//! they are offered, in [`super`].
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

use super::{BlsError, PUBLIC_KEY_BYTES, PublicKeyBytes, SIGNATURE_BYTES, SignatureBytes};

#[derive(Clone)]
pub(super) struct HashedPayload {
    point: blst_p1,
    affine: blst_p1_affine,
}

impl HashedPayload {
    pub(super) fn in_domain(payload: &[u8], domain: &[u8]) -> Self {
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

/// Zeroed when it is dropped.
pub(super) struct SecretKey(blst_scalar);

impl SecretKey {
    pub(super) fn from_entropy(entropy: &[u8; 32]) -> Self {
        let mut scalar = blst_scalar::default();
        // SAFETY: the entropy is a live array whose length is passed; the info is empty; the output is owned here.
        unsafe { blst_keygen(&mut scalar, entropy.as_ptr(), entropy.len(), ptr::null(), 0) };
        Self(scalar)
    }

    pub(super) fn from_bytes(bytes: &[u8; 32]) -> Result<Self, BlsError> {
        let mut scalar = blst_scalar::default();
        // SAFETY: both are live; blst reads and writes 32 bytes.
        let valid = unsafe {
            blst_scalar_from_bendian(&mut scalar, bytes.as_ptr());
            blst_sk_check(&scalar)
        };
        if valid { Ok(Self(scalar)) } else { Err(BlsError::Scalar) }
    }

    pub(super) fn to_bytes(&self) -> Zeroizing<[u8; 32]> {
        let mut bytes = Zeroizing::new([0; 32]);
        // SAFETY: blst writes 32 bytes, which is what the array holds.
        unsafe { blst_bendian_from_scalar(bytes.as_mut_ptr(), &self.0) };
        bytes
    }

    pub(super) fn public_key(&self) -> PublicKey {
        let mut point = blst_p2::default();
        let mut affine = blst_p2_affine::default();
        // SAFETY: inputs and outputs are live and owned here.
        unsafe {
            blst_sk_to_pk_in_g2(&mut point, &self.0);
            blst_p2_to_affine(&mut affine, &point);
        }
        PublicKey(affine)
    }

    pub(super) fn sign(&self, payload: &HashedPayload) -> Signature {
        let mut point = blst_p1::default();
        let mut affine = blst_p1_affine::default();
        // SAFETY: inputs and outputs are live and owned here.
        unsafe {
            blst_sign_pk_in_g2(&mut point, &payload.point, &self.0);
            blst_p1_to_affine(&mut affine, &point);
        }
        Signature(affine)
    }
}

#[derive(Clone, Copy, PartialEq)]
pub(super) struct PublicKey(blst_p2_affine);

impl PublicKey {
    pub(super) fn from_bytes(bytes: &PublicKeyBytes) -> Result<Self, BlsError> {
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

    pub(super) fn to_bytes(self) -> PublicKeyBytes {
        let mut bytes = [0; PUBLIC_KEY_BYTES];
        // SAFETY: blst writes 96 bytes, which is what the array holds.
        unsafe { blst_p2_affine_compress(bytes.as_mut_ptr(), &self.0) };
        PublicKeyBytes(bytes)
    }
}

#[derive(Clone, Copy)]
pub(super) struct Signature(blst_p1_affine);

impl Signature {
    pub(super) fn from_bytes(bytes: &SignatureBytes) -> Result<Self, BlsError> {
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

    #[cfg(test)]
    pub(super) fn negative(mut self) -> Self {
        let ordinate = self.0.y;
        // SAFETY: both are live.
        unsafe { blst::blst_fp_cneg(&mut self.0.y, &ordinate, true) };
        self
    }

    pub(super) fn to_bytes(self) -> SignatureBytes {
        let mut bytes = [0; SIGNATURE_BYTES];
        // SAFETY: blst writes 96 bytes, which is what the array holds.
        unsafe { blst_p1_affine_serialize(bytes.as_mut_ptr(), &self.0) };
        SignatureBytes(bytes)
    }
}

#[derive(Clone, Copy, Default)]
pub(super) struct SignatureSum(blst_p1);

impl From<Signature> for SignatureSum {
    fn from(signature: Signature) -> Self {
        let mut sum = blst_p1::default();
        // SAFETY: both points are live.
        unsafe { blst_p1_from_affine(&mut sum, &signature.0) };
        Self(sum)
    }
}

impl SignatureSum {
    pub(super) fn of<'a>(signatures: impl Iterator<Item = &'a Signature>) -> Self {
        let points: Vec<*const blst_p1_affine> = signatures.map(|signature| &raw const signature.0).collect();
        let mut sum = blst_p1::default();
        if !points.is_empty() {
            // SAFETY: `points` holds as many pointers as said, each to a signature borrowed for this call.
            unsafe { blst_p1s_add(&mut sum, points.as_ptr(), points.len()) };
        }
        Self(sum)
    }

    pub(super) fn add(&mut self, signature: &Signature) {
        let sum = self.0;
        // SAFETY: all three points are live.
        unsafe { blst_p1_add_or_double_affine(&mut self.0, &sum, &signature.0) };
    }

    pub(super) fn add_sum(&mut self, other: &Self) {
        let sum = self.0;
        // SAFETY: all three points are live.
        unsafe { blst_p1_add_or_double(&mut self.0, &sum, &other.0) };
    }

    pub(super) fn negative(mut self) -> Self {
        // SAFETY: the point is live and changed in place.
        unsafe { blst_p1_cneg(&mut self.0, true) };
        self
    }

    pub(super) fn is_infinity(&self) -> bool {
        // SAFETY: the point is live.
        unsafe { blst_p1_is_inf(&self.0) }
    }

    pub(super) fn affine(&self) -> Signature {
        let mut affine = blst_p1_affine::default();
        // SAFETY: both points are live.
        unsafe { blst_p1_to_affine(&mut affine, &self.0) };
        Signature(affine)
    }
}

#[derive(Clone, Copy, Default)]
pub(super) struct PublicKeySum(blst_p2);

impl PublicKeySum {
    pub(super) fn of<'a>(keys: impl Iterator<Item = &'a PublicKey>) -> Self {
        let points: Vec<*const blst_p2_affine> = keys.map(|key| &raw const key.0).collect();
        let mut sum = blst_p2::default();
        if !points.is_empty() {
            // SAFETY: `points` holds as many pointers as said, each to a key borrowed for this call.
            unsafe { blst_p2s_add(&mut sum, points.as_ptr(), points.len()) };
        }
        Self(sum)
    }

    pub(super) fn plus(&self, other: &Self) -> Self {
        let mut sum = blst_p2::default();
        // SAFETY: all three points are live.
        unsafe { blst_p2_add_or_double(&mut sum, &self.0, &other.0) };
        Self(sum)
    }

    pub(super) fn negative(mut self) -> Self {
        // SAFETY: the point is live and changed in place.
        unsafe { blst_p2_cneg(&mut self.0, true) };
        self
    }

    fn affine(&self) -> blst_p2_affine {
        let mut affine = blst_p2_affine::default();
        // SAFETY: both points are live.
        unsafe { blst_p2_to_affine(&mut affine, &self.0) };
        affine
    }

    pub(super) fn is_infinity(&self) -> bool {
        // SAFETY: the point is live.
        unsafe { blst_p2_is_inf(&self.0) }
    }
}

/// The subgroup check of the signature and one pairing check. There must be a term, and nothing may be infinity.
pub(super) fn verify_terms<'a>(
    terms: impl Iterator<Item = (&'a HashedPayload, &'a PublicKeySum)>,
    Signature(signature): Signature,
) -> bool {
    // SAFETY: the point was filled in where it was made.
    if !unsafe { blst_p1_affine_in_g1(&signature) } {
        return false;
    }
    let mut products = blst_fp12::default();
    let (mut points, mut key_points): (Vec<_>, Vec<_>) =
        terms.map(|(payload, keys)| (payload.affine, keys.affine())).unzip();
    points.push(signature);
    // SAFETY: the static is a constant of the library; the others are filled in, and each list is as long as said. A
    // list of pointers that ends with null after the first one stands for points that lie side by side.
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

    use super::super::SIGNATURE_DOMAIN;
    use super::*;

    fn key(seed: u8) -> SecretKey {
        SecretKey::from_entropy(&[seed; 32])
    }

    fn hashed(payload: &[u8]) -> HashedPayload {
        HashedPayload::in_domain(payload, SIGNATURE_DOMAIN)
    }

    #[test]
    fn blst_itself_accepts_our_signatures_and_keys() {
        let signature = min_sig::Signature::deserialize(&key(1).sign(&hashed(b"payload")).to_bytes().0).unwrap();
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
        let payload = hashed(b"payload");
        let keys = PublicKeySum::of([key(1).public_key()].iter());
        let signatures = [key(1).sign(&payload), stray_signature()];
        assert!(Signature::from_bytes(&signatures[1].to_bytes()).is_ok(), "single points are not checked for it");
        let verify = |signature| verify_terms([(&payload, &keys)].into_iter(), signature);
        assert!(verify(signatures[0]));
        assert!(!verify(SignatureSum::of(signatures.iter()).affine()));
        assert!(!verify(signatures[1]));
    }

    #[test]
    fn a_secret_key_leaves_no_trace_when_it_is_dropped() {
        let mut key = std::mem::ManuallyDrop::new(super::super::SecretKey::from_entropy(&[3; 32]));
        let at: *const blst_scalar = match &key.0 {
            super::super::Of::Curve(key) => &raw const key.0,
            super::super::Of::StandIn(_) => panic!("a key of the curve"),
        };
        // SAFETY: dropped once. What is read afterwards is plain bytes in a place that this function still owns.
        unsafe {
            assert_ne!((*at).b, [0; 32]);
            std::mem::ManuallyDrop::drop(&mut key);
            assert_eq!((*at).b, [0; 32]);
        }
    }
}
