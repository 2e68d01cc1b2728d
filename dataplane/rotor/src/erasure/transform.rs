//! Constants of the additive Fourier transform between a polynomial's values on a coset of a linear subspace of GF(2^8)
//! and its coefficients in the basis that Lin, Chung and Han introduced ("Novel Polynomial Basis and Its Application to
//! Reed-Solomon Erasure Codes", FOCS 2014).
//!
//! The points 0 to 2^k - 1 are the subspace V_k, and a multiple of 2^k added to them gives a coset. With `s_k` the
//! polynomial that is zero on V_k and 1 at the point 2^k, a polynomial of degree below 2^(k+1) is `low + s_k · high`,
//! both of degree below 2^k. As `s_k` is constant on a coset of V_k, that step is one product and two sums a pair of
//! points: a butterfly.

use super::{PieceSet, rs8};

/// Levels of the largest transform: of 128 points.
pub(super) const LEVELS_MAX: u32 = 7;
/// Levels of the smallest transform that pays against sums of products.
pub(super) const LEVELS_MIN: u32 = 3;

/// For every level k the value of `s_k` at every point.
pub(super) static FACTORS: [[u8; 256]; LEVELS_MAX as usize] = {
    let mut factors = [[0; 256]; LEVELS_MAX as usize];
    // Before it is scaled, s_0(x) = x and s_(k+1)(x) = s_k(x) · (s_k(x) + s_k(2^k)).
    let mut values = [0; 256];
    let mut point = 0;
    while point < 256 {
        values[point] = point as u8;
        point += 1;
    }
    let mut level = 0;
    while level < LEVELS_MAX as usize {
        let one = values[1 << level];
        let scale = rs8::invert(one);
        point = 0;
        while point < 256 {
            factors[level][point] = rs8::multiply(values[point], scale);
            values[point] = rs8::multiply(values[point], values[point] ^ one);
            point += 1;
        }
        level += 1;
    }
    factors
};

/// Levels of the transform over `pieces` points, if there is one that pays.
pub(super) fn levels(pieces: usize) -> Option<u32> {
    let levels = pieces.trailing_zeros();
    (pieces.is_power_of_two() && (LEVELS_MIN..=LEVELS_MAX).contains(&levels)).then_some(levels)
}

/// The cosets of `pieces` points, a bit each, that have some of `points`.
pub(super) fn cosets(points: &PieceSet, pieces: usize) -> u32 {
    points.iter().fold(0, |cosets, point| cosets | 1 << (point / pieces))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_factor_is_zero_on_its_subspace_one_next_to_it_and_constant_on_cosets() {
        for (level, factors) in FACTORS.iter().enumerate() {
            let points = 1 << level;
            assert!(factors[..points].iter().all(|factor| *factor == 0));
            assert!(factors[points..2 * points].iter().all(|factor| *factor == 1));
            for coset in factors.chunks(points) {
                assert!(coset.iter().all(|factor| *factor == coset[0]));
            }
        }
    }

    #[test]
    fn powers_of_two_from_8_to_128_have_a_transform() {
        let with: Vec<_> = (0..=255).filter(|pieces| levels(*pieces).is_some()).collect();
        assert_eq!(with, [8, 16, 32, 64, 128]);
    }
}
