//! Products with GFNI in vectors of AVX-512.
#![allow(
    unsafe_code,
    reason = "vector loads and stores take pointers, and calling GFNI code needs a promise that it is there"
)]

use std::arch::x86_64::{
    __m512i, _mm512_gf2p8affine_epi64_epi8, _mm512_loadu_si512, _mm512_set1_epi64, _mm512_setzero_si512,
    _mm512_storeu_si512, _mm512_xor_si512,
};

use super::MATRICES;
use crate::erasure::Kernel;
use crate::erasure::vectors::{Vectors, entries};

entries!(Gfni512(()), "avx512f,gfni", Kernel::Gfni512);

/// Made only where GFNI and AVX-512 are enabled: in functions that are entered after asking for them.
#[derive(Clone, Copy)]
struct Gfni512(());

impl Vectors for Gfni512 {
    type Vector = __m512i;
    type Factor = __m512i;
    const BYTES: usize = 64;

    #[inline(always)]
    fn zero(self) -> __m512i {
        // SAFETY: `self` stands for AVX-512.
        unsafe { _mm512_setzero_si512() }
    }

    #[inline(always)]
    fn load(self, bytes: &[u8]) -> __m512i {
        let bytes = &bytes[..Self::BYTES];
        // SAFETY: `self` stands for AVX-512; `bytes` are 64 readable ones, and the load needs no alignment.
        unsafe { _mm512_loadu_si512(bytes.as_ptr().cast()) }
    }

    #[inline(always)]
    fn store(self, bytes: &mut [u8], vector: __m512i) {
        let bytes = &mut bytes[..Self::BYTES];
        // SAFETY: `self` stands for AVX-512; `bytes` are 64 writable ones, and the store needs no alignment.
        unsafe { _mm512_storeu_si512(bytes.as_mut_ptr().cast(), vector) }
    }

    #[inline(always)]
    fn factor(self, constant: u8) -> __m512i {
        // SAFETY: `self` stands for AVX-512.
        unsafe { _mm512_set1_epi64(MATRICES[usize::from(constant)].cast_signed()) }
    }

    #[inline(always)]
    fn sum(self, left: __m512i, right: __m512i) -> __m512i {
        // SAFETY: `self` stands for AVX-512.
        unsafe { _mm512_xor_si512(left, right) }
    }

    #[inline(always)]
    fn product(self, vector: __m512i, factor: __m512i) -> __m512i {
        // SAFETY: `self` stands for GFNI and AVX-512.
        unsafe { _mm512_gf2p8affine_epi64_epi8::<0>(vector, factor) }
    }
}
