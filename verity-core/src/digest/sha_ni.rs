//! SHA extensions: SHA-256 with one message a stream; two and four streams interleaved hide the latency of the round instruction.

use std::arch::x86_64::{
    __m128i, _mm_add_epi32, _mm_alignr_epi8, _mm_loadu_si128, _mm_set_epi64x, _mm_setzero_si128,
    _mm_sha256msg1_epu32, _mm_sha256msg2_epu32, _mm_sha256rnds2_epu32, _mm_shuffle_epi8, _mm_shuffle_epi32,
    _mm_storeu_si128,
};

use super::lanes::{MAX_LANES, States, check_bounds};
use super::sha2::Sha256;
use super::sha2_constants::SHA256_ROUNDS;

/// Whether this processor has what the kernels here use.
pub(super) fn is_available() -> bool {
    is_x86_feature_detected!("sha") && is_x86_feature_detected!("ssse3")
}

/// SHA-256, four streams.
pub(super) fn sha256_x4(
    states: &mut States<Sha256>,
    input: &[u8],
    offsets: &[usize; MAX_LANES],
    blocks: usize,
) {
    streams::<4>(states, input, offsets, blocks);
}

/// SHA-256, two streams.
pub(super) fn sha256_x2(
    states: &mut States<Sha256>,
    input: &[u8],
    offsets: &[usize; MAX_LANES],
    blocks: usize,
) {
    streams::<2>(states, input, offsets, blocks);
}

/// SHA-256, one stream.
pub(super) fn sha256_x1(
    states: &mut States<Sha256>,
    input: &[u8],
    offsets: &[usize; MAX_LANES],
    blocks: usize,
) {
    streams::<1>(states, input, offsets, blocks);
}

fn streams<const N: usize>(
    states: &mut States<Sha256>,
    input: &[u8],
    offsets: &[usize; MAX_LANES],
    blocks: usize,
) {
    check_bounds::<Sha256>(input, &offsets[..N], blocks);
    assert!(is_available(), "a kernel that this processor does not run");
    // SAFETY: the instruction set and the bounds were just checked.
    unsafe { compress::<N>(states, input.as_ptr(), offsets, blocks) }
}

/// # Safety
/// The processor has the SHA extensions and SSSE3, and `blocks * 64` bytes can be read from `input + offsets[i]` on for each of `N` streams.
#[target_feature(enable = "sha,ssse3")]
unsafe fn compress<const N: usize>(
    states: &mut States<Sha256>,
    input: *const u8,
    offsets: &[usize; MAX_LANES],
    blocks: usize,
) {
    let swap = _mm_set_epi64x(0x0c0d_0e0f_0809_0a0b, 0x0405_0607_0001_0203);
    // The round instruction wants the state as (a, b, e, f) and (c, d, g, h), the first named highest.
    let mut abef = [_mm_setzero_si128(); N];
    let mut cdgh = abef;
    for stream in 0..N {
        let word = |index: usize| i64::from(states[index][stream]);
        abef[stream] = _mm_set_epi64x(word(0) << 32 | word(1), word(4) << 32 | word(5));
        cdgh[stream] = _mm_set_epi64x(word(2) << 32 | word(3), word(6) << 32 | word(7));
    }
    for block in 0..blocks {
        let (abef_before, cdgh_before) = (abef, cdgh);
        let mut w = [[_mm_setzero_si128(); 4]; N];
        for stream in 0..N {
            for (quarter, four) in w[stream].iter_mut().enumerate() {
                // SAFETY: the caller vouches for these 16 bytes.
                let words =
                    unsafe { _mm_loadu_si128(input.add(offsets[stream] + block * 64 + quarter * 16).cast()) };
                *four = _mm_shuffle_epi8(words, swap);
            }
        }
        for (four, constants) in SHA256_ROUNDS.as_chunks::<4>().0.iter().enumerate() {
            // SAFETY: an array of four words.
            let constants = unsafe { _mm_loadu_si128(constants.as_ptr().cast()) };
            for stream in 0..N {
                let w = &mut w[stream];
                if four >= 4 {
                    w[four % 4] =
                        schedule(w[four % 4], w[(four + 1) % 4], w[(four + 2) % 4], w[(four + 3) % 4]);
                }
                let sum = _mm_add_epi32(w[four % 4], constants);
                cdgh[stream] = _mm_sha256rnds2_epu32(cdgh[stream], abef[stream], sum);
                abef[stream] =
                    _mm_sha256rnds2_epu32(abef[stream], cdgh[stream], _mm_shuffle_epi32::<0x0e>(sum));
            }
        }
        for stream in 0..N {
            abef[stream] = _mm_add_epi32(abef[stream], abef_before[stream]);
            cdgh[stream] = _mm_add_epi32(cdgh[stream], cdgh_before[stream]);
        }
    }
    for stream in 0..N {
        let (mut feba, mut hgdc) = ([0u32; 4], [0u32; 4]);
        // SAFETY: arrays of four words.
        unsafe {
            _mm_storeu_si128(feba.as_mut_ptr().cast(), abef[stream]);
            _mm_storeu_si128(hgdc.as_mut_ptr().cast(), cdgh[stream]);
        }
        let words = [feba[3], feba[2], hgdc[3], hgdc[2], feba[1], feba[0], hgdc[1], hgdc[0]];
        for (lanes, word) in states.iter_mut().zip(words) {
            lanes[stream] = word;
        }
    }
}

/// The next four words of the message schedule, from the sixteen before them.
#[target_feature(enable = "sha,ssse3")]
#[inline]
fn schedule(w0: __m128i, w4: __m128i, w8: __m128i, w12: __m128i) -> __m128i {
    let sum = _mm_add_epi32(_mm_sha256msg1_epu32(w0, w4), _mm_alignr_epi8::<4>(w12, w8));
    _mm_sha256msg2_epu32(sum, w12)
}
