//! AVX2: 8 lanes of SHA-256 or 4 of SHA-512 in a register, for processors without SHA extensions or AVX-512.

use std::arch::x86_64::{
    __m256i, _mm_cvtsi32_si128, _mm256_add_epi32, _mm256_add_epi64, _mm256_and_si256, _mm256_andnot_si256,
    _mm256_loadu_si256, _mm256_or_si256, _mm256_permute2x128_si256, _mm256_set_epi64x, _mm256_set1_epi32,
    _mm256_set1_epi64x, _mm256_shuffle_epi8, _mm256_sll_epi32, _mm256_sll_epi64, _mm256_srl_epi32,
    _mm256_srl_epi64, _mm256_storeu_si256, _mm256_unpackhi_epi32, _mm256_unpackhi_epi64,
    _mm256_unpacklo_epi32, _mm256_unpacklo_epi64, _mm256_xor_si256,
};

use super::lanes::{MAX_LANES, States, check_bounds};
use super::sha2::{Sha256, Sha512};
use super::sha2_rounds::{self, Vector};

/// Whether this processor has what the kernels here use.
pub(super) fn is_available() -> bool {
    is_x86_feature_detected!("avx2")
}

macro_rules! kernel {
    ($(#[$doc:meta])* $name:ident, $hash:ty, $rounds:ident, $vector:ty) => {
        $(#[$doc])*
        pub(super) fn $name(states: &mut States<$hash>, input: &[u8], offsets: &[usize; MAX_LANES], blocks: usize) {
            /// # Safety
            /// As the rounds', whose instruction set this function enables.
            #[target_feature(enable = "avx2")]
            unsafe fn compress(states: &mut States<$hash>, input: &[u8], offsets: &[usize; MAX_LANES], blocks: usize) {
                // SAFETY: this function's callers vouch for the instruction set and the bounds.
                unsafe { sha2_rounds::$rounds::<$vector, 1, MAX_LANES>(states, input.as_ptr(), offsets, blocks) }
            }
            check_bounds::<$hash>(input, &offsets[..<$vector>::LANES], blocks);
            assert!(is_available(), "a kernel that this processor does not run");
            // SAFETY: the bounds and the instruction set were just checked.
            unsafe { compress(states, input, offsets, blocks) }
        }
    };
}

kernel! {
    /// SHA-256, 8 lanes.
    sha256_x8, Sha256, sha256, U32x8
}
kernel! {
    /// SHA-512, 4 lanes.
    sha512_x4, Sha512, sha512, U64x4
}

#[derive(Clone, Copy)]
struct U32x8(__m256i);

#[derive(Clone, Copy)]
struct U64x4(__m256i);

// SAFETY (every block below): the trait's callers vouch for the instruction set; pointers are as the trait says.
macro_rules! common {
    ($word:ty, $splat:ident, $add:ident, $shl:ident, $shr:ident) => {
        type Word = $word;
        const LANES: usize = 32 / size_of::<$word>();

        #[inline(always)]
        unsafe fn splat(word: $word) -> Self {
            // SAFETY: see above.
            Self(unsafe { $splat(word.cast_signed()) })
        }
        #[inline(always)]
        unsafe fn load(words: *const $word) -> Self {
            // SAFETY: see above; the load takes any alignment.
            Self(unsafe { _mm256_loadu_si256(words.cast()) })
        }
        #[inline(always)]
        unsafe fn store(self, words: *mut $word) {
            // SAFETY: see above; the store takes any alignment.
            unsafe { _mm256_storeu_si256(words.cast(), self.0) }
        }
        #[inline(always)]
        unsafe fn add(self, other: Self) -> Self {
            // SAFETY: see above.
            Self(unsafe { $add(self.0, other.0) })
        }
        #[inline(always)]
        unsafe fn rotate_right<const BITS: i32>(self) -> Self {
            let width = <$word>::BITS.cast_signed();
            // SAFETY: see above. The counts are constants, so these become shifts by an immediate.
            unsafe {
                let right = $shr(self.0, _mm_cvtsi32_si128(BITS));
                Self(_mm256_or_si256(right, $shl(self.0, _mm_cvtsi32_si128(width - BITS))))
            }
        }
        #[inline(always)]
        unsafe fn shift_right<const BITS: u32>(self) -> Self {
            // SAFETY: see above.
            Self(unsafe { $shr(self.0, _mm_cvtsi32_si128(BITS.cast_signed())) })
        }
        #[inline(always)]
        unsafe fn xor3(a: Self, b: Self, c: Self) -> Self {
            // SAFETY: see above.
            Self(unsafe { _mm256_xor_si256(_mm256_xor_si256(a.0, b.0), c.0) })
        }
        #[inline(always)]
        unsafe fn choose(e: Self, f: Self, g: Self) -> Self {
            // SAFETY: see above.
            Self(unsafe { _mm256_xor_si256(_mm256_and_si256(e.0, f.0), _mm256_andnot_si256(e.0, g.0)) })
        }
        #[inline(always)]
        unsafe fn majority(a: Self, b: Self, c: Self) -> Self {
            // SAFETY: see above. Where `a` and `b` differ, `c` decides.
            unsafe {
                let differ = _mm256_xor_si256(a.0, b.0);
                Self(_mm256_xor_si256(_mm256_and_si256(differ, c.0), _mm256_andnot_si256(differ, b.0)))
            }
        }
    };
}

impl Vector for U32x8 {
    common!(u32, _mm256_set1_epi32, _mm256_add_epi32, _mm256_sll_epi32, _mm256_srl_epi32);

    #[inline(always)]
    unsafe fn load_message(input: *const u8, offsets: *const usize) -> [Self; 16] {
        // SAFETY: the caller vouches for 64 bytes at each of 8 offsets.
        unsafe {
            let swap = _mm256_set_epi64x(
                0x0c0d_0e0f_0809_0a0b,
                0x0405_0607_0001_0203,
                0x0c0d_0e0f_0809_0a0b,
                0x0405_0607_0001_0203,
            );
            let mut words = [Self::splat(0); 16];
            for half in 0..2 {
                // Four lanes at a time: part `p` of `four[lane / 4][k]` holds word `4 * p + k` of them.
                let mut four = [[Self::splat(0).0; 4]; 2];
                for (quarter, four) in four.iter_mut().enumerate() {
                    macro_rules! row {
                        ($lane:expr) => {
                            _mm256_loadu_si256(
                                input.add(*offsets.add(4 * quarter + $lane) + 32 * half).cast(),
                            )
                        };
                    }
                    let (r0, r1, r2, r3) = (row!(0), row!(1), row!(2), row!(3));
                    let (low01, high01) = (_mm256_unpacklo_epi32(r0, r1), _mm256_unpackhi_epi32(r0, r1));
                    let (low23, high23) = (_mm256_unpacklo_epi32(r2, r3), _mm256_unpackhi_epi32(r2, r3));
                    *four = [
                        _mm256_unpacklo_epi64(low01, low23),
                        _mm256_unpackhi_epi64(low01, low23),
                        _mm256_unpacklo_epi64(high01, high23),
                        _mm256_unpackhi_epi64(high01, high23),
                    ];
                }
                for k in 0..4 {
                    let parts = transpose_parts(four[0][k], four[1][k]);
                    for p in 0..2 {
                        words[8 * half + 4 * p + k] = Self(_mm256_shuffle_epi8(parts[p], swap));
                    }
                }
            }
            words
        }
    }
}

impl Vector for U64x4 {
    common!(u64, _mm256_set1_epi64x, _mm256_add_epi64, _mm256_sll_epi64, _mm256_srl_epi64);

    #[inline(always)]
    unsafe fn load_message(input: *const u8, offsets: *const usize) -> [Self; 16] {
        // SAFETY: the caller vouches for 128 bytes at each of 4 offsets.
        unsafe {
            let swap = _mm256_set_epi64x(
                0x0809_0a0b_0c0d_0e0f,
                0x0001_0203_0405_0607,
                0x0809_0a0b_0c0d_0e0f,
                0x0001_0203_0405_0607,
            );
            let mut words = [Self::splat(0); 16];
            for quarter in 0..4 {
                macro_rules! row {
                    ($lane:expr) => {
                        _mm256_loadu_si256(input.add(*offsets.add($lane) + 32 * quarter).cast())
                    };
                }
                let (r0, r1, r2, r3) = (row!(0), row!(1), row!(2), row!(3));
                let even = transpose_parts(_mm256_unpacklo_epi64(r0, r1), _mm256_unpacklo_epi64(r2, r3));
                let odd = transpose_parts(_mm256_unpackhi_epi64(r0, r1), _mm256_unpackhi_epi64(r2, r3));
                for p in 0..2 {
                    words[4 * quarter + 2 * p] = Self(_mm256_shuffle_epi8(even[p], swap));
                    words[4 * quarter + 2 * p + 1] = Self(_mm256_shuffle_epi8(odd[p], swap));
                }
            }
            words
        }
    }
}

/// Gathers part 0 (of 128 bits) of both, then part 1.
///
/// # Safety
/// The processor has AVX2.
#[inline(always)]
unsafe fn transpose_parts(m0: __m256i, m1: __m256i) -> [__m256i; 2] {
    // SAFETY: the caller vouches for the instruction set.
    unsafe { [_mm256_permute2x128_si256::<0x20>(m0, m1), _mm256_permute2x128_si256::<0x31>(m0, m1)] }
}
