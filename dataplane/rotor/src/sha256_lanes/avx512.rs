//! SHA-256 of sixteen messages at once with AVX-512.
#![allow(
    unsafe_code,
    reason = "vector loads and stores take pointers, and calling AVX-512 code needs a promise that it is there"
)]

use std::arch::x86_64::{
    __m512i, _mm_loadu_si128, _mm_set_epi64x, _mm_storeu_si128, _mm512_add_epi32, _mm512_broadcast_i32x4,
    _mm512_castsi128_si512, _mm512_extracti32x4_epi32, _mm512_inserti32x4, _mm512_ror_epi32, _mm512_set1_epi32,
    _mm512_setzero_si512, _mm512_shuffle_epi8, _mm512_srli_epi32, _mm512_ternarylogic_epi32, _mm512_unpackhi_epi32,
    _mm512_unpackhi_epi64, _mm512_unpacklo_epi32, _mm512_unpacklo_epi64,
};

use super::lanes::{self, Lanes};
use super::{Block, HashKernel};

/// Messages at once.
pub(super) const LANES: usize = 16;

/// Takes the blocks of messages into their states. All have equally many.
pub(super) fn compress(states: &mut [[u32; 8]; LANES], blocks: &[&[Block]; LANES]) {
    #[target_feature(enable = "avx512f,avx512bw")]
    fn with_vectors(states: &mut [[u32; 8]; LANES], blocks: &[&[Block]; LANES]) {
        lanes::compress(Avx512(()), states, blocks);
    }
    assert!(HashKernel::Avx512.is_available() && blocks.iter().all(|lane| lane.len() == blocks[0].len()));
    // SAFETY: the processor has AVX-512, as just asserted.
    unsafe { with_vectors(states, blocks) }
}

/// Made only where AVX-512 is enabled: in a function that is entered after asking for it.
#[derive(Clone, Copy)]
struct Avx512(());

/// Truth tables of three inputs, as `vpternlogd` takes them.
const XOR: i32 = 0x96;
const CHOOSE: i32 = 0xca;
const MAJORITY: i32 = 0xe8;

impl Lanes for Avx512 {
    type Vector = __m512i;

    #[inline(always)]
    fn splat(self, word: u32) -> __m512i {
        // SAFETY: `self` stands for AVX-512.
        unsafe { _mm512_set1_epi32(word.cast_signed()) }
    }

    #[inline(always)]
    fn add(self, left: __m512i, right: __m512i) -> __m512i {
        // SAFETY: `self` stands for AVX-512.
        unsafe { _mm512_add_epi32(left, right) }
    }

    #[inline(always)]
    fn upper_sigma_0(self, word: __m512i) -> __m512i {
        // SAFETY: `self` stands for AVX-512.
        unsafe {
            _mm512_ternarylogic_epi32::<XOR>(
                _mm512_ror_epi32::<2>(word),
                _mm512_ror_epi32::<13>(word),
                _mm512_ror_epi32::<22>(word),
            )
        }
    }

    #[inline(always)]
    fn upper_sigma_1(self, word: __m512i) -> __m512i {
        // SAFETY: `self` stands for AVX-512.
        unsafe {
            _mm512_ternarylogic_epi32::<XOR>(
                _mm512_ror_epi32::<6>(word),
                _mm512_ror_epi32::<11>(word),
                _mm512_ror_epi32::<25>(word),
            )
        }
    }

    #[inline(always)]
    fn lower_sigma_0(self, word: __m512i) -> __m512i {
        // SAFETY: `self` stands for AVX-512.
        unsafe {
            _mm512_ternarylogic_epi32::<XOR>(
                _mm512_ror_epi32::<7>(word),
                _mm512_ror_epi32::<18>(word),
                _mm512_srli_epi32::<3>(word),
            )
        }
    }

    #[inline(always)]
    fn lower_sigma_1(self, word: __m512i) -> __m512i {
        // SAFETY: `self` stands for AVX-512.
        unsafe {
            _mm512_ternarylogic_epi32::<XOR>(
                _mm512_ror_epi32::<17>(word),
                _mm512_ror_epi32::<19>(word),
                _mm512_srli_epi32::<10>(word),
            )
        }
    }

    #[inline(always)]
    fn choose(self, mask: __m512i, right: __m512i, wrong: __m512i) -> __m512i {
        // SAFETY: `self` stands for AVX-512.
        unsafe { _mm512_ternarylogic_epi32::<CHOOSE>(mask, right, wrong) }
    }

    #[inline(always)]
    fn majority(self, first: __m512i, second: __m512i, third: __m512i) -> __m512i {
        // SAFETY: `self` stands for AVX-512.
        unsafe { _mm512_ternarylogic_epi32::<MAJORITY>(first, second, third) }
    }

    #[inline(always)]
    fn swap_bytes(self, words: __m512i) -> __m512i {
        // SAFETY: `self` stands for AVX-512.
        unsafe {
            let order = _mm_set_epi64x(0x0c0d_0e0f_0809_0a0b, 0x0405_0607_0001_0203);
            _mm512_shuffle_epi8(words, _mm512_broadcast_i32x4(order))
        }
    }

    #[inline(always)]
    fn load(self, pieces: &[&[u8; 16]]) -> [__m512i; 4] {
        assert!(pieces.len() == LANES);
        // SAFETY: `self` stands for AVX-512; each piece is 16 readable bytes, and the loads need no alignment.
        unsafe {
            let mut vectors = [_mm512_setzero_si512(); 4];
            for (first, vector) in vectors.iter_mut().enumerate() {
                let low = _mm512_castsi128_si512(_mm_loadu_si128(pieces[first].as_ptr().cast()));
                let low = _mm512_inserti32x4::<1>(low, _mm_loadu_si128(pieces[first + 4].as_ptr().cast()));
                let low = _mm512_inserti32x4::<2>(low, _mm_loadu_si128(pieces[first + 8].as_ptr().cast()));
                *vector = _mm512_inserti32x4::<3>(low, _mm_loadu_si128(pieces[first + 12].as_ptr().cast()));
            }
            transpose(vectors)
        }
    }

    #[inline(always)]
    fn store(self, words: [__m512i; 4], pieces: &mut [[u8; 16]]) {
        assert!(pieces.len() == LANES);
        // SAFETY: `self` stands for AVX-512; each piece is 16 writable bytes, and the stores need no alignment.
        unsafe {
            for (first, vector) in transpose(words).iter().enumerate() {
                _mm_storeu_si128(pieces[first].as_mut_ptr().cast(), _mm512_extracti32x4_epi32::<0>(*vector));
                _mm_storeu_si128(pieces[first + 4].as_mut_ptr().cast(), _mm512_extracti32x4_epi32::<1>(*vector));
                _mm_storeu_si128(pieces[first + 8].as_mut_ptr().cast(), _mm512_extracti32x4_epi32::<2>(*vector));
                _mm_storeu_si128(pieces[first + 12].as_mut_ptr().cast(), _mm512_extracti32x4_epi32::<3>(*vector));
            }
        }
    }
}

/// Rows become columns in every 16 bytes of four vectors.
///
/// # Safety
/// The processor must have AVX-512.
#[inline(always)]
unsafe fn transpose([a, b, c, d]: [__m512i; 4]) -> [__m512i; 4] {
    // SAFETY: the caller promises AVX-512.
    unsafe {
        let (low, high) = (_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
        let (next_low, next_high) = (_mm512_unpacklo_epi32(c, d), _mm512_unpackhi_epi32(c, d));
        [
            _mm512_unpacklo_epi64(low, next_low),
            _mm512_unpackhi_epi64(low, next_low),
            _mm512_unpacklo_epi64(high, next_high),
            _mm512_unpackhi_epi64(high, next_high),
        ]
    }
}
