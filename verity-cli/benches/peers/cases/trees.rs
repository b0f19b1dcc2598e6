//! Whole trees against veritysetup: warm data and holes, on all cores and on one, with each digest backend.

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::path::Path;

use verity_core::algorithm::Algorithm;
use verity_core::digest::BackendKind;

use super::{Bench, Case, Ratio, compared};
use crate::goals::Goal;
use crate::machine::{Pinned, kernels};
use crate::programs::{Program, Tree};
use crate::report::Measured;
use crate::stop::{Result, Stop};
use crate::units::{seconds, size};
use crate::workspace::remove;

/// How many cores both sides may use.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Cores {
    All,
    One,
}

impl Cores {
    fn pinned(self) -> Result<Option<Pinned>> {
        match self {
            Self::All => Ok(None),
            Self::One => Pinned::to_one_core().map(Some),
        }
    }

    fn ours(self, backend: Option<BackendKind>) -> Program {
        let program = Program::verity().forced(backend);
        match self {
            Self::All => program,
            Self::One => program.threads(1),
        }
    }
}

pub(super) fn cases(bench: &Bench) -> Vec<Case> {
    let mut cases = with_backend(bench, None);
    cases.push(Case::new(
        "holes",
        format!("format, {}, all holes", size(bench.sizes.holes)),
        Goal::HOLES,
        holes,
    ));
    let best = kernels(Algorithm::Sha256).next();
    let others = BackendKind::ALL.into_iter().filter(|kind| kind.is_available() && Some(*kind) != best);
    for backend in others {
        cases.extend(with_backend(bench, Some(backend)));
    }
    cases
}

/// The four comparisons that each backend takes part in; without one, `verity` chooses.
fn with_backend(bench: &Bench, backend: Option<BackendKind>) -> Vec<Case> {
    let mut cases = Vec::new();
    let best_without_avx512 = kernels(Algorithm::Sha256).find(|kind| *kind != BackendKind::Avx512);
    for cores in [Cores::All, Cores::One] {
        let (short, long) = match cores {
            Cores::All => ("", format!("{} cores", bench.machine.cores)),
            Cores::One => ("-one-core", "one core".to_owned()),
        };
        let suffix = backend.map_or_else(String::new, |backend| format!("-{backend}"));
        let title = |what: &str| {
            let forced = backend.map_or_else(String::new, |backend| format!(", forced to {backend}"));
            format!("{what}, {} warm, {long}{forced}", size(bench.sizes.data))
        };
        let (format_goal, verify_goal) = match (backend, cores) {
            (None, Cores::All) => (Some(Goal::FORMAT), Some(Goal::VERIFY)),
            (None, Cores::One) => (Some(Goal::FORMAT_ONE_CORE), None),
            (forced, Cores::All) if forced == best_without_avx512 => {
                (Some(Goal::FORMAT_WITHOUT_AVX512), None)
            }
            (forced, Cores::One) if forced == best_without_avx512 => {
                (Some(Goal::FORMAT_ONE_CORE_WITHOUT_AVX512), None)
            }
            _ => (None, None),
        };
        cases.push(Case::new(format!("format{short}{suffix}"), title("format"), format_goal, move |bench| {
            let data = bench.memory.noise()?;
            format(bench, data, &cores.ours(backend), cores)
        }));
        cases.push(Case::new(format!("verify{short}{suffix}"), title("verify"), verify_goal, move |bench| {
            verify(bench, &cores.ours(backend), cores)
        }));
    }
    cases
}

fn format(bench: &Bench, data: &Path, ours: &Program, cores: Cores) -> Result<Measured> {
    let peer = Program::veritysetup()?;
    let scratch = bench.memory.scratch()?;
    let (our_hash, peer_hash) = (scratch.path("ours"), scratch.path("peer"));
    let run = |program: &Program, hash: &Path| {
        remove(hash)?;
        let (finished, tree) = program.format(data, hash)?;
        Ok((finished.sample, tree))
    };
    let _pinned = cores.pinned()?;
    let pairs = bench.repetition.pairs(|| run(ours, &our_hash), || run(&peer, &peer_hash))?;
    compared(&pairs, Ratio::SpeedUp, "veritysetup", seconds)
}

fn verify(bench: &Bench, ours: &Program, cores: Cores) -> Result<Measured> {
    let peer = Program::veritysetup()?;
    let data = bench.memory.noise()?;
    let scratch = bench.memory.scratch()?;
    let hash = scratch.path("hash");
    let (_, tree) = peer.format(data, &hash)?;
    refuses_damage(bench, data, &hash, ours, &tree)?;
    // The answer is the exit code, which has been looked at.
    let run = |program: &Program| Ok((program.verify(data, &hash, &tree)?.sample, ()));
    let _pinned = cores.pinned()?;
    let pairs = bench.repetition.pairs(|| run(ours), || run(&peer))?;
    compared(&pairs, Ratio::SpeedUp, "veritysetup", seconds)
}

/// A verification that looks at nothing would be the fastest of all.
fn refuses_damage(bench: &Bench, data: &Path, hash: &Path, ours: &Program, tree: &Tree) -> Result<()> {
    let file = OpenOptions::new().read(true).write(true).open(data)?;
    let place = bench.sizes.data / 3;
    let mut byte = [0];
    file.read_exact_at(&mut byte, place)?;
    file.write_all_at(&[!byte[0]], place)?;
    let refused = ours.refuse(data, hash, tree);
    file.write_all_at(&byte, place).map_err(Stop::from).and(refused)
}

fn holes(bench: &Bench) -> Result<Measured> {
    let scratch = bench.memory.scratch()?;
    let data = scratch.hole(bench.sizes.holes)?;
    // Two trees of 1/127 each.
    bench.memory.require(bench.sizes.holes / 50)?;
    format(bench, &data, &Cores::All.ours(None), Cores::All)
}
