//! Which layers were made already, and who is making one now.

use std::collections::BTreeMap;
use std::fs::{File, Metadata, TryLockError};
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use oci_spec::image as spec;
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::folder::Folder;
use super::{Store, StoreError};
use crate::algorithm::Algorithm;
use crate::block::BlockSize;
use crate::fec::Roots;
use crate::io::WriteAt;
use crate::layer::{Digest, Identity, Inherited};
use crate::oci::annotations::{LAYER_MEDIA_TYPE, LayerAnnotations};
use crate::oci::descriptor::Descriptor;
use crate::oci::encode;
use crate::superblock::Superblock;
use crate::tree;

/// A record has no more bytes. One that would have more is none: its layer is made again for each image.
const RECORD_MAX: u64 = 16 << 20;

/// What decides every byte of a layer, but for what its directories without an entry have.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct LayerKey {
    /// The digest of the uncompressed tar.
    pub diff_id: Digest,
    /// What the tree is hashed with.
    pub algorithm: Algorithm,
    /// The size of all blocks.
    pub block_size: BlockSize,
    /// How much parity there is.
    pub roots: Option<Roots>,
}

impl LayerKey {
    /// The record's name. The number is that of the layers' format: an image that is made in another way is another layer.
    fn file_name(&self) -> String {
        let Self { diff_id, algorithm, block_size, roots } = self;
        let roots = roots.map_or(0, Roots::get);
        let digits = hex::encode(diff_id.as_bytes());
        format!("1-{}-{digits}-{algorithm}-{block_size}-{roots}", diff_id.algorithm())
    }

    /// The key of a record, by its name.
    fn of_file_name(name: &str) -> Option<Self> {
        let mut words = name.rsplitn(3, '-');
        let (roots, block_size, rest) = (words.next()?, words.next()?, words.next()?);
        let mut words = rest.strip_prefix("1-")?.splitn(3, '-');
        let (kind, digits, algorithm) = (words.next()?, words.next()?, words.next()?);
        let roots = match roots.parse().ok()? {
            0 => None,
            roots => Some(Roots::new(roots).ok()?),
        };
        Some(Self {
            diff_id: format!("{kind}:{digits}").parse().ok()?,
            algorithm: algorithm.parse().ok()?,
            block_size: block_size.parse().ok()?,
            roots,
        })
    }

    fn describes(&self, layer: &LayerAnnotations) -> bool {
        let found = Self {
            diff_id: layer.diff_id.clone(),
            algorithm: layer.algorithm,
            block_size: layer.block_size,
            roots: layer.fec.map(|fec| fec.roots),
        };
        // Of another layer's blob the salt is another one. It follows from a sha256, which another diffID does not tell.
        let other = self.diff_id.algorithm() != Algorithm::Sha256;
        found == *self && (other || layer.salt == Identity::of(&self.diff_id).salt)
    }
}

/// The right to make a layer: nobody else makes it, until this is dropped. It also says what was made.
#[derive(Debug)]
pub struct LayerLock<'a> {
    store: &'a Store,
    key: LayerKey,
    file: File,
    /// Its name, and the path for messages.
    name: String,
    path: PathBuf,
    record: Option<Record>,
}

/// What a layer's file says: as JSON.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Record {
    /// The paths of the directories without an entry, as hexadecimal digits.
    parents: Vec<String>,
    /// What was made: by the digests of what these directories inherit, descriptors.
    layers: BTreeMap<String, serde_json::Value>,
}

pub(super) fn lock<'a>(store: &'a Store, key: &LayerKey) -> Result<Option<LayerLock<'a>>, StoreError> {
    let name = key.file_name();
    let path = store.layers.path_of(&name);
    let failed = || StoreError::write(&path);
    loop {
        let file = store.layers.update(&name, true).map_err(|error| match error.raw_os_error() {
            Some(code) if code == Errno::LOOP.raw_os_error() => StoreError::Link { path: path.clone() },
            _ => store.layers.unwritten(&path)(error),
        })?;
        // A file with a second name may be anything elsewhere.
        let metadata = file.metadata().map_err(failed())?;
        if !metadata.is_file() || metadata.nlink() > 1 {
            return Err(StoreError::Link { path });
        }
        match file.try_lock() {
            Err(TryLockError::WouldBlock) => return Ok(None),
            // Without locks, two who make one layer at once make the same blob.
            Ok(()) | Err(TryLockError::Error(_)) => {}
        }
        // Between opening and locking another process may have failed, and removed it; a third one may have made it anew.
        if !store.layers.is_named(&name, &file) {
            continue;
        }
        // What others may have written says nothing: by it, any blob could be called the layer.
        let record =
            if is_own(&metadata) && store.distrusted().is_none() { read_record(&file) } else { None };
        return Ok(Some(LayerLock { store, key: key.clone(), file, name, path, record }));
    }
}

fn read_record(file: &File) -> Option<Record> {
    let mut text = Vec::new();
    file.take(RECORD_MAX).read_to_end(&mut text).ok()?;
    serde_json::from_slice(&text).ok()
}

impl LayerLock<'_> {
    /// The paths of the layer's directories that have no entry of their own, if it was made before.
    #[must_use]
    pub fn parents(&self) -> Option<Vec<Vec<u8>>> {
        let Record { parents, .. } = self.record.as_ref()?;
        parents.iter().map(|path| hex::decode(path).ok()).collect()
    }

    /// The blob that is the layer, with the identity that follows from its diffID, where its directories without an entry inherit this, if it is there, and its top block is what its root hash says.
    #[must_use]
    pub fn made(&self, answers: &Digest) -> Option<(Descriptor, LayerAnnotations)> {
        let descriptor = self.record.as_ref()?.layers.get(&answers.to_string())?;
        let descriptor = spec::Descriptor::deserialize(descriptor).ok()?;
        let descriptor = Descriptor::try_from(&descriptor).ok()?;
        let layer = LayerAnnotations::of(&descriptor.annotations).ok()?;
        if descriptor.media_type != LAYER_MEDIA_TYPE || !self.key.describes(&layer) {
            return None;
        }
        let (blob, size) = self.store.blob(&descriptor.digest).ok()?;
        if size != descriptor.size || layer.blob_bytes() != Ok(size) {
            return None;
        }
        holds_tree(&blob, &layer).ok()?.then_some((descriptor, layer))
    }

    /// Forgets what was made before.
    pub fn forget(&mut self) {
        self.record = None;
    }

    /// Notes which blob the layer is, beside what it is where it inherits something else.
    ///
    /// # Errors
    /// [`StoreError::Write`].
    pub fn record(mut self, inherited: &Inherited, layer: &Descriptor) -> Result<(), StoreError> {
        let failed = |error| StoreError::document(&self.path, &error);
        let layer = encode::descriptor_value(layer).map_err(failed)?;
        let parents: Vec<_> = inherited.paths.iter().map(hex::encode).collect();
        let mut record = self.record.take().unwrap_or_default();
        // Others in a record with other directories are of another tar: it was altered.
        if record.parents != parents {
            record = Record { parents, ..Record::default() };
        }
        record.layers.insert(inherited.answers.to_string(), layer);
        let text = serde_json::to_vec(&record).map_err(failed)?;
        self.record = Some(record);
        // A record that is cut off is none; its blob is on disk already.
        let written = self.file.set_len(0).and_then(|()| self.file.write_all_at(&text, 0));
        written.map_err(StoreError::write(&self.path))
    }
}

impl Drop for LayerLock<'_> {
    fn drop(&mut self) {
        if self.record.is_none() {
            // While it is locked; if this fails there is a file too many.
            self.store.layers.remove(&self.name, &self.file);
        }
    }
}

/// Whether a blob has the superblock and the top block that its annotations tell of. Two blocks are read.
fn holds_tree(blob: &File, layer: &LayerAnnotations) -> Result<bool, Box<dyn std::error::Error>> {
    let mut bytes = [0; Superblock::SIZE];
    crate::io::ReadAt::read_exact_at(blob, &mut bytes, layer.hash_offset)?;
    let superblock = Superblock::parse(&bytes)?;
    let (params, geometry) = (layer.params(), layer.geometry()?);
    let other = layer.diff_id.algorithm() != Algorithm::Sha256;
    let is_its_own = other || superblock.uuid == Identity::of(&layer.diff_id).uuid;
    if !is_its_own || (&superblock.params, superblock.data_blocks) != (&params, layer.data_blocks) {
        return Ok(false);
    }
    Ok(tree::verify_top(blob, blob, &params, &geometry, &layer.root_hash).is_ok())
}

/// Whether nobody but the user who runs this (and root) can write to it.
pub(super) fn is_own(metadata: &Metadata) -> bool {
    metadata.uid() == rustix::process::geteuid().as_raw() && metadata.mode() & 0o022 == 0
}

/// Whether a record would have this name; a file of another name is somebody else's.
fn is_record(name: &str) -> bool {
    LayerKey::of_file_name(name).is_some_and(|key| key.file_name() == name)
}

/// Removes records that killed processes have begun.
pub(super) fn remove_stale(layers: &Folder) {
    let Ok(names) = layers.names() else { return };
    for name in names.flatten() {
        if let Some(name) = name.to_str()
            && is_record(name)
            && layers.size(name) == Some(0)
            && let Ok(file) = layers.update(name, false)
        {
            remove_if_stale(layers, name, &file);
        }
    }
}

/// Removes a record that was opened, if nobody has written it nor is going to. Since then its name may have become that of another one, which somebody uses.
fn remove_if_stale(layers: &Folder, name: &str, file: &File) {
    if file.try_lock().is_ok()
        && file.metadata().is_ok_and(|metadata| metadata.is_file() && metadata.len() == 0)
    {
        layers.remove(name, file);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_that_is_in_use_stays() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("dst"), &()).unwrap();
        let diff_id = Digest::sha256(b"a tar");
        let key =
            LayerKey { diff_id, algorithm: Algorithm::Sha256, block_size: BlockSize::default(), roots: None };
        let name = key.file_name();
        drop(store.layers.update(&name, true).unwrap());
        // Opened as a stale one, which another process then removes; a third one makes the layer.
        let stale = store.layers.update(&name, false).unwrap();
        std::fs::remove_file(store.layers.path_of(&name)).unwrap();
        let used = store.lock_layer(&key).unwrap().unwrap();
        remove_if_stale(&store.layers, &name, &stale);
        assert!(store.lock_layer(&key).unwrap().is_none());
        drop(used);
        assert!(!store.layers.has(&name));
        // Nor does who has it no more take it away from who has it now.
        let lost = store.lock_layer(&key).unwrap().unwrap();
        std::fs::remove_file(store.layers.path_of(&name)).unwrap();
        let used = store.lock_layer(&key).unwrap().unwrap();
        drop(lost);
        assert!(store.layers.is_named(&name, &used.file));
    }

    #[test]
    fn a_record_that_was_begun_and_left_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("dst"), &()).unwrap();
        let name = format!("1-sha256-{}-sha256-4096-0", "0".repeat(64));
        drop(store.layers.update(&name, true).unwrap());
        std::fs::write(store.layers.path_of("1-mine"), "").unwrap();
        remove_stale(&store.layers);
        assert!(!store.layers.has(&name) && store.layers.has("1-mine"));
    }
}
