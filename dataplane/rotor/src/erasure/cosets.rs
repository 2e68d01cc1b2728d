//! Computing pieces by transforms between cosets, where gamma is a power of two: the data pieces are the values on a
//! subspace of the field, every gamma further ones those on a coset of it, and the values on one coset lead to those on
//! any other in two transforms (see `transform.rs`).
//!
//! With pieces of every coset lost, the one that lacks fewest, here called home, is completed first. With zeros in
//! place of what it lacks, it leads to other values at the known points of other cosets than the known ones. The
//! polynomial of the differences is zero at all known points at home, so that only the known points elsewhere count in
//! Lagrange's sum: as many as are lacking.

use super::vectors::Block;
use super::{Kernel, Piece, PieceSet, rs8, transform};
use crate::parameters::CodingParameters;

/// Points of the field.
const POINTS: usize = 256;
/// Pieces of the largest coset.
const COSET_PIECES_MAX: usize = 1 << transform::LEVELS_MAX;

/// The memory that transforms work in.
pub(super) struct Cosets {
    kernel: Kernel,
    data_pieces: usize,
    total_pieces: usize,
    blocks: Box<[Block]>,
    differences: Box<[u8]>,
}

/// How to compute what is wanted.
pub(super) struct Plan {
    /// First point of the home coset.
    home: usize,
    known_elsewhere: PieceSet,
    wanted_before: PieceSet,
    wanted_at_home: PieceSet,
    wanted_after: PieceSet,
    /// Whether home is completed from differences, else as a sum over all known pieces.
    by_differences: bool,
}

impl Cosets {
    /// `None` if gamma has no transform that pays, or the kernel none at all.
    pub(super) fn new(parameters: &CodingParameters, kernel: Kernel) -> Option<Self> {
        let data_pieces = parameters.data_shreds();
        transform::levels(data_pieces)?;
        (kernel != Kernel::Portable).then(|| Self {
            kernel,
            data_pieces,
            total_pieces: parameters.total_shreds(),
            blocks: vec![Block::ZERO; 2 * data_pieces].into_boxed_slice(),
            differences: vec![0; data_pieces * parameters.shred_bytes()].into_boxed_slice(),
        })
    }

    pub(super) const fn heap_bytes(&self) -> usize {
        size_of_val::<[Block]>(&self.blocks) + self.differences.len()
    }

    /// The way that takes fewest products; `None` if that is the sum over all known pieces for every wanted one.
    pub(super) fn plan(&self, known: &PieceSet, wanted: &PieceSet) -> Option<Plan> {
        let pieces = self.data_pieces;
        // Of a last coset that is cut short the points past Gamma count as lacking, as they can be computed but not
        // known.
        let lacking = |home: &usize| pieces - known.within(*home..home + pieces).len();
        let home = (0..self.total_pieces).step_by(pieces).min_by_key(lacking)?;
        let lacking = lacking(&home);
        let plan = Plan {
            home,
            known_elsewhere: known.within(0..home).with(&known.within(home + pieces..POINTS)),
            wanted_before: wanted.within(0..home),
            wanted_at_home: wanted.within(home..home + pieces),
            wanted_after: wanted.within(home + pieces..POINTS),
            by_differences: false,
        };
        let at_home = plan.wanted_at_home.len();
        let elsewhere = self.products(&plan.wanted_before) + self.products(&plan.wanted_after);
        if elsewhere > 0 && at_home < lacking {
            return None;
        }
        let (by_sum, by_differences) = (pieces * at_home, self.products(&plan.known_elsewhere) + lacking * at_home);
        let products = by_sum.min(by_differences) + elsewhere;
        (products < pieces * wanted.len()).then_some(Plan { by_differences: by_differences < by_sum, ..plan })
    }

    /// Products for transforms to `points`.
    fn products(&self, points: &PieceSet) -> usize {
        let (pieces, cosets) = (self.data_pieces, transform::cosets(points, self.data_pieces).count_ones() as usize);
        if cosets == 0 { 0 } else { (1 + cosets) * pieces / 2 * pieces.trailing_zeros() as usize }
    }

    /// Fills `rows` with the wanted pieces. `coefficients` is memory to work in.
    pub(super) fn compute(
        &mut self,
        plan: &Plan,
        known: &[Piece<'_>],
        piece_bytes: usize,
        coefficients: &mut [u8],
        rows: &mut [u8],
    ) {
        let (before, rest) = rows.split_at_mut(plan.wanted_before.len() * piece_bytes);
        let (at_home, after) = rest.split_at_mut(plan.wanted_at_home.len() * piece_bytes);
        let mut values: [&[u8]; POINTS] = [&[]; POINTS];
        known.iter().for_each(|piece| values[usize::from(piece.index)] = piece.bytes);
        let home = plan.home..plan.home + self.data_pieces;
        if plan.by_differences {
            self.complete_by_differences(plan, &values, piece_bytes, coefficients, at_home);
        } else if !plan.wanted_at_home.is_empty() {
            let coefficients = &mut coefficients[..plan.wanted_at_home.len() * known.len()];
            let points = plan.wanted_at_home.iter().map(|index| index as u8);
            rs8::coefficients(known.iter().map(|piece| piece.index as u8), known.len(), points, coefficients);
            self.kernel.combine(known, coefficients, piece_bytes, at_home);
        }
        for (index, row) in plan.wanted_at_home.iter().zip(at_home.chunks_exact(piece_bytes)) {
            values[index] = row;
        }
        for (wanted, rows) in [(&plan.wanted_before, before), (&plan.wanted_after, after)] {
            if !wanted.is_empty() {
                self.kernel.extend(&values[home.clone()], plan.home, wanted, piece_bytes, rows, &mut self.blocks);
            }
        }
    }

    fn complete_by_differences(
        &mut self,
        plan: &Plan,
        values: &[&[u8]; POINTS],
        piece_bytes: usize,
        coefficients: &mut [u8],
        rows: &mut [u8],
    ) {
        let (home, elsewhere) = (plan.home..plan.home + self.data_pieces, &plan.known_elsewhere);
        let differences = &mut self.differences[..elsewhere.len() * piece_bytes];
        self.kernel.extend(&values[home.clone()], plan.home, elsewhere, piece_bytes, differences, &mut self.blocks);
        for (index, difference) in elsewhere.iter().zip(differences.chunks_exact_mut(piece_bytes)) {
            difference.iter_mut().zip(values[index]).for_each(|(byte, known)| *byte ^= known);
        }
        let mut known = [Piece::default(); COSET_PIECES_MAX];
        for ((piece, index), bytes) in known.iter_mut().zip(elsewhere.iter()).zip(differences.chunks_exact(piece_bytes))
        {
            *piece = Piece { index: index as u16, bytes };
        }
        let known_at_home = home.filter(|index| !values[*index].is_empty());
        let points = elsewhere.iter().chain(known_at_home).map(|index| index as u8);
        let coefficients = &mut coefficients[..plan.wanted_at_home.len() * elsewhere.len()];
        rs8::coefficients(points, elsewhere.len(), plan.wanted_at_home.iter().map(|index| index as u8), coefficients);
        self.kernel.combine(&known[..elsewhere.len()], coefficients, piece_bytes, rows);
    }
}
