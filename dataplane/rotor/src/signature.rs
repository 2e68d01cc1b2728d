//! What a slot's leader signs: a slice's place, whether it is the last of its block, and the root over its shreds.

use ed25519_dalek::{Signature, VerifyingKey};

use crate::leader_key::LeaderKey;
use crate::signer::SliceSigner;
use crate::slice::{SliceId, SliceSignature};
use crate::types::{ClusterId, Hash};

/// Sets these signatures apart from everything else an identity key signs.
const DOMAIN: &[u8; 18] = b"alpenglow slice v1";
/// Bytes signed: domain, cluster, slot, slice, last flag, root.
const MESSAGE_BYTES: usize = DOMAIN.len() + 32 + 8 + 2 + 1 + 32;

/// A slice root as its leader signed it. Two different ones for one slice prove equivocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SignedRoot {
    /// The slice.
    pub id: SliceId,
    /// Whether the leader calls it the last of its block.
    pub is_last: bool,
    /// Root of the tree over its shreds.
    pub root: Hash,
    /// The leader's signature over the three above and the cluster id.
    pub signature: SliceSignature,
}

impl SignedRoot {
    /// Signs.
    #[must_use]
    pub fn sign(signer: &SliceSigner, cluster: ClusterId, id: SliceId, is_last: bool, root: Hash) -> Self {
        let signature = SliceSignature(signer.sign(&message(cluster, id, is_last, root)));
        Self { id, is_last, root, signature }
    }

    /// Whether the signature is `leader`'s, by the strict rules: no weak keys, no second form of one signature.
    #[must_use]
    pub fn verify(&self, leader: &VerifyingKey, cluster: ClusterId) -> bool {
        let signature = Signature::from_bytes(&self.signature.0);
        leader.verify_strict(&message(cluster, self.id, self.is_last, self.root), &signature).is_ok()
    }

    /// The same with a key that becomes faster with use.
    pub(crate) fn verify_with(&self, leader: &mut LeaderKey, cluster: ClusterId) -> bool {
        leader.verify(&message(cluster, self.id, self.is_last, self.root), &self.signature.0)
    }
}

pub(crate) fn message(cluster: ClusterId, id: SliceId, is_last: bool, root: Hash) -> [u8; MESSAGE_BYTES] {
    let mut message = [0; MESSAGE_BYTES];
    let slice = u16::try_from(id.index.get()).expect("a slice index is below 1,024");
    let parts: [&[u8]; 6] =
        [DOMAIN, &cluster.0, &id.slot.0.to_le_bytes(), &slice.to_le_bytes(), &[u8::from(is_last)], &root.0];
    let mut at = 0;
    for part in parts {
        message[at..at + part.len()].copy_from_slice(part);
        at += part.len();
    }
    assert_eq!(at, MESSAGE_BYTES);
    message
}

#[cfg(test)]
mod tests {
    use ed25519_dalek::SigningKey;

    use super::*;
    use crate::types::{SliceIndex, Slot};

    fn signed() -> (SigningKey, SignedRoot) {
        let key = SigningKey::from_bytes(&[7; 32]);
        let id = SliceId { slot: Slot(0x0102), index: SliceIndex::new(3).unwrap() };
        let signed = SignedRoot::sign(&SliceSigner::new(&key), ClusterId([9; 32]), id, true, Hash([5; 32]));
        (key, signed)
    }

    #[test]
    fn the_signed_bytes_are_these() {
        let (_, signed) = signed();
        let mut expected = b"alpenglow slice v1".to_vec();
        expected.extend([9; 32]);
        expected.extend([2, 1, 0, 0, 0, 0, 0, 0, 3, 0, 1]);
        expected.extend([5; 32]);
        assert_eq!(message(ClusterId([9; 32]), signed.id, true, signed.root).as_slice(), expected);
    }

    #[test]
    fn every_signed_field_counts() {
        let (key, signed) = signed();
        let leader = key.verifying_key();
        let cluster = ClusterId([9; 32]);
        assert!(signed.verify(&leader, cluster));
        let other_slice = SliceId { index: SliceIndex::new(4).unwrap(), ..signed.id };
        let other_slot = SliceId { slot: Slot(7), ..signed.id };
        assert!(!SignedRoot { id: other_slice, ..signed }.verify(&leader, cluster));
        assert!(!SignedRoot { id: other_slot, ..signed }.verify(&leader, cluster));
        assert!(!SignedRoot { is_last: false, ..signed }.verify(&leader, cluster));
        assert!(!SignedRoot { root: Hash([6; 32]), ..signed }.verify(&leader, cluster));
        assert!(!signed.verify(&SigningKey::from_bytes(&[8; 32]).verifying_key(), cluster));
    }

    /// Lesson: messages without a cluster id could be replayed between clusters.
    #[test]
    fn a_signature_is_void_in_another_cluster() {
        let (key, signed) = signed();
        assert!(!signed.verify(&key.verifying_key(), ClusterId([8; 32])));
    }
}
