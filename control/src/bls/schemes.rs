//! Keys, signatures and sums as the rest of the crate knows them: of the curve, or of the stand-in in simulations.
#![cfg_attr(
    not(feature = "stand-in-signatures"),
    allow(unreachable_code, unused_variables, reason = "what there are no values of is never reached")
)]

use zeroize::Zeroizing;

use super::stand_in::{BuiltIn, Scalar};
use super::{
    BlsError, POSSESSION_DOMAIN, PUBLIC_KEY_BYTES, ProofOfPossession, PublicKeyBytes, SIGNATURE_DOMAIN, SignatureBytes,
    curve,
};

/// The curve's or the stand-in's. Without the feature `stand-in-signatures` there are no values of the latter, and
/// nothing is left of it in the program.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Of<T, S = Scalar> {
    Curve(T),
    StandIn(S),
}

#[cfg(not(feature = "stand-in-signatures"))]
const _: () = assert!(size_of::<Signature>() == size_of::<curve::Signature>(), "the curve pays nothing for it");

/// A way to sign: what payloads are hashed to and bytes are read as.
#[derive(Clone, Copy)]
pub struct Scheme(Of<(), BuiltIn>);

impl Scheme {
    /// BLS12-381, as all nodes use it.
    pub const CURVE: Self = Self(Of::Curve(()));

    /// Reads a signature: some 0.5 µs, because the subgroup is left to [`verify`].
    ///
    /// # Errors
    /// [`BlsError::Encoding`] or [`BlsError::Infinity`].
    pub fn signature(self, bytes: &SignatureBytes) -> Result<Signature, BlsError> {
        Ok(Signature(match self.0 {
            Of::Curve(()) => Of::Curve(curve::Signature::from_bytes(bytes)?),
            Of::StandIn(built_in) => Of::StandIn(Scalar::from_bytes(built_in, &bytes.0)?),
        }))
    }

    /// Hashes the bytes of a vote payload, on the curve some 100 µs.
    #[must_use]
    pub fn hash(self, payload: &[u8]) -> HashedPayload {
        self.hash_in(payload, SIGNATURE_DOMAIN)
    }

    fn hash_in(self, payload: &[u8], domain: &[u8]) -> HashedPayload {
        HashedPayload(match self.0 {
            Of::Curve(()) => Of::Curve(curve::HashedPayload::in_domain(payload, domain)),
            Of::StandIn(built_in) => Of::StandIn(Scalar::hash(built_in, domain, payload)),
        })
    }
}

/// A payload hashed to G1: the costly part of signing (and a quarter of it) that all signers of a payload share.
#[derive(Clone)]
pub struct HashedPayload(Of<curve::HashedPayload>);

impl HashedPayload {
    /// Hashes the bytes of a vote payload to the curve, some 100 µs.
    #[must_use]
    pub fn new(payload: &[u8]) -> Self {
        Scheme::CURVE.hash(payload)
    }
}

/// A validator's secret voting key. Its memory is zeroed when it is dropped, and it cannot be shown:
///
/// ```compile_fail
/// fn show(_: impl std::fmt::Debug) {}
/// show(alpenglow_control::bls::SecretKey::from_entropy(&[1; 32]));
/// ```
pub struct SecretKey(pub(super) Of<curve::SecretKey>);

impl SecretKey {
    /// Derives a key from 32 bytes of entropy, as the BLS signature draft's KeyGen does. The result is never zero.
    #[must_use]
    pub fn from_entropy(entropy: &[u8; 32]) -> Self {
        Self(Of::Curve(curve::SecretKey::from_entropy(entropy)))
    }

    /// A key that costs next to nothing to use and protects nothing: for simulations, where all validators have such
    /// keys.
    #[cfg(feature = "stand-in-signatures")]
    #[must_use]
    pub fn stand_in(entropy: &[u8; 32]) -> Self {
        Self(Of::StandIn(Scalar::key(entropy)))
    }

    /// Reads a key from its 32 big-endian bytes.
    ///
    /// # Errors
    /// [`BlsError::Scalar`] for zero and for numbers not below the group order.
    pub fn from_bytes(bytes: &[u8; 32]) -> Result<Self, BlsError> {
        curve::SecretKey::from_bytes(bytes).map(|key| Self(Of::Curve(key)))
    }

    /// The key as 32 big-endian bytes, zeroed when dropped.
    #[must_use]
    pub fn to_bytes(&self) -> Zeroizing<[u8; 32]> {
        match &self.0 {
            Of::Curve(key) => key.to_bytes(),
            Of::StandIn(key) => Zeroizing::new(key.to_bytes()),
        }
    }

    /// The scheme that it signs in.
    #[must_use]
    pub const fn scheme(&self) -> Scheme {
        Scheme(match &self.0 {
            Of::Curve(_) => Of::Curve(()),
            Of::StandIn(key) => Of::StandIn(key.built_in),
        })
    }

    /// The public key that belongs to it.
    #[must_use]
    pub fn public_key(&self) -> PublicKey {
        PublicKey(match &self.0 {
            Of::Curve(key) => Of::Curve(key.public_key()),
            Of::StandIn(key) => Of::StandIn(*key),
        })
    }

    /// Signs a payload, on the curve some 160 µs.
    ///
    /// # Panics
    /// If the payload was hashed in another scheme than [`Self::scheme`].
    #[must_use]
    pub fn sign(&self, HashedPayload(payload): &HashedPayload) -> Signature {
        Signature(match (&self.0, payload) {
            (Of::Curve(key), Of::Curve(payload)) => Of::Curve(key.sign(payload)),
            (Of::StandIn(key), Of::StandIn(payload)) => Of::StandIn(key.times(*payload)),
            _ => panic!("a payload is signed in the scheme it was hashed in"),
        })
    }

    /// Proves that this key's owner holds it.
    #[must_use]
    pub fn prove_possession(&self) -> ProofOfPossession {
        let payload = self.scheme().hash_in(&self.public_key().to_bytes().0, POSSESSION_DOMAIN);
        ProofOfPossession(self.sign(&payload).to_bytes())
    }
}

/// A public voting key: in the subgroup and not infinity.
#[derive(Clone, Copy, PartialEq)]
pub struct PublicKey(Of<curve::PublicKey>);

impl PublicKey {
    /// Reads a key and checks that it is in the subgroup and not infinity, some 100 µs.
    ///
    /// # Errors
    /// [`BlsError`] says what is wrong with it.
    pub fn from_bytes(bytes: &PublicKeyBytes) -> Result<Self, BlsError> {
        curve::PublicKey::from_bytes(bytes).map(|key| Self(Of::Curve(key)))
    }

    /// The key's canonical encoding. A key and its negative differ in one bit of the first byte only, see
    /// [`PublicKey::abscissa`].
    #[must_use]
    pub fn to_bytes(&self) -> PublicKeyBytes {
        match self.0 {
            Of::Curve(key) => key.to_bytes(),
            Of::StandIn(key) => PublicKeyBytes(key.to_bytes()),
        }
    }

    /// The scheme of its signatures.
    #[must_use]
    pub const fn scheme(&self) -> Scheme {
        Scheme(match &self.0 {
            Of::Curve(_) => Of::Curve(()),
            Of::StandIn(key) => Of::StandIn(key.built_in),
        })
    }

    #[cfg(feature = "stand-in-signatures")]
    pub(crate) const fn is_stand_in(&self) -> bool {
        matches!(self.0, Of::StandIn(_))
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
        let payload = self.scheme().hash_in(&self.to_bytes().0, POSSESSION_DOMAIN);
        let signature = self.scheme().signature(&proof.0);
        signature.is_ok_and(|signature| verify(&payload, &PublicKeySum::of(&[*self]), &SignatureSum::from(signature)))
    }
}

/// A point of the curve that is not infinity, offered as a signature. Whether it lies in the subgroup is checked on
/// sums.
#[derive(Clone, Copy)]
pub struct Signature(Of<curve::Signature>);

impl Signature {
    /// Reads a signature of the curve, see [`Scheme::signature`].
    ///
    /// # Errors
    /// [`BlsError::Encoding`] or [`BlsError::Infinity`].
    pub fn from_bytes(bytes: &SignatureBytes) -> Result<Self, BlsError> {
        Scheme::CURVE.signature(bytes)
    }

    /// What cancels it out.
    #[cfg(test)]
    pub(crate) fn negative(self) -> Self {
        Self(match self.0 {
            Of::Curve(signature) => Of::Curve(signature.negative()),
            Of::StandIn(signature) => Of::StandIn(signature.negative()),
        })
    }

    /// The signature as it travels.
    #[must_use]
    pub fn to_bytes(&self) -> SignatureBytes {
        match self.0 {
            Of::Curve(signature) => signature.to_bytes(),
            Of::StandIn(signature) => SignatureBytes(signature.to_bytes()),
        }
    }
}

/// A sum of signatures over one payload; empty to begin with. What is added up is of one scheme: that of the keys it is
/// to be verified with.
#[derive(Clone, Copy)]
pub struct SignatureSum(Of<curve::SignatureSum>);

impl Default for SignatureSum {
    fn default() -> Self {
        Self(Of::Curve(curve::SignatureSum::default()))
    }
}

impl From<Signature> for SignatureSum {
    fn from(signature: Signature) -> Self {
        Self(match signature.0 {
            Of::Curve(signature) => Of::Curve(signature.into()),
            Of::StandIn(signature) => Of::StandIn(signature),
        })
    }
}

impl SignatureSum {
    /// The sum of many signatures, cheaper than adding them one by one.
    ///
    /// # Panics
    /// If they are of different schemes.
    #[must_use]
    pub fn of(signatures: &[Signature]) -> Self {
        match signatures {
            [Signature(Of::StandIn(first)), others @ ..] => {
                let sum = others.iter().fold(*first, |sum, signature| sum.plus(stand_in(&signature.0)));
                Self(Of::StandIn(sum))
            }
            of_the_curve => {
                let points = of_the_curve.iter().map(|signature| on_curve(&signature.0));
                Self(Of::Curve(curve::SignatureSum::of(points)))
            }
        }
    }

    /// Adds one signature.
    ///
    /// # Panics
    /// If it is of another scheme.
    pub fn add(&mut self, signature: &Signature) {
        match (&mut self.0, &signature.0) {
            (Of::Curve(sum), Of::Curve(signature)) => sum.add(signature),
            _ => self.add_sum(&Self::from(*signature)),
        }
    }

    /// Adds another sum.
    ///
    /// # Panics
    /// If it is of another scheme.
    pub fn add_sum(&mut self, other: &Self) {
        match (&mut self.0, &other.0) {
            (Of::Curve(sum), Of::Curve(other)) => sum.add_sum(other),
            (Of::StandIn(sum), Of::StandIn(other)) => *sum = sum.plus(*other),
            // An empty sum is of no scheme yet.
            (Of::Curve(sum), Of::StandIn(_)) if sum.is_infinity() => *self = *other,
            (Of::StandIn(_), Of::Curve(other)) if other.is_infinity() => {}
            _ => panic!("{MIXED}"),
        }
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
        self.plus(&Self(match other.0 {
            Of::Curve(other) => Of::Curve(other.negative()),
            Of::StandIn(other) => Of::StandIn(other.negative()),
        }))
    }

    /// Whether nothing is in it, or what is cancels out.
    #[must_use]
    pub fn is_infinity(&self) -> bool {
        match &self.0 {
            Of::Curve(sum) => sum.is_infinity(),
            Of::StandIn(sum) => sum.is_zero(),
        }
    }

    fn affine(&self) -> Signature {
        Signature(match &self.0 {
            Of::Curve(sum) => Of::Curve(sum.affine()),
            Of::StandIn(sum) => Of::StandIn(*sum),
        })
    }

    /// The sum as one point, `None` if it is infinity.
    #[must_use]
    pub fn point(&self) -> Option<Signature> {
        (!self.is_infinity()).then(|| self.affine())
    }

    /// The sum as it travels in a certificate.
    #[must_use]
    pub fn to_bytes(&self) -> SignatureBytes {
        self.affine().to_bytes()
    }
}

/// A sum of public keys of one scheme.
#[derive(Clone, Copy)]
pub struct PublicKeySum(Of<curve::PublicKeySum>);

impl Default for PublicKeySum {
    fn default() -> Self {
        Self(Of::Curve(curve::PublicKeySum::default()))
    }
}

impl PublicKeySum {
    /// The sum of many keys, some 1.3 µs each.
    #[must_use]
    pub fn of(keys: &[PublicKey]) -> Self {
        Self::of_refs(keys)
    }

    /// The sum of many keys that need not lie side by side.
    ///
    /// # Panics
    /// If they are of different schemes.
    #[must_use]
    pub fn of_refs<'a>(keys: impl IntoIterator<Item = &'a PublicKey>) -> Self {
        let mut keys = keys.into_iter().peekable();
        Self(match keys.peek() {
            Some(PublicKey(Of::StandIn(_))) => {
                let sum = keys.map(|key| stand_in(&key.0)).reduce(Scalar::plus);
                Of::StandIn(sum.expect("there is a first one"))
            }
            _ => Of::Curve(curve::PublicKeySum::of(keys.map(|key| on_curve(&key.0)))),
        })
    }

    /// This sum plus another.
    ///
    /// # Panics
    /// If it is of another scheme.
    #[must_use]
    pub fn plus(&self, other: &Self) -> Self {
        Self(match (&self.0, &other.0) {
            (Of::Curve(sum), Of::Curve(other)) => Of::Curve(sum.plus(other)),
            (Of::StandIn(sum), Of::StandIn(other)) => Of::StandIn(sum.plus(*other)),
            // An empty sum is of no scheme yet.
            (Of::Curve(empty), Of::StandIn(sum)) | (Of::StandIn(sum), Of::Curve(empty)) if empty.is_infinity() => {
                Of::StandIn(*sum)
            }
            _ => panic!("{MIXED}"),
        })
    }

    /// This sum less another.
    #[must_use]
    pub fn minus(&self, other: &Self) -> Self {
        self.plus(&Self(match other.0 {
            Of::Curve(other) => Of::Curve(other.negative()),
            Of::StandIn(other) => Of::StandIn(other.negative()),
        }))
    }

    /// Whether the keys cancel out.
    #[must_use]
    pub fn is_infinity(&self) -> bool {
        match &self.0 {
            Of::Curve(sum) => sum.is_infinity(),
            Of::StandIn(sum) => sum.is_zero(),
        }
    }
}

const MIXED: &str = "keys and signatures of one scheme are added up";

fn on_curve<T>(either: &Of<T>) -> &T {
    match either {
        Of::Curve(it) => it,
        Of::StandIn(_) => panic!("{MIXED}"),
    }
}

fn stand_in<T>(either: &Of<T>) -> Scalar {
    match either {
        Of::StandIn(it) => *it,
        Of::Curve(_) => panic!("{MIXED}"),
    }
}

/// Whether `signatures` is the sum of what the holders of the summed keys sign for `payload`, some 1.5 ms: the subgroup
/// check of the sum and one pairing check. Says nothing about single signatures in a sum: wrong ones can cancel out.
#[must_use]
pub fn verify(payload: &HashedPayload, keys: &PublicKeySum, signatures: &SignatureSum) -> bool {
    verify_terms(&[(payload, keys)], signatures)
}

/// As [`verify`], for a sum over up to a few payloads, each with the keys of its signers.
///
/// # Panics
/// If keys and payloads are of different schemes, or keys and the signature.
#[must_use]
pub fn verify_terms(terms: &[(&HashedPayload, &PublicKeySum)], signatures: &SignatureSum) -> bool {
    if signatures.is_infinity() || terms.is_empty() || terms.iter().any(|(_, keys)| keys.is_infinity()) {
        return false;
    }
    match signatures.affine().0 {
        Of::Curve(signature) => {
            let terms = terms.iter().map(|(payload, keys)| (on_curve(&payload.0), on_curve(&keys.0)));
            curve::verify_terms(terms, signature)
        }
        Of::StandIn(signature) => {
            let products = terms.iter().map(|(payload, keys)| stand_in(&payload.0).times(stand_in(&keys.0)));
            products.reduce(Scalar::plus) == Some(signature)
        }
    }
}
