//! Deterministic draws: what every validator computes alike from the epoch seed.

use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use sha2::{Digest, Sha256};

use crate::schedule::EpochSeed;

/// A ChaCha20 stream (nonce 0, from block 0) keyed by SHA-256(domain | epoch seed | place). No domain used in this
/// crate is the beginning of another one, and each goes with a place of one length, so that no two streams share a key.
pub(crate) fn stream(domain: &str, seed: &EpochSeed, place: &[u8]) -> ChaCha20Rng {
    let key = Sha256::new().chain_update(domain).chain_update(seed.0).chain_update(place).finalize();
    ChaCha20Rng::from_seed(key.into())
}

/// A uniform integer below `bound`: eight little-endian bytes of the stream, drawn again while they are not below the
/// greatest multiple of `bound` that 64 bits hold, modulo `bound`.
///
/// # Panics
/// If `bound` is zero.
pub(crate) fn below(stream: &mut ChaCha20Rng, bound: u64) -> u64 {
    assert!(bound > 0, "nothing lies below zero");
    loop {
        let drawn = stream.next_u64();
        // What 64 bits hold beyond the greatest multiple is less than `bound`: only so far up need it be computed, a
        // division.
        if drawn <= u64::MAX - bound || drawn <= u64::MAX - (u64::MAX % bound + 1) % bound {
            return drawn % bound;
        }
    }
}

/// Fisher-Yates from the last place down: every order is equally likely.
pub(crate) fn shuffle<T>(stream: &mut ChaCha20Rng, items: &mut [T]) {
    for last in (1..items.len()).rev() {
        let other = below(stream, last as u64 + 1) as usize;
        items.swap(last, other);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_stay_below_every_bound_and_reach_all_of_a_small_one() {
        let mut stream = stream("test", &EpochSeed([1; 32]), &[]);
        for bound in [1, 2, 3, 255, u64::MAX / 2 + 2, u64::MAX - 1, u64::MAX] {
            for _ in 0..200 {
                assert!(below(&mut stream, bound) < bound);
            }
        }
        let mut seen = [false; 7];
        for _ in 0..500 {
            seen[below(&mut stream, 7) as usize] = true;
        }
        assert_eq!(seen, [true; 7]);
    }

    #[test]
    fn a_shuffle_keeps_every_item() {
        let mut stream = stream("test", &EpochSeed([2; 32]), &[]);
        let mut items: Vec<usize> = (0..100).collect();
        shuffle(&mut stream, &mut items);
        assert!(items.iter().enumerate().any(|(place, &item)| place != item));
        items.sort_unstable();
        assert_eq!(items, (0..100).collect::<Vec<_>>());
    }
}
