//! What host and guest say to each other: JSON, one message a line, over the guest's second serial port.
//!
//! A serial port rather than virtio-serial, because every kernel that has a serial console has it without a
//! module, and the messages are few and short.

use std::io::{self, BufRead, Write};

use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// Where the guest finds keys: `NAME.key` and the certificate `NAME.pem`, which is in `NAME.der`, too.
pub(crate) const KEYS: &str = "/etc/keys";

/// The name of the key whose certificate the firmware's `db` holds, if the guest has such firmware.
pub(crate) const TRUSTED_KEY: &str = "trusted";

/// From the harness to the guest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum ToGuest {
    /// Run one case and answer with [`FromGuest::Finished`].
    Run {
        /// The case's name.
        case: String,
        /// After this time the guest kills the case, in seconds.
        limit_seconds: u64,
        /// `KEY=VALUE` facts for the case; only the demo takes any.
        facts: Vec<(String, String)>,
    },
    /// What the guest asked for is done: a bit is flipped, or the harness knows that the end is near.
    Done,
    /// Power off; the harness has no more cases.
    PowerOff,
}

/// From the guest to the harness.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum FromGuest {
    /// Booted, modules loaded, ready for [`ToGuest::Run`].
    Hello {
        /// What `uname -r` says.
        kernel: String,
    },
    /// From the answer on, the case that runs expects the kernel to restart or to panic.
    Armed,
    /// A line for whoever watches: the demo's story, a measurement.
    Say {
        /// The line, without its end.
        line: String,
    },
    /// Asks the harness to flip one bit of a disk image, behind the guest's back, and to answer.
    FlipByte {
        /// Index of the disk, in the order of the machine's disks.
        disk: usize,
        /// Byte offset in the image.
        offset: u64,
    },
    /// A case's end.
    Finished(Finished),
    /// The guest cannot run cases at all.
    Broken {
        /// Why.
        detail: String,
    },
}

/// How a case came out in the guest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Finished {
    /// The case's name.
    pub(crate) case: String,
    /// What it said, or what was said of it.
    pub(crate) verdict: Verdict,
    /// Its run time in the guest, in milliseconds.
    pub(crate) millis: u64,
    /// Kernel objects that it left behind. Not empty fails the case.
    pub(crate) leaks: Vec<String>,
    /// Whether the guest is as it was before the case, and the next one can run in it.
    pub(crate) clean: bool,
}

/// A case's own verdict.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "is", content = "why")]
pub(crate) enum Verdict {
    /// All that was claimed was seen.
    Passed,
    /// Something was not as claimed.
    Failed(String),
    /// It could not run here.
    Skipped(String),
}

/// Writes one message and its line end in a single write.
pub(crate) fn send<T: Serialize>(mut to: impl Write, message: &T) -> io::Result<()> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    to.write_all(&line)?;
    to.flush()
}

/// Ends a line that someone else may have begun: firmware writes to every serial port.
pub(crate) fn begin(mut to: impl Write) -> io::Result<()> {
    to.write_all(b"\n")
}

/// Reads one message; `None` at the end of the stream. Empty lines are passed over.
///
/// # Errors
///
/// The stream's own, and `InvalidData` with the line in it for a line that is no message.
pub(crate) fn receive<T: DeserializeOwned>(from: &mut impl BufRead) -> io::Result<Option<T>> {
    let mut line = Vec::new();
    while matches!(line.as_slice(), [] | [b'\n']) {
        line.clear();
        if from.read_until(b'\n', &mut line)? == 0 {
            return Ok(None);
        }
    }
    serde_json::from_slice(&line).map(Some).map_err(|error| {
        let line = String::from_utf8_lossy(&line);
        io::Error::new(io::ErrorKind::InvalidData, format!("not a message ({error}): {}", line.trim_end()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_one_line_whatever_it_carries() {
        let message = FromGuest::Finished(Finished {
            case: "baseline/kernel".into(),
            verdict: Verdict::Failed("two\nlines and \u{fffd} \"quotes\"".into()),
            millis: 12,
            leaks: vec!["loop0".into()],
            clean: true,
        });
        let mut wire = Vec::new();
        send(&mut wire, &message).expect("a Vec takes everything");
        assert_eq!(wire.iter().filter(|&&byte| byte == b'\n').count(), 1);
        let mut reader = wire.as_slice();
        assert_eq!(receive(&mut reader).expect("what was sent"), Some(message));
        assert_eq!(receive::<FromGuest>(&mut reader).expect("the end"), None);
    }

    #[test]
    fn every_message_survives_the_wire() {
        let messages = [
            ToGuest::Run {
                case: "a/b".into(),
                limit_seconds: 5,
                facts: vec![("PACKAGE".into(), "libssl3".into())],
            },
            ToGuest::Done,
            ToGuest::PowerOff,
        ];
        let mut wire = Vec::new();
        for message in &messages {
            send(&mut wire, message).expect("a Vec takes everything");
        }
        let mut reader = wire.as_slice();
        for message in messages {
            assert_eq!(receive(&mut reader).expect("what was sent"), Some(message));
        }
    }

    #[test]
    fn what_firmware_wrote_ends_where_the_guest_begins() {
        let mut wire = b"\x1b[2J some firmware".to_vec();
        for _ in 0..2 {
            begin(&mut wire).expect("a Vec takes everything");
        }
        send(&mut wire, &ToGuest::Done).expect("a Vec takes everything");
        let mut reader = wire.as_slice();
        receive::<ToGuest>(&mut reader).expect_err("the firmware's line");
        assert_eq!(receive(&mut reader).expect("what was sent"), Some(ToGuest::Done));
    }

    #[test]
    fn a_line_that_is_no_message_is_named() {
        let mut reader = b"[    1.0] some kernel line\n".as_slice();
        let error = receive::<FromGuest>(&mut reader).expect_err("no message");
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        assert!(error.to_string().contains("some kernel line"), "{error}");
    }

    #[test]
    fn an_unknown_field_is_refused() {
        let mut reader = b"{\"hello\":{\"kernel\":\"6.1\",\"extra\":1}}\n".as_slice();
        assert!(receive::<FromGuest>(&mut reader).is_err());
    }
}
