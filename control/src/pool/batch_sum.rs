//! A sum of signatures that is added up late.
//!
//! Adding a batch's signature to a sum costs a microsecond, ten times the rest of what the Pool does for a batch; many
//! points are added up together in half of that; and for most of the hashes that misbehaving validators name no sum is
//! ever needed. So the points wait, and are added up when a certificate needs the sum or too many wait.

use crate::bls::{Signature, SignatureSum};

/// Points that wait at most: what is left to add up on the way of a certificate takes a twentieth of a pairing check.
const WAITING_MAX: usize = 128;

/// The signatures of whole batches. Batches wait in it as they came or added up to one point; nothing waits if they
/// cancel out.
#[derive(Default)]
pub(super) struct BatchSum(Vec<Signature>);

impl BatchSum {
    /// Adds a batch's signature.
    pub(super) fn add(&mut self, batch: Signature) {
        if self.0.len() == WAITING_MAX {
            self.add_up();
        } else if self.0.is_empty() {
            // Most hashes that are named at all are named once.
            self.0.reserve_exact(1);
        }
        self.0.push(batch);
    }

    /// The sum; `None` if it is empty or cancels out.
    pub(super) fn add_up(&mut self) -> Option<Signature> {
        if self.0.len() > 1 {
            let sum = SignatureSum::of(&self.0).point();
            self.0.clear();
            self.0.extend(sum);
        }
        self.0.first().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bls::{HashedPayload, SecretKey};

    fn signature(key: u8) -> Signature {
        let mut bytes = [0; 32];
        bytes[31] = key;
        SecretKey::from_bytes(&bytes).unwrap().sign(&HashedPayload::new(b"payload"))
    }

    #[test]
    fn it_is_the_plain_sum_however_often_it_is_added_up() {
        let signatures: Vec<_> = (1..=u8::MAX).map(signature).chain((1..=u8::MAX).map(signature)).collect();
        for often in [1, 2, 100, WAITING_MAX, usize::MAX] {
            let mut sum = BatchSum::default();
            for (at, signature) in signatures.iter().enumerate() {
                sum.add(*signature);
                assert!(sum.0.len() <= WAITING_MAX);
                if at % often == 0 {
                    sum.add_up();
                }
            }
            let plain = SignatureSum::of(&signatures).to_bytes();
            assert_eq!(sum.add_up().map(|point| point.to_bytes()), Some(plain), "added up every {often}");
        }
    }

    #[test]
    fn batches_that_cancel_out_leave_nothing_behind() {
        let mut sum = BatchSum::default();
        assert!(sum.add_up().is_none());
        sum.add(signature(1));
        sum.add(signature(1).negative());
        assert!(sum.add_up().is_none());
        sum.add(signature(2));
        assert_eq!(sum.add_up().map(|point| point.to_bytes()), Some(signature(2).to_bytes()));
    }
}
