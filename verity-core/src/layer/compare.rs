//! Whether two images say the same: one that was made here of a layer, and one that another program made of it.

use std::collections::HashMap;
use std::fmt::Display;
use std::io::{self, Read};

use super::Limits;
use super::export::{Budgets, Dense};
use super::tar::Text;
use super::walk::{Below, walk, within};
use crate::erofs::{self, FileKind, Image, Inode, Names};
use crate::progress::{Observer, Phase};

/// The longest path that a system call takes, in bytes.
const PATH_MAX: usize = 4095;
/// Bytes that are compared at a time.
const BUFFER_BYTES: usize = 256 * 1024;

/// Why two images are not known to say the same.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Difference {
    /// Something is another way.
    #[error("{:?}: {what} is {found}, and {expected} was expected", Text(path))]
    Entry {
        /// The path.
        path: Vec<u8>,
        /// What differs.
        what: &'static str,
        /// What the first image says.
        expected: String,
        /// What the second one says.
        found: String,
    },
    /// The second image lacks something.
    #[error("{:?} is missing", Text(.0))]
    Missing(Vec<u8>),
    /// The second image has something that the first has not.
    #[error("{:?} is there, and should not be", Text(.0))]
    Surplus(Vec<u8>),
    /// An image cannot be read, or is not a sound one.
    #[error("{:?}: {source}", Text(path))]
    Image {
        /// What was read.
        path: Vec<u8>,
        /// What is wrong.
        #[source]
        source: erofs::Error,
    },
    /// The content of a file cannot be read.
    #[error("{:?}: its content cannot be read: {source}", Text(path))]
    Content {
        /// The file.
        path: Vec<u8>,
        /// What the image answers.
        source: io::Error,
    },
    /// The observer asked to stop.
    #[error("cancelled")]
    Cancelled,
}

/// What was compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Compared {
    /// How many names there are, the root among them.
    pub names: u64,
    /// How many inodes there are.
    pub inodes: u64,
    /// How many files are compressed in the second image in a way that is not read here, so that only their sizes were compared.
    pub unread: u64,
}

/// What becomes of files whose content cannot be compared, because the second image compresses them in a way that is not read here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Unread {
    /// The first one is an error: [`erofs::Error::Compressed`].
    #[default]
    Refuse,
    /// They are [counted](Compared::unread), and nothing is known of what is in them.
    Count,
}

/// Compares all that is in `found` with what is in `expected`: names, types, permissions, owners, times, extended attributes, device numbers, which names are one
/// file, sizes and targets of links; and content, where `found` does not compress it.
///
/// `found` may be anybody's. `expected` bounds the work, and is one that was built with `limits`.
///
/// # Errors
/// [`Difference`]: the first that is met.
pub fn compare(
    expected: &Image<'_>,
    found: &Image<'_>,
    limits: &Limits,
    unread: Unread,
    observer: &dyn Observer,
) -> Result<Compared, Difference> {
    observer.begin(Phase::Extract, None);
    let mut comparison = Comparison {
        images: [expected, found],
        budgets: [Budgets::new(limits), Budgets::new(limits)],
        unread,
        observer,
        same: HashMap::new(),
        compared: Compared::default(),
    };
    let root = |image: &Image<'_>| image.superblock().root_nid.into();
    walk([root(expected), root(found)], |path, _, nids| comparison.entry(path, nids))?;
    Ok(comparison.compared)
}

/// A pair: of the expected image, and of the found one.
type Pair<T> = [T; 2];
/// Names that both have, with their inodes.
type Shared = Below<Pair<u64>>;

struct Comparison<'c> {
    images: Pair<&'c Image<'c>>,
    budgets: Pair<Budgets>,
    unread: Unread,
    observer: &'c dyn Observer,
    /// Inodes of the one that are inodes of the other, where they have several names or are directories.
    same: HashMap<u64, u64>,
    compared: Compared,
}

impl Comparison<'_> {
    /// Compares two inodes of one name. Of directories, returns the names in them.
    fn entry(&mut self, path: &[u8], nids: Pair<u64>) -> Result<Option<Shared>, Difference> {
        if self.observer.cancelled() {
            return Err(Difference::Cancelled);
        }
        // Not longer and longer, where directories never end.
        let shown = &path[..path.len().min(PATH_MAX)];
        let failed = |source| Difference::Image { path: shown.to_vec(), source };
        let [expected, found] = self.inodes(nids).map_err(failed)?;
        self.compared.names += 1;
        let differs = Differs { path: shown };
        differs.unless_same("its mode", Octal(expected.mode), Octal(found.mode))?;
        let directory = expected.kind == FileKind::Directory;
        if directory || expected.links > 1 {
            if !directory {
                differs.unless_same("its number of names", expected.links, found.links)?;
            }
            if let Some(&known) = self.same.get(&nids[0]) {
                let what = "what it is a name of";
                differs.unless_same(what, Number(known), Number(nids[1]))?;
                if directory {
                    return Err(Difference::Surplus(shown.to_vec()));
                }
                return Ok(None);
            }
            self.same.insert(nids[0], nids[1]);
        } else {
            differs.unless_same("its number of names", expected.links, found.links)?;
        }
        self.compared.inodes += 1;
        self.attributes(&differs, [&expected, &found])?;
        match expected.kind {
            FileKind::Directory => return self.names(shown, [&expected, &found]).map(Some),
            FileKind::File | FileKind::Symlink => {
                differs.unless_same("its size", expected.size, found.size)?;
                self.content(shown, [&expected, &found])?;
            }
            FileKind::Other => {
                let number = |inode: &Inode| match inode.mode >> 12 {
                    0o02 | 0o06 => format!("{:?}", inode.device()),
                    _ => String::new(),
                };
                differs.unless_same("its device number", number(&expected), number(&found))?;
            }
        }
        Ok(None)
    }

    fn inodes(&self, [expected, found]: Pair<u64>) -> Result<Pair<Inode>, erofs::Error> {
        Ok([self.images[0].inode(expected)?, self.images[1].inode(found)?])
    }

    fn attributes(&self, differs: &Differs<'_>, inodes: Pair<&Inode>) -> Result<(), Difference> {
        let read = |index: usize| {
            let (image, budget) = (self.images[index], &self.budgets[index].indexes);
            let failed = |source| Difference::Image { path: differs.path.to_vec(), source };
            image.attributes(inodes[index], budget).map_err(failed)
        };
        let (expected, found) = (read(0)?, read(1)?);
        differs.unless_same("its owner", expected.uid, found.uid)?;
        differs.unless_same("its group", expected.gid, found.gid)?;
        differs.unless_same("its time", expected.mtime, found.mtime)?;
        differs.unless_same("its time's nanoseconds", expected.mtime_nsec, found.mtime_nsec)?;
        let names = |xattrs: &std::collections::BTreeMap<Vec<u8>, Vec<u8>>| {
            xattrs
                .keys()
                .map(|name| String::from_utf8_lossy(name).into_owned())
                .collect::<Vec<_>>()
                .join(", ")
        };
        let what = "the list of its extended attributes";
        differs.unless_same(what, Quoted(names(&expected.xattrs)), Quoted(names(&found.xattrs)))?;
        for ((name, expected), found) in expected.xattrs.iter().zip(found.xattrs.values()) {
            if expected != found {
                let text = |value: &[u8]| format!("{:?}", Text(&value[..value.len().min(100)]));
                let what = "an extended attribute";
                let name = String::from_utf8_lossy(name);
                let [expected, found] = [expected, found].map(|value| format!("{name:?} of {}", text(value)));
                return Err(differs.with(what, expected, found));
            }
        }
        Ok(())
    }

    fn names(&self, path: &[u8], inodes: Pair<&Inode>) -> Result<Shared, Difference> {
        let list = |index: usize| -> Result<Names, Difference> {
            let (image, budget) = (self.images[index], &self.budgets[index].directories);
            let failed = |source| Difference::Image { path: path.to_vec(), source };
            image.list(inodes[index], budget).map_err(failed)
        };
        // Both are in order.
        let (expected, mut found) = (list(0)?, list(1)?.into_iter().peekable());
        let mut pairs = Vec::with_capacity(expected.len());
        for (name, nid) in expected {
            match found.next() {
                Some((other, other_nid)) if other == name => pairs.push((name, [nid, other_nid])),
                Some((other, _)) if other < name => return Err(Difference::Surplus(within(path, &other))),
                _ => return Err(Difference::Missing(within(path, &name))),
            }
        }
        match found.next() {
            Some((other, _)) => Err(Difference::Surplus(within(path, &other))),
            None => Ok(pairs),
        }
    }

    fn content(&mut self, path: &[u8], inodes: Pair<&Inode>) -> Result<(), Difference> {
        let open = |index: usize| self.images[index].content(inodes[index], &self.budgets[index].indexes);
        let failed = |source| Difference::Image { path: path.to_vec(), source };
        let found = match open(1) {
            Err(erofs::Error::Compressed(_)) if self.unread == Unread::Count => {
                self.compared.unread += 1;
                return Ok(());
            }
            found => found.map_err(failed)?,
        };
        let (mut expected, mut found) = (Dense::new(open(0).map_err(failed)?), Dense::new(found));
        let length = BUFFER_BYTES.min(crate::io::usize_of(inodes[0].size));
        let mut buffers = [vec![0; length], vec![0; length]];
        let mut position = 0;
        while position < inodes[0].size {
            if self.observer.cancelled() {
                return Err(Difference::Cancelled);
            }
            let count = length.min(crate::io::usize_of(inodes[0].size - position));
            let [one, other] = &mut buffers;
            let failed = |source| Difference::Content { path: path.to_vec(), source };
            expected.read_exact(&mut one[..count]).map_err(failed)?;
            found.read_exact(&mut other[..count]).map_err(failed)?;
            if let Some(at) = one[..count].iter().zip(&other[..count]).position(|(one, other)| one != other) {
                let place = |byte: u8| format!("{byte:#04x} at byte {}", position + at as u64);
                return Err(Differs { path }.with("its content", place(one[at]), place(other[at])));
            }
            self.observer.advance(count as u64);
            position += count as u64;
        }
        Ok(())
    }
}

/// Says what differs.
struct Differs<'p> {
    path: &'p [u8],
}

impl Differs<'_> {
    #[allow(clippy::needless_pass_by_value)] // Numbers, and texts that nobody else needs.
    fn unless_same<T: PartialEq + Display>(
        &self,
        what: &'static str,
        expected: T,
        found: T,
    ) -> Result<(), Difference> {
        if expected == found { Ok(()) } else { Err(self.with(what, expected.to_string(), found.to_string())) }
    }

    fn with(&self, what: &'static str, expected: String, found: String) -> Difference {
        Difference::Entry { path: self.path.to_vec(), what, expected, found }
    }
}

/// A mode, as people write it.
#[derive(PartialEq, Eq)]
struct Octal(u16);

impl Display for Octal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:o}", self.0)
    }
}

/// An inode.
#[derive(PartialEq, Eq)]
struct Number(u64);

impl Display for Number {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "inode {}", self.0)
    }
}

/// A text of somebody else's.
#[derive(PartialEq, Eq)]
struct Quoted(String);

impl Display for Quoted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}", self.0)
    }
}
