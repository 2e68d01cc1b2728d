//! The leaders whose slices are checked at present, each with what makes the check of its signatures fast.

use ed25519_dalek::VerifyingKey;

use crate::leader_key::LeaderKey;
use crate::signature::SignedRoot;
use crate::types::ClusterId;

/// Shreds are taken for the window voted in and two more, and a few come late: so many leaders at a time.
const LEADERS: usize = 4;

/// A key and the number of the check in which it served last; 0 if it never did.
struct Leader {
    key: LeaderKey,
    last_check: u64,
}

/// The keys of the leaders that had a valid signature checked last.
pub(super) struct Leaders {
    leaders: [Leader; LEADERS],
    checks: u64,
}

impl Leaders {
    /// Bytes of their memory.
    pub(super) const BYTES: usize = LEADERS * LeaderKey::HEAP_BYTES;

    /// Allocates the memory, but touches none.
    pub(super) fn new() -> Self {
        Self { leaders: std::array::from_fn(|_| Leader { key: LeaderKey::reserved(), last_check: 0 }), checks: 0 }
    }

    /// Whether `signed` is `leader`'s. Only a valid signature has the leader remembered: nobody else can have others
    /// forgotten.
    pub(super) fn verify(&mut self, signed: &SignedRoot, leader: &VerifyingKey, cluster: ClusterId) -> bool {
        self.checks += 1;
        let known = self.leaders.iter_mut().find(|known| known.last_check > 0 && known.key.key() == leader);
        if let Some(known) = known {
            known.last_check = self.checks;
            return signed.verify_with(&mut known.key, cluster);
        }
        let is_valid = signed.verify(leader, cluster);
        if is_valid {
            let oldest = self.leaders.iter_mut().min_by_key(|known| known.last_check).expect("there are leaders");
            oldest.key.begin(leader);
            oldest.last_check = self.checks;
        }
        is_valid
    }
}

#[cfg(test)]
mod tests {
    use ed25519_dalek::SigningKey;

    use super::*;
    use crate::signer::SliceSigner;
    use crate::slice::SliceId;
    use crate::types::{Hash, SliceIndex, Slot};

    #[test]
    fn more_leaders_than_are_remembered_get_right_verdicts() {
        let cluster = ClusterId([1; 32]);
        let id = SliceId { slot: Slot(5), index: SliceIndex::default() };
        let leaders: Vec<_> = (0..LEADERS as u8 + 2).map(|seed| SigningKey::from_bytes(&[seed; 32])).collect();
        let mut remembered = Leaders::new();
        // Each for a while, long enough to become fast, and then in turns, so that each is forgotten before its turn
        // comes.
        let long = (0..leaders.len()).flat_map(|leader| [leader; 30]);
        for (count, leader) in long.chain((0..3).flat_map(|_| 0..leaders.len())).enumerate() {
            let (root, key) = (Hash([count as u8; 32]), &leaders[leader]);
            let signed = SignedRoot::sign(&SliceSigner::new(key), cluster, id, false, root);
            let another = leaders[(leader + 1) % leaders.len()].verifying_key();
            assert!(!remembered.verify(&SignedRoot { is_last: true, ..signed }, &key.verifying_key(), cluster));
            assert!(!remembered.verify(&signed, &another, cluster));
            assert!(remembered.verify(&signed, &key.verifying_key(), cluster));
        }
    }

    #[test]
    fn an_invalid_signature_has_nobody_forgotten() {
        let cluster = ClusterId([1; 32]);
        let id = SliceId { slot: Slot(5), index: SliceIndex::default() };
        let key = |seed: u8| SigningKey::from_bytes(&[seed; 32]);
        let sign = |seed| SignedRoot::sign(&SliceSigner::new(&key(seed)), cluster, id, false, Hash([2; 32]));
        let mut remembered = Leaders::new();
        assert!(remembered.verify(&sign(1), &key(1).verifying_key(), cluster));
        for seed in 2..20 {
            assert!(!remembered.verify(&sign(1), &key(seed).verifying_key(), cluster));
        }
        let is_remembered = |known: &Leader| known.last_check > 0 && *known.key.key() == key(1).verifying_key();
        assert!(remembered.leaders.iter().any(is_remembered));
    }
}
