//! Ed25519 signing for slices, which are signed hundreds of times a second: by AWS-LC, whose assembler takes less than
//! half of ed25519-dalek's time. An Ed25519 signature is a function of key and message, so the bytes are the same.
#![allow(unsafe_code, reason = "AWS-LC's safe interface allocates for each signature, which a shard thread must not")]

use std::fmt;

use ed25519_dalek::SigningKey;
use zeroize::Zeroizing;

/// A leader's signing key. Wiped when dropped.
pub struct SliceSigner {
    /// Seed and public key, one after the other.
    keypair: Zeroizing<[u8; 64]>,
}

impl SliceSigner {
    /// Signs with `key`.
    #[must_use]
    pub fn new(key: &SigningKey) -> Self {
        Self { keypair: Zeroizing::new(key.to_keypair_bytes()) }
    }

    /// The signature of `message`.
    pub(crate) fn sign(&self, message: &[u8]) -> [u8; 64] {
        let mut signature = [0; 64];
        // SAFETY: the function writes 64 bytes to its first argument, reads as many bytes of its second as its third
        // says and 64 of its fourth, and keeps none of the pointers.
        let signed = unsafe {
            aws_lc_sys::ED25519_sign(signature.as_mut_ptr(), message.as_ptr(), message.len(), self.keypair.as_ptr())
        };
        assert_eq!(signed, 1, "signing fails only where it allocates, which it does not");
        signature
    }
}

impl fmt::Debug for SliceSigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SliceSigner").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use ed25519_dalek::Signer;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn signatures_are_those_of_the_other_implementation(seed: [u8; 32], message in prop::collection::vec(any::<u8>(), 0..200)) {
            let key = SigningKey::from_bytes(&seed);
            prop_assert_eq!(SliceSigner::new(&key).sign(&message), key.sign(&message).to_bytes());
        }
    }

    #[test]
    fn secrets_are_not_printed() {
        let signer = SliceSigner::new(&SigningKey::from_bytes(&[7; 32]));
        assert_eq!(format!("{signer:?}"), "SliceSigner { .. }");
    }
}
