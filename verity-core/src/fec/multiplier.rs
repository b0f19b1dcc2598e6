//! Multiplying long runs of bytes by one constant: the inner loop of all Reed-Solomon work here.
//!
//! Consecutive bytes belong to consecutive codewords, so that all of them are treated alike. One file for each instruction set,
//! with the same two functions; this one chooses.

use std::sync::{LazyLock, OnceLock};

use super::field::multiply;

/// A constant, prepared for every instruction set.
#[derive(Clone, Debug)]
pub(super) struct Multiplier {
    /// Products with 0 to 15, and with 0, 16, ... 240: what a shuffle instruction looks up.
    pub(super) low: [u8; 16],
    pub(super) high: [u8; 16],
    /// The multiplication as a matrix of bits, as `gf2p8affineqb` takes it: the row of result bit `i` in byte `7 - i`.
    #[cfg(target_arch = "x86_64")]
    pub(super) matrix: u64,
}

impl Multiplier {
    /// The one for `constant`. All are made once: decoding needs one for each block of each codeword.
    pub(super) fn of(constant: u8) -> &'static Self {
        static ALL: LazyLock<[Multiplier; 256]> =
            LazyLock::new(|| std::array::from_fn(|constant| Multiplier::new(constant.to_le_bytes()[0])));
        &ALL[usize::from(constant)]
    }

    fn new(constant: u8) -> Self {
        let nibble = |index: usize| index.to_le_bytes()[0];
        Self {
            low: std::array::from_fn(|index| multiply(constant, nibble(index))),
            high: std::array::from_fn(|index| multiply(constant, nibble(index) << 4)),
            #[cfg(target_arch = "x86_64")]
            matrix: matrix(constant),
        }
    }

    /// The product with one byte.
    fn product(&self, byte: u8) -> u8 {
        self.low[usize::from(byte & 15)] ^ self.high[usize::from(byte >> 4)]
    }
}

#[cfg(target_arch = "x86_64")]
fn matrix(constant: u8) -> u64 {
    let column = |bit: usize| multiply(constant, super::field::power(bit));
    let mut rows = [0; 8];
    for (bit, row) in rows.iter_mut().rev().enumerate() {
        *row = (0..8).fold(0, |row, input| row | (column(input) >> bit & 1) << input);
    }
    u64::from_le_bytes(rows)
}

/// A run of bytes, and what it is multiplied by.
pub(super) type Term<'a> = (&'a [u8], &'a Multiplier);

/// What an instruction set provides: `sum = scale * sum ^ product ^ product ...`, byte by byte, with the products of some terms.
/// Slices are of equal length.
///
/// A sum is loaded and stored once for four terms: with one at a time, that would be most of the work.
pub(super) struct Kernel {
    pub(super) name: &'static str,
    pub(super) one: Combine<1>,
    pub(super) four: Combine<4>,
}

/// Adds the products of `N` terms.
pub(super) type Combine<const N: usize> = fn(sum: &mut [u8], scale: &Multiplier, terms: &[Term<'_>; N]);

impl Kernel {
    /// How many terms are best given at a time.
    pub(super) const TERMS: usize = 4;

    /// `sum = scale * sum ^ product ^ product ...`; no terms are none to do it for, and leave the sum as it is.
    pub(super) fn combine(&self, sum: &mut [u8], scale: &Multiplier, terms: &[Term<'_>]) {
        let (fours, ones) = terms.as_chunks::<{ Self::TERMS }>();
        let mut scale = scale;
        for four in fours {
            (self.four)(sum, scale, four);
            scale = Multiplier::of(1);
        }
        for one in ones.as_chunks().0 {
            (self.one)(sum, scale, one);
            scale = Multiplier::of(1);
        }
    }
}

/// The kernels of this machine, the fastest first.
pub(super) fn kernels() -> impl Iterator<Item = &'static Kernel> {
    #[cfg(target_arch = "x86_64")]
    let wide = [super::gfni::kernel(), super::avx2::kernel()];
    #[cfg(not(target_arch = "x86_64"))]
    let wide: [Option<&'static Kernel>; 0] = [];
    wide.into_iter().flatten().chain([&PORTABLE])
}

/// The fastest kernel of this machine.
pub(super) fn kernel() -> &'static Kernel {
    static CHOSEN: OnceLock<&'static Kernel> = OnceLock::new();
    CHOSEN.get_or_init(|| kernels().next().unwrap_or(&PORTABLE))
}

static PORTABLE: Kernel = Kernel { name: "portable", one: combine_portable, four: combine_portable };

fn combine_portable<const N: usize>(sum: &mut [u8], scale: &Multiplier, terms: &[Term<'_>; N]) {
    combine_from(0, sum, scale, terms);
}

/// The bytes from `start` on, one at a time: what a wide kernel leaves.
pub(super) fn combine_from<const N: usize>(
    start: usize,
    sum: &mut [u8],
    scale: &Multiplier,
    terms: &[Term<'_>; N],
) {
    for (at, sum) in sum.iter_mut().enumerate().skip(start) {
        *sum = terms
            .iter()
            .fold(scale.product(*sum), |sum, (bytes, constant)| sum ^ constant.product(bytes[at]));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every kernel against the field's own product: all constants, lengths around a register, unaligned, any number of terms.
    #[test]
    fn every_kernel_multiplies() {
        let noise: Vec<u8> =
            (0..2400u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 13).to_le_bytes()[0]).collect();
        for kernel in kernels() {
            eprintln!("kernel fec::{}: ran", kernel.name);
            for constant in 0..=255u8 {
                for length in [0, 1, 31, 32, 33, 63, 64, 65, 127, 128, 129, 200] {
                    for count in [0, 1, 2, 4, 7, 8, 9] {
                        check(kernel, &noise, constant, length, count);
                    }
                }
            }
        }
    }

    fn check(kernel: &Kernel, noise: &[u8], scale: u8, length: usize, count: usize) {
        let shift = length % 7;
        let constant = |term: usize| noise[term + usize::from(scale)];
        // Each to the end of memory of its own: a sanitizer sees what is read behind it.
        let memory: Vec<Box<[u8]>> =
            (0..count).map(|term| noise[300 + term * 201..][..shift + length].into()).collect();
        let data = |term: usize| &memory[term][shift..];
        let terms: Vec<_> = (0..count).map(|term| (data(term), Multiplier::of(constant(term)))).collect();
        let mut found = noise.to_vec();
        kernel.combine(&mut found[shift..][..length], Multiplier::of(scale), &terms);
        let right: Vec<u8> = (0..length)
            .map(|at| {
                let sum = noise[shift + at];
                let sum = if count == 0 { sum } else { multiply(scale, sum) };
                (0..count).fold(sum, |sum, term| sum ^ multiply(constant(term), data(term)[at]))
            })
            .collect();
        assert_eq!(found[shift..][..length], right, "{} {scale} {length} {count}", kernel.name);
        assert_eq!(found[shift + length..], noise[shift + length..], "written behind the end");
    }
}
