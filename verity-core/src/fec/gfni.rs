//! GFNI with AVX-512: 64 bytes in one instruction. `gf2p8mulb` is of no use, it reduces by another polynomial; the affine
//! transformation multiplies by any matrix of bits, hence by any constant in any field.

use std::arch::x86_64::{
    __m512i, _mm512_gf2p8affine_epi64_epi8, _mm512_loadu_si512, _mm512_set1_epi64, _mm512_storeu_si512,
    _mm512_xor_si512,
};

use super::multiplier::{Kernel, Multiplier, add_product_portable, fold_portable};

static KERNEL: Kernel = Kernel { name: "gfni", fold, add_product };

/// The kernel, if this processor runs it.
pub(super) fn kernel() -> Option<&'static Kernel> {
    is_available().then_some(&KERNEL)
}

fn is_available() -> bool {
    is_x86_feature_detected!("gfni") && is_x86_feature_detected!("avx512f")
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
/// The processor has GFNI and AVX-512.
#[target_feature(enable = "gfni,avx512f")]
unsafe fn fold_wide(sum: &mut [u8], data: &[u8], constant: &Multiplier) {
    let matrix = _mm512_set1_epi64(constant.matrix.cast_signed());
    let (sums, sum_rest) = sum.as_chunks_mut::<64>();
    let (chunks, data_rest) = data.as_chunks::<64>();
    for (sum, data) in sums.iter_mut().zip(chunks) {
        let product = _mm512_gf2p8affine_epi64_epi8::<0>(load(sum), matrix);
        store(sum, _mm512_xor_si512(product, load(data)));
    }
    fold_portable(sum_rest, data_rest, constant);
}

/// # Safety
/// The processor has GFNI and AVX-512.
#[target_feature(enable = "gfni,avx512f")]
unsafe fn add_product_wide(sum: &mut [u8], data: &[u8], constant: &Multiplier) {
    let matrix = _mm512_set1_epi64(constant.matrix.cast_signed());
    let (sums, sum_rest) = sum.as_chunks_mut::<64>();
    let (chunks, data_rest) = data.as_chunks::<64>();
    for (sum, data) in sums.iter_mut().zip(chunks) {
        let product = _mm512_gf2p8affine_epi64_epi8::<0>(load(data), matrix);
        store(sum, _mm512_xor_si512(product, load(sum)));
    }
    add_product_portable(sum_rest, data_rest, constant);
}

#[target_feature(enable = "avx512f")]
#[inline]
fn load(bytes: &[u8; 64]) -> __m512i {
    // SAFETY: 64 bytes, of any alignment.
    unsafe { _mm512_loadu_si512(bytes.as_ptr().cast()) }
}

#[target_feature(enable = "avx512f")]
#[inline]
fn store(bytes: &mut [u8; 64], vector: __m512i) {
    // SAFETY: 64 bytes, of any alignment.
    unsafe { _mm512_storeu_si512(bytes.as_mut_ptr().cast(), vector) }
}
