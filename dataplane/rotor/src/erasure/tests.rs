use proptest::prelude::*;
use reed_solomon_erasure::galois_8::ReedSolomon;

use super::*;

const CODES: [(usize, usize); 13] = [
    (32, 64),
    (16, 32),
    (1, 2),
    (32, 96),
    (200, 255),
    (1, 255),
    (254, 255),
    (5, 9),
    // With transforms: the smallest, the largest, and with a last coset that is cut short.
    (8, 9),
    (8, 20),
    (64, 128),
    (64, 255),
    (128, 255),
];

fn code(data: usize, total: usize, kernel: Kernel) -> ErasureCode {
    ErasureCode::with_kernel(&CodingParameters::new(Code::Rs8, data, total, 256, 1_232).unwrap(), kernel)
}

/// All pieces of a word, by the oracle. The data is deterministic noise.
fn word(data: usize, total: usize, piece_bytes: usize, seed: u64) -> Vec<Vec<u8>> {
    let mut state = seed | 1;
    let mut noise = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    let mut word: Vec<Vec<u8>> = (0..total).map(|_| (0..piece_bytes).map(|_| noise()).collect()).collect();
    ReedSolomon::new(data, total - data).unwrap().encode(&mut word).unwrap();
    word
}

fn check(data: usize, total: usize, piece_bytes: usize, seed: u64, known: &[usize]) {
    let word = word(data, total, piece_bytes, seed);
    let pieces: Vec<_> = known.iter().map(|index| Piece { index: *index as u16, bytes: &word[*index] }).collect();
    let mut wanted = PieceSet::below(total);
    known.iter().for_each(|index| wanted.remove(*index));
    for kernel in Kernel::ALL.into_iter().filter(|kernel| kernel.is_available()) {
        let mut code = code(data, total, kernel);
        let computed: Vec<_> = code.compute(&pieces, &wanted).iter().collect();
        assert_eq!(computed.len(), total - data);
        for (index, bytes) in computed {
            assert_eq!(bytes, word[index], "{} kernel, piece {index} of {data}/{total} from {known:?}", kernel.name());
        }
    }
}

#[test]
fn parity_is_that_of_the_oracle() {
    for (data, total) in CODES {
        for piece_bytes in [1, 2, 31, 63, 64, 65, 130, 256] {
            check(data, total, piece_bytes, 5, &(0..data).collect::<Vec<_>>());
        }
    }
}

#[test]
fn all_parity_alone_gives_the_data() {
    for (data, total) in [(32, 64), (16, 32), (1, 2), (32, 96), (8, 16), (64, 128)] {
        check(data, total, 66, 6, &(total - data..total).collect::<Vec<_>>());
    }
}

/// Whichever way is fastest for a number of lost pieces and wherever they are.
#[test]
fn every_number_of_lost_data_pieces_is_made_up_for_by_any_parity() {
    for (data, total, step) in
        [(32, 64, 1), (8, 16, 1), (16, 32, 1), (32, 96, 5), (8, 20, 1), (64, 128, 13), (128, 255, 31)]
    {
        for lost in (0..=data.min(total - data)).step_by(step) {
            let spread =
                |from: usize, to: usize, count: usize| (0..count).map(move |nth| from + nth * (to - from) / count);
            for kept in
                [(0..data - lost).collect(), (lost..data).collect(), spread(0, data, data - lost).collect::<Vec<_>>()]
            {
                for parity in [data..data + lost, total - lost..total] {
                    check(data, total, 162, 9, &kept.iter().copied().chain(parity).collect::<Vec<_>>());
                }
                let known = kept.into_iter().chain(spread(data, total, lost));
                check(data, total, 162, 9, &known.collect::<Vec<_>>());
            }
        }
    }
}

/// Some of what is missing is enough for a caller that does not encode again.
#[test]
fn wanted_pieces_need_not_be_all_that_are_missing() {
    let word = word(32, 64, 256, 10);
    for lost in [1, 2, 7, 16, 30, 32] {
        let known = (lost..32).chain(64 - lost..64);
        let pieces: Vec<_> = known.map(|index| Piece { index: index as u16, bytes: &word[index] }).collect();
        for indices in [
            vec![0],
            vec![33 - lost, lost - 1],
            (0..lost).collect(),
            (32..64 - lost).collect(),
            vec![0, 31 + lost / 32],
        ] {
            let mut wanted = PieceSet::default();
            let indices =
                indices.into_iter().filter(|index| pieces.iter().all(|piece| usize::from(piece.index) != *index));
            indices.for_each(|index| {
                wanted.insert(index);
            });
            for kernel in Kernel::ALL.into_iter().filter(|kernel| kernel.is_available()) {
                let mut code = code(32, 64, kernel);
                let computed: Vec<_> = code.compute(&pieces, &wanted).iter().collect();
                let expected: Vec<_> = wanted.iter().map(|index| (index, word[index].as_slice())).collect();
                assert_eq!(computed, expected, "{} kernel, {lost} lost", kernel.name());
            }
        }
    }
}

#[test]
fn the_order_of_known_pieces_does_not_matter() {
    check(5, 9, 34, 7, &[8, 0, 3, 7, 2]);
}

#[test]
fn one_wanted_piece_is_computed_alone() {
    let word = word(32, 64, 256, 8);
    let pieces: Vec<_> = (32..64).map(|index| Piece { index, bytes: &word[usize::from(index)] }).collect();
    let mut wanted = PieceSet::default();
    wanted.insert(17);
    let mut code = code(32, 64, Kernel::best());
    let computed: Vec<_> = code.compute(&pieces, &wanted).iter().collect();
    assert_eq!(computed, [(17, word[17].as_slice())]);
}

#[test]
#[should_panic(expected = "gamma pieces determine the others")]
fn too_few_known_pieces_are_a_mistake_of_the_caller() {
    let known = [Piece { index: 0, bytes: &[1, 2] }];
    code(2, 4, Kernel::Portable).compute(&known, &PieceSet::default());
}

#[test]
#[should_panic(expected = "insert")]
fn a_piece_known_twice_is_a_mistake_of_the_caller() {
    let known = [Piece { index: 1, bytes: &[1, 2] }; 2];
    code(2, 4, Kernel::Portable).compute(&known, &PieceSet::default());
}

#[test]
fn a_piece_set_keeps_what_it_is_given() {
    let mut set = PieceSet::default();
    assert!(set.is_empty());
    for index in [255, 0, 63, 64, 128, 511] {
        assert!(set.insert(index) && !set.insert(index) && set.contains(index));
    }
    assert_eq!(set.iter().collect::<Vec<_>>(), [0, 63, 64, 128, 255, 511]);
    set.remove(64);
    assert_eq!((set.len(), set.contains(64)), (5, false));
    for count in 0..=512 {
        assert_eq!(PieceSet::below(count).iter().collect::<Vec<_>>(), (0..count).collect::<Vec<_>>());
    }
    assert_eq!(set.within(63..512).iter().collect::<Vec<_>>(), [63, 128, 255, 511]);
    assert_eq!(set.within(1..63).with(&set.within(64..255)).iter().collect::<Vec<_>>(), [128]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_gamma_pieces_give_all_others(
        ((data, total), known) in prop::sample::select(CODES.to_vec()).prop_flat_map(|(data, total)| {
            let known = Just((0..total).collect::<Vec<_>>()).prop_shuffle().prop_map(move |order| order[..data].to_vec());
            (Just((data, total)), known)
        }),
        piece_bytes in 1..=256_usize,
        seed: u64,
    ) {
        check(data, total, piece_bytes, seed, &known);
    }
}
