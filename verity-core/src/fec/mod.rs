//! Forward error correction: Reed-Solomon parity over data and tree, as the kernel and veritysetup lay it out.
//!
//! RS(255, 255 - roots) over GF(2^8), polynomial 0x11d, first root the generator's power 0, systematic.

#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code)]
mod avx2;
mod codeword;
mod decode;
mod encode;
mod field;
#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code)]
mod gfni;
mod layout;
mod leaves;
mod message;
mod multiplier;

pub use decode::Decoder;
pub use encode::{build, count_differing, encode};
pub use layout::{CODEWORD, Layout, LayoutError, Roots};

/// The name of the kernel that multiplies on this machine, for reports.
#[must_use]
pub fn backend_name() -> &'static str {
    multiplier::kernel().name
}
