//! The kernel floor's errors in the command line's words.

use std::fmt;
use std::io;
use std::path::Path;

use verity_core::device::{DeviceName, Error, Kind, NameError, Refusal, Step, Steps};
use verity_core::tree;

use super::engine;
use crate::failure::{Code, Failure, plain};
use crate::interrupt;
use crate::session::Session;

/// Says each step of an activation, for `--debug`, and stops between two of them when a signal came.
pub(super) struct DebugSteps<'a> {
    pub(super) session: &'a Session,
    pub(super) name: &'a DeviceName,
}

impl Steps for DebugSteps<'_> {
    fn done(&self, step: Step) -> io::Result<()> {
        self.session.debug(|| format!("Device {}: {step}.", self.name));
        match interrupt::received() {
            Some(_) => Err(io::ErrorKind::Interrupted.into()),
            None => Ok(()),
        }
    }
}

/// Reads the name of a device that should be there, or its path below /dev/mapper.
pub(super) fn parse(text: &str) -> Result<DeviceName, NameError> {
    text.strip_prefix("/dev/mapper/").unwrap_or(text).parse()
}

/// What is wrong with the name of a device that is to be made.
pub(super) fn bad_name(error: &NameError, name: &str) -> Failure {
    let in_use = format!("Cannot use device {name}, name is invalid or still in use.");
    let (code, text) = match error {
        NameError::TooLong { .. } => (Code::General, format!("{}\n{in_use}", too_long(name))),
        NameError::Character('/') => (Code::General, format!("Name \"{name}\" invalid. It contains \"/\".")),
        // The kernel is who refuses it, in words of its own.
        _ => (Code::NoDevice, in_use),
    };
    Failure::argument(error).hint("give another name").veritysetup(code, text)
}

/// libdevmapper's words.
pub(super) fn too_long(name: &str) -> String {
    format!("Name \"{name}\" too long.")
}

/// The failure that an error is.
pub(super) fn failure(error: &Error, session: &Session) -> Failure {
    if let Error::Tree(error) = error {
        return engine::failure(error, |_| String::new());
    }
    if matches!(error, Error::Stopped { .. }) && interrupt::received().is_some() {
        return engine::failure(&tree::Error::Cancelled, |_| String::new());
    }
    let failure = Failure::new(code(error.kind()), without_os_error(error));
    let failure = match hint(error) {
        Some(hint) => failure.hint(hint),
        None => failure,
    };
    match veritysetup(error) {
        Some((code, text)) if session.is_veritysetup() => failure.veritysetup(code, text),
        _ => failure,
    }
}

/// The exit code for a kind of failure.
pub(super) const fn code(kind: Kind) -> Code {
    match kind {
        Kind::Verification | Kind::Permission => Code::Refused,
        Kind::NoMemory => Code::Memory,
        Kind::NotFound => Code::NoDevice,
        Kind::Exists | Kind::Busy => Code::Busy,
        _ => Code::General,
    }
}

/// Errors of the system end in their number, which helps nobody. They can stand in the middle of a text.
pub(super) fn without_os_error(error: &impl fmt::Display) -> String {
    let mut text = error.to_string();
    while let Some(start) = text.find(" (os error ") {
        let Some(length) = text[start..].find(')') else { break };
        text.replace_range(start..=start + length, "");
    }
    text
}

fn hint(error: &Error) -> Option<String> {
    Some(match error {
        Error::NoDeviceMapper { .. } => {
            "load it with 'modprobe dm_mod'; a container needs /dev/mapper/control from its host".to_owned()
        }
        Error::NoVerityTarget => {
            "load it with 'modprobe dm_verity'; without the module, use another kernel".to_owned()
        }
        Error::Permission { .. } => "run as root (CAP_SYS_ADMIN)".to_owned(),
        Error::NoLoopDevices { .. } => "load them with 'modprobe loop', or give block devices".to_owned(),
        Error::NoFreeLoop { .. } => "'losetup --list' shows who has them; or give block devices".to_owned(),
        Error::Exists { name } => format!("'verity close {name}' removes it; or take another name"),
        Error::UuidExists { .. } => {
            "'verity list' shows it; close it, or make the tree anew with another UUID".to_owned()
        }
        Error::Busy { name, .. } => format!("unmount it first, or 'verity close --deferred {name}'"),
        Error::InUse { .. } => {
            "unmount it first; several verity devices can share it with --shared".to_owned()
        }
        Error::NotActive { .. } => "'verity list' shows the active devices".to_owned(),
        Error::NotVerity { .. } => "use the tool that made it".to_owned(),
        Error::Corrupted { .. } | Error::Read { .. } => {
            "do not use this image; 'verity verify' lists the bad blocks, the kernel's log says more"
                .to_owned()
        }
        Error::Unsupported(_) => "leave the option out, or use a newer kernel".to_owned(),
        Error::Key { source, .. } => key_hint(source).to_owned(),
        Error::Refused { refusal, .. } => refusal_hint(refusal).to_owned(),
        _ => return None,
    })
}

/// What to do about a signature that cannot be handed to the kernel.
fn key_hint(source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::PermissionDenied => {
            "a container's seccomp profile may forbid it: allow the system calls add_key and keyctl"
        }
        io::ErrorKind::QuotaExceeded => {
            "this user has too many keys: 'cat /proc/key-users'; /proc/sys/kernel/keys/ has the limits"
        }
        io::ErrorKind::Unsupported => "this kernel has no keys (CONFIG_KEYS); use another",
        _ => "'keyctl show' and /proc/keys show this user's keys",
    }
}

fn refusal_hint(refusal: &Refusal) -> &'static str {
    match refusal {
        Refusal::SignatureRequired => {
            "sign the root hash and give --root-hash-signature (dm_verity.require_signatures is on)"
        }
        Refusal::SignatureUnsupported => {
            "use a kernel with CONFIG_DM_VERITY_VERIFY_ROOTHASH_SIG, or leave --root-hash-signature out"
        }
        Refusal::NoKey => {
            "its certificate must be in .secondary_trusted_keys, .platform (UEFI db; Linux 6.12) or .dm-verity (Linux 7.0, once \
             restricted): see docs/signatures.md, 'cat /proc/keys'"
        }
        Refusal::SignatureRejected => {
            "sign this root hash (as lower-case text, without a newline) with the key that the kernel trusts"
        }
        Refusal::SignatureMalformed => {
            "make it with 'openssl smime -sign -nocerts -noattr -binary -outform der'"
        }
        Refusal::SignatureAlgorithm => "sign with an RSA key and SHA-256, which every kernel has",
        _ => "'dmesg' shows the kernel's own words",
    }
}

/// What veritysetup prints, where scripts may look at it.
fn veritysetup(error: &Error) -> Option<(Code, String)> {
    Some(match error {
        Error::Exists { name } => (Code::Busy, format!("Device {name} already exists.")),
        Error::NotActive { name } => (Code::NoDevice, format!("Device {name} is not active.")),
        Error::Busy { name, .. } => (Code::Busy, format!("Device {name} is still in use.")),
        Error::NoDeviceMapper { .. } => {
            (Code::General, "Cannot initialize device-mapper. Is dm_mod kernel module loaded?".to_owned())
        }
        Error::Permission { .. } => {
            (Code::General, "Cannot initialize device-mapper, running as non-root user.".to_owned())
        }
        Error::NoVerityTarget => (Code::General, "Kernel does not support dm-verity mapping.".to_owned()),
        Error::InUse { path, .. } => (Code::Busy, in_use(path)),
        // libdevmapper's words. What veritysetup then looks for is no longer there, hence the code.
        Error::Refused { name, device, source, .. } => {
            let name = name.kernel_name();
            let text = format!("device-mapper: reload ioctl on {name} ({device}) failed: {}", plain(source));
            (Code::NoDevice, text)
        }
        _ => return None,
    })
}

fn in_use(path: &Path) -> String {
    format!("Cannot use device {} which is in use (already mapped or mounted).", path.display())
}
