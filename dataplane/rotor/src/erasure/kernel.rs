//! Which instructions products are computed with.

#[cfg(target_arch = "x86_64")]
use super::vectors::Block;
use super::{Piece, portable};
#[cfg(target_arch = "x86_64")]
use super::{PieceSet, avx2, gfni};

/// How products are computed. All kernels give the same bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kernel {
    /// Plain Rust, on every machine.
    Portable,
    /// Sixteen products a lookup, on x86-64 with AVX2.
    Avx2,
    /// 32 products an instruction, on x86-64 with GFNI and AVX2.
    Gfni,
    /// 64 products an instruction, on x86-64 with GFNI and AVX-512.
    Gfni512,
}

impl Kernel {
    /// Every kernel, the preferred one last.
    pub const ALL: [Self; 4] = [Self::Portable, Self::Avx2, Self::Gfni, Self::Gfni512];

    /// Name for reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Portable => "portable",
            Self::Avx2 => "avx2",
            Self::Gfni => "gfni",
            Self::Gfni512 => "gfni512",
        }
    }

    /// Whether this processor can run it.
    #[must_use]
    pub fn is_available(self) -> bool {
        #[cfg(target_arch = "x86_64")]
        match self {
            Self::Portable => true,
            Self::Avx2 => is_x86_feature_detected!("avx2"),
            Self::Gfni => is_x86_feature_detected!("gfni") && is_x86_feature_detected!("avx2"),
            Self::Gfni512 => is_x86_feature_detected!("gfni") && is_x86_feature_detected!("avx512f"),
        }
        #[cfg(not(target_arch = "x86_64"))]
        {
            self == Self::Portable
        }
    }

    /// The preferred one of those this processor can run.
    #[must_use]
    pub fn best() -> Self {
        Self::ALL.into_iter().rfind(|kernel| kernel.is_available()).unwrap_or(Self::Portable)
    }

    /// Row r of `rows` becomes the sum of all known pieces, each times its coefficient in row r.
    pub(super) fn combine(self, known: &[Piece<'_>], coefficients: &[u8], piece_bytes: usize, rows: &mut [u8]) {
        match self {
            Self::Portable => portable::combine(known, coefficients, piece_bytes, rows),
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => avx2::combine(known, coefficients, piece_bytes, rows),
            #[cfg(target_arch = "x86_64")]
            Self::Gfni => gfni::combine(known, coefficients, piece_bytes, rows),
            #[cfg(target_arch = "x86_64")]
            Self::Gfni512 => gfni::combine_wide(known, coefficients, piece_bytes, rows),
            #[cfg(not(target_arch = "x86_64"))]
            _ => unreachable!("refused at construction"),
        }
    }

    /// From values on one coset of points to others, see [`super::vectors::extend`]. The portable kernel has no such
    /// way.
    #[cfg(target_arch = "x86_64")]
    pub(super) fn extend(
        self,
        values: &[&[u8]],
        first: usize,
        wanted: &PieceSet,
        piece_bytes: usize,
        rows: &mut [u8],
        scratch: &mut [Block],
    ) {
        match self {
            Self::Portable => unreachable!("sums are all it computes"),
            Self::Avx2 => avx2::extend(values, first, wanted, piece_bytes, rows, scratch),
            Self::Gfni => gfni::extend(values, first, wanted, piece_bytes, rows, scratch),
            Self::Gfni512 => gfni::extend_wide(values, first, wanted, piece_bytes, rows, scratch),
        }
    }
}
