//! Runs a matrix of cases and kernels with several guests side by side.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use crate::case::{Case, OwnBoot};
use crate::protocol::Verdict;

use super::accel::Accelerator;
use super::report::{Outcome, Outcomes};
use super::session::{Bootable, Session, Settings};

/// A guest to boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Job {
    /// For one case, as it needs it.
    Own { kernel: usize, case: usize },
    /// For as many of the kernel's other cases as it gets.
    Shared { kernel: usize },
}

/// What is left to do. Cases and kernels by index.
#[derive(Debug)]
struct Plan {
    jobs: VecDeque<Job>,
    /// The cases that share guests, one queue a kernel.
    shared: Vec<VecDeque<usize>>,
}

/// A guest more for a kernel is worth its boot when so many of its cases still wait.
const WORTH_A_BOOT: usize = 8;

impl Plan {
    /// One guest a kernel for the cases that share guests, then those that are booted for one case.
    fn new(cases: &[Case], releases: &[&str]) -> Self {
        let of_kernel = |kernel: usize, own: bool| {
            let release = releases[kernel];
            let wanted = move |case: &Case| case.own_boot.is_some() == own && case.kernels.contain(release);
            cases.iter().enumerate().filter(move |(_, case)| wanted(case)).map(|(index, _)| index)
        };
        let kernels = 0..releases.len();
        let shared: Vec<VecDeque<_>> =
            kernels.clone().map(|kernel| of_kernel(kernel, false).collect()).collect();
        let first =
            kernels.clone().filter(|&kernel| !shared[kernel].is_empty()).map(|kernel| Job::Shared { kernel });
        let own =
            kernels.flat_map(|kernel| of_kernel(kernel, true).map(move |case| Job::Own { kernel, case }));
        Self { jobs: first.chain(own).collect(), shared }
    }

    /// The next guest; when all that had to be are booted, one that helps where most is left.
    fn next_job(&mut self) -> Option<Job> {
        self.jobs.pop_front().or_else(|| {
            let (kernel, left) =
                self.shared.iter().map(VecDeque::len).enumerate().max_by_key(|&(_, left)| left)?;
            (left >= WORTH_A_BOOT).then_some(Job::Shared { kernel })
        })
    }

    fn next_shared_case(&mut self, kernel: usize) -> Option<usize> {
        self.shared[kernel].pop_front()
    }
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
    let matrix = Matrix {
        cases,
        kernels,
        settings,
        heard,
        plan: Mutex::new(Plan::new(cases, &releases)),
        outcomes: Mutex::new(Outcomes::new()),
        boots: AtomicUsize::new(0),
        states: kernels.iter().map(|_| Mutex::default()).collect(),
    };
    thread::scope(|scope| {
        for _ in 0..jobs.max(1) {
            scope.spawn(|| {
                while let Some(job) = matrix.planned(Plan::next_job) {
                    matrix.run_job(job);
                }
            });
        }
    });
    matrix.outcomes.into_inner().unwrap_or_default()
}

/// What the threads of one run share.
struct Matrix<'a> {
    cases: &'a [Case],
    kernels: &'a [Bootable],
    settings: &'a Settings,
    heard: Listener<'a>,
    plan: Mutex<Plan>,
    outcomes: Mutex<Outcomes>,
    boots: AtomicUsize,
    /// The state of a booted guest, by kernel, once there is one.
    states: Vec<Mutex<Option<PathBuf>>>,
}

impl Matrix<'_> {
    fn planned<T>(&self, take: impl FnOnce(&mut Plan) -> Option<T>) -> Option<T> {
        self.plan.lock().map_or(None, |mut plan| take(&mut plan))
    }

    fn tell(&self, kernel: usize, case: usize, outcome: Outcome) {
        (self.heard)(case, kernel, &outcome);
        if let Ok(mut outcomes) = self.outcomes.lock() {
            outcomes.insert((case, kernel), outcome);
        }
    }

    /// Runs a job's cases; those that a crash or a leak of an earlier one left over get a new guest.
    fn run_job(&self, job: Job) {
        match job {
            Job::Own { kernel, case } => self.run_guest(kernel, case, || None),
            Job::Shared { kernel } => {
                let next = || self.planned(|plan| plan.next_shared_case(kernel));
                while let Some(first) = next() {
                    self.run_guest(kernel, first, next);
                }
            }
        }
    }

    /// A guest with nothing of its own. An emulated processor takes seconds to boot one, so each kernel is booted once
    /// and all its guests start from the state that it had then.
    fn start_plain(&self, kernel: usize, name: &str) -> anyhow::Result<Session> {
        let bootable = &self.kernels[kernel];
        let state = {
            // Held during the boot: who comes meanwhile is served quicker by waiting.
            let mut known = self.states[kernel].lock().unwrap_or_else(PoisonError::into_inner);
            match known.as_ref() {
                Some(state) => state.clone(),
                None => known.insert(self.boot_and_save(bootable)?).clone(),
            }
        };
        Session::restore(bootable, &state, Vec::new(), self.settings, name)
    }

    fn boot_and_save(&self, bootable: &Bootable) -> anyhow::Result<PathBuf> {
        let name = format!("{}-boot", bootable.kernel.label);
        let state = self.settings.folder.join(&name).join("state");
        Session::boot(bootable, &OwnBoot::default(), Vec::new(), self.settings, &name)?.save(&state)?;
        Ok(state)
    }

    /// Starts one guest and runs cases in it until there is none or it is not fit for another one.
    fn run_guest(&self, kernel: usize, first: usize, next: impl Fn() -> Option<usize>) {
        let bootable = &self.kernels[kernel];
        let shared = OwnBoot::default();
        let own = self.cases[first].own_boot.as_ref().unwrap_or(&shared);
        let name = format!("{}-{}", bootable.kernel.label, self.boots.fetch_add(1, Ordering::Relaxed));
        let console = self.settings.folder.join(&name).join("console.log");
        let started = if own.starts_plain() && self.settings.accelerator == Accelerator::Emulation {
            self.start_plain(kernel, &name)
        } else {
            Session::boot(bootable, own, Vec::new(), self.settings, &name)
        };
        let mut session = match started {
            Ok(session) => session,
            // The rest is tried in another guest; each failed boot takes one case with it, so this ends.
            Err(error) => return self.tell(kernel, first, failed(format!("{error:#}"), console)),
        };
        let mut case = first;
        loop {
            let (outcome, usable) = match session.run(&self.cases[case], Vec::new(), |_| {}) {
                Ok(ran) => (ran.outcome, ran.usable),
                Err(error) => (failed(format!("{error:#}"), console.clone()), false),
            };
            let keep = matches!(outcome.verdict, Verdict::Failed(_)).then(|| console.clone());
            self.tell(kernel, case, Outcome { console: keep, ..outcome });
            if !usable {
                return;
            }
            match next() {
                Some(next) => case = next,
                None => break,
            }
        }
        // A guest that cannot be powered off was broken by a case; the last is as good a guess as any.
        if let Err(error) = session.power_off() {
            self.tell(kernel, case, failed(format!("after this case: {error:#}"), console));
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
        let mut plan = Plan::new(&cases, &["6.1.0", "6.12.1"]);
        let jobs: Vec<_> = std::iter::from_fn(|| plan.next_job()).collect();
        let (shared, own) = (|kernel| Job::Shared { kernel }, |kernel, case| Job::Own { kernel, case });
        assert_eq!(jobs, [shared(0), shared(1), own(0, 1), own(0, 3), own(1, 1)]);
        let mut cases_of = |kernel| std::iter::from_fn(|| plan.next_shared_case(kernel)).collect::<Vec<_>>();
        assert_eq!((cases_of(0), cases_of(1)), (vec![0], vec![0, 2]));
    }

    #[test]
    fn an_idle_place_helps_where_most_is_left() {
        let shared = |left: usize| (0..left).collect();
        let mut plan =
            Plan { jobs: VecDeque::new(), shared: vec![shared(WORTH_A_BOOT), shared(WORTH_A_BOOT + 1)] };
        assert_eq!(plan.next_job(), Some(Job::Shared { kernel: 1 }));
        plan.shared = vec![shared(WORTH_A_BOOT - 1)];
        assert_eq!(plan.next_job(), None);
    }
}
