//! Runs a matrix of cases and kernels with several guests side by side.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use crate::case::{Case, OwnBoot};
use crate::protocol::Verdict;

use super::report::{Outcome, Outcomes};
use super::session::{Bootable, Session, Settings};

/// A guest to boot, and the cases to run in it, by index.
#[derive(Debug, PartialEq, Eq)]
struct Job {
    kernel: usize,
    cases: VecDeque<usize>,
}

/// Hears of each outcome as it comes: index of case and kernel, and the outcome.
pub(super) type Listener<'a> = &'a (dyn Fn(usize, usize, &Outcome) + Sync);

/// Runs every case on every kernel of which it speaks, `jobs` guests at a time.
pub(super) fn run(
    cases: &[Case],
    kernels: &[Bootable],
    jobs: usize,
    settings: &Settings,
    heard: Listener<'_>,
) -> Outcomes {
    let releases: Vec<&str> = kernels.iter().map(|bootable| bootable.kernel.version.as_str()).collect();
    let queue = Mutex::new(plan(cases, &releases));
    let outcomes = Mutex::new(Outcomes::new());
    let boots = AtomicUsize::new(0);
    let take = || queue.lock().map_or(None, |mut queue| queue.pop_front());
    thread::scope(|scope| {
        for _ in 0..jobs.max(1) {
            scope.spawn(|| {
                while let Some(job) = take() {
                    let kernel = job.kernel;
                    let told = |case: usize, outcome: Outcome| {
                        heard(case, kernel, &outcome);
                        if let Ok(mut outcomes) = outcomes.lock() {
                            outcomes.insert((case, kernel), outcome);
                        }
                    };
                    run_job(job, cases, &kernels[kernel], settings, &boots, &told);
                }
            });
        }
    });
    outcomes.into_inner().unwrap_or_default()
}

/// Guests with many cases first: they take longest. Then those that are booted for one.
fn plan(cases: &[Case], releases: &[&str]) -> VecDeque<Job> {
    let of_kernel = |kernel: usize, own: bool| {
        let release = releases[kernel];
        let wanted = move |case: &Case| case.own_boot.is_some() == own && case.kernels.contain(release);
        cases.iter().enumerate().filter(move |(_, case)| wanted(case)).map(|(index, _)| index)
    };
    let shared = (0..releases.len()).map(|kernel| Job { kernel, cases: of_kernel(kernel, false).collect() });
    let own = (0..releases.len()).flat_map(|kernel| {
        of_kernel(kernel, true).map(move |case| Job { kernel, cases: VecDeque::from([case]) })
    });
    shared.chain(own).filter(|job| !job.cases.is_empty()).collect()
}

/// Runs a job's cases; those that a crash or a leak of an earlier one left over get a new guest.
fn run_job(
    mut job: Job,
    cases: &[Case],
    bootable: &Bootable,
    settings: &Settings,
    boots: &AtomicUsize,
    told: &dyn Fn(usize, Outcome),
) {
    let shared = OwnBoot::default();
    while let Some(&first) = job.cases.front() {
        let own = cases[first].own_boot.as_ref().unwrap_or(&shared);
        let name = format!("{}-{}", bootable.kernel.label, boots.fetch_add(1, Ordering::Relaxed));
        let console = settings.folder.join(&name).join("console.log");
        let mut session = match Session::boot(bootable, own, Vec::new(), settings, &name) {
            Ok(session) => session,
            Err(error) => {
                // The rest is tried in another guest; each failed boot takes one case with it, so this ends.
                told(first, failed(format!("{error:#}"), console));
                job.cases.pop_front();
                continue;
            }
        };
        let mut usable = true;
        let mut last = first;
        while usable && let Some(index) = job.cases.pop_front() {
            last = index;
            let outcome = match session.run(&cases[index], Vec::new(), |_| {}) {
                Ok(ran) => {
                    usable = ran.usable;
                    ran.outcome
                }
                Err(error) => {
                    usable = false;
                    failed(format!("{error:#}"), console.clone())
                }
            };
            let keep = matches!(outcome.verdict, Verdict::Failed(_)).then(|| console.clone());
            told(index, Outcome { console: keep, ..outcome });
        }
        // A guest that cannot be powered off was broken by a case; the last is as good a guess as any.
        if usable && let Err(error) = session.power_off() {
            told(last, failed(format!("after this case: {error:#}"), console));
        }
    }
}

fn failed(why: String, console: PathBuf) -> Outcome {
    Outcome { verdict: Verdict::Failed(why), millis: 0, said: Vec::new(), console: Some(console) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cases_share_a_guest_unless_they_need_their_own() {
        let case = |name: &str| Case::new(name, "", |_| Ok(()));
        let cases = [
            case("a/shared"),
            case("a/own").own_boot(OwnBoot::default()),
            case("a/new").since(6, 12),
            case("a/old").before(6, 12).own_boot(OwnBoot::default()),
        ];
        let jobs = plan(&cases, &["6.1.0", "6.12.1"]);
        let jobs: Vec<(usize, Vec<usize>)> =
            jobs.into_iter().map(|job| (job.kernel, job.cases.into_iter().collect())).collect();
        assert_eq!(jobs, [(0, vec![0]), (1, vec![0, 2]), (0, vec![1]), (0, vec![3]), (1, vec![1])]);
    }
}
