//! Trees as they should come out: a map from paths to inodes, kept in the simplest way.

use std::collections::BTreeMap;
use std::rc::Rc;

use verity_core::erofs::write::{Attributes, Error, Kind, Options, Summary, Writer};
use verity_core::io::MemoryDevice;

use crate::read::{Found, What, read};

/// One call of the writer.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    Add(Vec<u8>, Attributes, What),
    Link(Vec<u8>, Vec<u8>),
}

/// What should be in an image.
#[derive(Clone, Debug)]
pub(crate) struct Model(BTreeMap<Vec<u8>, Rc<(Attributes, What)>>);

fn implied() -> Rc<(Attributes, What)> {
    Rc::new((Attributes { mode: 0o755, ..Attributes::default() }, What::Directory))
}

impl Model {
    fn new() -> Self {
        Self(BTreeMap::from([(Vec::new(), implied())]))
    }

    fn is_directory(&self, path: &[u8]) -> Option<bool> {
        self.0.get(path).map(|entry| entry.1 == What::Directory)
    }

    /// Puts an entry where it belongs; `false` if it cannot be there.
    fn put(&mut self, path: &[u8], entry: Rc<(Attributes, What)>) -> bool {
        let parents = path.iter().enumerate().filter(|&(_, &byte)| byte == b'/').map(|(end, _)| &path[..end]);
        if parents.clone().any(|parent| self.is_directory(parent) == Some(false)) {
            return false;
        }
        for parent in parents {
            self.0.entry(parent.to_vec()).or_insert_with(implied);
        }
        if entry.1 != What::Directory {
            let below = [path, b"/"].concat();
            self.0.retain(|other, _| !other.starts_with(&below));
        }
        self.0.insert(path.to_vec(), entry);
        true
    }

    /// `false` if the step is to be refused.
    fn take(&mut self, step: &Step) -> bool {
        match step {
            Step::Add(path, attributes, what) => self.put(path, Rc::new((attributes.clone(), what.clone()))),
            Step::Link(path, target) => match self.0.get(target) {
                Some(entry) if entry.1 != What::Directory => {
                    let entry = Rc::clone(entry);
                    self.put(path, entry)
                }
                _ => false,
            },
        }
    }

    /// Compares with what is in an image.
    fn check(&self, found: &BTreeMap<Vec<u8>, Found>) {
        assert!(self.0.keys().eq(found.keys()), "{:?}\n{:?}", self.0.keys(), found.keys());
        let mut nids = BTreeMap::new();
        for ((path, entry), found) in self.0.iter().zip(found.values()) {
            assert_eq!(entry.0, found.attributes, "{path:?}");
            assert!(entry.1 == found.what, "{path:?} has other content");
            let links =
                if entry.1 == What::Directory { self.directory_links(path) } else { Rc::strong_count(entry) };
            assert_eq!(links as u64, u64::from(found.links), "names of {path:?}");
            assert_eq!(*nids.entry(Rc::as_ptr(entry)).or_insert(found.nid), found.nid, "{path:?}");
        }
        assert_eq!(nids.len(), nids.values().collect::<std::collections::BTreeSet<_>>().len());
    }

    fn directory_links(&self, path: &[u8]) -> usize {
        let own = |other: &[u8]| match other.iter().rposition(|&byte| byte == b'/') {
            Some(end) => &other[..end] == path,
            None => path.is_empty() && !other.is_empty(),
        };
        2 + self.0.iter().filter(|(other, entry)| entry.1 == What::Directory && own(other)).count()
    }
}

/// Adds a step to an image that is being made.
pub(crate) fn apply(writer: &mut Writer<'_>, step: &Step) -> Result<(), Error> {
    let (path, attributes, what) = match step {
        Step::Link(path, target) => return writer.link(path, target),
        Step::Add(path, attributes, what) => (path, attributes, what),
    };
    let mut content: &[u8] = if let What::File(content) = what { content } else { &[] };
    let kind = match what {
        What::Directory => Kind::Directory,
        What::File(_) => Kind::File { size: content.len() as u64, content: &mut content },
        What::Symlink(target) => Kind::Symlink(target),
        &What::CharDevice(major, minor) => Kind::CharDevice { major, minor },
        &What::BlockDevice(major, minor) => Kind::BlockDevice { major, minor },
        What::Fifo => Kind::Fifo,
        What::Socket => Kind::Socket,
    };
    writer.add(path, attributes, kind)
}

/// Makes an image of these steps, each of which is done or refused as it should be, and reads it back.
pub(crate) fn image(options: Options, steps: &[Step]) -> (Vec<u8>, Summary, BTreeMap<Vec<u8>, Found>) {
    let device = MemoryDevice::default();
    let mut writer = Writer::new(&device, options).unwrap();
    let mut model = Model::new();
    for step in steps {
        let done = apply(&mut writer, step);
        assert_eq!(done.is_ok(), model.take(step), "{step:?}: {done:?}");
    }
    let summary = writer.finish().unwrap();
    let bytes = device.into_bytes();
    assert_eq!(summary.size, bytes.len() as u64);
    let found = read(&bytes);
    model.check(&found);
    (bytes, summary, found)
}
