//! Numbered jobs, shared out among threads.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use crate::tree::{Error, Options};

/// Runs jobs `0..jobs`, each once, on up to as many threads as the options say. Every thread has its own `state`.
///
/// The first error (or cancellation) stops the others at their next job and is returned; a panic stops them too, and goes on in the
/// caller. A system that grants fewer threads gets the work done with those it grants: the caller's own is always one of them.
pub(crate) fn run<S>(
    jobs: u64,
    options: &Options<'_>,
    state: impl Fn() -> S + Sync,
    work: impl Fn(&mut S, u64) -> Result<(), Error> + Sync,
) -> Result<(), Error> {
    run_with(jobs, options, state, work)
}

/// As [`run`], for work with errors of its own.
pub(crate) fn run_with<S, E: From<Error> + Send>(
    jobs: u64,
    options: &Options<'_>,
    state: impl Fn() -> S + Sync,
    work: impl Fn(&mut S, u64) -> Result<(), E> + Sync,
) -> Result<(), E> {
    let next = AtomicU64::new(0);
    let stop = AtomicBool::new(false);
    let failure = Mutex::new(None);
    let worker = || {
        let _guard = StopOnPanic(&stop);
        let mut state = state();
        while !stop.load(Ordering::Relaxed) {
            let job = next.fetch_add(1, Ordering::Relaxed);
            if job >= jobs {
                break;
            }
            let result = if options.observer.cancelled() {
                Err(E::from(Error::Cancelled))
            } else {
                work(&mut state, job)
            };
            if let Err(error) = result {
                stop.store(true, Ordering::Relaxed);
                failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
            }
        }
    };
    thread::scope(|scope| {
        for index in 1..options.threads.get() {
            let more_jobs_than_threads = u64::try_from(index).is_ok_and(|index| index < jobs);
            if !more_jobs_than_threads || thread::Builder::new().spawn_scoped(scope, worker).is_err() {
                break;
            }
        }
        worker();
    });
    failure.into_inner().unwrap_or_else(PoisonError::into_inner).map_or(Ok(()), Err)
}

/// Keeps the other threads from finishing work whose result nobody will see.
struct StopOnPanic<'a>(&'a AtomicBool);

impl Drop for StopOnPanic<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.store(true, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::progress::Observer;
    use crate::tree::Threads;

    #[test]
    fn every_job_runs_once() {
        for threads in [1, 3, 16] {
            let options = Options { threads: Threads::new(threads).unwrap(), ..Options::default() };
            let seen: Vec<AtomicU64> = (0..100).map(|_| AtomicU64::new(0)).collect();
            run(
                100,
                &options,
                || (),
                |(), job| {
                    seen[usize::try_from(job).unwrap()].fetch_add(1, Ordering::Relaxed);
                    Ok(())
                },
            )
            .unwrap();
            assert!(seen.iter().all(|count| count.load(Ordering::Relaxed) == 1));
        }
    }

    #[test]
    fn an_error_stops_the_rest() {
        let options = Options { threads: Threads::new(2).unwrap(), ..Options::default() };
        let ran = AtomicU64::new(0);
        let result = run(
            1_000_000,
            &options,
            || (),
            |(), _| {
                ran.fetch_add(1, Ordering::Relaxed);
                Err(Error::Threads(7))
            },
        );
        assert!(matches!(result, Err(Error::Threads(7))));
        assert!(ran.into_inner() <= 2);
    }

    /// What fails after the first failure may be no more than its consequence.
    #[test]
    fn the_first_error_is_the_one_that_is_returned() {
        /// A thread's state, which goes when its error is kept already.
        struct Thread<'a>(&'a AtomicBool);
        impl Drop for Thread<'_> {
            fn drop(&mut self) {
                self.0.store(true, Ordering::Release);
            }
        }
        let options = Options { threads: Threads::new(4).unwrap(), ..Options::default() };
        let (all_began, one_ended) = (std::sync::Barrier::new(4), AtomicBool::new(false));
        let work = |_: &mut Thread<'_>, job| {
            all_began.wait();
            if job == 2 {
                return Err(Error::Threads(2));
            }
            while !one_ended.load(Ordering::Acquire) {
                thread::yield_now();
            }
            Err(Error::Thread)
        };
        let result = run(4, &options, || Thread(&one_ended), work);
        assert!(matches!(result, Err(Error::Threads(2))), "{result:?}");
    }

    #[test]
    fn a_panic_stops_the_rest_and_reaches_the_caller() {
        let options = Options { threads: Threads::new(2).unwrap(), ..Options::default() };
        let ran = AtomicU64::new(0);
        let work = |(): &mut (), _| {
            assert!(ran.fetch_add(1, Ordering::Relaxed) != 0, "the first job");
            thread::sleep(std::time::Duration::from_millis(1));
            Ok(())
        };
        let outcome =
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| run(1_000_000, &options, || (), work)));
        assert!(outcome.is_err());
        assert!(ran.into_inner() < 100_000, "all jobs ran");
    }

    #[test]
    fn a_cancelled_observer_stops_the_work() {
        struct Stop;
        impl Observer for Stop {
            fn cancelled(&self) -> bool {
                true
            }
        }
        let options = Options { observer: &Stop, ..Options::default() };
        let result = run(10, &options, || (), |(), _| panic!("a job ran"));
        assert!(matches!(result, Err(Error::Cancelled)));
    }
}
