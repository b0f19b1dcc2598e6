//! The names of an image, and the inodes behind them.

use super::error::{PathProblem, path_of};
use super::node::{Body, Directory, Id, Node};
use super::xattrs::Pool;
use super::{Attributes, Error};
use crate::erofs::format::NAME_MAX;

/// The root's.
pub(super) const ROOT: Id = 0;
/// No system call takes longer ones, but a tree may be deeper than these reach.
const MOST_PATH: usize = u16::MAX as usize;

/// All inodes.
pub(super) struct Tree {
    /// By their ids. What is not there any more leaves a gap.
    nodes: Vec<Option<Node>>,
    gaps: Vec<Id>,
    pub(super) pool: Pool,
    /// How many bytes of content are kept in memory.
    pub(super) kept: u64,
    /// How many bytes the indexes of chunks have.
    pub(super) indexes: u64,
    /// How many bytes names and bodies have in memory.
    memory: u64,
    /// How many inodes there may be.
    most: u64,
}

impl Tree {
    /// A root, and nothing in it; at most so many inodes.
    pub(super) fn new(most: u64) -> Self {
        Self {
            nodes: vec![Some(Node::implied())],
            gaps: Vec::new(),
            pool: Pool::default(),
            kept: 0,
            indexes: 0,
            memory: 0,
            most,
        }
    }

    /// How many inodes there are.
    pub(super) fn len(&self) -> usize {
        self.nodes.len() - self.gaps.len()
    }

    /// How many bytes in memory are not the same for each inode.
    pub(super) const fn memory(&self) -> u64 {
        self.memory + self.pool.memory
    }

    /// Those that are there, with their ids.
    pub(super) fn nodes(&self) -> impl Iterator<Item = &Node> {
        self.nodes.iter().flatten()
    }

    /// The node with an id that is in the tree; it would not be there otherwise.
    pub(super) fn node(&self, id: Id) -> Option<&Node> {
        self.nodes.get(id as usize)?.as_ref()
    }

    pub(super) fn node_mut(&mut self, id: Id) -> Option<&mut Node> {
        self.nodes.get_mut(id as usize)?.as_mut()
    }

    pub(super) fn directory(&self, id: Id) -> Option<&Directory> {
        if let Body::Directory(directory) = &self.node(id)?.body { Some(directory) } else { None }
    }

    pub(super) fn directory_mut(&mut self, id: Id) -> Option<&mut Directory> {
        if let Body::Directory(directory) = &mut self.node_mut(id)?.body { Some(directory) } else { None }
    }

    /// What a path names.
    pub(super) fn find(&self, path: &[u8]) -> Option<Id> {
        components(path).try_fold(ROOT, |id, (name, _)| self.directory(id)?.children.get(name).copied())
    }

    /// Sees whether there can be something of that path.
    pub(super) fn check(&self, path: &[u8]) -> Result<(), Error> {
        check_path(path)?;
        let mut directory = ROOT;
        for (name, end) in components(path) {
            let Some(found) = self.directory(directory) else {
                let parent = path_of(&path[..end - name.len() - 1]);
                return Err(Error::NotADirectory { path: path_of(path), parent });
            };
            match found.children.get(name) {
                Some(&next) => directory = next,
                None => break,
            }
        }
        Ok(())
    }

    /// The directory that a path lies in, and the name in it. Makes the directories that are missing. The path was [checked](Self::check).
    fn parent<'p>(&mut self, path: &'p [u8]) -> Result<(Id, &'p [u8]), Error> {
        let mut at = ROOT;
        for (name, end) in components(path) {
            if end == path.len() {
                return Ok((at, name));
            }
            at = match self.directory(at).and_then(|directory| directory.children.get(name)) {
                Some(&next) => next,
                None => {
                    let new = self.store(Node::implied())?;
                    self.name(at, name, new);
                    new
                }
            };
        }
        Err(Error::Root)
    }

    /// Makes the directories of a path that are missing, the last one too.
    pub(super) fn imply(&mut self, path: &[u8]) -> Result<(), Error> {
        self.check(path)?;
        if self.find(path).is_none() {
            let (parent, name) = self.parent(path)?;
            let new = self.store(Node::implied())?;
            self.name(parent, name, new);
        }
        Ok(())
    }

    /// Tells the paths of directories that nobody described: of each before those of what is in it, and in the order of their names.
    pub(super) fn implied<E>(&self, mut tell: impl FnMut(&[u8]) -> Result<(), E>) -> Result<(), E> {
        let mut path = Vec::new();
        // How long the path of each directory is, and what is left in it.
        let mut open = Vec::new();
        let mut next = Some(ROOT);
        loop {
            if let Some(id) = next
                && let Some(directory) = self.directory(id)
            {
                if self.node(id).is_some_and(|node| node.implied) {
                    tell(&path)?;
                }
                open.push((path.len(), directory.children.iter()));
            }
            let Some((length, children)) = open.last_mut() else { return Ok(()) };
            path.truncate(*length);
            next = children.next().map(|(name, &id)| {
                if !path.is_empty() {
                    path.push(b'/');
                }
                path.extend_from_slice(name);
                id
            });
            if next.is_none() {
                open.pop();
            }
        }
    }

    /// Puts a node where a path leads, in the place of what is there.
    pub(super) fn insert(&mut self, path: &[u8], node: Node) -> Result<(), Error> {
        if path.is_empty() {
            return self.describe(ROOT, node);
        }
        let (parent, name) = self.parent(path)?;
        let existing = self.directory(parent).and_then(|directory| directory.children.get(name)).copied();
        if let Some(existing) = existing
            && node.is_directory()
            && self.directory(existing).is_some()
        {
            return self.describe(existing, node);
        }
        let new = self.store(node)?;
        self.name(parent, name, new);
        Ok(())
    }

    /// Gives a directory the attributes of another one.
    fn describe(&mut self, id: Id, described: Node) -> Result<(), Error> {
        let Some(node) = self.node_mut(id).filter(|_| described.is_directory()) else {
            return Err(Error::Root);
        };
        let Node { mode, uid, gid, mtime, mtime_nsec, xattrs, .. } = described;
        node.implied = false;
        (node.mode, node.uid, node.gid, node.mtime, node.mtime_nsec) = (mode, uid, gid, mtime, mtime_nsec);
        let before = std::mem::replace(&mut node.xattrs, xattrs);
        self.pool.remove(before);
        Ok(())
    }

    /// Makes `path` a name of what `target` names.
    pub(super) fn link(&mut self, path: &[u8], target: &[u8]) -> Result<(), Error> {
        self.check(path)?;
        check_path(target)?;
        let paths = || (path_of(path), path_of(target));
        let Some(id) = self.find(target) else {
            let (path, target) = paths();
            return Err(Error::NoTarget { path, target });
        };
        let Some(node) = self.node_mut(id).filter(|node| !node.is_directory()) else {
            let (path, target) = paths();
            return Err(Error::DirectoryTarget { path, target });
        };
        // Counted first: what is replaced may be another name of it, or a directory that it is in.
        let links = u64::from(node.links);
        node.links = node.links.checked_add(1).ok_or_else(|| Error::Field {
            path: path_of(target),
            field: "its number of names",
            value: links + 1,
            most: u32::MAX.into(),
        })?;
        let (parent, name) = self.parent(path)?;
        self.name(parent, name, id);
        Ok(())
    }

    /// Gives a node a name, which another one may have had.
    fn name(&mut self, parent: Id, name: &[u8], id: Id) {
        let before =
            self.directory_mut(parent).and_then(|directory| directory.children.insert(name.into(), id));
        match before {
            Some(before) => self.unlink(before),
            None => self.memory += name.len() as u64,
        }
    }

    /// Takes a name from a node. What has none is dropped, with all that is in it.
    fn unlink(&mut self, id: Id) {
        let mut unlinked = vec![id];
        while let Some(id) = unlinked.pop() {
            let Some(slot) = self.nodes.get_mut(id as usize) else { continue };
            match slot {
                Some(node) if node.links > 1 => node.links -= 1,
                slot => {
                    let Some(node) = slot.take() else { continue };
                    self.gaps.push(id);
                    self.kept -= node.body.kept();
                    self.indexes -= node.body.index_size();
                    self.memory -= node.body.memory();
                    self.pool.remove(node.xattrs);
                    if let Body::Directory(directory) = node.body {
                        for (name, child) in directory.children {
                            self.memory -= name.len() as u64;
                            unlinked.push(child);
                        }
                    }
                }
            }
        }
    }

    fn store(&mut self, node: Node) -> Result<Id, Error> {
        if self.len() as u64 >= self.most {
            return Err(Error::Inodes { most: self.most });
        }
        self.kept += node.body.kept();
        self.indexes += node.body.index_size();
        self.memory += node.body.memory();
        if let Some(id) = self.gaps.pop() {
            self.nodes[id as usize] = Some(node);
            return Ok(id);
        }
        let id = Id::try_from(self.nodes.len()).map_err(|_| Error::Inodes { most: Id::MAX.into() })?;
        self.nodes.push(Some(node));
        Ok(id)
    }

    /// Takes the xattrs of an entry.
    pub(super) fn xattrs(
        &mut self,
        path: &[u8],
        attributes: &Attributes,
    ) -> Result<Box<[super::xattrs::Entry]>, Error> {
        self.pool.add(path, attributes)
    }
}

/// The names in a path, and where each ends.
fn components(path: &[u8]) -> impl Iterator<Item = (&[u8], usize)> {
    let mut end = 0;
    path.split(|&byte| byte == b'/').filter(|_| !path.is_empty()).map(move |name| {
        let own = end + name.len();
        end = own + 1;
        (name, own)
    })
}

fn check_path(path: &[u8]) -> Result<(), Error> {
    let problem = |problem| Err(Error::Path { path: path_of(path), problem });
    if path.len() > MOST_PATH {
        // Not in the message, which would be as long.
        return Err(Error::Path { path: path_of(&path[..NAME_MAX]), problem: PathProblem::LongPath });
    }
    for (name, _) in components(path) {
        match name {
            b"" => return problem(PathProblem::Empty),
            b"." | b".." => return problem(PathProblem::Dots),
            _ if name.len() > NAME_MAX => return problem(PathProblem::Long),
            _ if name.contains(&0) => return problem(PathProblem::Nul),
            _ => {}
        }
    }
    Ok(())
}
