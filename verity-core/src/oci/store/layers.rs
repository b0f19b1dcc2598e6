//! Which layers were made already, and who is making one now.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use oci_spec::image as spec;

use super::{Store, StoreError};
use crate::algorithm::Algorithm;
use crate::block::BlockSize;
use crate::fec::Roots;
use crate::io::WriteAt;
use crate::layer::Digest;
use crate::oci::annotations::{LAYER_MEDIA_TYPE, LayerAnnotations};
use crate::oci::descriptor::Descriptor;
use crate::oci::encode;
use crate::superblock::Superblock;
use crate::tree;

/// A record has no more bytes: it is a descriptor with nine annotations.
const RECORD_MAX: u64 = 64 * 1024;

/// What decides every byte of a layer.
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

    fn describes(&self, layer: &LayerAnnotations) -> bool {
        let found = Self {
            diff_id: layer.diff_id.clone(),
            algorithm: layer.algorithm,
            block_size: layer.block_size,
            roots: layer.fec.map(|fec| fec.roots),
        };
        found == *self
    }
}

/// How it stands with a layer.
#[derive(Debug)]
pub enum Slot {
    /// Its blob is in the layout; the descriptor has its annotations.
    Made(Box<(Descriptor, LayerAnnotations)>),
    /// Somebody else is making it just now.
    Busy,
    /// It is to be made by whoever holds this.
    Free(LayerLock),
}

/// The right to make a layer: nobody else makes it, until this is dropped.
#[derive(Debug)]
pub struct LayerLock {
    file: File,
    path: PathBuf,
    recorded: bool,
}

pub(super) fn slot(store: &Store, key: &LayerKey) -> Result<Slot, StoreError> {
    let directory = store.layers();
    let path = directory.join(key.file_name());
    let failed = || StoreError::write(&path);
    loop {
        let open = || OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
        let file = store.within(&directory, open).map_err(failed())?;
        match file.try_lock() {
            Err(TryLockError::WouldBlock) => return Ok(Slot::Busy),
            // Without locks, two who make one layer at once make the same blob.
            Ok(()) | Err(TryLockError::Error(_)) => {}
        }
        // Between opening and locking another process may have failed, and removed it.
        if file.metadata().map_err(failed())?.nlink() == 0 {
            continue;
        }
        if let Some(made) = read_record(store, key, &file) {
            return Ok(Slot::Made(Box::new(made)));
        }
        file.set_len(0).map_err(failed())?;
        return Ok(Slot::Free(LayerLock { file, path, recorded: false }));
    }
}

impl LayerLock {
    /// Notes which blob the layer is.
    ///
    /// # Errors
    /// [`StoreError::Write`].
    pub fn record(mut self, layer: &Descriptor) -> Result<(), StoreError> {
        let text = encode::descriptor(layer).map_err(|error| StoreError::document(&self.path, error))?;
        // A record that is cut off is none; its blob is on disk already.
        self.file.write_all_at(text.as_bytes(), 0).map_err(StoreError::write(&self.path))?;
        self.recorded = true;
        Ok(())
    }
}

impl Drop for LayerLock {
    fn drop(&mut self) {
        if !self.recorded {
            // While it is locked; if this fails there is an empty file too many.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// What a record says, if that is so: the blob is there, and its top block is what the root hash says.
fn read_record(store: &Store, key: &LayerKey, file: &File) -> Option<(Descriptor, LayerAnnotations)> {
    let mut text = Vec::new();
    file.take(RECORD_MAX).read_to_end(&mut text).ok()?;
    let descriptor: spec::Descriptor = serde_json::from_slice(&text).ok()?;
    let descriptor = Descriptor::try_from(&descriptor).ok()?;
    let layer = LayerAnnotations::of(&descriptor.annotations).ok()?;
    if descriptor.media_type != LAYER_MEDIA_TYPE || !key.describes(&layer) {
        return None;
    }
    let blob = File::open(store.blob_path(&descriptor.digest)).ok()?;
    let size = blob.metadata().ok().filter(fs::Metadata::is_file)?.len();
    if size != descriptor.size || layer.blob_bytes() != Ok(size) {
        return None;
    }
    holds_tree(&blob, &layer).ok()?.then_some((descriptor, layer))
}

/// Whether a blob has the superblock and the top block that its annotations tell of. Two blocks are read.
fn holds_tree(blob: &File, layer: &LayerAnnotations) -> Result<bool, Box<dyn std::error::Error>> {
    let mut bytes = [0; Superblock::SIZE];
    crate::io::ReadAt::read_exact_at(blob, &mut bytes, layer.hash_offset)?;
    let superblock = Superblock::parse(&bytes)?;
    let (params, geometry) = (layer.params(), layer.geometry()?);
    if (&superblock.params, superblock.data_blocks) != (&params, layer.data_blocks) {
        return Ok(false);
    }
    Ok(tree::verify_top(blob, blob, &params, &geometry, &layer.root_hash).is_ok())
}

/// Removes records that killed processes have begun.
pub(super) fn remove_stale(layers: &Path) {
    let Ok(entries) = fs::read_dir(layers) else { return };
    for entry in entries.flatten() {
        let empty = entry.metadata().is_ok_and(|metadata| metadata.is_file() && metadata.len() == 0);
        if empty
            && let Ok(file) = OpenOptions::new().write(true).open(entry.path())
            && file.try_lock().is_ok()
            && file.metadata().is_ok_and(|metadata| metadata.len() == 0)
        {
            let _ = fs::remove_file(entry.path());
        }
    }
}
