//! Digests alone: one thread, blocks that stay in its core's cache.

use std::hint::black_box;
use std::time::Instant;

use sha2::{Digest, Sha256, Sha512};
use verity_core::algorithm::Algorithm;
use verity_core::block::{BlockSize, Salt};
use verity_core::digest::{BackendKind, BlockHasher};
use verity_core::params::Params;

use super::{Bench, Case, Ratio, compared};
use crate::goals::Goal;
use crate::machine::{Pinned, kernels};
use crate::noise::Noise;
use crate::programs::SALT;
use crate::report::Measured;
use crate::statistics::Sample;
use crate::stop::{Result, Stop};
use crate::units::{GIB, speed};

const BLOCK: usize = 4096;

/// Small enough for any core's second-level cache, and for the largest number of lanes many times over.
const BYTES: usize = 256 << 10;

pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (algorithm, goal) in [(Algorithm::Sha256, Goal::SHA256), (Algorithm::Sha512, Goal::SHA512)] {
        // The floor is the fastest one's.
        for (kind, goal) in kernels(algorithm).zip([Some(goal)].into_iter().chain(std::iter::repeat(None))) {
            cases.push(Case::new(
                format!("kernel-{algorithm}-{kind}"),
                format!("{algorithm} kernel {kind}, one thread, data in L2"),
                goal,
                move |bench| compare(bench, algorithm, kind),
            ));
        }
    }
    cases
}

fn compare(bench: &Bench, algorithm: Algorithm, kind: BackendKind) -> Result<Measured> {
    let _pinned = Pinned::to_one_core()?;
    let mut kernel = Hashing::new(algorithm, kind)?;
    let blocks = Noise::new(7).bytes(BYTES);
    let size = algorithm.digest_size();
    let mut digests = vec![0; BYTES / BLOCK * size];
    let ours = || {
        let wall = kernel.seconds_a_gib(bench.sizes.sample);
        Ok((Sample { wall, cpu: None }, kernel.digests.clone()))
    };
    let peer = || {
        let wall = match algorithm {
            Algorithm::Sha512 => crate_seconds_a_gib::<Sha512>(bench.sizes.sample, &blocks, &mut digests),
            _ => crate_seconds_a_gib::<Sha256>(bench.sizes.sample, &blocks, &mut digests),
        };
        Ok((Sample { wall, cpu: None }, digests.clone()))
    };
    let pairs = bench.repetition.pairs(ours, peer)?;
    compared(&pairs, Ratio::SpeedUp, "sha2 crate", speed)
}

/// One of our kernels with its data.
pub(super) struct Hashing {
    hasher: BlockHasher,
    blocks: Vec<u8>,
    digests: Vec<u8>,
}

impl Hashing {
    pub(super) fn new(algorithm: Algorithm, kind: BackendKind) -> Result<Self> {
        let salt = Salt::new(&SALT).map_err(Stop::failed)?;
        let params = Params { algorithm, salt, ..Params::default() };
        let hasher = BlockHasher::with_backend(&params, kind).map_err(Stop::failed)?;
        let digests = vec![0; BYTES / BLOCK * hasher.digest_size()];
        Ok(Self { hasher, blocks: Noise::new(7).bytes(BYTES), digests })
    }

    /// The kernel that `verity` would choose for SHA-256.
    pub(super) fn chosen() -> Result<Self> {
        Self::new(Algorithm::Sha256, kernels(Algorithm::Sha256).next().unwrap_or(BackendKind::Portable))
    }

    /// Hashes for so many seconds, and returns how many it takes for a GiB.
    pub(super) fn seconds_a_gib(&mut self, seconds: f64) -> f64 {
        let Self { hasher, blocks, digests } = self;
        repeated(seconds, || {
            hasher.hash_blocks(black_box(blocks), BlockSize::default(), digests, hasher.digest_size());
            black_box(&digests);
        })
    }
}

/// The same with the crate that everybody takes, in the best way it offers: the salt is hashed once.
fn crate_seconds_a_gib<D: Digest + Clone>(seconds: f64, blocks: &[u8], digests: &mut [u8]) -> f64 {
    let salted = D::new_with_prefix(SALT);
    let size = <D as Digest>::output_size();
    repeated(seconds, || {
        for (block, digest) in black_box(blocks).chunks_exact(BLOCK).zip(digests.chunks_exact_mut(size)) {
            digest.copy_from_slice(&salted.clone().chain_update(block).finalize());
        }
        black_box(&digests);
    })
}

/// Does the work, which is [`BYTES`] each time, for so many seconds, and returns how many it takes for a GiB.
fn repeated(seconds: f64, mut work: impl FnMut()) -> f64 {
    let begin = Instant::now();
    let mut bytes = 0.0;
    loop {
        work();
        bytes += BYTES as f64;
        let elapsed = begin.elapsed().as_secs_f64();
        if elapsed >= seconds {
            return elapsed / bytes * GIB as f64;
        }
    }
}
