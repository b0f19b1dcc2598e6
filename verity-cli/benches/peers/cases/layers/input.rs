//! The layers that are built.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use verity_core::layer::tar::{EntryKind, Reader, Writer};

use super::Compression;
use crate::cases::Bench;
use crate::programs::hex;
use crate::stop::{Result, Stop};
use crate::workspace::Scratch;

/// A layer in memory.
pub(super) struct Input {
    pub(super) path: PathBuf,
    /// Of the uncompressed tar.
    pub(super) diff_id: String,
    pub(super) tar_bytes: u64,
    /// How many entries the tar has.
    pub(super) entries: u64,
    /// The layer goes when it is not used any more.
    _scratch: Scratch,
}

/// What `./x bench-layers` made.
pub(super) fn made(name: &str) -> Result<PathBuf> {
    let cache = std::env::var_os("VERITY_CACHE").map(PathBuf::from);
    let path = cache.map(|cache| cache.join("bench").join(name)).filter(|path| path.exists());
    path.ok_or_else(|| Stop::skipped("needs what ./x bench-layers makes, and to be started by ./x bench"))
}

impl Input {
    pub(super) fn find(bench: &Bench, compression: Compression) -> Result<Self> {
        let tar = made(Compression::None.file())?;
        let source = made(compression.file())?;
        let scratch = bench.memory.scratch()?;
        bench.memory.require(fs::metadata(&source)?.len())?;
        let path = scratch.path("input");
        io::copy(&mut File::open(source)?, &mut File::create_new(&path)?)?;
        // Read from where it lies: nothing but its digest and its entries are needed.
        let mut counted = Digested { source: File::open(&tar)?, digest: Sha256::new(), bytes: 0 };
        let mut reader = Reader::new(&mut counted);
        let mut entries = 0;
        while reader.next_entry().map_err(Stop::failed)?.is_some() {
            entries += 1;
        }
        drop(reader);
        io::copy(&mut counted, &mut io::sink())?;
        let Digested { digest, bytes, .. } = counted;
        let diff_id = format!("sha256:{}", hex(&digest.finalize()));
        Ok(Self { path, diff_id, tar_bytes: bytes, entries, _scratch: scratch })
    }
}

struct Digested<R> {
    source: R,
    digest: Sha256,
    bytes: u64,
}

impl<R: Read> Read for Digested<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.source.read(buffer)?;
        self.digest.update(&buffer[..count]);
        self.bytes += count as u64;
        Ok(count)
    }
}

/// Layers of some `bytes` each from the regular files of a large one, compressed with gzip, and their diffIDs.
pub(super) fn parts(
    input: &Input,
    scratch: &Scratch,
    count: usize,
    bytes: u64,
) -> Result<Vec<(PathBuf, String)>> {
    let mut reader = Reader::new(io::BufReader::with_capacity(1 << 20, File::open(&input.path)?));
    let mut parts = Vec::new();
    for number in 0..count {
        let mut tar = Writer::new(Vec::new());
        let mut taken = 0;
        while taken < bytes {
            let Some(entry) = reader.next_entry().map_err(Stop::failed)? else { break };
            // A link may lead to another part's file.
            if let EntryKind::File { size, .. } = entry.kind {
                tar.add(&entry.path, &entry.attributes, &entry.kind, &mut reader.content())
                    .map_err(Stop::failed)?;
                taken += size;
            }
        }
        if taken == 0 {
            return Err(Stop::failed("the layer is too small for so many parts"));
        }
        let tar = tar.finish().map_err(Stop::failed)?;
        let path = scratch.path(&format!("part-{number}"));
        write_gzip(&path, &tar)?;
        parts.push((path, format!("sha256:{}", hex(&Sha256::digest(&tar)))));
    }
    Ok(parts)
}

fn write_gzip(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut gzip = flate2::write::GzEncoder::new(File::create_new(path)?, flate2::Compression::default());
    gzip.write_all(bytes)?;
    gzip.finish()?;
    Ok(())
}
