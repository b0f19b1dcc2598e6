//! Runs the cases that the harness names, one process each, and passes messages between the two.

use std::fs::File;
use std::io::BufReader;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use nix::mount::{MntFlags, umount2};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use crate::protocol::{self, Finished, FromGuest, ToGuest, Verdict};

use super::{CASE, clean, context};

/// What the loop below reacts to.
enum Event {
    Harness(ToGuest),
    /// From the process with this id, which may be of an earlier case that was killed.
    Case(u32, FromGuest),
    /// The process with this id has closed its end: it is over.
    CaseEnded(u32),
    Lost(anyhow::Error),
}

/// Serves until the harness wants the guest off.
pub(super) fn run(channel: &File) -> anyhow::Result<()> {
    let (events, incoming) = mpsc::channel();
    listen(channel.try_clone().context("the port")?, events.clone());
    let kernel = nix::sys::utsname::uname().context("uname")?.release().to_string_lossy().into_owned();
    protocol::send(channel, &FromGuest::Hello { kernel })?;
    let before = clean::KernelObjects::now().context("looking at the guest before the first case")?;
    loop {
        match incoming.recv().context("the port's reader is gone")? {
            Event::Harness(ToGuest::PowerOff) => return Ok(()),
            Event::Harness(ToGuest::Run { case, limit_seconds, facts }) => {
                let running = Running::start(&case, &facts, &events)?;
                let mut finished =
                    running.wait(&case, Duration::from_secs(limit_seconds), channel, &incoming)?;
                finished.leaks = before.leaks();
                finished.clean = finished.leaks.is_empty();
                protocol::send(channel, &FromGuest::Finished(finished))?;
            }
            Event::Harness(ToGuest::Done) => bail!("an answer that nobody asked for"),
            Event::Lost(error) => return Err(error.context("the harness's port")),
            // The last words of a case that was killed.
            Event::Case(..) | Event::CaseEnded(_) => {}
        }
    }
}

fn listen(channel: File, events: Sender<Event>) {
    thread::spawn(move || {
        let mut lines = BufReader::new(channel);
        loop {
            let event = match protocol::receive(&mut lines) {
                Ok(Some(message)) => Event::Harness(message),
                Ok(None) => Event::Lost(anyhow::anyhow!("closed")),
                Err(error) => Event::Lost(error.into()),
            };
            let last = matches!(event, Event::Lost(_));
            if events.send(event).is_err() || last {
                return;
            }
        }
    });
}

/// The process of one case.
struct Running {
    child: Child,
    input: ChildStdin,
    started: Instant,
}

impl Running {
    fn start(case: &str, facts: &[(String, String)], events: &Sender<Event>) -> anyhow::Result<Self> {
        let mut child = Command::new("/proc/self/exe")
            .args([CASE, case])
            .env_clear()
            .env("PATH", "/bin:/sbin:/usr/bin:/usr/sbin")
            .envs(facts.iter().map(|(key, value)| (key.as_str(), value.as_str())))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // A group of its own, so that it is killed with all that it started.
            .process_group(0)
            .spawn()
            .context("starting the case's process")?;
        let input = child.stdin.take().context("the case's input")?;
        let output = child.stdout.take().context("the case's output")?;
        let (id, events) = (child.id(), events.clone());
        thread::spawn(move || {
            let mut lines = BufReader::new(output);
            while let Ok(Some(message)) = protocol::receive(&mut lines) {
                if events.send(Event::Case(id, message)).is_err() {
                    return;
                }
            }
            // A line that is no message ends the case too: what a case prints, it prints through its context.
            let _ = events.send(Event::CaseEnded(id));
        });
        Ok(Self { child, input, started: Instant::now() })
    }

    fn wait(
        mut self,
        case: &str,
        limit: Duration,
        channel: &File,
        incoming: &Receiver<Event>,
    ) -> anyhow::Result<Finished> {
        let id = self.child.id();
        let mut verdict = None;
        let deadline = self.started + limit;
        let timed_out = loop {
            match incoming.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(Event::Case(from, _) | Event::CaseEnded(from)) if from != id => {}
                Ok(Event::Case(_, FromGuest::Finished(finished))) => verdict = Some(finished.verdict),
                Ok(Event::Case(_, message)) => protocol::send(channel, &message)?,
                Ok(Event::CaseEnded(_)) => break false,
                Ok(Event::Harness(ToGuest::PowerOff)) => bail!("the harness gave up on {case}"),
                // Its process may just have died; the end of its output comes next.
                Ok(Event::Harness(answer)) => drop(protocol::send(&self.input, &answer)),
                Ok(Event::Lost(error)) => return Err(error.context("the harness's port")),
                Err(RecvTimeoutError::Timeout) => break true,
                Err(RecvTimeoutError::Disconnected) => bail!("the port's reader is gone"),
            }
        };
        let group = Pid::from_raw(i32::try_from(id).context("the case's process id")?);
        // The group is gone already where the case left no process behind.
        let _ = killpg(group, Signal::SIGKILL);
        let status = self.child.wait().context("waiting for the case's process")?;
        let millis = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        if timed_out || verdict.is_none() {
            // It had no chance to, and the next case needs the place.
            let _ = umount2(context::SCRATCH, MntFlags::MNT_DETACH);
        }
        let verdict = match verdict {
            _ if timed_out => Verdict::Failed(format!("did not end within {} s", limit.as_secs())),
            Some(verdict) => verdict,
            None => Verdict::Failed(format!("its process ended without a verdict: {}", ending(status))),
        };
        Ok(Finished { case: case.to_owned(), verdict, millis, leaks: Vec::new(), clean: true })
    }
}

fn ending(status: ExitStatus) -> String {
    match status.signal() {
        Some(signal) => format!("signal {signal}"),
        None => status.to_string(),
    }
}
