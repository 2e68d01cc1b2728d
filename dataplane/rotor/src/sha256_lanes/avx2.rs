//! SHA-256 of eight messages at once with AVX2.
#![allow(
    unsafe_code,
    reason = "vector loads and stores take pointers, and calling AVX2 code needs a promise that it is there"
)]

use std::arch::x86_64::{
    __m256i, _mm_loadu_si128, _mm_set_epi64x, _mm_storeu_si128, _mm256_add_epi32, _mm256_and_si256,
    _mm256_broadcastsi128_si256, _mm256_castsi128_si256, _mm256_extracti128_si256, _mm256_inserti128_si256,
    _mm256_or_si256, _mm256_set1_epi32, _mm256_setzero_si256, _mm256_shuffle_epi8, _mm256_slli_epi32,
    _mm256_srli_epi32, _mm256_unpackhi_epi32, _mm256_unpackhi_epi64, _mm256_unpacklo_epi32, _mm256_unpacklo_epi64,
    _mm256_xor_si256,
};

use super::lanes::{self, Lanes};
use super::{Block, HashKernel};

/// Messages at once.
pub(super) const LANES: usize = 8;

/// Takes the blocks of messages into their states. All have equally many.
pub(super) fn compress(states: &mut [[u32; 8]; LANES], blocks: &[&[Block]; LANES]) {
    #[target_feature(enable = "avx2")]
    fn with_vectors(states: &mut [[u32; 8]; LANES], blocks: &[&[Block]; LANES]) {
        lanes::compress(Avx2(()), states, blocks);
    }
    assert!(HashKernel::Avx2.is_available() && blocks.iter().all(|lane| lane.len() == blocks[0].len()));
    // SAFETY: the processor has AVX2, as just asserted.
    unsafe { with_vectors(states, blocks) }
}

/// Made only where AVX2 is enabled: in a function that is entered after asking for it.
#[derive(Clone, Copy)]
struct Avx2(());

/// A word shifted right and, for each pair of shifts that is a rotation, left: the sum of all.
macro_rules! sigma {
    ($word:expr, $right:literal $(, $left:literal)?) => {{
        let shifted = _mm256_srli_epi32::<$right>($word);
        $(let shifted = _mm256_or_si256(shifted, _mm256_slli_epi32::<$left>($word));)?
        shifted
    }};
    ($word:expr; $($right:literal $(- $left:literal)?),+) => {{
        let sum = _mm256_setzero_si256();
        $(let sum = _mm256_xor_si256(sum, sigma!($word, $right $(, $left)?));)+
        sum
    }};
}

impl Lanes for Avx2 {
    type Vector = __m256i;

    #[inline(always)]
    fn splat(self, word: u32) -> __m256i {
        // SAFETY: `self` stands for AVX2.
        unsafe { _mm256_set1_epi32(word.cast_signed()) }
    }

    #[inline(always)]
    fn add(self, left: __m256i, right: __m256i) -> __m256i {
        // SAFETY: `self` stands for AVX2.
        unsafe { _mm256_add_epi32(left, right) }
    }

    #[inline(always)]
    fn upper_sigma_0(self, word: __m256i) -> __m256i {
        // SAFETY: `self` stands for AVX2.
        unsafe { sigma!(word; 2 - 30, 13 - 19, 22 - 10) }
    }

    #[inline(always)]
    fn upper_sigma_1(self, word: __m256i) -> __m256i {
        // SAFETY: `self` stands for AVX2.
        unsafe { sigma!(word; 6 - 26, 11 - 21, 25 - 7) }
    }

    #[inline(always)]
    fn lower_sigma_0(self, word: __m256i) -> __m256i {
        // SAFETY: `self` stands for AVX2.
        unsafe { sigma!(word; 7 - 25, 18 - 14, 3) }
    }

    #[inline(always)]
    fn lower_sigma_1(self, word: __m256i) -> __m256i {
        // SAFETY: `self` stands for AVX2.
        unsafe { sigma!(word; 17 - 15, 19 - 13, 10) }
    }

    #[inline(always)]
    fn choose(self, mask: __m256i, right: __m256i, wrong: __m256i) -> __m256i {
        // SAFETY: `self` stands for AVX2.
        unsafe { _mm256_xor_si256(wrong, _mm256_and_si256(mask, _mm256_xor_si256(right, wrong))) }
    }

    #[inline(always)]
    fn majority(self, first: __m256i, second: __m256i, third: __m256i) -> __m256i {
        // SAFETY: `self` stands for AVX2.
        unsafe {
            _mm256_or_si256(_mm256_and_si256(first, second), _mm256_and_si256(third, _mm256_or_si256(first, second)))
        }
    }

    #[inline(always)]
    fn swap_bytes(self, words: __m256i) -> __m256i {
        // SAFETY: `self` stands for AVX2.
        unsafe {
            let order = _mm_set_epi64x(0x0c0d_0e0f_0809_0a0b, 0x0405_0607_0001_0203);
            _mm256_shuffle_epi8(words, _mm256_broadcastsi128_si256(order))
        }
    }

    #[inline(always)]
    fn load(self, pieces: &[&[u8; 16]]) -> [__m256i; 4] {
        assert!(pieces.len() == LANES);
        // SAFETY: `self` stands for AVX2; each piece is 16 readable bytes, and the loads need no alignment.
        unsafe {
            let mut vectors = [_mm256_setzero_si256(); 4];
            for (first, vector) in vectors.iter_mut().enumerate() {
                let low = _mm256_castsi128_si256(_mm_loadu_si128(pieces[first].as_ptr().cast()));
                *vector = _mm256_inserti128_si256::<1>(low, _mm_loadu_si128(pieces[first + 4].as_ptr().cast()));
            }
            transpose(vectors)
        }
    }

    #[inline(always)]
    fn store(self, words: [__m256i; 4], pieces: &mut [[u8; 16]]) {
        assert!(pieces.len() == LANES);
        // SAFETY: `self` stands for AVX2; each piece is 16 writable bytes, and the stores need no alignment.
        unsafe {
            for (first, vector) in transpose(words).iter().enumerate() {
                _mm_storeu_si128(pieces[first].as_mut_ptr().cast(), _mm256_extracti128_si256::<0>(*vector));
                _mm_storeu_si128(pieces[first + 4].as_mut_ptr().cast(), _mm256_extracti128_si256::<1>(*vector));
            }
        }
    }
}

/// Rows become columns in every 16 bytes of four vectors.
///
/// # Safety
/// The processor must have AVX2.
#[inline(always)]
unsafe fn transpose([a, b, c, d]: [__m256i; 4]) -> [__m256i; 4] {
    // SAFETY: the caller promises AVX2.
    unsafe {
        let (low, high) = (_mm256_unpacklo_epi32(a, b), _mm256_unpackhi_epi32(a, b));
        let (next_low, next_high) = (_mm256_unpacklo_epi32(c, d), _mm256_unpackhi_epi32(c, d));
        [
            _mm256_unpacklo_epi64(low, next_low),
            _mm256_unpackhi_epi64(low, next_low),
            _mm256_unpacklo_epi64(high, next_high),
            _mm256_unpackhi_epi64(high, next_high),
        ]
    }
}
