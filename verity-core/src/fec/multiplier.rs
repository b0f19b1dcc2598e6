//! Multiplying long runs of bytes by one constant: the inner loop of all Reed-Solomon work here.
//!
//! Consecutive bytes belong to consecutive codewords, so that all of them are treated alike. One file for each instruction set,
//! with the same two functions; this one chooses.

use std::sync::{LazyLock, OnceLock};

use super::field::{multiply, power};

/// A constant, prepared for every instruction set.
#[derive(Clone, Debug)]
pub(super) struct Multiplier {
    /// Products with 0 to 15, and with 0, 16, ... 240: what a shuffle instruction looks up.
    pub(super) low: [u8; 16],
    pub(super) high: [u8; 16],
    /// The multiplication as a matrix of bits, as `gf2p8affineqb` takes it: the row of result bit `i` in byte `7 - i`.
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
        let column = |bit: usize| multiply(constant, power(bit));
        let mut rows = [0; 8];
        for (bit, row) in rows.iter_mut().rev().enumerate() {
            *row = (0..8).fold(0, |row, input| row | (column(input) >> bit & 1) << input);
        }
        Self {
            low: std::array::from_fn(|index| multiply(constant, nibble(index))),
            high: std::array::from_fn(|index| multiply(constant, nibble(index) << 4)),
            matrix: u64::from_le_bytes(rows),
        }
    }

    /// The product with one byte.
    fn product(&self, byte: u8) -> u8 {
        self.low[usize::from(byte & 15)] ^ self.high[usize::from(byte >> 4)]
    }
}

/// What an instruction set provides. Slices are of equal length.
pub(super) struct Kernel {
    pub(super) name: &'static str,
    /// `sum = constant * sum ^ data`, byte by byte: a step of Horner's rule.
    pub(super) fold: fn(sum: &mut [u8], data: &[u8], constant: &Multiplier),
    /// `sum ^= constant * data`
    pub(super) add_product: fn(sum: &mut [u8], data: &[u8], constant: &Multiplier),
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

static PORTABLE: Kernel = Kernel { name: "portable", fold: fold_portable, add_product: add_product_portable };

pub(super) fn fold_portable(sum: &mut [u8], data: &[u8], constant: &Multiplier) {
    for (sum, data) in sum.iter_mut().zip(data) {
        *sum = constant.product(*sum) ^ data;
    }
}

pub(super) fn add_product_portable(sum: &mut [u8], data: &[u8], constant: &Multiplier) {
    for (sum, data) in sum.iter_mut().zip(data) {
        *sum ^= constant.product(*data);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every kernel against the field's own product: all constants, lengths around a register, unaligned.
    #[test]
    fn every_kernel_multiplies() {
        let noise: Vec<u8> =
            (0..600u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 13).to_le_bytes()[0]).collect();
        for kernel in kernels() {
            eprintln!("kernel fec::{}: ran", kernel.name);
            for constant in 0..=255u8 {
                let multiplier = Multiplier::of(constant);
                for length in [0, 1, 31, 32, 33, 63, 64, 65, 127, 128, 129, 200] {
                    let shift = length % 7;
                    let (sum, data) = (&noise[shift..][..length], &noise[300 + shift..][..length]);
                    let check = |work: fn(&mut [u8], &[u8], &Multiplier), expected: &dyn Fn(u8, u8) -> u8| {
                        let mut found = noise.clone();
                        work(&mut found[shift..][..length], data, multiplier);
                        let right: Vec<u8> =
                            sum.iter().zip(data).map(|(&sum, &data)| expected(sum, data)).collect();
                        assert_eq!(found[shift..][..length], right, "{} {constant} {length}", kernel.name);
                        assert_eq!(
                            found[shift + length..],
                            noise[shift + length..],
                            "written behind the end"
                        );
                    };
                    check(kernel.fold, &|sum, data| multiply(constant, sum) ^ data);
                    check(kernel.add_product, &|sum, data| sum ^ multiply(constant, data));
                }
            }
        }
    }
}
