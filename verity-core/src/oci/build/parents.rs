//! What the lower layers of an image give to the directories of the next one, as an overlay of them shows it.

use super::layers::Made;
use crate::erofs::{Attributes, Budget, Error, FileKind, Image, Inode, Names};
use crate::layer::OPAQUE_ATTRIBUTE;
use crate::oci::store::Store;
use crate::reader::VerityReader;

/// What goes wrong with a lower layer.
type Failure = Box<dyn std::error::Error + Send + Sync>;

/// What was found of directories.
pub(super) struct Search<'p> {
    /// Sorted by their components.
    paths: &'p [Vec<u8>],
    found: Vec<Found>,
    /// How many bytes what was found takes.
    memory: u64,
    most_memory: u64,
}

/// What was found of a directory.
enum Found {
    /// Nothing yet: what is further below may have it.
    Nothing,
    /// It is not there, whatever is further below.
    Hidden,
    Directory(Box<Attributes>),
}

impl<'p> Search<'p> {
    pub(super) fn new(paths: &'p [Vec<u8>], most_memory: u64) -> Self {
        let found = paths.iter().map(|_| Found::Nothing).collect();
        Self { paths, found, memory: 0, most_memory }
    }

    /// Whether something may be found further below.
    pub(super) fn goes_on(&self) -> bool {
        self.found.iter().any(|found| matches!(found, Found::Nothing))
    }

    /// The directories that were found, in order.
    pub(super) fn into_found(self) -> impl Iterator<Item = (&'p [u8], Attributes)> {
        self.paths.iter().zip(self.found).filter_map(|(path, found)| match found {
            Found::Directory(attributes) => Some((&path[..], *attributes)),
            Found::Nothing | Found::Hidden => None,
        })
    }

    /// Looks into the next layer below. Every block that is read is checked.
    pub(super) fn look_into(&mut self, store: &Store, made: &Made) -> Result<(), Failure> {
        let Made { blob, annotations, .. } = made;
        let (file, _) = store.blob(&blob.digest)?;
        let (params, geometry) = (annotations.params(), annotations.geometry()?);
        let reader = VerityReader::new(&file, &file, params, geometry, annotations.root_hash)?;
        Ok(self.look(&Image::open(&reader, annotations.hash_offset)?)?)
    }

    fn look(&mut self, image: &Image<'_>) -> Result<(), Error> {
        // Each directory is listed once: this is enough for more names than a layer may have.
        let budget = Budget::default();
        // The last place, and those that it is in.
        let mut way: Vec<Place> = Vec::new();
        for (path, found) in self.paths.iter().zip(&mut self.found) {
            if !matches!(found, Found::Nothing) {
                continue;
            }
            while way.last().is_some_and(|place| !place.holds(path)) {
                way.pop();
            }
            if way.is_empty() {
                let root = image.superblock().root_nid.into();
                way.push(Place::new(image, &budget, Vec::new(), false, Some(root))?);
            }
            while let Some(place) = way.last_mut().filter(|place| place.path.len() < path.len()) {
                let below = place.below(image, &budget, path)?;
                way.push(below);
            }
            *found = match way.last().map(|place| &place.what) {
                Some(What::Directory { attributes, .. }) => {
                    let xattrs = attributes.xattrs.iter().map(|(name, value)| name.len() + value.len());
                    let size = size_of::<Attributes>() + xattrs.sum::<usize>();
                    self.memory = self.memory.saturating_add(size as u64);
                    if self.memory > self.most_memory {
                        return Err(Error::Budget);
                    }
                    Found::Directory(attributes.clone().into())
                }
                Some(What::Hidden) => Found::Hidden,
                Some(What::Nothing) | None => Found::Nothing,
            };
        }
        Ok(())
    }
}

/// A path, in one layer.
struct Place {
    path: Vec<u8>,
    what: What,
    /// The layer hides what others have there.
    is_opaque: bool,
}

/// What a layer has at a path.
enum What {
    Nothing,
    /// It has something else there, a whiteout perhaps, or hides what others have there.
    Hidden,
    Directory {
        inode: Inode,
        attributes: Attributes,
        /// What is in it, when it was asked for.
        names: Option<Names>,
    },
}

impl Place {
    fn new(
        image: &Image<'_>,
        budget: &Budget,
        path: Vec<u8>,
        is_opaque: bool,
        nid: Option<u64>,
    ) -> Result<Self, Error> {
        let Some(nid) = nid else {
            let what = if is_opaque { What::Hidden } else { What::Nothing };
            return Ok(Self { path, what, is_opaque });
        };
        let inode = image.inode(nid)?;
        if inode.kind != FileKind::Directory {
            return Ok(Self { path, what: What::Hidden, is_opaque: true });
        }
        let attributes = image.attributes(&inode, budget)?;
        let marked = attributes.xattrs.get(OPAQUE_ATTRIBUTE).is_some_and(|value| value == b"y");
        let what = What::Directory { inode, attributes, names: None };
        Ok(Self { path, what, is_opaque: is_opaque || marked })
    }

    /// The next place on the way to `path`.
    fn below(&mut self, image: &Image<'_>, budget: &Budget, path: &[u8]) -> Result<Self, Error> {
        let start = if self.path.is_empty() { 0 } else { self.path.len() + 1 };
        let length = path[start..].iter().position(|&byte| byte == b'/');
        let end = length.map_or(path.len(), |length| start + length);
        let nid = match &mut self.what {
            What::Directory { inode, names, .. } => {
                let names = match names {
                    Some(names) => names,
                    none => none.insert(image.list(inode, budget)?),
                };
                let index = names.binary_search_by(|(name, _)| (**name).cmp(&path[start..end]));
                index.ok().map(|index| names[index].1)
            }
            What::Nothing | What::Hidden => None,
        };
        Self::new(image, budget, path[..end].to_vec(), self.is_opaque, nid)
    }

    /// Whether a path is this one, or leads through it.
    fn holds(&self, path: &[u8]) -> bool {
        let rest = path.strip_prefix(&self.path[..]);
        self.path.is_empty() || rest.is_some_and(|rest| rest.is_empty() || rest[0] == b'/')
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::erofs::write::{Kind, Options, Writer};
    use crate::io::MemoryDevice;

    /// What a layer has at a path.
    #[derive(Clone, Copy)]
    enum Has {
        /// A directory with this owner.
        Directory(u32),
        Opaque(u32),
        Whiteout,
        Symlink,
    }
    use Has::{Directory, Opaque, Symlink, Whiteout};

    /// What is found of `paths` in layers, the uppermost first: owners.
    #[track_caller]
    fn owners(layers: &[&[(&str, Has)]], paths: &[&str]) -> Vec<Option<u32>> {
        let paths: Vec<_> = paths.iter().map(|path| path.as_bytes().to_vec()).collect();
        let mut search = Search::new(&paths, 1 << 20);
        for layer in layers {
            let device = MemoryDevice::default();
            let mut writer = Writer::new(&device, Options::default()).unwrap();
            for (path, has) in *layer {
                let path = path.as_bytes();
                let mut attributes = Attributes { mode: 0o700, ..Attributes::default() };
                let kind = match has {
                    Directory(uid) | Opaque(uid) => {
                        attributes.uid = *uid;
                        Kind::Directory
                    }
                    Whiteout => Kind::CharDevice { major: 0, minor: 0 },
                    Symlink => Kind::Symlink(b"a"),
                };
                writer.add(path, &attributes, kind).unwrap();
                if matches!(has, Opaque(_)) {
                    writer.set_xattr(path, OPAQUE_ATTRIBUTE, b"y").unwrap();
                }
            }
            let size = writer.finish().unwrap().size;
            search.look(&Image::open(&device, size).unwrap()).unwrap();
        }
        let found: std::collections::BTreeMap<_, _> = search.into_found().collect();
        paths.iter().map(|path| found.get(&path[..]).map(|attributes| attributes.uid)).collect()
    }

    const ALL: [&str; 4] = ["", "a", "a/b", "a/b/c"];
    const BASE: &[(&str, Has)] =
        &[("", Directory(1)), ("a", Directory(2)), ("a/b", Directory(3)), ("a/b/c", Directory(4))];

    #[test]
    fn the_uppermost_layer_that_has_a_directory_counts() {
        assert_eq!(owners(&[], &ALL), [None; 4]);
        assert_eq!(owners(&[BASE], &ALL), [Some(1), Some(2), Some(3), Some(4)]);
        let upper: &[_] = &[("", Directory(5)), ("a", Directory(6)), ("a.b", Directory(7))];
        assert_eq!(owners(&[upper, BASE], &ALL), [Some(5), Some(6), Some(3), Some(4)]);
        let paths = ["a", "a/x", "a/x/y", "a.b", "b"];
        assert_eq!(owners(&[upper, BASE], &paths), [Some(6), None, None, Some(7), None]);
    }

    #[test]
    fn what_hides_a_directory_ends_the_search() {
        for hides in [Whiteout, Symlink] {
            let upper: &[_] = &[("", Directory(5)), ("a", Directory(6)), ("a/b", hides)];
            assert_eq!(owners(&[upper, BASE], &ALL), [Some(5), Some(6), None, None]);
        }
        let opaque: &[_] = &[("", Directory(5)), ("a", Opaque(6))];
        assert_eq!(owners(&[opaque, BASE], &ALL), [Some(5), Some(6), None, None]);
        let opaque: &[_] = &[("", Directory(5)), ("a", Opaque(6)), ("a/b", Directory(7))];
        assert_eq!(owners(&[opaque, BASE], &ALL), [Some(5), Some(6), Some(7), None]);
        let opaque: &[_] = &[("", Opaque(5))];
        assert_eq!(owners(&[opaque, BASE], &ALL), [Some(5), None, None, None]);
        // Above that it may be there again.
        let removed: &[_] = &[("", Directory(5)), ("a", Whiteout)];
        let again: &[_] = &[("", Directory(8)), ("a", Directory(9))];
        assert_eq!(owners(&[again, removed, BASE], &ALL), [Some(8), Some(9), None, None]);
    }

    #[test]
    fn what_was_found_has_a_limit() {
        let device = MemoryDevice::default();
        let size = Writer::new(&device, Options::default()).unwrap().finish().unwrap().size;
        let paths = [Vec::new()];
        let mut search = Search::new(&paths, 10);
        assert!(matches!(search.look(&Image::open(&device, size).unwrap()), Err(Error::Budget)));
    }
}
