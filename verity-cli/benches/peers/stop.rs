//! Why a case, or the whole run, ends early.

use std::fmt::Display;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

/// Why there is no figure.
#[derive(Debug)]
pub(crate) enum Stop {
    /// This machine has not what the case needs. The others go on.
    Skipped(String),
    /// A wrong answer, or a failure: nothing that is measured after it is worth anything.
    Failed(String),
}

pub(crate) type Result<T> = std::result::Result<T, Stop>;

impl Stop {
    pub(crate) fn failed(why: impl Display) -> Self {
        Self::Failed(why.to_string())
    }

    pub(crate) fn skipped(why: impl Display) -> Self {
        Self::Skipped(why.to_string())
    }
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        Self::failed(error)
    }
}

impl From<nix::Error> for Stop {
    fn from(error: nix::Error) -> Self {
        Self::failed(error)
    }
}

/// Signals that ask this process to stop. They are only noted, so that what was made is removed on the way out.
pub(crate) struct Interrupts(Arc<AtomicBool>);

impl Interrupts {
    pub(crate) fn watch() -> io::Result<Self> {
        let received = Arc::new(AtomicBool::new(false));
        for signal in [SIGHUP, SIGINT, SIGTERM] {
            signal_hook::flag::register(signal, Arc::clone(&received))?;
        }
        Ok(Self(received))
    }

    pub(crate) fn check(&self) -> Result<()> {
        if self.0.load(Ordering::Relaxed) { Err(Stop::failed("interrupted")) } else { Ok(()) }
    }
}
