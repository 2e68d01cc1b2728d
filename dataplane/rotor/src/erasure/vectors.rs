//! What kernels with vector instructions have in common: the computations, written once over a few operations that each
//! kernel has instructions for.

mod sums;
mod transforms;

pub(super) use self::sums::combine;
pub(super) use self::transforms::{Block, extend};

/// Vectors of bytes as elements of GF(2^8).
///
/// A value of an implementing type stands for the promise that this processor has the instructions, so that its methods
/// are safe. They are there to be inlined into a function that is compiled for these instructions.
pub(super) trait Vectors: Copy {
    /// `BYTES` bytes.
    type Vector: Copy;
    /// A constant to multiply by, as the multiplication wants it.
    type Factor: Copy;
    /// Bytes of a vector: 32 or 64.
    const BYTES: usize;

    /// Nothing but zeros.
    fn zero(self) -> Self::Vector;

    /// The first `BYTES` of `bytes`, which are there.
    fn load(self, bytes: &[u8]) -> Self::Vector;

    /// Overwrites the first `BYTES` of `bytes`, which are there.
    fn store(self, bytes: &mut [u8], vector: Self::Vector);

    fn factor(self, constant: u8) -> Self::Factor;

    fn sum(self, left: Self::Vector, right: Self::Vector) -> Self::Vector;

    fn product(self, vector: Self::Vector, factor: Self::Factor) -> Self::Vector;
}

/// Bytes of the longest vector.
const VECTOR_BYTES_MAX: usize = 64;
