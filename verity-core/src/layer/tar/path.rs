//! Names, brought into one form, or refused.

use super::error::{Fault, PathProblem, clip};

/// The longest name of one file, in bytes; Linux's `NAME_MAX`.
const COMPONENT_MAX: usize = 255;
/// The longest path that a system call takes, in bytes: Linux's `PATH_MAX`, less the NUL.
pub(super) const PATH_MAX: usize = 4095;

/// The components of `path` between single slashes; the root is empty.
///
/// A path that begins with a slash begins at the layer's root, as every runtime takes it; some programs write all names so.
/// `..` is refused: what it means depends on who reads it.
pub(super) fn normalise(path: &[u8], which: &'static str) -> Result<Vec<u8>, Fault> {
    let refused = |problem| Err(Fault::Path { which, path: clip(path).to_vec(), problem });
    if path.is_empty() {
        return refused(PathProblem::Empty);
    }
    if path.contains(&0) {
        return refused(PathProblem::Nul);
    }
    let mut normal = Vec::with_capacity(path.len().min(PATH_MAX));
    for component in path.split(|&byte| byte == b'/') {
        match component {
            b"" | b"." => continue,
            b".." => return refused(PathProblem::Parent),
            _ => {}
        }
        if component.len() > COMPONENT_MAX {
            return refused(PathProblem::LongComponent);
        }
        if !normal.is_empty() {
            normal.push(b'/');
        }
        normal.extend_from_slice(component);
        if normal.len() > PATH_MAX {
            return refused(PathProblem::Long);
        }
    }
    Ok(normal)
}

/// The target of a symbolic link, which may be anything that Linux takes for one: where it leads is found out when it is followed.
pub(super) fn symlink_target(target: Vec<u8>) -> Result<Vec<u8>, Fault> {
    let problem = if target.is_empty() {
        PathProblem::Empty
    } else if target.contains(&0) {
        PathProblem::Nul
    } else if target.len() > PATH_MAX {
        PathProblem::Long
    } else {
        return Ok(target);
    };
    Err(Fault::Path { which: "symbolic link's target", path: clip(&target).to_vec(), problem })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_have_one_form() {
        for (path, normal) in [
            ("a/b", "a/b"),
            ("./a//b/", "a/b"),
            ("/etc/passwd", "etc/passwd"),
            ("././.", ""),
            ("/", ""),
            ("a/.b/...", "a/.b/..."),
        ] {
            assert_eq!(normalise(path.as_bytes(), "name").unwrap(), normal.as_bytes(), "{path}");
        }
        let long = "a".repeat(256);
        let deep = "a/".repeat(2049);
        for (path, expected) in [
            ("", PathProblem::Empty),
            ("a\0b", PathProblem::Nul),
            ("../a", PathProblem::Parent),
            ("a/../b", PathProblem::Parent),
            ("a/..", PathProblem::Parent),
            (&long, PathProblem::LongComponent),
            (&deep, PathProblem::Long),
        ] {
            let refused = normalise(path.as_bytes(), "name");
            assert!(matches!(refused, Err(Fault::Path { problem, .. }) if problem == expected), "{path}");
        }
    }
}
