//! What goes wrong, as a user is told: what, why, what to do, and the exit code.

use std::fmt;
use std::io;

/// An exit code, with veritysetup's meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Code {
    /// Done.
    Success,
    /// A bad argument, a bad superblock, a wrong root hash, and all that has no code of its own.
    General,
    /// Data or tree do not match, or access is denied.
    Refused,
    /// Out of memory.
    Memory,
    /// No such file or device, or one of the wrong kind, or not active.
    NoDevice,
    /// It exists already, or is in use.
    Busy,
}

impl Code {
    pub(crate) const fn number(self) -> u8 {
        match self {
            Self::Success => 0,
            Self::General => 1,
            Self::Refused => 2,
            Self::Memory => 3,
            Self::NoDevice => 4,
            Self::Busy => 5,
        }
    }

    /// veritysetup's words for it, which `-v` prints.
    pub(crate) const fn veritysetup_text(self) -> &'static str {
        match self {
            Self::Success => "",
            Self::General => "wrong or missing parameters",
            Self::Refused => "no permission or bad passphrase",
            Self::Memory => "out of memory",
            Self::NoDevice => "wrong device or file specified",
            Self::Busy => "device already exists or device is busy",
        }
    }

    /// A stable name, for machine-readable output.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::General => "general",
            Self::Refused => "refused",
            Self::Memory => "out-of-memory",
            Self::NoDevice => "no-device",
            Self::Busy => "busy",
        }
    }

    /// The code for a failed system call.
    pub(crate) fn of(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::PermissionDenied => Self::Refused,
            io::ErrorKind::OutOfMemory => Self::Memory,
            io::ErrorKind::NotFound => Self::NoDevice,
            io::ErrorKind::ResourceBusy | io::ErrorKind::AlreadyExists => Self::Busy,
            _ => Self::General,
        }
    }
}

/// An error, ready to be shown.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    pub(crate) code: Code,
    /// One sentence that names the field and the value.
    pub(crate) message: String,
    /// One line that says what to do.
    pub(crate) hint: Option<String>,
    /// Whether veritysetup sees it only when it is at work, and then says how it ended if it was asked to.
    pub(crate) while_working: bool,
    /// What veritysetup prints and returns in this case, where scripts may look at it.
    veritysetup: Option<(Code, String)>,
}

impl Failure {
    pub(crate) fn new(code: Code, message: impl fmt::Display) -> Self {
        Self { code, message: message.to_string(), hint: None, while_working: false, veritysetup: None }
    }

    /// A bad argument.
    pub(crate) fn argument(message: impl fmt::Display) -> Self {
        Self::new(Code::General, message)
    }

    /// A failed system call; `what` was tried.
    pub(crate) fn system(what: impl fmt::Display, error: &io::Error) -> Self {
        Self::new(Code::of(error), format_args!("{what}: {}", plain(error)))
    }

    /// Sets the exit code, where it is not the one that the system's answer suggests.
    #[must_use]
    pub(crate) fn code(mut self, code: Code) -> Self {
        self.code = code;
        self
    }

    /// Says what it happened to, in front of what happened.
    #[must_use]
    pub(crate) fn within(mut self, place: impl fmt::Display) -> Self {
        self.message = format!("{place}: {}", self.message);
        self
    }

    #[must_use]
    pub(crate) fn hint(mut self, hint: impl fmt::Display) -> Self {
        self.hint = Some(hint.to_string());
        self
    }

    /// Marks what is wrong in arguments and what veritysetup looks at only when it is at work.
    #[must_use]
    pub(crate) fn while_working(mut self) -> Self {
        self.while_working = true;
        self
    }

    /// Sets veritysetup's own text; empty where it says nothing.
    #[must_use]
    pub(crate) fn veritysetup(mut self, code: Code, text: impl fmt::Display) -> Self {
        self.veritysetup = Some((code, text.to_string()));
        self
    }

    /// The code and text of the drop-in.
    pub(crate) fn as_veritysetup(&self) -> (Code, String) {
        self.veritysetup.clone().unwrap_or_else(|| (self.code, format!("veritysetup: {}", self.message)))
    }
}

/// An operating system's error without Rust's ` (os error 28)`.
pub(crate) fn plain(error: &io::Error) -> String {
    let text = error.to_string();
    match text.rsplit_once(" (os error ") {
        Some((plain, _)) => plain.to_owned(),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn system_errors_are_told_apart_and_plain() {
        let full = io::Error::from_raw_os_error(28);
        let failure = Failure::system("writing h", &full);
        assert_eq!(
            (failure.code, failure.message.as_str()),
            (Code::General, "writing h: No space left on device")
        );
        for (errno, code) in [(13, Code::Refused), (12, Code::Memory), (2, Code::NoDevice), (16, Code::Busy)]
        {
            assert_eq!(Code::of(&io::Error::from_raw_os_error(errno)), code);
        }
    }
}
