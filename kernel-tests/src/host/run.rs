//! `list` and `run`.

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};

use crate::case::{Case, matches};
use crate::cases;
use crate::protocol::Verdict;

use super::arguments::{List, Run};
use super::guest_build::target_folder;
use super::kernels;
use super::prepare;
use super::report::{self, Counts, Outcome, Outcomes};
use super::schedule;
use super::session::Settings;

/// Lists cases or kernels.
pub(super) fn list(arguments: &List) -> anyhow::Result<ExitCode> {
    if arguments.kernels {
        for kernel in kernels::cached(&[])? {
            println!("{:<6} Linux {}", kernel.label, kernel.version);
        }
        return Ok(ExitCode::SUCCESS);
    }
    let cases = chosen(&arguments.cases)?;
    let width = cases.iter().map(|case| case.name.len()).max().unwrap_or(0);
    for case in cases {
        let own = if case.own_boot.is_some() { ", in a guest of its own" } else { "" };
        println!("{:width$}  {} ({}{own})", case.name, case.claim, case.kernels);
    }
    Ok(ExitCode::SUCCESS)
}

/// Runs the matrix.
pub(super) fn run(arguments: &Run) -> anyhow::Result<ExitCode> {
    let started = Instant::now();
    let cases = chosen(&arguments.cases)?;
    let prepared = prepare::prepare(prepare::chosen(&arguments.choice)?)?;
    let kernels: Vec<_> = prepared.bootables.iter().map(|bootable| bootable.kernel.clone()).collect();
    let jobs = arguments.jobs.map_or_else(processors, usize::from);
    for kernel in &kernels {
        eprintln!("{} is Linux {}", kernel.label, kernel.version);
    }
    eprintln!(
        "{} cases, {jobs} guests at a time under {}; ready after {:.1} s",
        cases.len(),
        prepared.accelerator.name(),
        started.elapsed().as_secs_f64()
    );
    let logs = Logs::new(arguments.keep_logs)?;
    let mut total = Counts::default();
    let mut failures: BTreeMap<(usize, usize), usize> = BTreeMap::new();
    for round in 1..=arguments.repeat {
        let round_started = Instant::now();
        let settings = Settings {
            accelerator: prepared.accelerator,
            firmware: prepared.firmware.clone(),
            guest_limit: Duration::from_secs(arguments.timeout),
            folder: prepared.folder.path().join(format!("round{round}")),
        };
        let printed = Mutex::new(());
        let heard = |case: usize, kernel: usize, outcome: &Outcome| {
            let _one_at_a_time = printed.lock();
            let word = match outcome.verdict {
                Verdict::Passed => "ok",
                Verdict::Failed(_) => "FAILED",
                Verdict::Skipped(_) => "skipped",
            };
            let time = report::seconds(outcome.millis);
            eprintln!("{word:>7}  {:<6} {time:>9}  {}", kernels[kernel].label, cases[case].name);
            for line in outcome.said.iter().filter(|_| arguments.say) {
                eprintln!("         {line}");
            }
        };
        let mut outcomes = schedule::run(&cases, &prepared.bootables, jobs, &settings, &heard);
        logs.keep(&settings.folder, &mut outcomes, round)?;
        let counts = Counts::of(&outcomes);
        total.add(counts);
        for (pair, outcome) in &outcomes {
            if matches!(outcome.verdict, Verdict::Failed(_)) {
                *failures.entry(*pair).or_default() += 1;
            }
        }
        if arguments.json {
            for ((case, kernel), outcome) in &outcomes {
                println!("{}", report::json(&cases[*case], &kernels[*kernel], round, outcome));
            }
        } else {
            println!("\n{}", report::table(&cases, &kernels, &outcomes));
        }
        if arguments.repeat > 1 {
            let took = round_started.elapsed().as_secs_f64();
            eprintln!("round {round} of {}: {} in {took:.1} s", arguments.repeat, counts.line());
        }
    }
    for ((case, kernel), times) in failures.iter().filter(|_| arguments.repeat > 1) {
        eprintln!(
            "failed {times} of {} times: {} on {}",
            arguments.repeat, cases[*case].name, kernels[*kernel].label
        );
    }
    let line = format!("{} ({:.1} s)", total.line(), started.elapsed().as_secs_f64());
    if arguments.json {
        eprintln!("{line}");
    } else {
        println!("{line}");
    }

    let require_all = arguments.require_all || env::var("CI").is_ok_and(|value| value == "true");
    let failed = total.failed > 0 || (require_all && total.skipped > 0) || total == Counts::default();
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// The cases that match any pattern; all, without patterns.
fn chosen(patterns: &[String]) -> anyhow::Result<Vec<Case>> {
    let mut cases = cases::all();
    for pattern in patterns {
        ensure!(cases.iter().any(|case| matches(pattern, &case.name)), "no case matches {pattern:?}");
    }
    cases.retain(|case| patterns.is_empty() || patterns.iter().any(|pattern| matches(pattern, &case.name)));
    Ok(cases)
}

fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Where console logs go that outlive the run.
struct Logs {
    folder: PathBuf,
    all: bool,
}

impl Logs {
    /// Empties the folder of an earlier run's logs.
    fn new(all: bool) -> anyhow::Result<Self> {
        let folder = target_folder().join("kernel-tests");
        match fs::remove_dir_all(&folder) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(error).with_context(|| folder.display().to_string());
            }
            _ => {}
        }
        Ok(Self { folder, all })
    }

    /// Moves a round's logs here, those of failures or all, and tells the outcomes where they are now.
    fn keep(&self, round_folder: &Path, outcomes: &mut Outcomes, round: u32) -> anyhow::Result<()> {
        let to = self.folder.join(format!("round{round}"));
        let mut kept = BTreeMap::new();
        let mut move_log = |from: &Path| -> anyhow::Result<PathBuf> {
            if let Some(moved) = kept.get(from) {
                return Ok(PathBuf::clone(moved));
            }
            let guest = from.parent().and_then(Path::file_name).context("a console log without a guest")?;
            // Not `with_extension`: the name of a guest has a dot in it.
            let moved = to.join(format!("{}.log", guest.to_string_lossy()));
            fs::create_dir_all(&to).with_context(|| to.display().to_string())?;
            fs::copy(from, &moved)
                .with_context(|| format!("copying {} to {}", from.display(), moved.display()))?;
            kept.insert(from.to_owned(), moved.clone());
            Ok(moved)
        };
        for outcome in outcomes.values_mut() {
            // A guest that never started has none.
            if let Some(console) = outcome.console.take().filter(|console| console.is_file()) {
                outcome.console = Some(move_log(&console)?);
            }
        }
        if self.all {
            for guest in fs::read_dir(round_folder).with_context(|| round_folder.display().to_string())? {
                let console =
                    guest.with_context(|| round_folder.display().to_string())?.path().join("console.log");
                if console.is_file() {
                    move_log(&console)?;
                }
            }
            eprintln!("console logs: {}", to.display());
        }
        // The rest of the round's files are disk images and sockets; twenty rounds of them would fill the disk.
        fs::remove_dir_all(round_folder).with_context(|| round_folder.display().to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cases_are_chosen_by_pattern() {
        assert_eq!(chosen(&[]).expect("all").len(), cases::all().len());
        let names: Vec<_> =
            chosen(&["baseline/*".into()]).expect("some").into_iter().map(|case| case.name).collect();
        assert!(!names.is_empty() && names.iter().all(|name| name.starts_with("baseline/")));
        assert!(chosen(&["nothing/like-this".into()]).is_err());
    }
}
