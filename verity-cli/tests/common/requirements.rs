//! What a test needs of the machine. A test whose needs are not met is reported as ignored, with the reason; where
//! `CI=true` it fails.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use libtest_mimic::{Arguments, Completion, Trial, run};

/// Something that not every machine has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    Root,
    Veritysetup,
    LoopDevices,
    NoDeviceMapper,
    ErofsUtils,
    QemuImg,
    SystemdRepart,
    Umoci,
    Skopeo,
    DockerRegistry,
}

impl Need {
    fn is_met(self) -> bool {
        match self {
            Self::Root => nix::unistd::geteuid().is_root(),
            Self::Veritysetup => veritysetup().is_some(),
            Self::LoopDevices => Path::new("/dev/loop-control").exists(),
            Self::NoDeviceMapper => !device_mapper(),
            Self::ErofsUtils => Command::new("dump.erofs").arg("-V").output().is_ok(),
            Self::QemuImg => Command::new("qemu-img").arg("--version").output().is_ok(),
            Self::SystemdRepart => Command::new("systemd-repart").arg("--version").output().is_ok(),
            Self::Umoci => Command::new("umoci").arg("--version").output().is_ok(),
            Self::Skopeo => Command::new("skopeo").arg("--version").output().is_ok(),
            Self::DockerRegistry => ["docker-registry", "htpasswd", "openssl"]
                .iter()
                .all(|program| Command::new(program).stdin(Stdio::null()).output().is_ok()),
        }
    }

    /// Whether a user of this machine can do something about it. What the kernel has is seen in the kernel tests.
    fn can_be_met(self) -> bool {
        !matches!(self, Self::LoopDevices | Self::NoDeviceMapper)
    }

    fn text(self) -> &'static str {
        match self {
            Self::Root => "needs root",
            Self::Veritysetup => "needs veritysetup (Debian: cryptsetup-bin)",
            Self::LoopDevices => "needs loop devices",
            Self::NoDeviceMapper => "needs a kernel without device-mapper",
            Self::ErofsUtils => "needs mkfs.erofs and dump.erofs (Debian: erofs-utils)",
            Self::QemuImg => "needs qemu-img (Debian: qemu-utils)",
            Self::SystemdRepart => "needs systemd-repart (Debian: systemd)",
            Self::Umoci => "needs umoci (Debian: umoci)",
            Self::Skopeo => "needs skopeo (Debian: skopeo)",
            Self::DockerRegistry => {
                "needs docker-registry, htpasswd and openssl (Debian: docker-registry, which starts a service; ./x setup fetches it without, \
                 apache2-utils, openssl)"
            }
        }
    }
}

/// The real veritysetup, also where `PATH` has no folders for system programs.
pub(crate) fn veritysetup() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin", "/sbin"].map(PathBuf::from));
    folders.map(|folder| folder.join("veritysetup")).find(|program| program.is_file())
}

/// Its version, such as `2.6.1`.
pub(crate) fn veritysetup_version() -> String {
    let output = Command::new(veritysetup().unwrap_or_default()).arg("--version").output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    text.split_whitespace().nth(1).unwrap_or_default().to_owned()
}

/// A test with its needs.
pub(crate) fn test(name: &str, needs: &'static [Need], body: fn()) -> Trial {
    let trial = Trial::ignorable_test(name, move || {
        let in_ci = std::env::var_os("CI").is_some_and(|ci| ci == "true");
        match needs.iter().find(|need| !need.is_met()) {
            None => {
                body();
                Ok(Completion::Completed)
            }
            Some(need) if in_ci && need.can_be_met() => Err(need.text().into()),
            Some(need) => Ok(Completion::ignored_with(need.text())),
        }
    });
    // Other programs' behaviour is tested when it is asked for: `cargo test -- --ignored`.
    trial.with_ignored_flag(needs.contains(&Need::Veritysetup))
}

/// Runs a test program that has no harness of its own.
pub(crate) fn main(tests: Vec<Trial>) -> ExitCode {
    run(&Arguments::from_args(), tests).exit_code()
}

/// Names a test function and says what it needs.
#[macro_export]
macro_rules! tests {
    ($($name:ident: [$($need:ident),*];)*) => {
        fn main() -> std::process::ExitCode {
            use $crate::common::requirements::{Need, main, test};
            main(vec![$(test(stringify!($name), &[$(Need::$need),*], $name)),*])
        }
    };
}

/// Whether this kernel has device-mapper.
fn device_mapper() -> bool {
    std::fs::read_to_string("/proc/misc").is_ok_and(|misc| misc.contains("device-mapper"))
        || Path::new("/sys/module/dm_mod").exists()
}
