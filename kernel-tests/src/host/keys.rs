//! Keys and certificates of a run's own, made by openssl: what the guests' kernels are to trust, and what not.
//!
//! They are in every guest, with openssl itself, so that a case can sign what it likes.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, ensure};

use crate::protocol::{KEYS, TRUSTED_KEY};

use super::initramfs::Initramfs;

/// Name, subject and serial number. A PKCS#7 signature names its key by the issuer and the serial number: the kernel
/// knows no key of the stranger's name, and takes the impostor for the one that it trusts.
const ALL: [(&str, &str, &str); 3] = [
    (TRUSTED_KEY, "/CN=kernel-tests", "1"),
    ("stranger", "/CN=stranger", "2"),
    ("impostor", "/CN=kernel-tests", "1"),
];

/// The keys of a run.
pub(super) struct Keys {
    folder: PathBuf,
}

impl Keys {
    /// Makes them, in a folder that is there.
    pub(super) fn make(folder: &Path) -> anyhow::Result<Self> {
        let keys = Self { folder: folder.to_owned() };
        for (name, subject, serial) in ALL {
            let (key, certificate) = (keys.path(name, "key"), keys.path(name, "pem"));
            openssl(
                Command::new("openssl")
                    .args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-sha256", "-days", "3650"])
                    .args(["-subj", subject, "-set_serial", serial])
                    .arg("-keyout")
                    .arg(key)
                    .arg("-out")
                    .arg(&certificate),
            )?;
            openssl(
                Command::new("openssl")
                    .args(["x509", "-outform", "der", "-in"])
                    .arg(&certificate)
                    .arg("-out")
                    .arg(keys.path(name, "der")),
            )?;
        }
        Ok(keys)
    }

    /// The certificate of the key that is to be trusted, in DER.
    pub(super) fn trusted(&self) -> anyhow::Result<Vec<u8>> {
        read(&self.path(TRUSTED_KEY, "der"))
    }

    /// Puts all of them into a guest.
    pub(super) fn add(&self, to: &mut Initramfs) -> anyhow::Result<()> {
        for (name, ..) in ALL {
            for form in ["key", "pem", "der"] {
                to.file(&format!("{KEYS}/{name}.{form}"), read(&self.path(name, form))?);
            }
        }
        Ok(())
    }

    fn path(&self, name: &str, form: &str) -> PathBuf {
        self.folder.join(format!("{name}.{form}"))
    }
}

fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    fs::read(path).with_context(|| path.display().to_string())
}

fn openssl(command: &mut Command) -> anyhow::Result<()> {
    let output = command.stdin(Stdio::null()).output().context("starting openssl")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "openssl failed ({}): {}", output.status, said.trim());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_impostor_has_another_key_under_the_trusted_name() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let keys = Keys::make(folder.path()).expect("openssl is there");
        let told = |name: &str, what: &[&str]| {
            let output = Command::new("openssl")
                .args(["x509", "-noout", "-in"])
                .arg(keys.path(name, "pem"))
                .args(what)
                .output()
                .expect("openssl is there");
            String::from_utf8(output.stdout).expect("text")
        };
        let named = |name| told(name, &["-issuer", "-serial"]);
        let public = |name| told(name, &["-pubkey"]);
        assert_eq!(named(TRUSTED_KEY), named("impostor"));
        assert_ne!(named(TRUSTED_KEY), named("stranger"));
        assert_ne!(public(TRUSTED_KEY), public("impostor"));
        assert_eq!(keys.trusted().expect("made above").first(), Some(&0x30), "DER");
    }
}
