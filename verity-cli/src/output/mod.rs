//! Everything that is printed. Results go to standard output, all else to standard error.

pub(crate) mod benchmark;
pub(crate) mod dialects;
pub(crate) mod human;
pub(crate) mod images;
pub(crate) mod images_made;
pub(crate) mod images_progress;
pub(crate) mod json;
pub(crate) mod layer;
pub(crate) mod locate;
pub(crate) mod mounts;
pub(crate) mod progress;

use std::io::{self, Write};

use anstyle::{AnsiColor, Style};

use crate::failure::{Code, Failure};
use crate::personality::Personality;

const ERROR: Style = AnsiColor::Red.on_default().bold();
const HINT: Style = AnsiColor::Cyan.on_default();
const NOTE: Style = AnsiColor::Yellow.on_default();

/// Writes a result. A reader that has gone away is no error: it has seen what it wanted.
pub(crate) fn write_result(text: &str) -> Result<(), Failure> {
    write_to(io::stdout().lock(), text)
}

/// Writes a result with colours in it, which only a terminal gets.
pub(crate) fn write_styled(text: &str) -> Result<(), Failure> {
    write_to(anstream::stdout().lock(), text)
}

fn write_to(mut stdout: impl Write, text: &str) -> Result<(), Failure> {
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::system("standard output cannot be written", &error))
        }
        _ => Ok(()),
    }
}

/// Writes help, completions and the like; `Code` says whether it could be written.
pub(crate) fn write_text(text: &clap::builder::StyledStr) -> Code {
    let mut stdout = anstream::stdout().lock();
    match write!(stdout, "{}", text.ansi()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Code::General,
        _ => Code::Success,
    }
}

/// Tells of a failure, on standard error and, if asked for, as a document on standard output. Returns the exit code.
pub(crate) fn failure(failure: &Failure, personality: Personality, as_json: bool) -> Code {
    let document = || {
        if as_json {
            let _ = write_result(&json::document(&json::failure(failure)));
        }
    };
    if personality.is_veritysetup() {
        let (code, text) = failure.as_veritysetup();
        plain(&text);
        document();
        return code;
    }
    let mut stderr = anstream::stderr().lock();
    // There is nobody left to tell if this fails.
    let _ = writeln!(stderr, "{ERROR}verity:{ERROR:#} {}", failure.message);
    if let Some(hint) = &failure.hint {
        let _ = writeln!(stderr, "{HINT}hint:{HINT:#} {hint}");
    }
    document();
    failure.code
}

/// Prints a remark.
pub(crate) fn note(text: &str) {
    let _ = writeln!(anstream::stderr(), "{NOTE}note:{NOTE:#} {text}");
}

/// Prints a line on standard error as it is.
pub(crate) fn plain(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}

/// Prints a line of `--debug`; veritysetup prints them between its results.
pub(crate) fn debug(text: &str, on_stdout: bool) {
    let _ = if on_stdout { writeln!(io::stdout(), "# {text}") } else { writeln!(io::stderr(), "# {text}") };
}
