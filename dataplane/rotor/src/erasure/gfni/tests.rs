use super::*;

/// What `gf2p8affineqb` computes for a byte, as its manual has it.
fn affine(matrix: u64, byte: u8) -> u8 {
    (0..8).map(|bit| (((matrix.to_le_bytes()[7 - bit] & byte).count_ones() & 1) as u8) << bit).sum()
}

/// So that all but the instruction itself is tested on every machine.
#[test]
fn a_matrix_times_a_byte_is_the_product() {
    for (constant, matrix) in (0..=255).zip(MATRICES) {
        (0..=255).for_each(|byte| assert_eq!(affine(matrix, byte), rs8::multiply(constant, byte)));
    }
}
