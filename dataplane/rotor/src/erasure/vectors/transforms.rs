//! The additive Fourier transform (see `erasure/transform.rs`), over a block of bytes of every piece at a time so that
//! all of them stay in the first-level cache, and two levels at a time so that they are loaded half as often.

use super::Vectors;
use crate::erasure::PieceSet;
use crate::erasure::transform::{self, FACTORS};

/// Bytes of a block: enough vectors that factors are prepared rarely.
const BLOCK_BYTES: usize = 128;

/// As many bytes of one piece as are handled at once.
#[derive(Clone, Copy)]
#[repr(align(64))]
pub(in crate::erasure) struct Block([u8; BLOCK_BYTES]);

impl Block {
    pub(in crate::erasure) const ZERO: Self = Self([0; BLOCK_BYTES]);
}

/// From a polynomial's values on the coset of points that starts at `first` to its values at `wanted` points, in
/// ascending order into `rows` of `piece_bytes` each.
///
/// `values` has one entry a point, a power of two of them, and gives its degree's bound; an empty entry stands for
/// zeros. `scratch` has two blocks for each of them.
#[inline(always)]
pub(in crate::erasure) fn extend<V: Vectors>(
    vectors: V,
    values: &[&[u8]],
    first: usize,
    wanted: &PieceSet,
    piece_bytes: usize,
    rows: &mut [u8],
    scratch: &mut [Block],
) {
    let points = values.len();
    let levels = points.trailing_zeros() as usize;
    // The top one or two levels of the way to the coefficients and of the way back are one step.
    let top = (levels - 1) & !1;
    let (partial, blocks) = scratch.split_at_mut(points);
    let cosets = transform::cosets(wanted, points);
    for start in (0..piece_bytes).step_by(BLOCK_BYTES) {
        read(vectors, values, first, start, partial);
        for level in (2..top).step_by(2) {
            to_coefficients(vectors, partial, level, first);
        }
        let mut rows = rows.chunks_exact_mut(piece_bytes);
        for coset in (0..256).step_by(points).filter(|coset| cosets >> (coset / points) & 1 == 1) {
            if levels == top + 1 {
                turn_at_one_level(vectors, partial, blocks, top, [first, coset]);
            } else {
                turn_at_two_levels(vectors, partial, blocks, top, [first, coset]);
            }
            for level in (2..top).step_by(2).rev() {
                to_values(vectors, blocks, level, coset);
            }
            write(vectors, blocks, coset, wanted, start, &mut rows);
        }
    }
}

/// The lowest two levels from values on the coset from `first` on towards coefficients, straight from the pieces.
#[inline(always)]
fn read<V: Vectors>(vectors: V, values: &[&[u8]], first: usize, start: usize, blocks: &mut [Block]) {
    if values.iter().any(|value| (1..start + BLOCK_BYTES).contains(&value.len())) {
        for (block, value) in blocks.iter_mut().zip(values) {
            let value = value.get(start..).unwrap_or_default();
            *block = Block::ZERO;
            block.0[..value.len()].copy_from_slice(value);
        }
        return to_coefficients(vectors, blocks, 0, first);
    }
    for (group, (values, blocks)) in values.as_chunks::<4>().0.iter().zip(blocks.as_chunks_mut::<4>().0).enumerate() {
        let factors = Factors::new(vectors, 0, first + 4 * group);
        let [a, b, c, d] = blocks;
        let values = values.map(|value| value.get(start..).and_then(<[u8]>::first_chunk).unwrap_or(&Block::ZERO.0));
        for offset in (0..BLOCK_BYTES).step_by(V::BYTES) {
            let loaded = load(vectors, values, offset);
            store(vectors, [a, b, c, d], offset, factors.to_coefficients(vectors, loaded));
        }
    }
}

/// The lowest two levels to values on the coset from `coset` on, straight into the next of `rows` for each of `wanted`.
#[inline(always)]
fn write<'r, V: Vectors>(
    vectors: V,
    blocks: &mut [Block],
    coset: usize,
    wanted: &PieceSet,
    start: usize,
    rows: &mut impl Iterator<Item = &'r mut [u8]>,
) {
    for (group, blocks) in blocks.as_chunks_mut::<4>().0.iter_mut().enumerate() {
        let first = coset + 4 * group;
        let factors = Factors::new(vectors, 0, first);
        let [a, b, c, d] = &mut *blocks;
        for offset in (0..BLOCK_BYTES).step_by(V::BYTES) {
            let loaded = load(vectors, [&a.0, &b.0, &c.0, &d.0], offset);
            store(vectors, [a, b, c, d], offset, factors.to_values(vectors, loaded));
        }
        for (block, _) in blocks.iter().zip(first..).filter(|(_, point)| wanted.contains(*point)) {
            let row = &mut rows.next().expect("a row for every wanted point")[start..];
            match row.first_chunk_mut() {
                Some(bytes) => *bytes = block.0,
                None => row.copy_from_slice(&block.0[..row.len()]),
            }
        }
    }
}

/// Two levels from values on the coset from `first` on towards coefficients.
#[inline(always)]
fn to_coefficients<V: Vectors>(vectors: V, blocks: &mut [Block], level: usize, first: usize) {
    for (group, blocks) in blocks.chunks_exact_mut(4 << level).enumerate() {
        let factors = Factors::new(vectors, level, first + group * (4 << level));
        let [a, b, c, d] = quarters_mut(blocks);
        for (((a, b), c), d) in a.iter_mut().zip(b).zip(c).zip(d) {
            for offset in (0..BLOCK_BYTES).step_by(V::BYTES) {
                let loaded = load(vectors, [&a.0, &b.0, &c.0, &d.0], offset);
                store(vectors, [a, b, c, d], offset, factors.to_coefficients(vectors, loaded));
            }
        }
    }
}

/// Two levels from coefficients towards values on the coset from `coset` on.
#[inline(always)]
fn to_values<V: Vectors>(vectors: V, blocks: &mut [Block], level: usize, coset: usize) {
    for (group, blocks) in blocks.chunks_exact_mut(4 << level).enumerate() {
        let factors = Factors::new(vectors, level, coset + group * (4 << level));
        let [a, b, c, d] = quarters_mut(blocks);
        for (((a, b), c), d) in a.iter_mut().zip(b).zip(c).zip(d) {
            for offset in (0..BLOCK_BYTES).step_by(V::BYTES) {
                let loaded = load(vectors, [&a.0, &b.0, &c.0, &d.0], offset);
                store(vectors, [a, b, c, d], offset, factors.to_values(vectors, loaded));
            }
        }
    }
}

/// The top level, from values on the coset from `first` on to coefficients and on towards those on the coset from
/// `coset` on.
#[inline(always)]
fn turn_at_one_level<V: Vectors>(
    vectors: V,
    from: &[Block],
    to: &mut [Block],
    level: usize,
    [first, coset]: [usize; 2],
) {
    let [inverse, forward] = [vectors.factor(FACTORS[level][first]), vectors.factor(FACTORS[level][coset])];
    let (low, high) = from.split_at(from.len() / 2);
    let (to_low, to_high) = to.split_at_mut(from.len() / 2);
    for (((low, high), to_low), to_high) in low.iter().zip(high).zip(to_low).zip(to_high) {
        for offset in (0..BLOCK_BYTES).step_by(V::BYTES) {
            let (mut a, b) = (vectors.load(&low.0[offset..]), vectors.load(&high.0[offset..]));
            let b = vectors.sum(a, b);
            if first != 0 {
                a = vectors.sum(a, vectors.product(b, inverse));
            }
            if coset != 0 {
                a = vectors.sum(a, vectors.product(b, forward));
            }
            vectors.store(&mut to_low.0[offset..], a);
            vectors.store(&mut to_high.0[offset..], vectors.sum(a, b));
        }
    }
}

/// The top two levels, from values on the coset from `first` on to coefficients and on towards those on the coset from
/// `coset` on.
#[inline(always)]
fn turn_at_two_levels<V: Vectors>(
    vectors: V,
    from: &[Block],
    to: &mut [Block],
    level: usize,
    [first, coset]: [usize; 2],
) {
    let (inverse, forward) = (Factors::new(vectors, level, first), Factors::new(vectors, level, coset));
    let ([a, b, c, d], [to_a, to_b, to_c, to_d]) = (quarters(from), quarters_mut(to));
    let from = a.iter().zip(b).zip(c).zip(d);
    for ((((a, b), c), d), (((to_a, to_b), to_c), to_d)) in from.zip(to_a.iter_mut().zip(to_b).zip(to_c).zip(to_d)) {
        for offset in (0..BLOCK_BYTES).step_by(V::BYTES) {
            let coefficients = inverse.to_coefficients(vectors, load(vectors, [&a.0, &b.0, &c.0, &d.0], offset));
            store(vectors, [to_a, to_b, to_c, to_d], offset, forward.to_values(vectors, coefficients));
        }
    }
}

/// The factors of two levels for a group of points.
struct Factors<V: Vectors> {
    /// Of the lower level, for the group's second half.
    second: V::Factor,
    /// Of the lower level for the first half, and of the upper one; at point 0 both are zero.
    others: Option<[V::Factor; 2]>,
}

impl<V: Vectors> Factors<V> {
    #[inline(always)]
    fn new(vectors: V, level: usize, point: usize) -> Self {
        let others = if point == 0 {
            None
        } else {
            Some([vectors.factor(FACTORS[level][point]), vectors.factor(FACTORS[level + 1][point])])
        };
        Self { second: vectors.factor(FACTORS[level][point + (2 << level)]), others }
    }

    #[inline(always)]
    fn to_coefficients(&self, vectors: V, [mut a, mut b, mut c, mut d]: [V::Vector; 4]) -> [V::Vector; 4] {
        b = vectors.sum(a, b);
        d = vectors.sum(c, d);
        c = vectors.sum(c, vectors.product(d, self.second));
        if let Some([lower, upper]) = self.others {
            a = vectors.sum(a, vectors.product(b, lower));
            c = vectors.sum(a, c);
            d = vectors.sum(b, d);
            a = vectors.sum(a, vectors.product(c, upper));
            b = vectors.sum(b, vectors.product(d, upper));
        } else {
            c = vectors.sum(a, c);
            d = vectors.sum(b, d);
        }
        [a, b, c, d]
    }

    #[inline(always)]
    fn to_values(&self, vectors: V, [mut a, mut b, mut c, mut d]: [V::Vector; 4]) -> [V::Vector; 4] {
        if let Some([lower, upper]) = self.others {
            a = vectors.sum(a, vectors.product(c, upper));
            b = vectors.sum(b, vectors.product(d, upper));
            c = vectors.sum(a, c);
            d = vectors.sum(b, d);
            a = vectors.sum(a, vectors.product(b, lower));
        } else {
            c = vectors.sum(a, c);
            d = vectors.sum(b, d);
        }
        c = vectors.sum(c, vectors.product(d, self.second));
        [a, vectors.sum(a, b), c, vectors.sum(c, d)]
    }
}

#[inline(always)]
fn load<V: Vectors>(vectors: V, [a, b, c, d]: [&[u8; BLOCK_BYTES]; 4], offset: usize) -> [V::Vector; 4] {
    [vectors.load(&a[offset..]), vectors.load(&b[offset..]), vectors.load(&c[offset..]), vectors.load(&d[offset..])]
}

#[inline(always)]
fn store<V: Vectors>(vectors: V, [a, b, c, d]: [&mut Block; 4], offset: usize, values: [V::Vector; 4]) {
    vectors.store(&mut a.0[offset..], values[0]);
    vectors.store(&mut b.0[offset..], values[1]);
    vectors.store(&mut c.0[offset..], values[2]);
    vectors.store(&mut d.0[offset..], values[3]);
}

fn quarters(blocks: &[Block]) -> [&[Block]; 4] {
    let (low, high) = blocks.split_at(blocks.len() / 2);
    let ((a, b), (c, d)) = (low.split_at(low.len() / 2), high.split_at(high.len() / 2));
    [a, b, c, d]
}

fn quarters_mut(blocks: &mut [Block]) -> [&mut [Block]; 4] {
    let (low, high) = blocks.split_at_mut(blocks.len() / 2);
    let ((a, b), (c, d)) = (low.split_at_mut(low.len() / 2), high.split_at_mut(high.len() / 2));
    [a, b, c, d]
}
