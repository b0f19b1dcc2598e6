//! Credential helpers: the programs `docker-credential-NAME`, which keep credentials elsewhere than in files.
//!
//! They are described at <https://github.com/docker/docker-credential-helpers>: `get` takes the server's name on standard input and answers with JSON on
//! standard output, or with a message there and an exit code that is not 0.

use std::io::{self, Read, Write};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;

use serde::Deserialize;

use super::WAIT;
use crate::oci::auth::{Credentials, Secret};

/// The most bytes of an answer.
const ANSWER_MAX: u64 = 64 << 10;

/// What helpers say, in these words, where they know nothing of a server.
const NOT_FOUND: &str = "credentials not found in native keychain";

/// Why there are no credentials from a helper.
#[derive(Debug)]
pub(super) enum Problem {
    /// It knows nothing of that server.
    Unknown,
    /// It does not work; no word of its answer is in this text, as that may be a secret.
    Failed(String),
    /// Whoever asked does not want it any more.
    Cancelled,
}

#[derive(Deserialize)]
struct Answer {
    #[serde(rename = "Username")]
    user: String,
    #[serde(rename = "Secret")]
    secret: String,
}

/// Asks `docker-credential-NAME`, as `PATH` has it, for the credentials of `server`.
///
/// It may take its time, and ask for a passphrase: `cancelled` is asked from time to time, and ends it.
pub(super) fn ask(name: &str, server: &str, cancelled: &dyn Fn() -> bool) -> Result<Credentials, Problem> {
    let mut child = Command::new(format!("docker-credential-{name}"))
        .arg("get")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| Problem::Failed(format!("it cannot be started: {error}")))?;
    let answer = exchange(&mut child, server, cancelled);
    if answer.is_err() {
        // It may have ended by itself.
        let _ = child.kill();
    }
    let status = child.wait().map_err(|error| failed(&error))?;
    let answer = answer?;
    if !status.success() {
        let unknown = String::from_utf8_lossy(&answer).trim() == NOT_FOUND;
        return Err(if unknown {
            Problem::Unknown
        } else {
            Problem::Failed(format!("it failed ({status})"))
        });
    }
    parse(&answer).ok_or_else(|| Problem::Failed("its answer is not what helpers answer".to_owned()))
}

fn failed(error: &io::Error) -> Problem {
    Problem::Failed(format!("it cannot be talked to: {error}"))
}

/// Gives the server's name, and takes the answer.
fn exchange(child: &mut Child, server: &str, cancelled: &dyn Fn() -> bool) -> Result<Vec<u8>, Problem> {
    // Its answer tells more than that it did not want to know.
    if let Some(mut stdin) = child.stdin.take() {
        let _ = writeln!(stdin, "{server}");
    }
    let Some(stdout) = child.stdout.take() else { return Ok(Vec::new()) };
    let (give, take) = channel();
    let reader = move || {
        let mut answer = Vec::new();
        let read = stdout.take(ANSWER_MAX).read_to_end(&mut answer);
        // Who does not wait any more does not want to know.
        let _ = give.send(read.map(|_| answer));
    };
    thread::Builder::new().spawn(reader).map_err(|error| failed(&error))?;
    loop {
        match take.recv_timeout(WAIT) {
            Ok(answer) => return answer.map_err(|error| failed(&error)),
            Err(RecvTimeoutError::Timeout) if !cancelled() => {}
            Err(RecvTimeoutError::Timeout) => return Err(Problem::Cancelled),
            Err(RecvTimeoutError::Disconnected) => {
                return Err(Problem::Failed("it was not heard".to_owned()));
            }
        }
    }
}

fn parse(answer: &[u8]) -> Option<Credentials> {
    let Answer { user, secret } = serde_json::from_slice(answer).ok()?;
    let secret = Secret::new(secret);
    // By this name a helper says that it is no password.
    Some(match user.as_str() {
        "<token>" => Credentials::Identity(secret),
        _ => Credentials::Password { user, password: secret },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_a_password_or_a_token() {
        let password = parse(br#"{"ServerURL":"r","Username":"u","Secret":"p"}"#);
        let expected = Credentials::Password { user: "u".to_owned(), password: Secret::new("p".to_owned()) };
        assert_eq!(password, Some(expected));
        let token = parse(br#"{"ServerURL":"r","Username":"<token>","Secret":"t"}"#);
        assert_eq!(token, Some(Credentials::Identity(Secret::new("t".to_owned()))));
        assert_eq!(parse(b"{}"), None);
        assert_eq!(parse(b"credentials not found"), None);
    }

    #[test]
    fn a_helper_that_is_not_there_is_told() {
        match ask("no-such-helper-anywhere", "r", &|| false) {
            Err(Problem::Failed(text)) => assert!(text.starts_with("it cannot be started"), "{text}"),
            other => panic!("{other:?}"),
        }
    }
}
