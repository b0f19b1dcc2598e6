//! Who keeps a mount: what `/proc` tells of processes, as fuser reads it.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, StatxFlags, statx};

/// What keeps a mount.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum User {
    /// A process.
    Process {
        /// Its number.
        pid: u32,
        /// The name of its program.
        program: String,
        /// What it does with the mount, as the end of a sentence: `works in it`.
        how: String,
    },
    /// Another mount, below it.
    Mount {
        /// Where.
        at: PathBuf,
    },
}

impl fmt::Display for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Process { pid, program, how } => write!(f, "process {pid} ({program}) {how}"),
            Self::Mount { at } => write!(f, "something is mounted at {}", at.display()),
        }
    }
}

/// The number of the mount that a path leads to.
pub(super) fn mount_of(path: &Path) -> Option<u64> {
    let flags = AtFlags::STATX_DONT_SYNC | AtFlags::NO_AUTOMOUNT;
    let found = statx(CWD, path, flags, StatxFlags::MNT_ID).ok()?;
    (found.stx_mask & StatxFlags::MNT_ID.bits() != 0).then_some(found.stx_mnt_id)
}

/// Who has something of the mount open, or works in it.
pub(super) fn of_mount(id: u64) -> Vec<User> {
    let is_of_it = |path: &Path| mount_of(path) == Some(id);
    let mut users = Vec::new();
    for (pid, folder) in processes() {
        let by = [("cwd", "works in it"), ("root", "has it as its root"), ("exe", "is a program of it")]
            .into_iter()
            .find(|(link, _)| is_of_it(&folder.join(link)))
            .map(|(_, how)| how.to_owned())
            .or_else(|| {
                let mut open = fs::read_dir(folder.join("fd")).ok()?.flatten().map(|entry| entry.path());
                let file = fs::read_link(open.find(|path| is_of_it(path))?).ok()?;
                Some(format!("has {} open", printable(&file.to_string_lossy())))
            });
        users.extend(by.map(|how| User::Process { pid, program: program(&folder), how }));
    }
    users
}

/// The processes that `/proc` shows, with their folders in it.
pub(super) fn processes() -> impl Iterator<Item = (u32, PathBuf)> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path())))
}

/// The name of a process's program.
pub(super) fn program(folder: &Path) -> String {
    let name = fs::read(folder.join("comm")).unwrap_or_default();
    printable(String::from_utf8_lossy(&name).trim_end())
}

/// Processes choose their names, and files are called as somebody liked.
pub(super) fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;

    #[test]
    fn this_process_uses_the_mount_that_its_files_are_on() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let _open = File::open(file.path()).unwrap();
        // Linux before 5.8 has no numbers, and is not run on.
        let id = mount_of(file.path()).unwrap();
        assert!(
            of_mount(id)
                .iter()
                .any(|user| matches!(user, User::Process { pid, .. } if *pid == std::process::id()))
        );
        assert!(of_mount(u64::MAX).is_empty());
    }

    #[test]
    fn names_cannot_reach_a_terminal() {
        assert_eq!(printable("a\x1b[2Jb\n"), "a?[2Jb?");
    }
}
