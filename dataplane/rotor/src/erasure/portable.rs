//! Sums of products in plain Rust, written so that the compiler turns the block loops into vector instructions.

use super::{Piece, rs8};

/// Bytes handled at once: a whole number of any machine's vectors.
const BLOCK_BYTES: usize = 64;
type Block = [u8; BLOCK_BYTES];

/// Row r of `rows` becomes the sum of all known pieces, each times its coefficient in row r.
///
/// For each block of a piece the 16 multiples by the field's lower and the 16 by its upper half-bytes are computed; a
/// product is then the sum of two of them, found by the coefficient alone. No lookup depends on the data.
pub(super) fn combine(known: &[Piece<'_>], coefficients: &[u8], piece_bytes: usize, rows: &mut [u8]) {
    rows.fill(0);
    let (mut lower, mut upper) = ([[0; BLOCK_BYTES]; 16], [[0; BLOCK_BYTES]; 16]);
    for start in (0..piece_bytes).step_by(BLOCK_BYTES) {
        let end = piece_bytes.min(start + BLOCK_BYTES);
        for (column, piece) in known.iter().enumerate() {
            let mut block = [0; BLOCK_BYTES];
            block[..end - start].copy_from_slice(&piece.bytes[start..end]);
            let next = multiples(block, &mut lower);
            multiples(next, &mut upper);
            for (row, coefficients) in rows.chunks_exact_mut(piece_bytes).zip(coefficients.chunks_exact(known.len())) {
                let coefficient = usize::from(coefficients[column]);
                let (low, high) = (&lower[coefficient & 15], &upper[coefficient >> 4]);
                add(&mut row[start..end], low, high);
            }
        }
    }
}

/// Fills in the multiples of `block` by 0 to 15; returns the one by 16.
fn multiples(block: Block, multiples: &mut [Block; 16]) -> Block {
    let mut doubled = block;
    for power in [1, 2, 4, 8] {
        for factor in power..2 * power {
            multiples[factor] = sum(&doubled, &multiples[factor - power]);
        }
        doubled = doubled.map(rs8::double);
    }
    doubled
}

fn sum(left: &Block, right: &Block) -> Block {
    let mut sum = *left;
    for (byte, other) in sum.iter_mut().zip(right) {
        *byte ^= other;
    }
    sum
}

fn add(row: &mut [u8], low: &Block, high: &Block) {
    if let Ok(row) = <&mut Block>::try_from(&mut *row) {
        for ((byte, low), high) in row.iter_mut().zip(low).zip(high) {
            *byte ^= low ^ high;
        }
    } else {
        for ((byte, low), high) in row.iter_mut().zip(low).zip(high) {
            *byte ^= low ^ high;
        }
    }
}
