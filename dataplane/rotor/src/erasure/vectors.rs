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

/// A kernel's `combine` and `extend`: those of this module, compiled for the processor's features that the kernel
/// needs.
macro_rules! entries {
    ($vectors:expr, $features:literal, $kernel:expr) => {
        /// See [`crate::erasure::vectors::combine`].
        pub(in crate::erasure) fn combine(
            known: &[$crate::erasure::Piece<'_>],
            coefficients: &[u8],
            piece_bytes: usize,
            rows: &mut [u8],
        ) {
            #[target_feature(enable = $features)]
            fn compiled(
                known: &[$crate::erasure::Piece<'_>],
                coefficients: &[u8],
                piece_bytes: usize,
                rows: &mut [u8],
            ) {
                $crate::erasure::vectors::combine($vectors, known, coefficients, piece_bytes, rows);
            }
            assert!($kernel.is_available());
            // SAFETY: the processor has what the kernel needs, as just asserted.
            unsafe { compiled(known, coefficients, piece_bytes, rows) }
        }

        /// See [`crate::erasure::vectors::extend`].
        pub(in crate::erasure) fn extend(
            values: &[&[u8]],
            first: usize,
            wanted: &$crate::erasure::PieceSet,
            piece_bytes: usize,
            rows: &mut [u8],
            scratch: &mut [$crate::erasure::vectors::Block],
        ) {
            #[target_feature(enable = $features)]
            fn compiled(
                values: &[&[u8]],
                first: usize,
                wanted: &$crate::erasure::PieceSet,
                piece_bytes: usize,
                rows: &mut [u8],
                scratch: &mut [$crate::erasure::vectors::Block],
            ) {
                $crate::erasure::vectors::extend($vectors, values, first, wanted, piece_bytes, rows, scratch);
            }
            assert!($kernel.is_available());
            // SAFETY: the processor has what the kernel needs, as just asserted.
            unsafe { compiled(values, first, wanted, piece_bytes, rows, scratch) }
        }
    };
}
pub(super) use entries;

/// Bytes of the longest vector.
const VECTOR_BYTES_MAX: usize = 64;
