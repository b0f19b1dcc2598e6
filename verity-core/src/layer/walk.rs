//! One way through a tree of names, for all who look at every file of an image.

/// What is in a directory, each name with its node.
pub(super) type Below<N> = Vec<(Box<[u8]>, N)>;

/// Visits a root and all that is below it, directories before what is in them, in the order in which they list that.
///
/// `visit` gets a path, the node of the folder that it is in (of the root: the root) and its own, and returns what is in it where it is a directory.
/// It bounds how deep that goes: directories may lie in themselves.
///
/// # Errors
/// The first one of `visit`.
pub(super) fn walk<N: Copy, E>(
    root: N,
    mut visit: impl FnMut(&[u8], N, N) -> Result<Option<Below<N>>, E>,
) -> Result<(), E> {
    // Directories that were listed, each with the names that are left.
    let mut open = Vec::new();
    if let Some(names) = visit(b"", root, root)? {
        open.push((Vec::new(), root, names.into_iter()));
    }
    while let Some((path, folder, names)) = open.last_mut() {
        let Some((name, node)) = names.next() else {
            open.pop();
            continue;
        };
        let path = within(path, &name);
        if let Some(names) = visit(&path, *folder, node)? {
            open.push((path, node, names.into_iter()));
        }
    }
    Ok(())
}

/// The path of a name in a folder.
pub(super) fn within(folder: &[u8], name: &[u8]) -> Vec<u8> {
    if folder.is_empty() { name.to_vec() } else { [folder, b"/", name].concat() }
}
