//! The erasure codes: any gamma of a slice's Gamma pieces determine all the others.
//!
//! Encoding, decoding and re-encoding are one operation: from gamma known pieces compute wanted ones. Of the two codes
//! `rs8` is the fast one (`rs8.rs`), `leopard16` the one for more than 255 pieces (`leopard16.rs`). A [`Kernel`] says
//! with which instructions; all kernels give the same bytes.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod cosets;
#[cfg(target_arch = "x86_64")]
mod gfni;
mod kernel;
mod leopard16;
mod portable;
mod rs8;
#[cfg(test)]
mod tests;
#[cfg(target_arch = "x86_64")]
mod transform;
#[cfg(target_arch = "x86_64")]
mod vectors;

pub use self::kernel::Kernel;
use self::leopard16::Leopard16;
use self::rs8::Rs8;
use crate::parameters::{Code, CodingParameters, TOTAL_SHREDS_MAX};

/// Most pieces of a code word of rs8.
const PIECES_MAX: usize = Code::Rs8.total_shreds_max();

/// A set of piece (or shred) indices below [`TOTAL_SHREDS_MAX`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PieceSet([u64; WORDS]);

const WORDS: usize = TOTAL_SHREDS_MAX.div_ceil(64);

impl PieceSet {
    /// The indices below `count` (at most [`TOTAL_SHREDS_MAX`]).
    #[must_use]
    pub fn below(count: usize) -> Self {
        assert!(count <= TOTAL_SHREDS_MAX);
        Self(std::array::from_fn(|word| match count.saturating_sub(64 * word) {
            0 => 0,
            bits @ 1..64 => (1 << bits) - 1,
            _ => u64::MAX,
        }))
    }

    /// Those of its indices that are in `range`.
    fn within(&self, range: std::ops::Range<usize>) -> Self {
        let (below, above) = (Self::below(range.end), Self::below(range.start));
        Self(std::array::from_fn(|word| self.0[word] & below.0[word] & !above.0[word]))
    }

    /// The indices of both.
    fn with(&self, other: &Self) -> Self {
        Self(std::array::from_fn(|word| self.0[word] | other.0[word]))
    }

    /// Adds `index`; whether it is new.
    pub const fn insert(&mut self, index: usize) -> bool {
        let is_new = !self.contains(index);
        self.0[index / 64] |= 1 << (index % 64);
        is_new
    }

    /// Takes `index` out.
    pub const fn remove(&mut self, index: usize) {
        self.0[index / 64] &= !(1 << (index % 64));
    }

    /// Whether `index` is in it.
    #[must_use]
    pub const fn contains(&self, index: usize) -> bool {
        self.0[index / 64] >> (index % 64) & 1 == 1
    }

    /// How many.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0 == [0; WORDS]
    }

    /// The indices, least first.
    pub fn iter(&self) -> impl Iterator<Item = usize> + use<> {
        let words = self.0;
        (0..WORDS).flat_map(move |word| {
            let mut rest = words[word];
            std::iter::from_fn(move || {
                let bit = (rest != 0).then(|| rest.trailing_zeros() as usize)?;
                rest &= rest - 1;
                Some(64 * word + bit)
            })
        })
    }
}

/// A known piece of a code word.
#[derive(Clone, Copy, Debug, Default)]
pub struct Piece<'a> {
    /// Its place, below Gamma.
    pub index: u16,
    /// Its bytes, as many as every other piece of the word has.
    pub bytes: &'a [u8],
}

/// A code for a cluster's gamma and Gamma, with all the memory it works in: nothing is allocated after
/// [`ErasureCode::new`].
pub struct ErasureCode {
    kernel: Kernel,
    data_pieces: usize,
    total_pieces: usize,
    piece_bytes_max: usize,
    code: CodeMemory,
}

/// The codes, each with its memory.
enum CodeMemory {
    Rs8(Rs8),
    Leopard16(Leopard16),
}

impl ErasureCode {
    /// With the best kernel this processor can run.
    #[must_use]
    pub fn new(parameters: &CodingParameters) -> Self {
        Self::with_kernel(parameters, Kernel::best())
    }

    /// With a given kernel.
    ///
    /// # Panics
    /// If this processor cannot run it: ask [`Kernel::is_available`].
    #[must_use]
    pub fn with_kernel(parameters: &CodingParameters, kernel: Kernel) -> Self {
        assert!(kernel.is_available(), "this processor cannot run the {} kernel", kernel.name());
        Self {
            kernel,
            data_pieces: parameters.data_shreds(),
            total_pieces: parameters.total_shreds(),
            piece_bytes_max: parameters.shred_bytes(),
            code: match parameters.code() {
                Code::Rs8 => CodeMemory::Rs8(Rs8::new(parameters, kernel)),
                Code::Leopard16 => CodeMemory::Leopard16(Leopard16::new(parameters, kernel)),
            },
        }
    }

    /// The kernel in use.
    #[must_use]
    pub const fn kernel(&self) -> Kernel {
        self.kernel
    }

    /// Bytes of memory it works in.
    #[must_use]
    pub fn heap_bytes(&self) -> usize {
        match &self.code {
            CodeMemory::Rs8(code) => code.heap_bytes(),
            CodeMemory::Leopard16(code) => code.heap_bytes(),
        }
    }

    /// Computes the pieces `wanted` from `known` ones.
    ///
    /// # Panics
    /// If `known` are not gamma different pieces below Gamma, of equal length up to `shred_bytes` (and even, with
    /// leopard16), or if one of `wanted` is among them or not below Gamma.
    pub fn compute(&mut self, known: &[Piece<'_>], wanted: &PieceSet) -> Computed<'_> {
        let (piece_bytes, known_set) = self.check(known, wanted);
        let rows = match &mut self.code {
            CodeMemory::Rs8(code) => code.compute(known, &known_set, wanted, piece_bytes),
            CodeMemory::Leopard16(code) => code.compute(known, &known_set, wanted, piece_bytes),
        };
        Computed { indices: *wanted, piece_bytes, rows }
    }

    /// Asserts what [`Self::compute`] demands; the length of the pieces and the set of known ones.
    fn check(&self, known: &[Piece<'_>], wanted: &PieceSet) -> (usize, PieceSet) {
        assert_eq!(known.len(), self.data_pieces, "gamma pieces determine the others");
        let piece_bytes = known[0].bytes.len();
        assert!((1..=self.piece_bytes_max).contains(&piece_bytes));
        let mut set = PieceSet::default();
        for piece in known {
            let index = usize::from(piece.index);
            assert_eq!(piece.bytes.len(), piece_bytes);
            assert!(index < self.total_pieces && !wanted.contains(index) && set.insert(index));
        }
        assert_eq!(wanted.within(0..self.total_pieces), *wanted);
        (piece_bytes, set)
    }
}

/// Computed pieces, in the code's own memory until its next use.
pub struct Computed<'a> {
    indices: PieceSet,
    piece_bytes: usize,
    rows: &'a [u8],
}

impl<'a> Computed<'a> {
    /// Index and bytes of every wanted piece, least index first.
    pub fn iter(&self) -> impl Iterator<Item = (usize, &'a [u8])> + use<'a> {
        self.indices.iter().zip(self.rows.chunks_exact(self.piece_bytes))
    }
}
