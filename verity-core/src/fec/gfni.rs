//! GFNI with AVX-512: 64 bytes in one instruction. `gf2p8mulb` is of no use, it reduces by another polynomial; the affine
//! transformation multiplies by any matrix of bits, hence by any constant in any field.

use std::arch::x86_64::{
    __m512i, _mm512_gf2p8affine_epi64_epi8, _mm512_loadu_si512, _mm512_set1_epi64, _mm512_storeu_si512,
    _mm512_xor_si512,
};

use super::multiplier::{Kernel, Multiplier, Term, combine_from};

static KERNEL: Kernel = Kernel { name: "gfni", one: combine, four: combine };

/// The kernel, if this processor runs it.
pub(super) fn kernel() -> Option<&'static Kernel> {
    is_available().then_some(&KERNEL)
}

fn is_available() -> bool {
    is_x86_feature_detected!("gfni") && is_x86_feature_detected!("avx512f")
}

fn combine<const N: usize>(sum: &mut [u8], scale: &Multiplier, terms: &[Term<'_>; N]) {
    assert!(is_available());
    // SAFETY: the instruction set was just checked.
    unsafe { combine_wide(sum, scale, terms) }
}

#[target_feature(enable = "gfni,avx512f")]
fn combine_wide<const N: usize>(sum: &mut [u8], scale: &Multiplier, terms: &[Term<'_>; N]) {
    let matrix = |constant: &Multiplier| _mm512_set1_epi64(constant.matrix.cast_signed());
    let product = |bytes, matrix| _mm512_gf2p8affine_epi64_epi8::<0>(bytes, matrix);
    let (by, matrices) = (matrix(scale), terms.map(|(_, constant)| matrix(constant)));
    let chunks = terms.map(|(bytes, _)| bytes.as_chunks::<64>().0);
    let sums = sum.as_chunks_mut::<64>().0;
    for (at, sum) in sums.iter_mut().enumerate() {
        let mut total = product(load(sum), by);
        for (chunks, matrix) in chunks.iter().zip(matrices) {
            total = _mm512_xor_si512(total, product(load(&chunks[at]), matrix));
        }
        store(sum, total);
    }
    let done = sums.len() * 64;
    combine_from(done, sum, scale, terms);
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
