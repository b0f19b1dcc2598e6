//! Numbered jobs, shared out among threads.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use crate::tree::{Error, Options};

/// Runs jobs `0..jobs`, each once, on up to as many threads as the options say. Every thread has its own `state`.
///
/// The first error (or cancellation) stops the others at their next job and is returned. A system that grants
/// fewer threads gets the work done with those it grants: the caller's own is always one of them.
pub(crate) fn run<S>(
    jobs: u64,
    options: &Options<'_>,
    state: impl Fn() -> S + Sync,
    work: impl Fn(&mut S, u64) -> Result<(), Error> + Sync,
) -> Result<(), Error> {
    let next = AtomicU64::new(0);
    let stop = AtomicBool::new(false);
    let failure = Mutex::new(None);
    let worker = || {
        let mut state = state();
        while !stop.load(Ordering::Relaxed) {
            let job = next.fetch_add(1, Ordering::Relaxed);
            if job >= jobs {
                break;
            }
            let result =
                if options.observer.cancelled() { Err(Error::Cancelled) } else { work(&mut state, job) };
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
