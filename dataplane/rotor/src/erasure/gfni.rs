//! Products with GFNI: a byte, seen as eight bits, times a constant is a matrix of 8 × 8 bits times it, which one
//! instruction computes for as many bytes as a vector has. (GFNI's own products are those of another field, modulo 0x11b.)
//!
//! Here with vectors of AVX2; in `wide.rs` with those of AVX-512, which are twice as long.
#![allow(
    unsafe_code,
    reason = "vector loads and stores take pointers, and calling GFNI code needs a promise that it is there"
)]

#[cfg(test)]
mod tests;
mod wide;

use std::arch::x86_64::{
    __m256i, _mm256_gf2p8affine_epi64_epi8, _mm256_loadu_si256, _mm256_set1_epi64x, _mm256_setzero_si256,
    _mm256_storeu_si256, _mm256_xor_si256,
};

pub(super) use self::wide::{combine as combine_wide, extend as extend_wide};
use super::vectors::{self, Block, Vectors};
use super::{Kernel, Piece, PieceSet, rs8};

/// For every constant the matrix that multiplies by it: bit `i` of a product is the parity of byte `7 - i` AND the factor.
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

/// See [`vectors::combine`].
pub(super) fn combine(known: &[Piece<'_>], coefficients: &[u8], piece_bytes: usize, rows: &mut [u8]) {
    #[target_feature(enable = "avx2,gfni")]
    fn with_gfni(known: &[Piece<'_>], coefficients: &[u8], piece_bytes: usize, rows: &mut [u8]) {
        vectors::combine(Gfni(()), known, coefficients, piece_bytes, rows);
    }
    assert!(Kernel::Gfni.is_available());
    // SAFETY: the processor has GFNI and AVX2, as just asserted.
    unsafe { with_gfni(known, coefficients, piece_bytes, rows) }
}

/// See [`vectors::extend`].
pub(super) fn extend(
    values: &[&[u8]],
    first: usize,
    wanted: &PieceSet,
    piece_bytes: usize,
    rows: &mut [u8],
    scratch: &mut [Block],
) {
    #[target_feature(enable = "avx2,gfni")]
    fn with_gfni(
        values: &[&[u8]],
        first: usize,
        wanted: &PieceSet,
        piece_bytes: usize,
        rows: &mut [u8],
        scratch: &mut [Block],
    ) {
        vectors::extend(Gfni(()), values, first, wanted, piece_bytes, rows, scratch);
    }
    assert!(Kernel::Gfni.is_available());
    // SAFETY: the processor has GFNI and AVX2, as just asserted.
    unsafe { with_gfni(values, first, wanted, piece_bytes, rows, scratch) }
}

/// Made only where GFNI and AVX2 are enabled: in functions that are entered after asking for them.
#[derive(Clone, Copy)]
struct Gfni(());

impl Vectors for Gfni {
    type Vector = __m256i;
    type Factor = __m256i;
    const BYTES: usize = 32;

    #[inline(always)]
    fn zero(self) -> __m256i {
        // SAFETY: `self` stands for AVX2.
        unsafe { _mm256_setzero_si256() }
    }

    #[inline(always)]
    fn load(self, bytes: &[u8]) -> __m256i {
        let bytes = &bytes[..Self::BYTES];
        // SAFETY: `self` stands for AVX2; `bytes` are 32 readable ones, and the load needs no alignment.
        unsafe { _mm256_loadu_si256(bytes.as_ptr().cast()) }
    }

    #[inline(always)]
    fn store(self, bytes: &mut [u8], vector: __m256i) {
        let bytes = &mut bytes[..Self::BYTES];
        // SAFETY: `self` stands for AVX2; `bytes` are 32 writable ones, and the store needs no alignment.
        unsafe { _mm256_storeu_si256(bytes.as_mut_ptr().cast(), vector) }
    }

    #[inline(always)]
    fn factor(self, constant: u8) -> __m256i {
        // SAFETY: `self` stands for AVX2.
        unsafe { _mm256_set1_epi64x(MATRICES[usize::from(constant)].cast_signed()) }
    }

    #[inline(always)]
    fn sum(self, left: __m256i, right: __m256i) -> __m256i {
        // SAFETY: `self` stands for AVX2.
        unsafe { _mm256_xor_si256(left, right) }
    }

    #[inline(always)]
    fn product(self, vector: __m256i, factor: __m256i) -> __m256i {
        // SAFETY: `self` stands for GFNI and AVX2.
        unsafe { _mm256_gf2p8affine_epi64_epi8::<0>(vector, factor) }
    }
}
