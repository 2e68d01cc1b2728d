//! SHA-256 with the processor's own instructions for it, for several messages at once.
//!
//! Two rounds of one message take one instruction, which needs the result of the one before. A second message fills the
//! time in which the first one waits.
#![allow(
    unsafe_code,
    reason = "vector loads and stores take pointers, and calling SHA-NI code needs a promise that it is there"
)]

use std::arch::x86_64::{
    __m128i, _mm_add_epi32, _mm_alignr_epi8, _mm_blend_epi16, _mm_loadu_si128, _mm_set_epi64x, _mm_setzero_si128,
    _mm_sha256msg1_epu32, _mm_sha256msg2_epu32, _mm_sha256rnds2_epu32, _mm_shuffle_epi8, _mm_shuffle_epi32,
    _mm_storeu_si128,
};

use super::{Block, HashKernel};

/// The round constants, four rounds a row and sixteen a table: the first 32 bits of the fractional parts of the cube roots of the first 64
/// primes (FIPS 180-4).
static CONSTANTS: [[[u32; 4]; 4]; 4] = [
    [
        [0x428a_2f98, 0x7137_4491, 0xb5c0_fbcf, 0xe9b5_dba5],
        [0x3956_c25b, 0x59f1_11f1, 0x923f_82a4, 0xab1c_5ed5],
        [0xd807_aa98, 0x1283_5b01, 0x2431_85be, 0x550c_7dc3],
        [0x72be_5d74, 0x80de_b1fe, 0x9bdc_06a7, 0xc19b_f174],
    ],
    [
        [0xe49b_69c1, 0xefbe_4786, 0x0fc1_9dc6, 0x240c_a1cc],
        [0x2de9_2c6f, 0x4a74_84aa, 0x5cb0_a9dc, 0x76f9_88da],
        [0x983e_5152, 0xa831_c66d, 0xb003_27c8, 0xbf59_7fc7],
        [0xc6e0_0bf3, 0xd5a7_9147, 0x06ca_6351, 0x1429_2967],
    ],
    [
        [0x27b7_0a85, 0x2e1b_2138, 0x4d2c_6dfc, 0x5338_0d13],
        [0x650a_7354, 0x766a_0abb, 0x81c2_c92e, 0x9272_2c85],
        [0xa2bf_e8a1, 0xa81a_664b, 0xc24b_8b70, 0xc76c_51a3],
        [0xd192_e819, 0xd699_0624, 0xf40e_3585, 0x106a_a070],
    ],
    [
        [0x19a4_c116, 0x1e37_6c08, 0x2748_774c, 0x34b0_bcb5],
        [0x391c_0cb3, 0x4ed8_aa4a, 0x5b9c_ca4f, 0x682e_6ff3],
        [0x748f_82ee, 0x78a5_636f, 0x84c8_7814, 0x8cc7_0208],
        [0x90be_fffa, 0xa450_6ceb, 0xbef9_a3f7, 0xc671_78f2],
    ],
];

/// Takes the blocks of `N` messages into their states. All have equally many.
#[inline]
pub(super) fn compress<const N: usize>(states: &mut [[u32; 8]; N], blocks: &[&[Block]; N]) {
    assert!(HashKernel::ShaNi.is_available() && blocks.iter().all(|lane| lane.len() == blocks[0].len()));
    // SAFETY: the processor has SHA-NI and AVX, as just asserted.
    unsafe { compress_sha(states, blocks) }
}

#[target_feature(enable = "sha,avx")]
fn compress_sha<const N: usize>(states: &mut [[u32; 8]; N], blocks: &[&[Block]; N]) {
    let mut working = [Working { abef: _mm_setzero_si128(), cdgh: _mm_setzero_si128() }; N];
    for (working, state) in working.iter_mut().zip(&*states) {
        *working = Working::load(state);
    }
    for index in 0..blocks[0].len() {
        let before = working;
        let mut words = load_words(blocks, index);
        let (last, others) = CONSTANTS.split_last().expect("64 rounds are four times sixteen");
        for constants in others {
            sixteen_rounds(&mut working, &words, constants);
            schedule(&mut words);
        }
        sixteen_rounds(&mut working, &words, last);
        for (working, before) in working.iter_mut().zip(before) {
            working.abef = _mm_add_epi32(working.abef, before.abef);
            working.cdgh = _mm_add_epi32(working.cdgh, before.cdgh);
        }
    }
    for (working, state) in working.iter().zip(states) {
        working.store(state);
    }
}

/// The eight working variables as the instructions want them.
#[derive(Clone, Copy)]
struct Working {
    abef: __m128i,
    cdgh: __m128i,
}

impl Working {
    #[inline]
    #[target_feature(enable = "sha,avx")]
    fn load(state: &[u32; 8]) -> Self {
        let pointer = state.as_ptr().cast::<__m128i>();
        // SAFETY: `state` is 32 readable bytes, two vectors; the loads need no alignment.
        let (dcba, hgfe) = unsafe { (_mm_loadu_si128(pointer), _mm_loadu_si128(pointer.add(1))) };
        let (cdab, efgh) = (_mm_shuffle_epi32::<0xb1>(dcba), _mm_shuffle_epi32::<0x1b>(hgfe));
        Self { abef: _mm_alignr_epi8::<8>(cdab, efgh), cdgh: _mm_blend_epi16::<0xf0>(efgh, cdab) }
    }

    #[inline]
    #[target_feature(enable = "sha,avx")]
    fn store(&self, state: &mut [u32; 8]) {
        let (feba, dchg) = (_mm_shuffle_epi32::<0x1b>(self.abef), _mm_shuffle_epi32::<0xb1>(self.cdgh));
        let pointer = state.as_mut_ptr().cast::<__m128i>();
        // SAFETY: `state` is 32 writable bytes, two vectors; the stores need no alignment.
        unsafe {
            _mm_storeu_si128(pointer, _mm_blend_epi16::<0xf0>(feba, dchg));
            _mm_storeu_si128(pointer.add(1), _mm_alignr_epi8::<8>(dchg, feba));
        }
    }
}

/// Sixteen words of `N` messages, four words to a vector.
type Words<const N: usize> = [[__m128i; N]; 4];

/// Sixteen rounds of every message.
#[inline]
#[target_feature(enable = "sha,avx")]
fn sixteen_rounds<const N: usize>(working: &mut [Working; N], words: &Words<N>, constants: &[[u32; 4]; 4]) {
    four_rounds(working, &words[0], &constants[0]);
    four_rounds(working, &words[1], &constants[1]);
    four_rounds(working, &words[2], &constants[2]);
    four_rounds(working, &words[3], &constants[3]);
}

/// Four rounds of every message.
#[inline]
#[target_feature(enable = "sha,avx")]
fn four_rounds<const N: usize>(working: &mut [Working; N], words: &[__m128i; N], constants: &[u32; 4]) {
    // SAFETY: `constants` is 16 readable bytes, and the load needs no alignment.
    let mut sums = [unsafe { _mm_loadu_si128(constants.as_ptr().cast()) }; N];
    for lane in 0..N {
        sums[lane] = _mm_add_epi32(sums[lane], words[lane]);
        let Working { abef, cdgh } = &mut working[lane];
        *cdgh = _mm_sha256rnds2_epu32(*cdgh, *abef, sums[lane]);
    }
    for lane in 0..N {
        let Working { abef, cdgh } = &mut working[lane];
        *abef = _mm_sha256rnds2_epu32(*abef, *cdgh, _mm_shuffle_epi32::<0x0e>(sums[lane]));
    }
}

/// The sixteen words of the message schedule that follow.
#[inline]
#[target_feature(enable = "sha,avx")]
fn schedule<const N: usize>(words: &mut Words<N>) {
    let [first, second, third, fourth] = words;
    schedule_four(first, second, third, fourth);
    schedule_four(second, third, fourth, first);
    schedule_four(third, fourth, first, second);
    schedule_four(fourth, first, second, third);
}

/// Replaces four words by those sixteen later.
#[inline]
#[target_feature(enable = "sha,avx")]
fn schedule_four<const N: usize>(
    first: &mut [__m128i; N],
    second: &[__m128i; N],
    third: &[__m128i; N],
    fourth: &[__m128i; N],
) {
    for lane in 0..N {
        let sum = _mm_alignr_epi8::<4>(fourth[lane], third[lane]);
        let sum = _mm_add_epi32(_mm_sha256msg1_epu32(first[lane], second[lane]), sum);
        first[lane] = _mm_sha256msg2_epu32(sum, fourth[lane]);
    }
}

/// The words of every message's block, which are big-endian.
#[inline]
#[target_feature(enable = "sha,avx")]
fn load_words<const N: usize>(blocks: &[&[Block]; N], index: usize) -> Words<N> {
    let swap = _mm_set_epi64x(0x0c0d_0e0f_0809_0a0b, 0x0405_0607_0001_0203);
    let mut words = [[swap; N]; 4];
    for lane in 0..N {
        for (place, bytes) in blocks[lane][index].as_chunks::<16>().0.iter().enumerate() {
            // SAFETY: `bytes` is 16 readable bytes, and the load needs no alignment.
            words[place][lane] = _mm_shuffle_epi8(unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) }, swap);
        }
    }
    words
}
