//! Sums of products with AVX2: a byte times a constant is two lookups of half-bytes, which `pshufb` does for 32 bytes at
//! once.
#![allow(
    unsafe_code,
    reason = "vector loads and stores take pointers, and calling AVX2 code needs a promise that it is there"
)]

mod transform;

use std::arch::x86_64::{
    __m256i, _mm_loadu_si128, _mm256_and_si256, _mm256_broadcastsi128_si256, _mm256_loadu_si256, _mm256_set1_epi8,
    _mm256_setzero_si256, _mm256_shuffle_epi8, _mm256_srli_epi16, _mm256_storeu_si256, _mm256_xor_si256,
};

pub(super) use self::transform::{Block, extend};
use super::{Kernel, PIECES_MAX, Piece, rs8};

/// Bytes handled at once: two vectors, so that a coefficient's tables are loaded half as often.
const BLOCK_BYTES: usize = 64;
/// Rows summed at once: with two vectors each they fill half of the registers.
const ROWS: usize = 4;

/// For every coefficient its products with the 16 lower and the 16 upper half-bytes.
static PRODUCTS: [[[u8; 16]; 2]; 256] = {
    let mut products = [[[0; 16]; 2]; 256];
    let mut coefficient = 0;
    while coefficient < 256 {
        let mut half = 0;
        while half < 16 {
            products[coefficient][0][half] = rs8::multiply(coefficient as u8, half as u8);
            products[coefficient][1][half] = rs8::multiply(coefficient as u8, (half as u8) << 4);
            half += 1;
        }
        coefficient += 1;
    }
    products
};

/// Row r of `rows` becomes the sum of all known pieces, each times its coefficient in row r.
pub(super) fn combine(known: &[Piece<'_>], coefficients: &[u8], piece_bytes: usize, rows: &mut [u8]) {
    assert!(Kernel::Avx2.is_available());
    // SAFETY: the processor has AVX2, as just asserted.
    unsafe { combine_avx2(known, coefficients, piece_bytes, rows) }
}

#[target_feature(enable = "avx2")]
fn combine_avx2(known: &[Piece<'_>], coefficients: &[u8], piece_bytes: usize, rows: &mut [u8]) {
    let row_groups = rows.chunks_mut(ROWS * piece_bytes);
    for (rows, coefficients) in row_groups.zip(coefficients.chunks(ROWS * known.len())) {
        match rows.len() / piece_bytes {
            4 => combine_rows::<4>(known, coefficients, piece_bytes, rows),
            3 => combine_rows::<3>(known, coefficients, piece_bytes, rows),
            2 => combine_rows::<2>(known, coefficients, piece_bytes, rows),
            _ => combine_rows::<1>(known, coefficients, piece_bytes, rows),
        }
    }
}

/// [`combine`] for `N` rows.
#[target_feature(enable = "avx2")]
fn combine_rows<const N: usize>(known: &[Piece<'_>], coefficients: &[u8], piece_bytes: usize, rows: &mut [u8]) {
    let mut columns = [[0; N]; PIECES_MAX];
    for (row, coefficients) in coefficients.chunks_exact(known.len()).enumerate() {
        for (column, coefficient) in columns.iter_mut().zip(coefficients) {
            column[row] = *coefficient;
        }
    }
    for start in (0..piece_bytes).step_by(BLOCK_BYTES) {
        let mut sums = [[_mm256_setzero_si256(); 2]; N];
        for (piece, column) in known.iter().zip(&columns) {
            match piece.bytes[start..].first_chunk() {
                Some(block) => accumulate(&mut sums, column, block),
                None => {
                    let mut block = [0; BLOCK_BYTES];
                    block[..piece_bytes - start].copy_from_slice(&piece.bytes[start..]);
                    accumulate(&mut sums, column, &block);
                }
            }
        }
        for (row, sums) in rows.chunks_exact_mut(piece_bytes).zip(sums) {
            match row[start..].first_chunk_mut() {
                Some(block) => store(block, sums),
                None => {
                    let mut block = [0; BLOCK_BYTES];
                    store(&mut block, sums);
                    row[start..].copy_from_slice(&block[..piece_bytes - start]);
                }
            }
        }
    }
}

/// Adds `block` times the coefficient of each row to that row's sum.
#[inline]
#[target_feature(enable = "avx2")]
fn accumulate<const N: usize>(sums: &mut [[__m256i; 2]; N], coefficients: &[u8; N], block: &[u8; BLOCK_BYTES]) {
    let half = _mm256_set1_epi8(0x0f);
    let [first, second] = load(block);
    let lower = [_mm256_and_si256(first, half), _mm256_and_si256(second, half)];
    let upper =
        [_mm256_and_si256(_mm256_srli_epi16::<4>(first), half), _mm256_and_si256(_mm256_srli_epi16::<4>(second), half)];
    for (sums, coefficient) in sums.iter_mut().zip(coefficients) {
        let [low, high] = &PRODUCTS[usize::from(*coefficient)];
        let (low, high) = (load_table(low), load_table(high));
        for vector in 0..2 {
            let product =
                _mm256_xor_si256(_mm256_shuffle_epi8(low, lower[vector]), _mm256_shuffle_epi8(high, upper[vector]));
            sums[vector] = _mm256_xor_si256(sums[vector], product);
        }
    }
}

#[inline]
#[target_feature(enable = "avx2")]
fn load(block: &[u8; BLOCK_BYTES]) -> [__m256i; 2] {
    let pointer = block.as_ptr().cast::<__m256i>();
    // SAFETY: `block` is 64 readable bytes, two vectors; the loads need no alignment.
    unsafe { [_mm256_loadu_si256(pointer), _mm256_loadu_si256(pointer.add(1))] }
}

#[inline]
#[target_feature(enable = "avx2")]
fn store(block: &mut [u8; BLOCK_BYTES], vectors: [__m256i; 2]) {
    let pointer = block.as_mut_ptr().cast::<__m256i>();
    // SAFETY: `block` is 64 writable bytes, two vectors; the stores need no alignment.
    unsafe {
        _mm256_storeu_si256(pointer, vectors[0]);
        _mm256_storeu_si256(pointer.add(1), vectors[1]);
    }
}

/// A table of 16 products in both halves of a vector, as `pshufb` looks up within halves.
#[inline]
#[target_feature(enable = "avx2")]
fn load_table(products: &[u8; 16]) -> __m256i {
    // SAFETY: `products` is 16 readable bytes, and the load needs no alignment.
    _mm256_broadcastsi128_si256(unsafe { _mm_loadu_si128(products.as_ptr().cast()) })
}
