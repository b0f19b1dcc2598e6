//! How slow an answer may be.

use std::time::Duration;

use super::{Error, Retries};
use crate::oci::DOCUMENT_MAX;

/// Keeps account of the waits for an answer's bytes. Only waits count: how long the reader takes for what has come is the reader's own affair.
pub(super) struct Pace {
    silence: Duration,
    slowest: u64,
    /// How long may be waited for the next bytes: each wait takes of it, and what comes gives back, up to `silence`. Speed in the past is no credit for
    /// more than that.
    left: Duration,
    /// How long may be waited for what is left of a document.
    document: Option<Duration>,
    bytes: u64,
    waited: Duration,
}

impl Pace {
    /// For an answer of at most so many bytes.
    pub(super) fn new(retries: &Retries, bytes: u64) -> Self {
        let Retries { silence, slowest, document, .. } = *retries;
        let document = (bytes <= DOCUMENT_MAX).then_some(document);
        Self { silence, slowest, left: silence, document, bytes: 0, waited: Duration::ZERO }
    }

    /// How long may be waited for the next bytes.
    pub(super) fn wait(&self) -> Duration {
        self.document.map_or(self.left, |document| document.min(self.left))
    }

    /// So many bytes came after a wait.
    pub(super) fn came(&mut self, bytes: u64, waited: Duration) {
        self.bytes = self.bytes.saturating_add(bytes);
        self.waited = self.waited.saturating_add(waited);
        let earned = bytes.saturating_mul(1_000_000_000).checked_div(self.slowest);
        let earned = earned.map_or(self.silence, Duration::from_nanos);
        self.left = self.left.saturating_sub(waited).saturating_add(earned).min(self.silence);
        self.document = self.document.map(|document| document.saturating_sub(waited));
    }

    /// Nothing came in the time that there was.
    pub(super) fn overdue(&self, host: String) -> Error {
        let wait = self.wait();
        if wait == self.silence {
            return Error::TimedOut { host, what: "reading", waited: wait };
        }
        Error::Slow { host, bytes: self.bytes, waited: self.waited.saturating_add(wait) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn pace(bytes: u64) -> Pace {
        let retries =
            Retries { silence: 10 * SECOND, slowest: 100, document: 60 * SECOND, ..Retries::default() };
        Pace::new(&retries, bytes)
    }

    #[test]
    fn silence_is_told_from_slowness() {
        let mut pace = pace(u64::MAX);
        assert!(matches!(pace.overdue("h".to_owned()), Error::TimedOut { .. }));
        pace.came(1, 9 * SECOND);
        assert_eq!(pace.wait(), SECOND + Duration::from_millis(10));
        match pace.overdue("h".to_owned()) {
            Error::Slow { bytes: 1, waited, .. } => {
                assert_eq!(waited, 10 * SECOND + Duration::from_millis(10));
            }
            other => panic!("{other}"),
        }
    }

    #[test]
    fn what_comes_gives_time_but_not_for_ever() {
        let mut pace = pace(u64::MAX);
        // Just fast enough, as long as it likes.
        for _ in 0..1000 {
            pace.came(500, 5 * SECOND);
        }
        assert_eq!(pace.wait(), 10 * SECOND);
        pace.came(1 << 40, SECOND);
        assert_eq!(pace.wait(), 10 * SECOND);
        pace.came(0, 11 * SECOND);
        assert_eq!(pace.wait(), Duration::ZERO);
    }

    #[test]
    fn a_document_has_an_end() {
        let (mut document, mut blob) = (pace(DOCUMENT_MAX), pace(DOCUMENT_MAX + 1));
        for pace in [&mut document, &mut blob] {
            for _ in 0..11 {
                pace.came(500, 5 * SECOND);
            }
        }
        assert_eq!((document.wait(), blob.wait()), (5 * SECOND, 10 * SECOND));
    }
}
