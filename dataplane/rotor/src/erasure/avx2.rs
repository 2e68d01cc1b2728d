//! Products with AVX2: a byte times a constant is two lookups of half-bytes, which `pshufb` does for 32 bytes at once.
#![allow(
    unsafe_code,
    reason = "vector loads and stores take pointers, and calling AVX2 code needs a promise that it is there"
)]

use std::arch::x86_64::{
    __m256i, _mm_loadu_si128, _mm256_and_si256, _mm256_broadcastsi128_si256, _mm256_loadu_si256, _mm256_set1_epi8,
    _mm256_setzero_si256, _mm256_shuffle_epi8, _mm256_srli_epi16, _mm256_storeu_si256, _mm256_xor_si256,
};

use super::vectors::{Vectors, entries};
use super::{Kernel, rs8};

/// For every coefficient its products with the 16 lower and the 16 upper half-bytes.
static PRODUCTS: [[[u8; 16]; 2]; 256] = {
    let mut products = [[[0; 16]; 2]; 256];
    let mut coefficient = 0;
    while coefficient < 256 {
        let mut half = 0;
        while half < 16 {
            products[coefficient][0][half] = rs8::multiply(coefficient as u8, half as u8);
            products[coefficient][1][half] = rs8::multiply(coefficient as u8, (half as u8) << 4);
            half += 1;
        }
        coefficient += 1;
    }
    products
};

entries!(Avx2(()), "avx2", Kernel::Avx2);

/// Made only where AVX2 is enabled: in functions that are entered after asking for it.
#[derive(Clone, Copy)]
pub(super) struct Avx2(pub(super) ());

/// A constant's products with half-bytes, each table in both halves of a vector, as `pshufb` looks up within halves.
#[derive(Clone, Copy)]
pub(super) struct Products {
    low: __m256i,
    high: __m256i,
}

impl Vectors for Avx2 {
    type Vector = __m256i;
    type Factor = Products;
    const BYTES: usize = 32;

    #[inline(always)]
    fn zero(self) -> __m256i {
        // SAFETY: `self` stands for AVX2.
        unsafe { _mm256_setzero_si256() }
    }

    #[inline(always)]
    fn load(self, bytes: &[u8]) -> __m256i {
        let bytes = &bytes[..Self::BYTES];
        // SAFETY: `self` stands for AVX2; `bytes` are 32 readable ones, and the load needs no alignment.
        unsafe { _mm256_loadu_si256(bytes.as_ptr().cast()) }
    }

    #[inline(always)]
    fn store(self, bytes: &mut [u8], vector: __m256i) {
        let bytes = &mut bytes[..Self::BYTES];
        // SAFETY: `self` stands for AVX2; `bytes` are 32 writable ones, and the store needs no alignment.
        unsafe { _mm256_storeu_si256(bytes.as_mut_ptr().cast(), vector) }
    }

    #[inline(always)]
    fn factor(self, constant: u8) -> Products {
        let [low, high] = &PRODUCTS[usize::from(constant)];
        // SAFETY: `self` stands for AVX2; both tables are 16 readable bytes, and the loads need no alignment.
        unsafe {
            Products {
                low: _mm256_broadcastsi128_si256(_mm_loadu_si128(low.as_ptr().cast())),
                high: _mm256_broadcastsi128_si256(_mm_loadu_si128(high.as_ptr().cast())),
            }
        }
    }

    #[inline(always)]
    fn sum(self, left: __m256i, right: __m256i) -> __m256i {
        // SAFETY: `self` stands for AVX2.
        unsafe { _mm256_xor_si256(left, right) }
    }

    #[inline(always)]
    fn product(self, vector: __m256i, factor: Products) -> __m256i {
        // SAFETY: `self` stands for AVX2.
        unsafe {
            let half = _mm256_set1_epi8(0x0f);
            let lower = _mm256_and_si256(vector, half);
            let upper = _mm256_and_si256(_mm256_srli_epi16::<4>(vector), half);
            _mm256_xor_si256(_mm256_shuffle_epi8(factor.low, lower), _mm256_shuffle_epi8(factor.high, upper))
        }
    }
}
