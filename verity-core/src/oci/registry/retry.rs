//! When something is tried again, and when it is given up.

use std::time::Duration;

use super::{Error, Retries};

/// So much has to come of a blob, in bytes, for the tries to be counted anew: a registry that gives a byte each time is given up, too.
const PROGRESS: u64 = 1 << 20;

/// The longest pause that is not asked for by the registry.
const PAUSE_MAX: Duration = Duration::from_secs(8);

/// Counts what went wrong.
pub(super) struct Attempts {
    retries: Retries,
    failed: u32,
    /// Where the last failure that counts was, in bytes.
    mark: u64,
}

impl Attempts {
    pub(super) const fn new(retries: Retries, position: u64) -> Self {
        Self { retries, failed: 0, mark: position }
    }

    /// How often it was tried without getting on.
    pub(super) const fn made(&self) -> u32 {
        self.failed
    }

    /// After a failure at `position`: how long to wait before it is tried again, or the error if it is not.
    pub(super) fn failed(&mut self, error: Error, position: u64, reached: bool) -> Result<Duration, Error> {
        if position.saturating_sub(self.mark) >= PROGRESS {
            self.failed = 0;
            self.mark = position;
        }
        self.failed += 1;
        let error = match error {
            Error::RateLimited { host, retry_after, .. } => {
                Error::RateLimited { host, attempts: self.failed, retry_after }
            }
            other => other,
        };
        let asked = error.retry_after().unwrap_or_default();
        if self.failed > self.retries.times || asked > self.retries.longest || !error.is_transient(reached) {
            return Err(error);
        }
        let doubled = self.retries.pause.saturating_mul(1 << (self.failed - 1).min(10));
        Ok(doubled.min(PAUSE_MAX).max(asked))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn broken() -> Error {
        Error::Connection { host: "h".to_owned(), what: "reading", problem: "it broke".to_owned() }
    }

    fn busy(seconds: u64) -> Error {
        let retry_after = Some(Duration::from_secs(seconds));
        Error::RateLimited { host: "h".to_owned(), attempts: 0, retry_after }
    }

    #[test]
    fn pauses_double_and_tries_are_counted() {
        let mut attempts = Attempts::new(Retries::default(), 0);
        let pauses: Vec<_> =
            (0..5).map(|_| attempts.failed(broken(), 0, true).unwrap().as_millis()).collect();
        assert_eq!(pauses, [250, 500, 1000, 2000, 4000]);
        assert!(attempts.failed(broken(), 0, true).is_err());
        assert_eq!(attempts.made(), 6);
    }

    #[test]
    fn only_real_progress_counts() {
        let mut attempts = Attempts::new(Retries { times: 2, ..Retries::default() }, 0);
        assert!(attempts.failed(broken(), 1, true).is_ok());
        assert!(attempts.failed(broken(), PROGRESS - 1, true).is_ok());
        // Together they are enough.
        assert!(attempts.failed(broken(), PROGRESS, true).is_ok());
        assert!(attempts.failed(broken(), PROGRESS + 1, true).is_ok());
        assert!(attempts.failed(broken(), PROGRESS + 2, true).is_err());
    }

    #[test]
    fn a_registry_may_ask_for_time_but_not_for_hours() {
        let mut attempts = Attempts::new(Retries::default(), 0);
        assert_eq!(attempts.failed(busy(30), 0, true).unwrap(), Duration::from_secs(30));
        match attempts.failed(busy(3600), 0, true) {
            Err(Error::RateLimited { attempts: 2, .. }) => {}
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_was_never_there_is_not_waited_for() {
        let refused = || Error::Refused { host: "h".to_owned() };
        assert!(Attempts::new(Retries::default(), 0).failed(refused(), 0, false).is_err());
        assert!(Attempts::new(Retries::default(), 0).failed(refused(), 0, true).is_ok());
        assert!(Attempts::new(Retries::default(), 0).failed(Error::Cancelled, 0, true).is_err());
    }
}
