//! AVX2: products of 32 bytes, looked up by half bytes with two shuffles.

use std::arch::x86_64::{
    __m256i, _mm_loadu_si128, _mm256_and_si256, _mm256_broadcastsi128_si256, _mm256_loadu_si256,
    _mm256_set1_epi8, _mm256_shuffle_epi8, _mm256_srli_epi64, _mm256_storeu_si256, _mm256_xor_si256,
};

use super::multiplier::{Kernel, Multiplier, Term, combine_from};

static KERNEL: Kernel = Kernel { name: "avx2", one: combine, four: combine };

/// The kernel, if this processor runs it.
pub(super) fn kernel() -> Option<&'static Kernel> {
    is_available().then_some(&KERNEL)
}

fn is_available() -> bool {
    is_x86_feature_detected!("avx2")
}

fn combine<const N: usize>(sum: &mut [u8], scale: &Multiplier, terms: &[Term<'_>; N]) {
    assert!(is_available());
    // SAFETY: the instruction set was just checked.
    unsafe { combine_wide(sum, scale, terms) }
}

#[target_feature(enable = "avx2")]
fn combine_wide<const N: usize>(sum: &mut [u8], scale: &Multiplier, terms: &[Term<'_>; N]) {
    let (by, all_tables) = (tables(scale), terms.map(|(_, constant)| tables(constant)));
    let chunks = terms.map(|(bytes, _)| bytes.as_chunks::<32>().0);
    let sums = sum.as_chunks_mut::<32>().0;
    for (at, sum) in sums.iter_mut().enumerate() {
        let mut total = product(load(sum), by);
        for (chunks, tables) in chunks.iter().zip(all_tables) {
            total = _mm256_xor_si256(total, product(load(&chunks[at]), tables));
        }
        store(sum, total);
    }
    let done = sums.len() * 32;
    combine_from(done, sum, scale, terms);
}

#[target_feature(enable = "avx2")]
#[inline]
fn tables(constant: &Multiplier) -> (__m256i, __m256i) {
    // SAFETY: two arrays of 16 bytes.
    let (low, high) = unsafe {
        (_mm_loadu_si128(constant.low.as_ptr().cast()), _mm_loadu_si128(constant.high.as_ptr().cast()))
    };
    (_mm256_broadcastsi128_si256(low), _mm256_broadcastsi128_si256(high))
}

#[target_feature(enable = "avx2")]
#[inline]
fn product(bytes: __m256i, (low, high): (__m256i, __m256i)) -> __m256i {
    let nibble = _mm256_set1_epi8(15);
    let lower = _mm256_shuffle_epi8(low, _mm256_and_si256(bytes, nibble));
    let upper = _mm256_shuffle_epi8(high, _mm256_and_si256(_mm256_srli_epi64::<4>(bytes), nibble));
    _mm256_xor_si256(lower, upper)
}

#[target_feature(enable = "avx2")]
#[inline]
fn load(bytes: &[u8; 32]) -> __m256i {
    // SAFETY: 32 bytes, of any alignment.
    unsafe { _mm256_loadu_si256(bytes.as_ptr().cast()) }
}

#[target_feature(enable = "avx2")]
#[inline]
fn store(bytes: &mut [u8; 32], vector: __m256i) {
    // SAFETY: 32 bytes, of any alignment.
    unsafe { _mm256_storeu_si256(bytes.as_mut_ptr().cast(), vector) }
}
