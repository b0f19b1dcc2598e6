//! Runs the dm-verity test cases in real kernels.
//!
//! One crate, two programs. The *harness* (`kernel-tests`, [`host`]) boots kernels in QEMU and collects
//! verdicts; the *guest program* ([`guest`]) is `/init` in there and runs the cases. Both are built from the
//! same list of cases, so that the harness knows each case's needs without asking a guest.

// What a case needs of its guest, the harness alone reads.
#[cfg_attr(not(feature = "host"), allow(dead_code))]
mod case;
mod cases;
pub mod guest;
#[cfg(feature = "host")]
pub mod host;
mod protocol;
