//! The additive Fourier transform with AVX2 (see `erasure/transform.rs`), over a block of bytes of every piece at a time so
//! that all of them stay in the first-level cache.
#![allow(
    unsafe_code,
    reason = "vector loads and stores take pointers, and calling AVX2 code needs a promise that it is there"
)]

use std::arch::x86_64::{
    __m256i, _mm256_and_si256, _mm256_load_si256, _mm256_set1_epi8, _mm256_shuffle_epi8, _mm256_srli_epi16,
    _mm256_store_si256, _mm256_xor_si256,
};

use super::{PRODUCTS, load_table};
use crate::erasure::transform::FACTORS;
use crate::erasure::{Kernel, PieceSet};

/// Vectors of a block: enough that a factor's tables are loaded rarely.
const VECTORS: usize = 4;
const BLOCK_BYTES: usize = 32 * VECTORS;

/// As many bytes of one piece as are handled at once.
#[derive(Clone, Copy)]
#[repr(align(64))]
pub(in crate::erasure) struct Block([u8; BLOCK_BYTES]);

impl Block {
    pub(in crate::erasure) const ZERO: Self = Self([0; BLOCK_BYTES]);
}

/// From a polynomial's values on the coset of points that starts at `first` to its values at `wanted` points, in ascending
/// order into `rows` of `piece_bytes` each.
///
/// `values` has one entry a point, a power of two of them, and gives its degree's bound; an empty entry stands for zeros.
/// `scratch` has two blocks for each of them.
pub(in crate::erasure) fn extend(
    values: &[&[u8]],
    first: usize,
    wanted: &PieceSet,
    piece_bytes: usize,
    rows: &mut [u8],
    scratch: &mut [Block],
) {
    assert!(Kernel::Avx2.is_available());
    // SAFETY: the processor has AVX2, as just asserted.
    unsafe { extend_avx2(values, first, wanted, piece_bytes, rows, scratch) }
}

#[target_feature(enable = "avx2")]
fn extend_avx2(
    values: &[&[u8]],
    first: usize,
    wanted: &PieceSet,
    piece_bytes: usize,
    rows: &mut [u8],
    scratch: &mut [Block],
) {
    let points = values.len();
    let (coefficients, copy) = scratch.split_at_mut(points);
    for start in (0..piece_bytes).step_by(BLOCK_BYTES) {
        for (block, value) in coefficients.iter_mut().zip(values) {
            read(block, value, start);
        }
        to_coefficients(coefficients, first);
        let mut rows = rows.chunks_exact_mut(piece_bytes);
        let mut rest = *wanted;
        while let Some(next) = rest.iter().next() {
            let coset = next & !(points - 1);
            let here = rest.within(coset..coset + points);
            rest = rest.within(coset + points..256);
            let blocks = if rest.is_empty() {
                &mut *coefficients
            } else {
                copy.copy_from_slice(coefficients);
                &mut *copy
            };
            to_values(blocks, coset);
            for (index, row) in here.iter().zip(&mut rows) {
                write(&blocks[index - coset], row, start);
            }
        }
    }
}

/// Takes `block` from `value`, from byte `start` on.
#[inline]
#[target_feature(enable = "avx2")]
fn read(block: &mut Block, value: &[u8], start: usize) {
    let value = value.get(start..).unwrap_or(&[]);
    match value.first_chunk() {
        Some(bytes) => block.0 = *bytes,
        None => {
            block.0 = [0; BLOCK_BYTES];
            block.0[..value.len()].copy_from_slice(value);
        }
    }
}

/// Puts as much of `block` as there is room for into `row`, from byte `start` on.
#[inline]
#[target_feature(enable = "avx2")]
fn write(block: &Block, row: &mut [u8], start: usize) {
    let row = &mut row[start..];
    match row.first_chunk_mut() {
        Some(bytes) => *bytes = block.0,
        None => row.copy_from_slice(&block.0[..row.len()]),
    }
}

/// Values on the coset from `first` on become coefficients, two levels at a time from the lowest.
#[target_feature(enable = "avx2")]
fn to_coefficients(blocks: &mut [Block], first: usize) {
    let levels = blocks.len().trailing_zeros() as usize;
    for level in (0..levels - 1).step_by(2) {
        for (group, blocks) in blocks.chunks_exact_mut(4 << level).enumerate() {
            let factors = Factors::new(level, first + group * (4 << level));
            let [a, b, c, d] = quarters(blocks);
            for (((a, b), c), d) in a.iter_mut().zip(b).zip(c).zip(d) {
                for vector in 0..VECTORS {
                    let (mut va, mut vb) = (load(a, vector), load(b, vector));
                    let (mut vc, mut vd) = (load(c, vector), load(d, vector));
                    vb = sum(va, vb);
                    vd = sum(vc, vd);
                    vc = sum(vc, factors.second.times(vd));
                    if let Some([lower, upper]) = &factors.others {
                        va = sum(va, lower.times(vb));
                        vc = sum(va, vc);
                        vd = sum(vb, vd);
                        va = sum(va, upper.times(vc));
                        vb = sum(vb, upper.times(vd));
                    } else {
                        vc = sum(va, vc);
                        vd = sum(vb, vd);
                    }
                    store(a, vector, va);
                    store(b, vector, vb);
                    store(c, vector, vc);
                    store(d, vector, vd);
                }
            }
        }
    }
    if !levels.is_multiple_of(2) {
        let factor = Factor::new(levels - 1, first);
        let (low, high) = blocks.split_at_mut(blocks.len() / 2);
        for (a, b) in low.iter_mut().zip(high) {
            for vector in 0..VECTORS {
                let va = load(a, vector);
                let vb = sum(va, load(b, vector));
                store(b, vector, vb);
                if first != 0 {
                    store(a, vector, sum(va, factor.times(vb)));
                }
            }
        }
    }
}

/// Coefficients become values on the coset from `first` on, two levels at a time down to the lowest.
#[target_feature(enable = "avx2")]
fn to_values(blocks: &mut [Block], first: usize) {
    let levels = blocks.len().trailing_zeros() as usize;
    if !levels.is_multiple_of(2) {
        let factor = Factor::new(levels - 1, first);
        let (low, high) = blocks.split_at_mut(blocks.len() / 2);
        for (a, b) in low.iter_mut().zip(high) {
            for vector in 0..VECTORS {
                let (mut va, vb) = (load(a, vector), load(b, vector));
                if first != 0 {
                    va = sum(va, factor.times(vb));
                    store(a, vector, va);
                }
                store(b, vector, sum(va, vb));
            }
        }
    }
    for level in (0..levels - 1).step_by(2).rev() {
        for (group, blocks) in blocks.chunks_exact_mut(4 << level).enumerate() {
            let factors = Factors::new(level, first + group * (4 << level));
            let [a, b, c, d] = quarters(blocks);
            for (((a, b), c), d) in a.iter_mut().zip(b).zip(c).zip(d) {
                for vector in 0..VECTORS {
                    let (mut va, mut vb) = (load(a, vector), load(b, vector));
                    let (mut vc, mut vd) = (load(c, vector), load(d, vector));
                    if let Some([lower, upper]) = &factors.others {
                        va = sum(va, upper.times(vc));
                        vb = sum(vb, upper.times(vd));
                        vc = sum(va, vc);
                        vd = sum(vb, vd);
                        va = sum(va, lower.times(vb));
                    } else {
                        vc = sum(va, vc);
                        vd = sum(vb, vd);
                    }
                    vc = sum(vc, factors.second.times(vd));
                    vb = sum(va, vb);
                    vd = sum(vc, vd);
                    store(a, vector, va);
                    store(b, vector, vb);
                    store(c, vector, vc);
                    store(d, vector, vd);
                }
            }
        }
    }
}

/// The factors of two levels for a group of points.
struct Factors {
    /// Of the lower level, for the group's second half.
    second: Factor,
    /// Of the lower level for the first half, and of the upper one; at point 0 both are zero.
    others: Option<[Factor; 2]>,
}

impl Factors {
    #[inline]
    #[target_feature(enable = "avx2")]
    fn new(level: usize, point: usize) -> Self {
        let second = Factor::new(level, point + (2 << level));
        let others = (point != 0).then(|| [Factor::new(level, point), Factor::new(level + 1, point)]);
        Self { second, others }
    }
}

/// A factor's products with half-bytes.
struct Factor {
    low: __m256i,
    high: __m256i,
}

impl Factor {
    /// That of `level` at `point`.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn new(level: usize, point: usize) -> Self {
        let [low, high] = &PRODUCTS[usize::from(FACTORS[level][point])];
        Self { low: load_table(low), high: load_table(high) }
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    fn times(&self, bytes: __m256i) -> __m256i {
        let half = _mm256_set1_epi8(0x0f);
        let lower = _mm256_and_si256(bytes, half);
        let upper = _mm256_and_si256(_mm256_srli_epi16::<4>(bytes), half);
        sum(_mm256_shuffle_epi8(self.low, lower), _mm256_shuffle_epi8(self.high, upper))
    }
}

#[inline]
#[target_feature(enable = "avx2")]
fn sum(left: __m256i, right: __m256i) -> __m256i {
    _mm256_xor_si256(left, right)
}

fn quarters(blocks: &mut [Block]) -> [&mut [Block]; 4] {
    let (low, high) = blocks.split_at_mut(blocks.len() / 2);
    let ((a, b), (c, d)) = (low.split_at_mut(low.len() / 2), high.split_at_mut(high.len() / 2));
    [a, b, c, d]
}

#[inline]
#[target_feature(enable = "avx2")]
fn load(block: &Block, vector: usize) -> __m256i {
    let bytes = &block.0.as_chunks::<32>().0[vector];
    // SAFETY: `bytes` is 32 readable bytes; a block is aligned to 64, so its vectors are to 32.
    unsafe { _mm256_load_si256(bytes.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx2")]
fn store(block: &mut Block, vector: usize, value: __m256i) {
    let bytes = &mut block.0.as_chunks_mut::<32>().0[vector];
    // SAFETY: `bytes` is 32 writable bytes; a block is aligned to 64, so its vectors are to 32.
    unsafe { _mm256_store_si256(bytes.as_mut_ptr().cast(), value) }
}
