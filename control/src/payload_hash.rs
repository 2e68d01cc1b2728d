//! A payload's point on the curve, computed once for signing and for all checks of votes for it.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, OnceLock};

use alpenglow_rotor::types::ClusterId;

use crate::bls::{HashedPayload, Scheme};
use crate::vote::VotePayload;

/// Payloads remembered: those of the slots in flight.
const PAYLOADS_REMEMBERED: usize = 64;

/// A payload and, once somebody needed it, its point. Clones share the point.
#[derive(Clone)]
pub struct PayloadHash(Arc<Inner>);

struct Inner {
    payload: VotePayload,
    point: OnceLock<HashedPayload>,
}

impl PayloadHash {
    /// Nothing is computed yet.
    #[must_use]
    pub fn new(payload: VotePayload) -> Self {
        Self(Arc::new(Inner { payload, point: OnceLock::new() }))
    }

    /// What is hashed.
    #[must_use]
    pub fn payload(&self) -> VotePayload {
        self.0.payload
    }

    /// The point: computed by whoever asks first, some 100 µs. Nobody waits for another one's computation: two that ask
    /// at once both do it. All ask in the scheme of their cluster's keys.
    #[must_use]
    pub fn point(&self, cluster: ClusterId, scheme: Scheme) -> &HashedPayload {
        if self.0.point.get().is_none() {
            let point = self.0.payload.hashed_in(cluster, scheme);
            // Somebody else may have been faster, with the same point.
            let _ = self.0.point.set(point);
        }
        self.0.point.get().expect("set above")
    }
}

impl fmt::Debug for PayloadHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_known = self.0.point.get().is_some();
        f.debug_struct("PayloadHash").field("payload", &self.0.payload).field("is_known", &is_known).finish()
    }
}

/// The hashes of the payloads signed or checked lately.
#[derive(Debug)]
pub(crate) struct PayloadHashes(VecDeque<PayloadHash>);

impl PayloadHashes {
    pub(crate) fn new() -> Self {
        Self(VecDeque::with_capacity(PAYLOADS_REMEMBERED))
    }

    pub(crate) fn of(&mut self, payload: VotePayload) -> PayloadHash {
        if let Some(known) = self.0.iter().rfind(|known| known.payload() == payload) {
            return known.clone();
        }
        if self.0.len() == PAYLOADS_REMEMBERED {
            self.0.pop_front();
        }
        let new = PayloadHash::new(payload);
        self.0.push_back(new.clone());
        new
    }
}

#[cfg(test)]
mod tests {
    use alpenglow_rotor::types::Slot;

    use super::*;
    use crate::bls::{PublicKeySum, SecretKey, SignatureSum, verify};

    #[test]
    fn whoever_asks_for_a_payload_shares_its_point() {
        let mut hashes = PayloadHashes::new();
        let cluster = ClusterId([1; 32]);
        let first = hashes.of(VotePayload::Skip(Slot(1)));
        let again = hashes.of(VotePayload::Skip(Slot(1)));
        assert!(std::ptr::eq(first.point(cluster, Scheme::CURVE), again.point(cluster, Scheme::CURVE)));
        let key = SecretKey::from_entropy(&[1; 32]);
        let signature = SignatureSum::from(key.sign(again.point(cluster, Scheme::CURVE)));
        let plain = VotePayload::Skip(Slot(1)).hashed(cluster);
        assert!(verify(&plain, &PublicKeySum::of(&[key.public_key()]), &signature));
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut hashes = PayloadHashes::new();
        let first = hashes.of(VotePayload::Skip(Slot(0)));
        (1..1_000).for_each(|slot| drop(hashes.of(VotePayload::Skip(Slot(slot)))));
        assert_eq!(hashes.0.len(), PAYLOADS_REMEMBERED);
        let cluster = ClusterId([1; 32]);
        assert!(
            !std::ptr::eq(
                hashes.of(VotePayload::Skip(Slot(0))).point(cluster, Scheme::CURVE),
                first.point(cluster, Scheme::CURVE)
            ),
            "forgotten"
        );
    }
}
