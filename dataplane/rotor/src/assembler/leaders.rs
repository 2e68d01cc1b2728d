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
