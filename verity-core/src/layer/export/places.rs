//! Where inodes are that come up again: directories, and files with several names.

use std::collections::HashMap;

use super::ExportError;
use crate::layer::Limits;

/// The first name of an inode, and the directory that it is in.
struct Place {
    folder: u64,
    name: Box<[u8]>,
}

/// Names by inodes, each once, not whole paths: of these a deep tree has many times as much.
pub(super) struct Places {
    places: HashMap<u64, Place>,
    /// How many bytes the names have.
    bytes: u64,
    inodes: u64,
    /// Names of inodes that were there before.
    names: u64,
    most: u64,
    most_bytes: u64,
}

impl Places {
    pub(super) fn new(limits: &Limits) -> Self {
        let (most, most_bytes) = (limits.entries, limits.memory);
        Self { places: HashMap::new(), bytes: 0, inodes: 0, names: 0, most, most_bytes }
    }

    /// Counts an inode. The root may have had no entry.
    pub(super) fn count_inode(&mut self) -> Result<(), ExportError> {
        self.inodes += 1;
        if self.inodes > self.most.saturating_add(1) { Err(ExportError::Entries(self.most)) } else { Ok(()) }
    }

    /// Counts a further name of one.
    pub(super) fn count_name(&mut self) -> Result<(), ExportError> {
        self.names += 1;
        if self.names > self.most { Err(ExportError::Entries(self.most)) } else { Ok(()) }
    }

    pub(super) fn knows(&self, nid: u64) -> bool {
        self.places.contains_key(&nid)
    }

    /// Takes note of an inode, which is in a folder that is known. The root is in itself.
    pub(super) fn remember(&mut self, nid: u64, folder: u64, path: &[u8]) -> Result<(), ExportError> {
        let name: Box<[u8]> = path.rsplit(|&byte| byte == b'/').next().unwrap_or_default().into();
        self.bytes += name.len() as u64;
        if self.bytes > self.most_bytes {
            return Err(ExportError::Memory(self.most_bytes));
        }
        self.places.insert(nid, Place { folder, name });
        Ok(())
    }

    /// The first path of an inode, if it is known.
    pub(super) fn path(&self, nid: u64) -> Option<Vec<u8>> {
        let mut names = Vec::new();
        let mut at = nid;
        loop {
            let Place { folder, name } = self.places.get(&at)?;
            if *folder == at {
                break;
            }
            names.push(&**name);
            at = *folder;
        }
        names.reverse();
        Some(names.join(&b'/'))
    }
}
