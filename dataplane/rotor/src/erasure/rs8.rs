//! The code `rs8`. Piece `i` is the value at point `i` of the polynomial over GF(2^8) of degree below gamma whose
//! values at `0..gamma` are the data. The bytes are those of the Reed-Solomon code in common use for shreds (`galois_8`
//! of the reed-solomon-erasure crate). Pieces are computed as sums of products or, where that takes fewer products, by
//! transforms (see `cosets.rs`).
//!
//! Below it, arithmetic in GF(2^8) modulo x^8 + x^4 + x^3 + x^2 + 1 (0x11d), and the coefficients that lead from known
//! values of a polynomial to others.

#[cfg(target_arch = "x86_64")]
use super::cosets::Cosets;
use super::{Kernel, PIECES_MAX, Piece, PieceSet};
use crate::parameters::CodingParameters;

/// The memory that the code works in.
pub(super) struct Rs8 {
    kernel: Kernel,
    data_pieces: usize,
    /// Coefficients of every parity piece over the data pieces, row by row.
    generator: Box<[u8]>,
    /// Coefficients of the wanted pieces over the known ones, row by row.
    coefficients: Box<[u8]>,
    /// The wanted pieces.
    rows: Box<[u8]>,
    /// For kernels and parameters that have transforms.
    #[cfg(target_arch = "x86_64")]
    cosets: Option<Cosets>,
}

impl Rs8 {
    pub(super) fn new(parameters: &CodingParameters, kernel: Kernel) -> Self {
        let (data_pieces, total_pieces) = (parameters.data_shreds(), parameters.total_shreds());
        assert!(data_pieces < total_pieces && total_pieces <= PIECES_MAX);
        let parity_pieces = total_pieces - data_pieces;
        let mut code = Self {
            kernel,
            data_pieces,
            generator: vec![0; parity_pieces * data_pieces].into_boxed_slice(),
            coefficients: vec![0; parity_pieces * data_pieces].into_boxed_slice(),
            rows: vec![0; parity_pieces * parameters.shred_bytes()].into_boxed_slice(),
            #[cfg(target_arch = "x86_64")]
            cosets: Cosets::new(parameters, kernel),
        };
        let points = |range: std::ops::Range<usize>| range.map(|point| point as u8);
        coefficients(points(0..data_pieces), data_pieces, points(data_pieces..total_pieces), &mut code.generator);
        code
    }

    pub(super) fn heap_bytes(&self) -> usize {
        #[cfg(target_arch = "x86_64")]
        let cosets = self.cosets.as_ref().map_or(0, Cosets::heap_bytes);
        #[cfg(not(target_arch = "x86_64"))]
        let cosets = 0;
        self.generator.len() + self.coefficients.len() + self.rows.len() + cosets
    }

    /// The pieces `wanted`, one after the other, from gamma known ones.
    pub(super) fn compute(
        &mut self,
        known: &[Piece<'_>],
        _known_set: &PieceSet,
        wanted: &PieceSet,
        piece_bytes: usize,
    ) -> &[u8] {
        let rows = &mut self.rows[..wanted.len() * piece_bytes];
        #[cfg(target_arch = "x86_64")]
        if let Some(cosets) = &mut self.cosets
            && let Some(plan) = cosets.plan(_known_set, wanted)
        {
            cosets.compute(&plan, known, piece_bytes, &mut self.coefficients, rows);
            return rows;
        }
        let row_coefficients = &mut self.coefficients[..wanted.len() * self.data_pieces];
        if known.iter().enumerate().all(|(position, piece)| usize::from(piece.index) == position) {
            for (row, index) in row_coefficients.chunks_exact_mut(self.data_pieces).zip(wanted.iter()) {
                let start = (index - self.data_pieces) * self.data_pieces;
                row.copy_from_slice(&self.generator[start..start + self.data_pieces]);
            }
        } else {
            let points = wanted.iter().map(|index| index as u8);
            coefficients(known.iter().map(|piece| piece.index as u8), known.len(), points, row_coefficients);
        }
        self.kernel.combine(known, row_coefficients, piece_bytes, rows);
        rows
    }
}

/// The field's polynomial without its highest term.
pub(super) const POLYNOMIAL: u8 = 0x1d;
/// Order of the multiplicative group, which 2 generates.
const ORDER: usize = 255;

const TABLES: ([u8; 256], [u8; 2 * ORDER]) = {
    let (mut logarithms, mut powers) = ([0; 256], [0; 2 * ORDER]);
    let mut value = 1_u8;
    let mut exponent = 0;
    while exponent < ORDER {
        logarithms[value as usize] = exponent as u8;
        powers[exponent] = value;
        powers[exponent + ORDER] = value;
        value = double(value);
        exponent += 1;
    }
    (logarithms, powers)
};
/// Logarithm to the base 2; that of 0, which has none, is given as 0.
static LOGARITHMS: [u8; 256] = TABLES.0;
/// Powers of 2, twice around.
static POWERS: [u8; 2 * ORDER] = TABLES.1;

/// Twice `value`.
pub(super) const fn double(value: u8) -> u8 {
    (value << 1) ^ ((value >> 7) * POLYNOMIAL)
}

/// The product, bit by bit: for building tables.
pub(super) const fn multiply(left: u8, right: u8) -> u8 {
    let (mut product, mut multiple, mut bit) = (0, left, 0);
    while bit < 8 {
        if right >> bit & 1 == 1 {
            product ^= multiple;
        }
        multiple = double(multiple);
        bit += 1;
    }
    product
}

/// The inverse of a value that is not 0: for building tables.
pub(super) const fn invert(value: u8) -> u8 {
    assert!(value != 0);
    // value^254, as value^255 is 1.
    let (mut inverse, mut square, mut bit) = (1, value, 1);
    while bit < 8 {
        square = multiply(square, square);
        inverse = multiply(inverse, square);
        bit += 1;
    }
    inverse
}

/// Writes to row r, column c of `coefficients` what the value at `known[c]` counts for the value at `wanted[r]`, of a
/// polynomial of degree below the number of known points, for the first `columns` of these: Lagrange's
/// `L_c(x) = Π_{t≠c} (x - k_t) / (k_c - k_t) = Π_t (x - k_t) / ((x - k_c) · Π_{t≠c} (k_c - k_t))`,
/// sums and differences being XOR, products sums of logarithms. No point may occur twice.
pub(super) fn coefficients(
    known: impl Iterator<Item = u8>,
    columns: usize,
    wanted: impl Iterator<Item = u8>,
    coefficients: &mut [u8],
) {
    let mut points = [0; PIECES_MAX];
    let mut count = 0;
    for (slot, point) in points.iter_mut().zip(known) {
        *slot = point;
        count += 1;
    }
    let points = &points[..count];
    let distance = |left: u8, right: u8| usize::from(LOGARITHMS[usize::from(left ^ right)]);
    let mut weights = [0; PIECES_MAX];
    for (weight, point) in weights.iter_mut().zip(&points[..columns]) {
        // The distance of a point to itself has the logarithm 0 here, so that it drops out of the product.
        *weight = points.iter().map(|other| distance(*point, *other)).sum::<usize>() % ORDER;
    }
    for (row, target) in coefficients.chunks_exact_mut(columns).zip(wanted) {
        let all = points.iter().map(|point| distance(target, *point)).sum::<usize>() % ORDER;
        for ((coefficient, point), weight) in row.iter_mut().zip(points).zip(&weights) {
            let divisor = (distance(target, *point) + weight) % ORDER;
            *coefficient = POWERS[all + ORDER - divisor];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_field_is_the_one_of_the_oracle() {
        for left in 0..=255 {
            for right in 0..=255 {
                assert_eq!(multiply(left, right), reed_solomon_erasure::galois_8::mul(left, right));
            }
        }
    }

    #[test]
    fn an_inverse_times_its_value_is_one() {
        (1..=255).for_each(|value| assert_eq!(multiply(value, invert(value)), 1));
    }

    #[test]
    fn known_points_of_a_line_lead_to_its_other_points() {
        // P(x) = 7 + 3x from P(1) and P(6).
        let line = |x: u8| 7 ^ multiply(3, x);
        let mut row = [0; 2];
        for x in [0, 2, 9, 255] {
            coefficients([1, 6].into_iter(), 2, [x].into_iter(), &mut row);
            assert_eq!(multiply(row[0], line(1)) ^ multiply(row[1], line(6)), line(x));
        }
    }
}
