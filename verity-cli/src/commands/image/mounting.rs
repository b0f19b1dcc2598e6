//! The mount floor's errors in the command line's words.

use std::io;

use verity_core::device::Kind;
use verity_core::erofs;
use verity_core::mount::Error;
use verity_core::tree;

use crate::commands::{engine, kernel};
use crate::failure::{Code, Failure};
use crate::session::Session;

const DAMAGED: &str = "the layer's blob is damaged, or was replaced: 'verity image verify' names the blocks; build or copy the image anew";

const GOING: &str = "they go by themselves when nobody uses them any more; 'verity list' shows them";

/// The failure that an error is.
pub(super) fn failure(error: &Error, session: &Session) -> Failure {
    let text = kernel::without_os_error(error);
    match error {
        Error::Cancelled => engine::failure(&tree::Error::Cancelled, |_| String::new()),
        Error::StillGoing { .. } => {
            let stopped = engine::failure(&tree::Error::Cancelled, |_| String::new());
            Failure::new(stopped.code, format_args!("{}: {text}", stopped.message)).hint(GOING)
        }
        _ if error.kind() == Kind::Verification => Failure::new(Code::Refused, text).hint(DAMAGED),
        Error::Device(source) => kernel::failure(source, session),
        // What the device's own failure comes with is what to do here, too.
        Error::Layer { source, .. } => {
            let inner = kernel::failure(source, session);
            let failure = Failure::new(inner.code, text);
            match inner.hint {
                _ if source.kind() == Kind::NotFound => {
                    failure.hint("the layout is not whole: copy the image again")
                }
                Some(hint) => failure.hint(hint),
                None => failure,
            }
        }
        _ => {
            let failure = Failure::new(kernel::code(error.kind()), text);
            match hint(error) {
                Some(hint) => failure.hint(hint),
                None => failure,
            }
        }
    }
}

fn hint(error: &Error) -> Option<String> {
    Some(match error {
        Error::TooManyLayers { .. } => {
            "build the image from fewer layers: squash those that always come together".to_owned()
        }
        Error::NotADirectory { .. } => "give an empty directory".to_owned(),
        Error::AlreadyMounted { target } => {
            format!("give another directory, or 'verity image umount {}' first", target.display())
        }
        Error::Target { source, .. } if source.kind() == io::ErrorKind::NotFound => {
            "give a directory that exists".to_owned()
        }
        Error::TargetChanged { .. } => {
            "find out who changes directories on the way there; nobody but root should be able to".to_owned()
        }
        Error::Permission { .. } => {
            "run as root (CAP_SYS_ADMIN); a container needs its host's devices, too".to_owned()
        }
        Error::NoFileSystem { kind } => {
            format!("load it with 'modprobe {kind}'; without the module, use another kernel")
        }
        Error::Image { .. } => {
            "'dmesg' shows the kernel's own words; images with blocks of less than 4096 bytes need Linux 6.4"
                .to_owned()
        }
        Error::NoSysfs => "mount it: mount -t sysfs sysfs /sys".to_owned(),
        Error::Refused { source: erofs::Error::Devices(_), .. } => {
            "do not use this image: it could show what lies on other disks of this machine".to_owned()
        }
        Error::Refused { .. } => {
            "a layer has to be an EROFS image without newer features: 'verity image build' makes such"
                .to_owned()
        }
        Error::Overlay { .. } => "'dmesg' shows the kernel's own words".to_owned(),
        Error::NamesTaken { .. } => "'verity list' shows them; unmount what is not needed".to_owned(),
        Error::Locked { .. } => "look for a 'verity' process that does not end".to_owned(),
        Error::NotMounted { .. } => "'findmnt --types overlay' shows what is mounted".to_owned(),
        Error::NotOurs { .. } => "use umount(8)".to_owned(),
        Error::Busy { .. } => "end what uses it, or detach it now and let it go later with --lazy".to_owned(),
        Error::DevicesStay { .. } => GOING.to_owned(),
        _ => return None,
    })
}
