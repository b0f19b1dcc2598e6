//! Where the benchmark's files are: made when they are needed, removed when it ends, however it ends.

use std::cell::OnceCell;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};
use nix::sys::statfs::{TMPFS_MAGIC, statfs};
use tempfile::TempDir;

use crate::machine::meminfo;
use crate::noise;
use crate::stop::{Result, Stop};
use crate::units::{MIB, size};

/// A folder of the benchmark's own within one that is there.
pub(crate) struct Workspace {
    parent: PathBuf,
    folder: OnceCell<TempDir>,
    noise: OnceCell<PathBuf>,
    noise_bytes: u64,
}

impl Workspace {
    /// Makes nothing yet. `noise_bytes` is the size of its file of noise.
    pub(crate) fn new(parent: PathBuf, noise_bytes: u64) -> Self {
        Self { parent, folder: OnceCell::new(), noise: OnceCell::new(), noise_bytes }
    }

    fn path(&self) -> Result<&Path> {
        if let Some(folder) = self.folder.get() {
            return Ok(folder.path());
        }
        let made = tempfile::Builder::new()
            .prefix("verity-bench-")
            .tempdir_in(&self.parent)
            .map_err(|error| Stop::failed(format_args!("a folder in {:?}: {error}", self.parent)))?;
        Ok(self.folder.get_or_init(|| made).path())
    }

    /// A folder for one case's files, which goes when it is dropped.
    pub(crate) fn scratch(&self) -> Result<Scratch> {
        Ok(Scratch(tempfile::tempdir_in(self.path()?)?))
    }

    /// The file of noise that the cases share.
    pub(crate) fn noise(&self) -> Result<&Path> {
        if let Some(path) = self.noise.get() {
            return Ok(path);
        }
        // Beside the data, the largest case keeps a handful of trees of less than a hundredth each.
        self.require(self.noise_bytes + self.noise_bytes / 16)?;
        let path = self.path()?.join("noise");
        noise::write_file(&path, self.noise_bytes / MIB)?;
        Ok(self.noise.get_or_init(|| path))
    }

    /// Skips the case unless there is room for so many bytes.
    pub(crate) fn require(&self, bytes: u64) -> Result<()> {
        let system = statfs(self.path()?)?;
        let block = u64::try_from(system.block_size()).unwrap_or(0);
        let mut free = system.blocks_available().saturating_mul(block);
        if system.filesystem_type() == TMPFS_MAGIC {
            // What a tmpfs may hold says nothing about how much memory is left.
            free = free.min(meminfo("MemAvailable")?);
        }
        if free >= bytes {
            return Ok(());
        }
        Err(Stop::skipped(format_args!(
            "needs {} MiB of room, has {}",
            bytes.div_ceil(MIB),
            size(free / MIB * MIB)
        )))
    }

    /// Whether reading from here can be reading from a disk.
    pub(crate) fn is_memory(&self) -> Result<bool> {
        Ok(statfs(self.path()?)?.filesystem_type() == TMPFS_MAGIC)
    }
}

/// One case's files.
pub(crate) struct Scratch(TempDir);

impl Scratch {
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// A file that is one hole.
    pub(crate) fn hole(&self, bytes: u64) -> Result<PathBuf> {
        let path = self.path("holes");
        File::create_new(&path)?
            .set_len(bytes)
            .map_err(|error| Stop::skipped(format_args!("no file of {} here: {error}", size(bytes))))?;
        Ok(path)
    }
}

/// Removes a file that a run before this one may have left, so that each starts from the same.
pub(crate) fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
        _ => Ok(()),
    }
}

/// Takes a file out of the page cache. It must not have been written since it was last synced.
pub(crate) fn forget(path: &Path) -> Result<()> {
    let file = File::open(path)?;
    posix_fadvise(&file, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED)?;
    Ok(())
}
