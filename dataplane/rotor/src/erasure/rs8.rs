//! Arithmetic in GF(2^8) modulo x^8 + x^4 + x^3 + x^2 + 1 (0x11d), and the coefficients that lead from known values of a
//! polynomial to others. The bytes are those of the Reed-Solomon code in common use for shreds (`galois_8` of the
//! reed-solomon-erasure crate).

use super::PIECES_MAX;

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
