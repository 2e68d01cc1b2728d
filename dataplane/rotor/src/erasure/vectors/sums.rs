//! Sums of products, each piece times its own coefficient.

use super::{VECTOR_BYTES_MAX, Vectors};
use crate::erasure::{PIECES_MAX, Piece};

/// Rows summed at once: with two vectors each they fill half of sixteen registers.
const ROWS: usize = 4;

/// Row r of `rows` becomes the sum of all known pieces, each times its coefficient in row r.
#[inline(always)]
pub(in crate::erasure) fn combine<V: Vectors>(
    vectors: V,
    known: &[Piece<'_>],
    coefficients: &[u8],
    piece_bytes: usize,
    rows: &mut [u8],
) {
    let row_groups = rows.chunks_mut(ROWS * piece_bytes);
    for (rows, coefficients) in row_groups.zip(coefficients.chunks(ROWS * known.len())) {
        match rows.len() / piece_bytes {
            4 => combine_rows::<V, 4>(vectors, known, coefficients, piece_bytes, rows),
            3 => combine_rows::<V, 3>(vectors, known, coefficients, piece_bytes, rows),
            2 => combine_rows::<V, 2>(vectors, known, coefficients, piece_bytes, rows),
            _ => combine_rows::<V, 1>(vectors, known, coefficients, piece_bytes, rows),
        }
    }
}

/// [`combine`] for `N` rows, two vectors at a time, so that a coefficient is prepared half as often.
#[inline(always)]
fn combine_rows<V: Vectors, const N: usize>(
    vectors: V,
    known: &[Piece<'_>],
    coefficients: &[u8],
    piece_bytes: usize,
    rows: &mut [u8],
) {
    let mut columns = [[0; N]; PIECES_MAX];
    for (row, coefficients) in coefficients.chunks_exact(known.len()).enumerate() {
        for (column, coefficient) in columns.iter_mut().zip(coefficients) {
            column[row] = *coefficient;
        }
    }
    let block_bytes = 2 * V::BYTES;
    for start in (0..piece_bytes).step_by(block_bytes) {
        let mut sums = [[vectors.zero(); 2]; N];
        for (piece, column) in known.iter().zip(&columns) {
            let bytes = &piece.bytes[start..];
            if bytes.len() >= block_bytes {
                accumulate(vectors, &mut sums, column, bytes);
            } else {
                let mut block = [0; 2 * VECTOR_BYTES_MAX];
                block[..bytes.len()].copy_from_slice(bytes);
                accumulate(vectors, &mut sums, column, &block);
            }
        }
        for (row, sums) in rows.chunks_exact_mut(piece_bytes).zip(sums) {
            let row = &mut row[start..];
            if row.len() >= block_bytes {
                store(vectors, row, sums);
            } else {
                let mut block = [0; 2 * VECTOR_BYTES_MAX];
                store(vectors, &mut block, sums);
                row.copy_from_slice(&block[..row.len()]);
            }
        }
    }
}

/// Adds two vectors of a piece, each times the coefficient of each row, to that row's sums.
#[inline(always)]
fn accumulate<V: Vectors, const N: usize>(
    vectors: V,
    sums: &mut [[V::Vector; 2]; N],
    coefficients: &[u8; N],
    bytes: &[u8],
) {
    let (first, second) = (vectors.load(bytes), vectors.load(&bytes[V::BYTES..]));
    for (sums, coefficient) in sums.iter_mut().zip(coefficients) {
        let factor = vectors.factor(*coefficient);
        sums[0] = vectors.sum(sums[0], vectors.product(first, factor));
        sums[1] = vectors.sum(sums[1], vectors.product(second, factor));
    }
}

#[inline(always)]
fn store<V: Vectors>(vectors: V, bytes: &mut [u8], [first, second]: [V::Vector; 2]) {
    vectors.store(bytes, first);
    vectors.store(&mut bytes[V::BYTES..], second);
}
