//! The code `leopard16`: the Reed-Solomon code over GF(2^16) as the reed-solomon-simd crate lays it out, for slices of
//! more shreds than GF(2^8) has points. Data pieces are what they are, piece `gamma + i` is the crate's recovery shard
//! `i`.
//!
//! The crate restores data pieces only, so whatever is wanted is computed by way of all data pieces: missing ones are
//! decoded, then the others are encoded. Decoding takes a transform over the whole field, however many pieces are lost:
//! 0.3 to 1 ms, during which 128 KiB of stack are in use. Pieces have an even number of bytes.
//!
//! The crate's buffers never shrink. They are made here for the longest pieces and used once, which also fills in its
//! tables (some 10 MiB, shared by the whole process), so later computations allocate nothing.

use reed_solomon_simd::engine::{DefaultEngine, Engine, NoSimd};
use reed_solomon_simd::rate::{DefaultRateDecoder, DefaultRateEncoder, RateDecoder, RateEncoder};

use super::{Kernel, Piece, PieceSet};
use crate::parameters::{CodingParameters, DATA_SHREDS_MAX};

/// Why the crate's errors cannot occur.
const CHECKED: &str = "gamma different pieces of one even length, as the code was made for";

/// The memory that the code works in.
pub(super) struct Leopard16 {
    engine: Engines,
    /// The wanted pieces.
    rows: Box<[u8]>,
    heap_bytes: usize,
}

/// The crate's instructions for this processor, or none beyond the common ones.
enum Engines {
    Plain(Coder<NoSimd>),
    Vector(Coder<DefaultEngine>),
}

impl Leopard16 {
    pub(super) fn new(parameters: &CodingParameters, kernel: Kernel) -> Self {
        let (data_pieces, total_pieces) = (parameters.data_shreds(), parameters.total_shreds());
        let (parity_pieces, piece_bytes_max) = (total_pieces - data_pieces, parameters.shred_bytes());
        let engine = match kernel {
            Kernel::Portable => Engines::Plain(Coder::new(data_pieces, parity_pieces, piece_bytes_max)),
            _ => Engines::Vector(Coder::new(data_pieces, parity_pieces, piece_bytes_max)),
        };
        let rows = vec![0; parity_pieces * piece_bytes_max].into_boxed_slice();
        // What encoder and decoder of the crate pad their numbers of pieces to.
        let (fewer, more) = (data_pieces.min(parity_pieces).next_power_of_two(), data_pieces.max(parity_pieces));
        let padded_pieces = more.next_multiple_of(fewer) + (fewer + more).next_power_of_two();
        let heap_bytes = rows.len() + padded_pieces * piece_bytes_max.next_multiple_of(64);
        Self { engine, rows, heap_bytes }
    }

    /// At most; without the tables that all of a process share.
    pub(super) const fn heap_bytes(&self) -> usize {
        self.heap_bytes
    }

    /// The pieces `wanted`, one after the other, from gamma known ones.
    pub(super) fn compute(
        &mut self,
        known: &[Piece<'_>],
        known_set: &PieceSet,
        wanted: &PieceSet,
        piece_bytes: usize,
    ) -> &[u8] {
        assert!(piece_bytes.is_multiple_of(2), "leopard16 takes pieces of an even length");
        let rows = &mut self.rows[..wanted.len() * piece_bytes];
        match &mut self.engine {
            Engines::Plain(coder) => coder.compute(known, known_set, wanted, piece_bytes, rows),
            Engines::Vector(coder) => coder.compute(known, known_set, wanted, piece_bytes, rows),
        }
        rows
    }
}

struct Coder<E: Engine> {
    data_pieces: usize,
    parity_pieces: usize,
    encoder: DefaultRateEncoder<E>,
    decoder: DefaultRateDecoder<E>,
}

impl<E: Engine + Default> Coder<E> {
    fn new(data_pieces: usize, parity_pieces: usize, piece_bytes_max: usize) -> Self {
        let mut coder = Self {
            data_pieces,
            parity_pieces,
            encoder: DefaultRateEncoder::new(data_pieces, parity_pieces, piece_bytes_max, E::default(), None)
                .expect("codes of up to 512 pieces of an even length are supported"),
            decoder: DefaultRateDecoder::new(data_pieces, parity_pieces, piece_bytes_max, E::default(), None)
                .expect("codes of up to 512 pieces of an even length are supported"),
        };
        coder.warm_up();
        coder
    }

    /// Restores a data piece, which fills in the tables that are made at their first use.
    fn warm_up(&mut self) {
        let (bytes, total_pieces) = ([0; 2], self.data_pieces + self.parity_pieces);
        let known: Vec<Piece<'_>> =
            (1..=self.data_pieces).map(|index| Piece { index: index as u16, bytes: &bytes }).collect();
        let mut known_set = PieceSet::below(1 + self.data_pieces);
        known_set.remove(0);
        let mut wanted = PieceSet::below(total_pieces);
        known_set.iter().for_each(|index| wanted.remove(index));
        let mut rows = vec![0; wanted.len() * bytes.len()];
        self.compute(&known, &known_set, &wanted, bytes.len(), &mut rows);
    }

    fn compute(
        &mut self,
        known: &[Piece<'_>],
        known_set: &PieceSet,
        wanted: &PieceSet,
        piece_bytes: usize,
        rows: &mut [u8],
    ) {
        let (data_pieces, parity_pieces) = (self.data_pieces, self.parity_pieces);
        let (wanted_data, wanted_parity) =
            (wanted.within(0..data_pieces), wanted.within(data_pieces..data_pieces + parity_pieces));
        let (data_rows, parity_rows) = rows.split_at_mut(wanted_data.len() * piece_bytes);
        let mut data: [&[u8]; DATA_SHREDS_MAX] = [&[]; DATA_SHREDS_MAX];
        let data = &mut data[..data_pieces];

        self.decoder.reset(data_pieces, parity_pieces, piece_bytes).expect(CHECKED);
        for piece in known {
            let index = usize::from(piece.index);
            match index.checked_sub(data_pieces) {
                None => {
                    data[index] = piece.bytes;
                    self.decoder.add_original_shard(index, piece.bytes).expect(CHECKED);
                }
                Some(parity) => self.decoder.add_recovery_shard(parity, piece.bytes).expect(CHECKED),
            }
        }
        // Nothing is computed if all data pieces are known.
        let decoded = self.decoder.decode().expect(CHECKED);
        for (index, bytes) in decoded.restored_original_iter() {
            assert!(!known_set.contains(index));
            data[index] = bytes;
        }
        for (row, index) in data_rows.chunks_exact_mut(piece_bytes).zip(wanted_data.iter()) {
            row.copy_from_slice(data[index]);
        }
        if wanted_parity.is_empty() {
            return;
        }
        self.encoder.reset(data_pieces, parity_pieces, piece_bytes).expect(CHECKED);
        data.iter().for_each(|bytes| self.encoder.add_original_shard(bytes).expect(CHECKED));
        let encoded = self.encoder.encode().expect(CHECKED);
        for (row, index) in parity_rows.chunks_exact_mut(piece_bytes).zip(wanted_parity.iter()) {
            row.copy_from_slice(encoded.recovery(index - data_pieces).expect(CHECKED));
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use sha2::{Digest, Sha256};

    use crate::erasure::{ErasureCode, Kernel, Piece, PieceSet};
    use crate::parameters::{Code, CodingParameters};

    const CODES: [(usize, usize); 8] =
        [(32, 64), (32, 96), (32, 320), (16, 32), (1, 2), (1, 512), (255, 512), (255, 256)];

    /// All pieces of a word, by the crate's own function. The data is deterministic noise.
    fn word(data: usize, total: usize, piece_bytes: usize, seed: u64) -> Vec<Vec<u8>> {
        let mut state = seed | 1;
        let mut noise = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 56) as u8
        };
        let mut word: Vec<Vec<u8>> = (0..data).map(|_| (0..piece_bytes).map(|_| noise()).collect()).collect();
        word.extend(reed_solomon_simd::encode(data, total - data, &word).unwrap());
        word
    }

    fn code(data: usize, total: usize, kernel: Kernel) -> ErasureCode {
        let parameters = CodingParameters::new(Code::Leopard16, data, total, 256, 1_232).unwrap();
        ErasureCode::with_kernel(&parameters, kernel)
    }

    /// Whether `wanted` is computed from `known`, with every kernel, by codes that have computed other lengths before.
    fn check(word: &[Vec<u8>], data: usize, known: &[usize], wanted: &PieceSet) {
        let total = word.len();
        let pieces: Vec<_> = known.iter().map(|index| Piece { index: *index as u16, bytes: &word[*index] }).collect();
        let others = [vec![0xa5; 256], vec![0x5a; 2]];
        for kernel in [Kernel::Portable, Kernel::best()] {
            let mut code = code(data, total, kernel);
            for other in &others {
                let pieces: Vec<_> = known.iter().map(|index| Piece { index: *index as u16, bytes: other }).collect();
                assert_eq!(code.compute(&pieces, wanted).iter().count(), wanted.len());
            }
            let computed: Vec<_> = code.compute(&pieces, wanted).iter().collect();
            let expected: Vec<_> = wanted.iter().map(|index| (index, word[index].as_slice())).collect();
            assert!(computed == expected, "{} kernel, {data}/{total} from {known:?}", kernel.name());
        }
    }

    fn all_but(total: usize, known: &[usize]) -> PieceSet {
        let mut wanted = PieceSet::below(total);
        known.iter().for_each(|index| wanted.remove(*index));
        wanted
    }

    #[test]
    fn parity_is_that_of_the_crate_for_every_even_length() {
        for (data, total) in CODES {
            for piece_bytes in [2, 4, 62, 64, 66, 130, 256] {
                let known: Vec<usize> = (0..data).collect();
                check(&word(data, total, piece_bytes, 5), data, &known, &all_but(total, &known));
            }
        }
    }

    /// The pieces are what travels: another version of the crate must not lay them out differently.
    #[test]
    fn the_parity_hashes_to_this() {
        let digest = |data, total| {
            let word = word(data, total, 130, 1);
            let digest = Sha256::digest(word[data..].concat());
            digest.iter().map(|byte| format!("{byte:02x}")).collect::<String>()
        };
        let digests = [(32, 64), (32, 320), (255, 512)].map(|(data, total)| digest(data, total));
        let expected = [
            "85b7868b678f1815adde287a334d7befbbc386cfe113a809a25df8e250725ffd",
            "5ebc379da01a6c5fb1e04567364e4691fe41123c2a02c1ab1e9feaea73efbaff",
            "02e655a79c3776d3f0ebae94103aa07cde290dfa9316e7e41d0c96509696071a",
        ];
        assert_eq!(digests, expected);
    }

    #[test]
    fn wanted_pieces_need_not_be_all_that_are_missing() {
        let word = word(32, 320, 66, 7);
        let known: Vec<usize> = (10..32).chain(300..310).collect();
        for indices in [vec![0], vec![9, 32, 319], vec![200], vec![]] {
            let mut wanted = PieceSet::default();
            indices.into_iter().for_each(|index| {
                wanted.insert(index);
            });
            check(&word, 32, &known, &wanted);
        }
    }

    #[test]
    #[should_panic(expected = "even length")]
    fn an_odd_length_is_a_mistake_of_the_caller() {
        let known = [Piece { index: 0, bytes: &[1] }];
        code(1, 2, Kernel::Portable).compute(&known, &all_but(2, &[0]));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn any_gamma_pieces_give_all_others(
            ((data, total), known) in prop::sample::select(CODES.to_vec()).prop_flat_map(|(data, total)| {
                let known = Just((0..total).collect::<Vec<_>>()).prop_shuffle().prop_map(move |order| order[..data].to_vec());
                (Just((data, total)), known)
            }),
            half in 1..=128_usize,
            seed: u64,
        ) {
            check(&word(data, total, 2 * half, seed), data, &known, &all_but(total, &known));
        }
    }
}
