//! What is mounted in other mount namespaces, as `/proc` tells of the processes in them.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

use super::mountinfo::{self, Mount};
use super::users;

/// A mount namespace, as the link of a process names it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Namespace(PathBuf);

/// What a process sees of its namespace.
pub(super) struct View {
    pub(super) namespace: Namespace,
    /// The process.
    pub(super) pid: u32,
    /// The name of its program.
    pub(super) program: String,
    pub(super) mounts: Vec<Mount>,
}

/// The calling thread's own; `None` where `/proc` does not tell.
pub(super) fn own() -> Option<Namespace> {
    seen_by(Path::new("/proc/thread-self")).map(|(namespace, _)| namespace)
}

/// What processes see that are in another namespace, or have another root directory: below that a process sees no more of its namespace. One process of
/// each kind is asked.
pub(super) fn others() -> Vec<View> {
    let mut known = HashSet::new();
    known.extend(seen_by(Path::new("/proc/thread-self")));
    let mut views = Vec::new();
    for (pid, folder) in users::processes() {
        let Some(seen) = seen_by(&folder).filter(|seen| !known.contains(seen)) else { continue };
        // One that ends now is no loss: another one of its kind may come.
        let Ok(text) = fs::read(folder.join("mountinfo")) else { continue };
        let namespace = seen.0.clone();
        known.insert(seen);
        views.push(View {
            namespace,
            pid,
            program: users::program(&folder),
            mounts: mountinfo::parse(&text),
        });
    }
    views
}

/// A process's namespace and root directory. Links are read, not followed: that could wait for a server that is gone.
fn seen_by(folder: &Path) -> Option<(Namespace, PathBuf)> {
    let namespace = fs::read_link(folder.join("ns/mnt")).ok()?;
    Some((Namespace(namespace), fs::read_link(folder.join("root")).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_in_no_other_namespace() {
        assert!(own().is_some_and(|Namespace(link)| link.to_string_lossy().starts_with("mnt:[")));
        assert!(others().iter().all(|view| view.pid != std::process::id()));
    }
}
