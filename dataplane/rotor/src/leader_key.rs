//! Strict Ed25519 verification of many signatures by one key: with multiples of the key at hand a check is a sum of
//! points, without the doublings that make up most of a single check, and takes half the time.
//!
//! A signature (R, s) of a message M by A is valid if R is the encoding of `s·B - k·A`, where k is SHA-512(R ‖ A ‖ M).
//! The strict rules on top of that: s is less than the group's order, and neither A nor R is of small order. What is
//! accepted is exactly what [`VerifyingKey::verify_strict`] accepts.

use std::sync::LazyLock;

use curve25519_dalek::constants::ED25519_BASEPOINT_POINT;
use curve25519_dalek::traits::Identity;
use curve25519_dalek::{EdwardsPoint, Scalar};
use ed25519_dalek::{Signature, VerifyingKey};
use sha2::{Digest, Sha512};

/// Scalars are taken in digits of so many bits.
const DIGIT_BITS: usize = 6;
/// Digits of a scalar, which has 253 bits; a digit may carry into the next one.
const DIGITS: usize = 254_usize.div_ceil(DIGIT_BITS);
/// Digits are from -31 to 32, and the multiples for negative digits are negated ones.
const DIGIT_MAX: usize = 1 << (DIGIT_BITS - 1);
/// A row serves two digits: those of odd places are summed first, and the sum is doubled six times.
const ROWS: usize = DIGITS.div_ceil(2);

/// A key that becomes faster with use: each valid signature pays for one row of multiples until all are there, so that
/// no single check takes long.
pub struct LeaderKey {
    key: VerifyingKey,
    /// Of the key's negative.
    multiples: Multiples,
}

impl LeaderKey {
    /// Bytes of its memory on the heap.
    pub(crate) const HEAP_BYTES: usize = ROWS * DIGIT_MAX * size_of::<EdwardsPoint>();

    /// For a key that [`Self::begin`] will give; allocates the memory for all keys to come.
    #[must_use]
    pub fn reserved() -> Self {
        LazyLock::force(&BASE);
        Self { key: VerifyingKey::default(), multiples: Multiples::reserved() }
    }

    /// Serves `key` from now on.
    pub fn begin(&mut self, key: &VerifyingKey) {
        self.key = *key;
        self.multiples.begin(-key.to_edwards());
    }

    pub(crate) const fn key(&self) -> &VerifyingKey {
        &self.key
    }

    /// Whether `signature` is this key's of `message`, by the strict rules.
    pub fn verify(&mut self, message: &[u8], signature: &[u8; 64]) -> bool {
        if self.multiples.is_complete() {
            return self.verify_by_multiples(message, signature);
        }
        let is_valid = self.key.verify_strict(message, &Signature::from_bytes(signature)).is_ok();
        if is_valid {
            self.multiples.extend();
        }
        is_valid
    }

    fn verify_by_multiples(&self, message: &[u8], signature: &[u8; 64]) -> bool {
        let Some((r, s)) = signature.split_first_chunk::<32>() else { return false };
        let s = s.try_into().ok().and_then(|s| Scalar::from_canonical_bytes(s).into_option());
        let Some(s) = s else { return false };
        let digest = Sha512::new().chain_update(r).chain_update(self.key.as_bytes()).chain_update(message).finalize();
        let k = Scalar::from_bytes_mod_order_wide(&digest.into());
        let expected = sum([(&BASE, digits(&s)), (&self.multiples, digits(&k))]);
        !expected.is_small_order() && !self.key.is_weak() && expected.compress().0 == *r
    }
}

static BASE: LazyLock<Multiples> = LazyLock::new(|| {
    let mut base = Multiples::reserved();
    base.begin(ED25519_BASEPOINT_POINT);
    (0..ROWS).for_each(|_| base.extend());
    base
});

/// 1 to 32 times `4096^row · P`, row by row.
struct Multiples {
    points: Vec<EdwardsPoint>,
    /// What the next row starts with.
    next: EdwardsPoint,
}

impl Multiples {
    fn reserved() -> Self {
        Self { points: Vec::with_capacity(ROWS * DIGIT_MAX), next: EdwardsPoint::identity() }
    }

    fn begin(&mut self, point: EdwardsPoint) {
        self.points.clear();
        self.next = point;
    }

    const fn is_complete(&self) -> bool {
        self.points.len() == ROWS * DIGIT_MAX
    }

    /// Computes another row.
    fn extend(&mut self) {
        assert!(!self.is_complete(), "there is no further digit");
        let step = self.next;
        let mut multiple = step;
        for _ in 1..DIGIT_MAX {
            self.points.push(multiple);
            multiple += step;
        }
        self.points.push(multiple);
        self.next = times_64(times_64(step));
    }

    /// `sum` and what the digit at `place` stands for, but for a factor of 64 at odd places.
    fn add_to(&self, sum: EdwardsPoint, digit: i8, place: usize) -> EdwardsPoint {
        let multiple = |times: u8| &self.points[place / 2 * DIGIT_MAX + usize::from(times) - 1];
        match digit {
            0 => sum,
            1.. => sum + multiple(digit.unsigned_abs()),
            _ => sum - multiple(digit.unsigned_abs()),
        }
    }
}

/// The sum of all points times their scalars. Takes time that depends on the scalars: for public ones only.
fn sum(terms: [(&Multiples, [i8; DIGITS]); 2]) -> EdwardsPoint {
    let add = |start: EdwardsPoint, parity: usize| {
        (parity..DIGITS).step_by(2).fold(start, |sum, place| {
            terms.iter().fold(sum, |sum, (multiples, digits)| multiples.add_to(sum, digits[place], place))
        })
    };
    add(times_64(add(EdwardsPoint::identity(), 1)), 0)
}

fn times_64(point: EdwardsPoint) -> EdwardsPoint {
    point.mul_by_cofactor().mul_by_cofactor()
}

/// The digits of a scalar, least first: the scalar is the sum of `digit · 64^place`.
fn digits(scalar: &Scalar) -> [i8; DIGITS] {
    let mut digits = [0; DIGITS];
    let (bytes, mut carry) = (scalar.as_bytes(), 0);
    for (place, digit) in digits.iter_mut().enumerate() {
        let bit = place * DIGIT_BITS;
        let byte = |at: usize| u16::from(bytes.get(at).copied().unwrap_or(0));
        let bits = (byte(bit / 8) | byte(bit / 8 + 1) << 8) >> (bit % 8);
        let value = (bits & 63) as i8 + carry;
        carry = i8::from(value > DIGIT_MAX as i8);
        *digit = value - 64 * carry;
    }
    assert_eq!(carry, 0, "a reduced scalar has 253 bits");
    digits
}

#[cfg(test)]
mod tests {
    use curve25519_dalek::constants::EIGHT_TORSION;
    use curve25519_dalek::edwards::CompressedEdwardsY;
    use ed25519_dalek::{Signer, SigningKey};
    use proptest::prelude::*;

    use super::*;

    /// The order of the group, which makes another form of a signature's s.
    const ORDER: [u8; 32] = {
        let mut order = [0; 32];
        let low = 0x14de_f9de_a2f7_9cd6_5812_631a_5cf5_d3ed_u128.to_le_bytes();
        let mut at = 0;
        while at < low.len() {
            order[at] = low[at];
            at += 1;
        }
        order[31] = 0x10;
        order
    };

    fn prepared(key: &VerifyingKey) -> LeaderKey {
        let mut prepared = LeaderKey::reserved();
        prepared.begin(key);
        (0..ROWS).for_each(|_| prepared.multiples.extend());
        prepared
    }

    /// Both verdicts, which have to be the same.
    fn verdict(key: &VerifyingKey, message: &[u8], signature: &[u8; 64]) -> bool {
        let strict = key.verify_strict(message, &Signature::from_bytes(signature)).is_ok();
        assert_eq!(
            prepared(key).verify_by_multiples(message, signature),
            strict,
            "{key:?} {message:x?} {signature:x?}"
        );
        strict
    }

    fn challenge(r: &[u8; 32], key: &[u8; 32], message: &[u8]) -> Scalar {
        let digest = Sha512::new().chain_update(r).chain_update(key).chain_update(message).finalize();
        Scalar::from_bytes_mod_order_wide(&digest.into())
    }

    /// A signature by the rules, of a key and with an R that may have a part of small order.
    fn sign(secret: Scalar, nonce: Scalar, key: &[u8; 32], nonce_torsion: EdwardsPoint, message: &[u8]) -> [u8; 64] {
        let r = (EdwardsPoint::mul_base(&nonce) + nonce_torsion).compress().0;
        let s = nonce + challenge(&r, key, message) * secret;
        let mut signature = [0; 64];
        signature[..32].copy_from_slice(&r);
        signature[32..].copy_from_slice(s.as_bytes());
        signature
    }

    /// `s` plus the order, as a number of 256 bits.
    fn plus_order(s: &mut [u8]) {
        let mut carry = 0;
        for (byte, addend) in s.iter_mut().zip(ORDER) {
            let sum = u16::from(*byte) + u16::from(addend) + carry;
            (*byte, carry) = (sum as u8, sum >> 8);
        }
    }

    /// Every encoding of a point of small order, those that are not canonical among them.
    fn small_order_encodings() -> Vec<[u8; 32]> {
        let mut encodings: Vec<_> = EIGHT_TORSION.iter().map(|point| point.compress().0).collect();
        // y = 0 and y = 1 once more, as p and p + 1; and x = 0 with the other sign.
        for low in [0xed, 0xee] {
            let mut encoding = [0xff; 32];
            (encoding[0], encoding[31]) = (low, 0x7f);
            encodings.push(encoding);
        }
        let with_sign = |encoding: &[u8; 32]| {
            let mut other = *encoding;
            other[31] |= 0x80;
            other
        };
        encodings.extend(encodings.clone().iter().map(with_sign));
        encodings
            .retain(|encoding| CompressedEdwardsY(*encoding).decompress().is_some_and(|point| point.is_small_order()));
        encodings
    }

    #[test]
    fn digits_add_up_to_the_scalar() {
        for bytes in [[0; 32], [1; 32], [0x20; 32], [0x82; 32], [0xff; 32], (-Scalar::ONE).to_bytes()] {
            let scalar = Scalar::from_bytes_mod_order(bytes);
            let value = |digit: i8| {
                let magnitude = Scalar::from(digit.unsigned_abs());
                if digit < 0 { -magnitude } else { magnitude }
            };
            let sum =
                digits(&scalar).iter().rev().fold(Scalar::ZERO, |sum, digit| sum * Scalar::from(64_u8) + value(*digit));
            assert_eq!(sum, scalar);
        }
    }

    #[test]
    fn a_key_that_is_not_prepared_gives_the_same_verdicts_and_becomes_so() {
        let signing = SigningKey::from_bytes(&[3; 32]);
        let mut key = LeaderKey::reserved();
        for _ in 0..2 {
            key.begin(&signing.verifying_key());
            for message in 0..2 * ROWS as u64 {
                assert_eq!(key.multiples.is_complete(), message >= ROWS as u64);
                let signature = signing.sign(&message.to_le_bytes()).to_bytes();
                assert!(!key.verify(b"another message", &signature));
                assert!(key.verify(&message.to_le_bytes(), &signature));
            }
        }
    }

    #[test]
    fn points_of_small_order_are_refused_in_every_encoding() {
        let encodings = small_order_encodings();
        assert!(encodings.len() > 8, "some are not canonical");
        for key in &encodings {
            let key = VerifyingKey::from_bytes(key).unwrap();
            for r in &encodings {
                for message in [b"a", b"b", b"c"] {
                    // With s = 0 every equation is one of points of small order: true for some messages.
                    let mut signature = [0; 64];
                    signature[..32].copy_from_slice(r);
                    assert!(!verdict(&key, message, &signature));
                }
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(96))]

        #[test]
        fn verdicts_are_the_strict_ones(
            secret: [u8; 32], nonce: [u8; 32], key_torsion in 0..8_usize, nonce_torsion in 0..8_usize,
            change in 0..6_u8, bit in 0..512_usize, message in prop::collection::vec(any::<u8>(), 0..130),
        ) {
            let (secret, nonce) = (Scalar::from_bytes_mod_order(secret), Scalar::from_bytes_mod_order(nonce));
            // Half of the cases have no part of small order at all.
            let (key_torsion, nonce_torsion) = if change % 2 == 0 { (0, 0) } else { (key_torsion, nonce_torsion) };
            let key = (EdwardsPoint::mul_base(&secret) + EIGHT_TORSION[key_torsion]).compress().0;
            let mut signature = sign(secret, nonce, &key, EIGHT_TORSION[nonce_torsion], &message);
            match change {
                2 => signature[bit / 8] ^= 1 << (bit % 8),
                3 => plus_order(&mut signature[32..]),
                4 => signature[..32].copy_from_slice(&small_order_encodings()[bit % 8]),
                _ => {}
            }
            let is_valid = verdict(&VerifyingKey::from_bytes(&key).unwrap(), &message, &signature);
            match change {
                0 => prop_assert!(is_valid),
                2..=4 => prop_assert!(!is_valid),
                _ => {}
            }
        }
    }
}
