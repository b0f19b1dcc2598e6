//! AVX2: products of 32 bytes, looked up by half bytes with two shuffles.

use std::arch::x86_64::{
    __m256i, _mm_loadu_si128, _mm256_and_si256, _mm256_broadcastsi128_si256, _mm256_loadu_si256,
    _mm256_set1_epi8, _mm256_shuffle_epi8, _mm256_srli_epi64, _mm256_storeu_si256, _mm256_xor_si256,
};

use super::multiplier::{Kernel, Multiplier, add_product_portable, fold_portable};

static KERNEL: Kernel = Kernel { name: "avx2", fold, add_product };

/// The kernel, if this processor runs it.
pub(super) fn kernel() -> Option<&'static Kernel> {
    is_available().then_some(&KERNEL)
}

fn is_available() -> bool {
    is_x86_feature_detected!("avx2")
}

fn fold(sum: &mut [u8], data: &[u8], constant: &Multiplier) {
    assert!(is_available() && sum.len() == data.len());
    // SAFETY: the instruction set and the lengths were just checked.
    unsafe { fold_wide(sum, data, constant) }
}

fn add_product(sum: &mut [u8], data: &[u8], constant: &Multiplier) {
    assert!(is_available() && sum.len() == data.len());
    // SAFETY: the instruction set and the lengths were just checked.
    unsafe { add_product_wide(sum, data, constant) }
}

/// # Safety
/// The processor has AVX2.
#[target_feature(enable = "avx2")]
unsafe fn fold_wide(sum: &mut [u8], data: &[u8], constant: &Multiplier) {
    let tables = tables(constant);
    let (sums, sum_rest) = sum.as_chunks_mut::<32>();
    let (chunks, data_rest) = data.as_chunks::<32>();
    for (sum, data) in sums.iter_mut().zip(chunks) {
        store(sum, _mm256_xor_si256(product(load(sum), tables), load(data)));
    }
    fold_portable(sum_rest, data_rest, constant);
}

/// # Safety
/// The processor has AVX2.
#[target_feature(enable = "avx2")]
unsafe fn add_product_wide(sum: &mut [u8], data: &[u8], constant: &Multiplier) {
    let tables = tables(constant);
    let (sums, sum_rest) = sum.as_chunks_mut::<32>();
    let (chunks, data_rest) = data.as_chunks::<32>();
    for (sum, data) in sums.iter_mut().zip(chunks) {
        store(sum, _mm256_xor_si256(product(load(data), tables), load(sum)));
    }
    add_product_portable(sum_rest, data_rest, constant);
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
