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

use super::{Block, CONSTANTS, HashKernel};

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
