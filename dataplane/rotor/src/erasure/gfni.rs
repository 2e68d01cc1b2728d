//! Products with GFNI: a byte, seen as eight bits, times a constant is a matrix of 8 × 8 bits times it, which one
//! instruction computes for as many bytes as a vector has. (GFNI's own products are those of another field, modulo
//! 0x11b.)
//!
//! Here with vectors of AVX2; in `wide.rs` with those of AVX-512, which are twice as long.
#![allow(unsafe_code, reason = "calling GFNI code needs a promise that it is there")]

#[cfg(test)]
mod tests;
mod wide;

use std::arch::x86_64::{__m256i, _mm256_gf2p8affine_epi64_epi8, _mm256_set1_epi64x};

pub(super) use self::wide::{combine as combine_wide, extend as extend_wide};
use super::avx2::Avx2;
use super::vectors::{Vectors, entries};
use super::{Kernel, rs8};

/// For every constant the matrix that multiplies by it: bit `i` of a product is the parity of byte `7 - i` AND the
/// factor.
static MATRICES: [u64; 256] = {
    let mut matrices = [0; 256];
    let mut constant = 0;
    while constant < 256 {
        let mut bit = 0;
        while bit < 8 {
            let column = rs8::multiply(constant as u8, 1 << bit);
            let mut row = 0;
            while row < 8 {
                matrices[constant] |= ((column >> row & 1) as u64) << (8 * (7 - row) + bit);
                row += 1;
            }
            bit += 1;
        }
        constant += 1;
    }
    matrices
};

entries!(Gfni(Avx2(())), "avx2,gfni", Kernel::Gfni);

/// Made only where GFNI and AVX2 are enabled: in functions that are entered after asking for them.
#[derive(Clone, Copy)]
struct Gfni(Avx2);

/// All but the products are AVX2's.
impl Vectors for Gfni {
    type Vector = __m256i;
    type Factor = __m256i;
    const BYTES: usize = Avx2::BYTES;

    #[inline(always)]
    fn zero(self) -> __m256i {
        self.0.zero()
    }

    #[inline(always)]
    fn load(self, bytes: &[u8]) -> __m256i {
        self.0.load(bytes)
    }

    #[inline(always)]
    fn store(self, bytes: &mut [u8], vector: __m256i) {
        self.0.store(bytes, vector);
    }

    #[inline(always)]
    fn factor(self, constant: u8) -> __m256i {
        // SAFETY: `self` stands for AVX2.
        unsafe { _mm256_set1_epi64x(MATRICES[usize::from(constant)].cast_signed()) }
    }

    #[inline(always)]
    fn sum(self, left: __m256i, right: __m256i) -> __m256i {
        self.0.sum(left, right)
    }

    #[inline(always)]
    fn product(self, vector: __m256i, factor: __m256i) -> __m256i {
        // SAFETY: `self` stands for GFNI and AVX2.
        unsafe { _mm256_gf2p8affine_epi64_epi8::<0>(vector, factor) }
    }
}
