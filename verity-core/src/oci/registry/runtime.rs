//! The threads on which connections are handled.

use std::fmt::Display;
use std::future::Future;
use std::sync::mpsc::{RecvTimeoutError, sync_channel};

use tokio::runtime::Builder;
use tokio::task::JoinHandle;

use super::{Error, Options, WAIT};

/// Two threads: one may decrypt while the other one waits for the network.
const THREADS: usize = 2;
/// Threads that wait for the system's resolver.
const RESOLVERS: usize = 4;

/// Who does what is not waited for. Callers wait for answers on channels of std's and never enter the runtime, so that they may be inside of one themselves.
pub(super) struct Runtime {
    runtime: Option<tokio::runtime::Runtime>,
    host: String,
}

impl Runtime {
    pub(super) fn new(host: &str) -> Result<Self, Error> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(THREADS)
            .max_blocking_threads(RESOLVERS)
            .thread_name("registry")
            .enable_io()
            .enable_time()
            .build()
            .map_err(|error| internal(host, error))?;
        Ok(Self { runtime: Some(runtime), host: host.to_owned() })
    }

    /// Starts work that goes on by itself.
    pub(super) fn start(
        &self,
        work: impl Future<Output = ()> + Send + 'static,
    ) -> Result<JoinHandle<()>, Error> {
        let runtime = self.runtime.as_ref().ok_or_else(|| internal(&self.host, "it is over"))?;
        Ok(runtime.spawn(work))
    }

    /// Does work, and waits for it as long as it is wanted.
    pub(super) fn wait<T: Send + 'static>(
        &self,
        options: &Options,
        work: impl Future<Output = Result<T, Error>> + Send + 'static,
    ) -> Result<T, Error> {
        let (give, take) = sync_channel(1);
        let task = self.start(async move {
            // Who has gone does not want it.
            let _ = give.send(work.await);
        })?;
        loop {
            match take.recv_timeout(WAIT) {
                Ok(result) => return result,
                Err(RecvTimeoutError::Timeout) if options.cancelled() => {
                    task.abort();
                    return Err(Error::Cancelled);
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Err(self.ended()),
            }
        }
    }

    /// Work that ended without a word.
    pub(super) fn ended(&self) -> Error {
        internal(&self.host, "it ended early")
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        // Waiting for threads that wait for the network helps nobody.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

fn internal(host: &str, problem: impl Display) -> Error {
    Error::Internal { host: host.to_owned(), problem: problem.to_string() }
}
