//! SHA-256 (FIPS 180-4) of as many messages at once as a vector has lanes of 32 bits, written once for all vectors.

use super::{Block, CONSTANTS};

/// Vectors with a word of every message.
///
/// A value of an implementing type stands for the promise that this processor has the instructions, so that its methods
/// are safe. They are there to be inlined into a function that is compiled for these instructions.
pub(super) trait Lanes: Copy {
    type Vector: Copy;

    fn splat(self, word: u32) -> Self::Vector;
    fn add(self, left: Self::Vector, right: Self::Vector) -> Self::Vector;
    /// The standard's Σ0, Σ1, σ0 and σ1.
    fn upper_sigma_0(self, word: Self::Vector) -> Self::Vector;
    fn upper_sigma_1(self, word: Self::Vector) -> Self::Vector;
    fn lower_sigma_0(self, word: Self::Vector) -> Self::Vector;
    fn lower_sigma_1(self, word: Self::Vector) -> Self::Vector;
    /// Bits of `right` where `mask` has ones, else of `wrong`.
    fn choose(self, mask: Self::Vector, right: Self::Vector, wrong: Self::Vector) -> Self::Vector;
    fn majority(self, first: Self::Vector, second: Self::Vector, third: Self::Vector) -> Self::Vector;
    fn swap_bytes(self, words: Self::Vector) -> Self::Vector;

    /// Four words of every message, the pieces being those of the messages in order: word `i` of all in vector `i`.
    fn load(self, pieces: &[&[u8; 16]]) -> [Self::Vector; 4];
    /// The other way round.
    fn store(self, words: [Self::Vector; 4], pieces: &mut [[u8; 16]]);
}

/// Written out, so that every place is a constant and the words stay in registers: the compiler leaves loops of that
/// length.
macro_rules! at_every_place {
    ($place:ident => $work:expr) => {
        at_every_place!($place => $work; 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15);
    };
    ($place:ident => $work:expr; $($value:literal)*) => {
        $({
            const PLACE: usize = $value;
            let $place = PLACE;
            $work;
        })*
    };
}

/// Takes the blocks of `N` messages, as many as there are lanes, into their states. All have equally many.
#[inline(always)]
pub(super) fn compress<L: Lanes, const N: usize>(lanes: L, states: &mut [[u32; 8]; N], blocks: &[&[Block]; N]) {
    let mut state = load_states(lanes, states);
    for index in 0..blocks[0].len() {
        let mut words = load_block(lanes, blocks, index);
        let before = state;
        let (constants, last) = CONSTANTS.as_flattened().as_flattened().split_at(48);
        for constants in constants.as_chunks::<16>().0 {
            at_every_place!(place => {
                round(lanes, &mut state, words[place], constants[place]);
                words[place] = next_word(lanes, &words, place);
            });
        }
        at_every_place!(place => round(lanes, &mut state, words[place], last[place]));
        for (word, before) in state.iter_mut().zip(before) {
            *word = lanes.add(*word, before);
        }
    }
    store_states(lanes, state, states);
}

/// One round: the variables move on by one place.
#[inline(always)]
fn round<L: Lanes>(lanes: L, state: &mut [L::Vector; 8], word: L::Vector, constant: u32) {
    let [a, b, c, d, e, f, g, h] = *state;
    let word = lanes.add(word, lanes.splat(constant));
    let first = lanes.add(lanes.add(h, word), lanes.add(lanes.upper_sigma_1(e), lanes.choose(e, f, g)));
    let second = lanes.add(lanes.upper_sigma_0(a), lanes.majority(a, b, c));
    *state = [lanes.add(first, second), a, b, c, lanes.add(d, first), e, f, g];
}

/// The word of the message schedule sixteen after the one in place `place`.
#[inline(always)]
fn next_word<L: Lanes>(lanes: L, words: &[L::Vector; 16], place: usize) -> L::Vector {
    let sigma_0 = lanes.lower_sigma_0(words[(place + 1) % 16]);
    let sigma_1 = lanes.lower_sigma_1(words[(place + 14) % 16]);
    lanes.add(lanes.add(words[place], sigma_0), lanes.add(words[(place + 9) % 16], sigma_1))
}

#[inline(always)]
fn load_block<L: Lanes, const N: usize>(lanes: L, blocks: &[&[Block]; N], index: usize) -> [L::Vector; 16] {
    let mut words = [lanes.splat(0); 16];
    for (place, words) in words.as_chunks_mut::<4>().0.iter_mut().enumerate() {
        let mut pieces = [&[0; 16]; N];
        for (piece, lane) in pieces.iter_mut().zip(blocks) {
            *piece = &lane[index].as_chunks().0[place];
        }
        *words = lanes.load(&pieces);
        for word in words {
            *word = lanes.swap_bytes(*word);
        }
    }
    words
}

#[inline(always)]
fn load_states<L: Lanes, const N: usize>(lanes: L, states: &[[u32; 8]; N]) -> [L::Vector; 8] {
    let mut bytes = [[[0; 16]; N]; 2];
    for lane in 0..N {
        for (place, word) in states[lane].iter().enumerate() {
            bytes[place / 4][lane][4 * (place % 4)..][..4].copy_from_slice(&word.to_le_bytes());
        }
    }
    let [a, b, c, d] = lanes.load(&bytes[0].each_ref());
    let [e, f, g, h] = lanes.load(&bytes[1].each_ref());
    [a, b, c, d, e, f, g, h]
}

#[inline(always)]
fn store_states<L: Lanes, const N: usize>(lanes: L, state: [L::Vector; 8], states: &mut [[u32; 8]; N]) {
    let [a, b, c, d, e, f, g, h] = state;
    let mut bytes = [[[0; 16]; N]; 2];
    lanes.store([a, b, c, d], &mut bytes[0]);
    lanes.store([e, f, g, h], &mut bytes[1]);
    for lane in 0..N {
        for (place, word) in states[lane].iter_mut().enumerate() {
            let [first, second, third, fourth] = bytes[place / 4][lane].as_chunks::<4>().0[place % 4];
            *word = u32::from_le_bytes([first, second, third, fourth]);
        }
    }
}
