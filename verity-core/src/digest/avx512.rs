//! AVX-512: 16 lanes of SHA-256 or 8 of SHA-512 in a register; two registers interleaved, one for a remainder.

use std::arch::x86_64::{
    __cpuid, __m512i, _mm_set_epi64x, _mm512_add_epi32, _mm512_add_epi64, _mm512_broadcast_i32x4,
    _mm512_loadu_si512, _mm512_ror_epi32, _mm512_ror_epi64, _mm512_set1_epi32, _mm512_set1_epi64,
    _mm512_shuffle_epi8, _mm512_shuffle_i32x4, _mm512_srli_epi32, _mm512_srli_epi64, _mm512_storeu_si512,
    _mm512_ternarylogic_epi32, _mm512_unpackhi_epi32, _mm512_unpackhi_epi64, _mm512_unpacklo_epi32,
    _mm512_unpacklo_epi64,
};

use super::lanes::{MAX_LANES, States, check_bounds};
use super::sha2::{Sha256, Sha512};
use super::sha2_rounds::{self, Vector};

/// Whether this processor has what the kernels here use.
pub(super) fn is_available() -> bool {
    is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bw")
}

/// Whether two interleaved groups are faster than one.
///
/// A group is bound by the latency of its rounds where there are four vector units (AMD's), and a second one fills the gaps. Where
/// there are two (Intel's), one group keeps them busy, and a second only spills registers: 1 % slower as measured.
pub(super) fn gains_from_two_groups() -> bool {
    // Newer compilers take the call for safe, the oldest that is supported does not.
    #[allow(unused_unsafe)]
    // SAFETY: every x86-64 processor has the instruction.
    let leaf = unsafe { __cpuid(0) };
    [leaf.ebx, leaf.edx, leaf.ecx].map(u32::to_le_bytes).concat() == b"AuthenticAMD"
}

macro_rules! kernel {
    ($(#[$doc:meta])* $name:ident, $hash:ty, $rounds:ident, $vector:ty, $groups:literal) => {
        $(#[$doc])*
        pub(super) fn $name(states: &mut States<$hash>, input: &[u8], offsets: &[usize; MAX_LANES], blocks: usize) {
            /// # Safety
            /// As the rounds', whose instruction set this function enables.
            #[target_feature(enable = "avx512f,avx512bw")]
            unsafe fn compress(states: &mut States<$hash>, input: &[u8], offsets: &[usize; MAX_LANES], blocks: usize) {
                // SAFETY: this function's callers vouch for the instruction set and the bounds.
                unsafe { sha2_rounds::$rounds::<$vector, $groups, MAX_LANES>(states, input.as_ptr(), offsets, blocks) }
            }
            check_bounds::<$hash>(input, &offsets[..$groups * <$vector>::LANES], blocks);
            assert!(is_available(), "a kernel that this processor does not run");
            // SAFETY: the bounds and the instruction set were just checked.
            unsafe { compress(states, input, offsets, blocks) }
        }
    };
}

kernel! {
    /// SHA-256, 32 lanes.
    sha256_x32, Sha256, sha256, U32x16, 2
}
kernel! {
    /// SHA-256, 16 lanes.
    sha256_x16, Sha256, sha256, U32x16, 1
}
kernel! {
    /// SHA-512, 16 lanes.
    sha512_x16, Sha512, sha512, U64x8, 2
}
kernel! {
    /// SHA-512, 8 lanes.
    sha512_x8, Sha512, sha512, U64x8, 1
}

#[derive(Clone, Copy)]
struct U32x16(__m512i);

#[derive(Clone, Copy)]
struct U64x8(__m512i);

/// Truth tables for `vpternlog`, where the operands' bits are numbered 4, 2, 1.
const XOR3: i32 = 0x96;
const CHOOSE: i32 = 0xca;
const MAJORITY: i32 = 0xe8;

// SAFETY (every block below): the trait's callers vouch for the instruction set; pointers are as the trait says.
macro_rules! common {
    ($word:ty, $splat:ident, $add:ident, $ror:ident, $shr:ident) => {
        type Word = $word;
        const LANES: usize = 64 / size_of::<$word>();

        #[inline(always)]
        unsafe fn splat(word: $word) -> Self {
            // SAFETY: see above.
            Self(unsafe { $splat(word.cast_signed()) })
        }
        #[inline(always)]
        unsafe fn load(words: *const $word) -> Self {
            // SAFETY: see above; the load takes any alignment.
            Self(unsafe { _mm512_loadu_si512(words.cast()) })
        }
        #[inline(always)]
        unsafe fn store(self, words: *mut $word) {
            // SAFETY: see above; the store takes any alignment.
            unsafe { _mm512_storeu_si512(words.cast(), self.0) }
        }
        #[inline(always)]
        unsafe fn add(self, other: Self) -> Self {
            // SAFETY: see above.
            Self(unsafe { $add(self.0, other.0) })
        }
        #[inline(always)]
        unsafe fn rotate_right<const BITS: i32>(self) -> Self {
            // SAFETY: see above.
            Self(unsafe { $ror::<BITS>(self.0) })
        }
        #[inline(always)]
        unsafe fn shift_right<const BITS: u32>(self) -> Self {
            // SAFETY: see above.
            Self(unsafe { $shr::<BITS>(self.0) })
        }
        #[inline(always)]
        unsafe fn xor3(a: Self, b: Self, c: Self) -> Self {
            // SAFETY: see above.
            Self(unsafe { _mm512_ternarylogic_epi32::<XOR3>(a.0, b.0, c.0) })
        }
        #[inline(always)]
        unsafe fn choose(e: Self, f: Self, g: Self) -> Self {
            // SAFETY: see above.
            Self(unsafe { _mm512_ternarylogic_epi32::<CHOOSE>(e.0, f.0, g.0) })
        }
        #[inline(always)]
        unsafe fn majority(a: Self, b: Self, c: Self) -> Self {
            // SAFETY: see above.
            Self(unsafe { _mm512_ternarylogic_epi32::<MAJORITY>(a.0, b.0, c.0) })
        }
    };
}

impl Vector for U32x16 {
    common!(u32, _mm512_set1_epi32, _mm512_add_epi32, _mm512_ror_epi32, _mm512_srli_epi32);

    #[inline(always)]
    unsafe fn load_message(input: *const u8, offsets: *const usize) -> [Self; 16] {
        // SAFETY: the caller vouches for 64 bytes at each of 16 offsets.
        unsafe {
            let swap = _mm512_broadcast_i32x4(_mm_set_epi64x(0x0c0d_0e0f_0809_0a0b, 0x0405_0607_0001_0203));
            let mut words = [Self::splat(0); 16];
            // Four lanes at a time: after two rounds of interleaving, part `p` of `four[lane / 4][k]` holds word `4 * p + k` of them.
            let mut four = [[Self::splat(0).0; 4]; 4];
            for (quarter, four) in four.iter_mut().enumerate() {
                macro_rules! row {
                    ($lane:expr) => {
                        _mm512_loadu_si512(input.add(*offsets.add(4 * quarter + $lane)).cast())
                    };
                }
                let (r0, r1, r2, r3) = (row!(0), row!(1), row!(2), row!(3));
                let (low01, high01) = (_mm512_unpacklo_epi32(r0, r1), _mm512_unpackhi_epi32(r0, r1));
                let (low23, high23) = (_mm512_unpacklo_epi32(r2, r3), _mm512_unpackhi_epi32(r2, r3));
                *four = [
                    _mm512_unpacklo_epi64(low01, low23),
                    _mm512_unpackhi_epi64(low01, low23),
                    _mm512_unpacklo_epi64(high01, high23),
                    _mm512_unpackhi_epi64(high01, high23),
                ];
            }
            for k in 0..4 {
                let parts = transpose_parts(four[0][k], four[1][k], four[2][k], four[3][k]);
                for p in 0..4 {
                    words[4 * p + k] = Self(_mm512_shuffle_epi8(parts[p], swap));
                }
            }
            words
        }
    }
}

impl Vector for U64x8 {
    common!(u64, _mm512_set1_epi64, _mm512_add_epi64, _mm512_ror_epi64, _mm512_srli_epi64);

    #[inline(always)]
    unsafe fn load_message(input: *const u8, offsets: *const usize) -> [Self; 16] {
        // SAFETY: the caller vouches for 128 bytes at each of 8 offsets.
        unsafe {
            let swap = _mm512_broadcast_i32x4(_mm_set_epi64x(0x0809_0a0b_0c0d_0e0f, 0x0001_0203_0405_0607));
            let mut words = [Self::splat(0); 16];
            for half in 0..2 {
                // Two lanes at a time: part `p` of `even[lane / 2]` holds word `2 * p` of them, of `odd` word `2 * p + 1`.
                let mut even = [Self::splat(0).0; 4];
                let mut odd = even;
                for pair in 0..4 {
                    macro_rules! row {
                        ($lane:expr) => {
                            _mm512_loadu_si512(input.add(*offsets.add(2 * pair + $lane) + 64 * half).cast())
                        };
                    }
                    let (r0, r1) = (row!(0), row!(1));
                    even[pair] = _mm512_unpacklo_epi64(r0, r1);
                    odd[pair] = _mm512_unpackhi_epi64(r0, r1);
                }
                let even = transpose_parts(even[0], even[1], even[2], even[3]);
                let odd = transpose_parts(odd[0], odd[1], odd[2], odd[3]);
                for p in 0..4 {
                    words[8 * half + 2 * p] = Self(_mm512_shuffle_epi8(even[p], swap));
                    words[8 * half + 2 * p + 1] = Self(_mm512_shuffle_epi8(odd[p], swap));
                }
            }
            words
        }
    }
}

/// Gathers part 0 (of 128 bits) of all four, then part 1, and so on.
///
/// # Safety
/// The processor has AVX-512F.
#[inline(always)]
unsafe fn transpose_parts(m0: __m512i, m1: __m512i, m2: __m512i, m3: __m512i) -> [__m512i; 4] {
    // SAFETY: the caller vouches for the instruction set.
    unsafe {
        let (low01, high01) = (_mm512_shuffle_i32x4::<0x44>(m0, m1), _mm512_shuffle_i32x4::<0xee>(m0, m1));
        let (low23, high23) = (_mm512_shuffle_i32x4::<0x44>(m2, m3), _mm512_shuffle_i32x4::<0xee>(m2, m3));
        [
            _mm512_shuffle_i32x4::<0x88>(low01, low23),
            _mm512_shuffle_i32x4::<0xdd>(low01, low23),
            _mm512_shuffle_i32x4::<0x88>(high01, high23),
            _mm512_shuffle_i32x4::<0xdd>(high01, high23),
        ]
    }
}
