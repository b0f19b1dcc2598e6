//! Runs programs as a user would, with a time limit, and keeps what they said.

use std::ffi::OsStr;
use std::fmt;
use std::io::{Read, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

/// A program about to be run.
pub(crate) struct Program {
    command: Command,
    shown: String,
    input: Vec<u8>,
    limit: Duration,
}

impl Program {
    /// Two minutes are its limit, nothing its input.
    pub(crate) fn new(name: &str) -> Self {
        let mut command = Command::new(name);
        command.process_group(0);
        Self { command, shown: name.to_owned(), input: Vec::new(), limit: Duration::from_secs(120) }
    }

    /// Adds an argument.
    pub(crate) fn arg(mut self, argument: impl AsRef<OsStr>) -> Self {
        let argument = argument.as_ref();
        self.shown.push(' ');
        self.shown.push_str(&argument.to_string_lossy());
        self.command.arg(argument);
        self
    }

    /// Adds arguments.
    pub(crate) fn args<T: AsRef<OsStr>>(self, arguments: impl IntoIterator<Item = T>) -> Self {
        arguments.into_iter().fold(self, Self::arg)
    }

    /// Adds the words of `line`, which are separated by blanks.
    pub(crate) fn words(self, line: &str) -> Self {
        self.args(line.split_ascii_whitespace())
    }

    /// Runs it in this folder.
    pub(crate) fn folder(mut self, folder: &Path) -> Self {
        self.command.current_dir(folder);
        self
    }

    /// Sets a variable of its environment.
    pub(crate) fn variable(mut self, name: &str, value: &str) -> Self {
        self.command.env(name, value);
        self
    }

    /// Runs it as this user and group instead of root.
    pub(crate) fn user(mut self, id: u32) -> Self {
        self.command.uid(id).gid(id);
        self
    }

    /// Sets a variable of its environment.
    pub(crate) fn env(mut self, variable: &str, value: &str) -> Self {
        self.shown.insert_str(0, &format!("{variable}={value} "));
        self.command.env(variable, value);
        self
    }

    /// Gives it this as its standard input.
    pub(crate) fn input(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.input = bytes.into();
        self
    }

    /// Starts it and does not wait.
    pub(crate) fn start(mut self) -> anyhow::Result<Started> {
        let child = self
            .command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("starting `{}`", self.shown))?;
        Started::new(child, self.shown, self.input, self.limit)
    }

    /// Runs it to its end, whatever that is.
    pub(crate) fn run(self) -> anyhow::Result<Output> {
        self.start()?.wait()
    }

    /// Runs it; anything but exit code 0 is an error.
    pub(crate) fn succeed(self) -> anyhow::Result<Output> {
        self.run()?.expect_code(0)
    }
}

/// A program that runs.
pub(crate) struct Started {
    child: Child,
    shown: String,
    deadline: Instant,
    limit: Duration,
    output: JoinHandle<Vec<u8>>,
    error: JoinHandle<Vec<u8>>,
}

impl Started {
    fn new(mut child: Child, shown: String, input: Vec<u8>, limit: Duration) -> anyhow::Result<Self> {
        let mut stdin = child.stdin.take().context("the program's input")?;
        // A program need not read its input: a closed pipe is no failure.
        thread::spawn(move || drop(stdin.write_all(&input)));
        let output = collect(child.stdout.take().context("the program's output")?);
        let error = collect(child.stderr.take().context("the program's errors")?);
        Ok(Self { child, shown, deadline: Instant::now() + limit, limit, output, error })
    }

    /// Its number.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends it and what it started a signal.
    pub(crate) fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        killpg(Pid::from_raw(i32::try_from(self.child.id())?), signal)
            .with_context(|| format!("sending {signal} to `{}`", self.shown))
    }

    /// Waits for its end; at its limit it is killed and that is an error.
    pub(crate) fn wait(mut self) -> anyhow::Result<Output> {
        // Most programs here end within milliseconds; the pause grows for those that do not.
        let mut pause = Duration::from_micros(200);
        let status = loop {
            if let Some(status) =
                self.child.try_wait().with_context(|| format!("waiting for `{}`", self.shown))?
            {
                break status;
            }
            if Instant::now() >= self.deadline {
                killpg(Pid::from_raw(i32::try_from(self.child.id())?), Signal::SIGKILL)
                    .with_context(|| format!("killing `{}`", self.shown))?;
                self.child.wait().with_context(|| format!("waiting for `{}`", self.shown))?;
                bail!("`{}` did not end within {} s", self.shown, self.limit.as_secs());
            }
            thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(2));
        };
        let text = |reader: JoinHandle<Vec<u8>>| {
            String::from_utf8_lossy(&reader.join().unwrap_or_default()).into_owned()
        };
        Ok(Output {
            code: status.code(),
            signal: status.signal(),
            stdout: text(self.output),
            stderr: text(self.error),
            shown: self.shown,
        })
    }
}

fn collect(mut from: impl Read + Send + 'static) -> JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        // What was read before an error is still worth showing.
        let _ = from.read_to_end(&mut bytes);
        bytes
    })
}

/// How a program ended and what it said.
#[derive(Debug)]
pub(crate) struct Output {
    /// Exit code, unless a signal ended it.
    pub(crate) code: Option<i32>,
    /// The signal that ended it.
    pub(crate) signal: Option<i32>,
    /// Standard output.
    pub(crate) stdout: String,
    /// Standard error.
    pub(crate) stderr: String,
    shown: String,
}

impl Output {
    /// Fails, with all that is known, unless the program exited with `code`.
    pub(crate) fn expect_code(self, code: i32) -> anyhow::Result<Self> {
        ensure!(self.code == Some(code), "expected exit code {code} of {self}");
        Ok(self)
    }

    /// Fails unless standard error mentions `text`, in any case of letters.
    pub(crate) fn expect_error(self, text: &str) -> anyhow::Result<Self> {
        ensure!(
            self.stderr.to_lowercase().contains(&text.to_lowercase()),
            "expected {text:?} in what was said by {self}"
        );
        Ok(self)
    }

    /// The rest of the line of standard output that starts with `label`, blanks around both ignored.
    pub(crate) fn field(&self, label: &str) -> anyhow::Result<&str> {
        self.stdout
            .lines()
            .find_map(|line| line.trim_start().strip_prefix(label))
            .map(str::trim)
            .with_context(|| format!("no line {label:?} in the output of {self}"))
    }
}

impl fmt::Display for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}`, which ended with ", self.shown)?;
        match (self.code, self.signal) {
            (Some(code), _) => write!(f, "exit code {code}")?,
            (None, Some(signal)) => write!(f, "signal {signal}")?,
            (None, None) => write!(f, "neither exit code nor signal")?,
        }
        for (name, text) in [("stdout", &self.stdout), ("stderr", &self.stderr)] {
            if !text.is_empty() {
                write!(f, "\n{name}: {}", text.trim_end())?;
            }
        }
        Ok(())
    }
}
