//! Damage: what the kernel refuses, and that it refuses no more than that.

use std::fs::{self, File};
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use anyhow::{Context as _, bail, ensure};
use nix::libc::EIO;
use verity_core::algorithm::Algorithm;
use verity_core::block::RootHash;
use verity_core::device::{Active, Check, Error, TableOptions, Verdict, activate};
use verity_core::params::{HashType, Params};
use verity_core::tree;

use crate::case::{Case, OwnBoot};
use crate::guest::{Context, flip, loop_devices, read_all, read_direct};

use super::image::{Image, block_sizes, expect_eio, expect_refusal, expect_verdict, remove};

pub(super) fn cases() -> Vec<Case> {
    vec![
        Case::new(
            "corruption/every-level",
            "a flipped bit makes exactly those blocks unreadable that are below it, whatever level it is in",
            every_level,
        ),
        Case::new(
            "corruption/at-activation",
            "damage to the first or last block, or above it, refuses the activation and leaves nothing",
            at_activation,
        ),
        Case::new("corruption/every-byte", "a flipped bit in any byte of a block is seen", every_byte),
        Case::new(
            "corruption/single-block",
            "an image of one block, which has no tree, is protected",
            single_block,
        ),
        Case::new(
            "corruption/page-cache",
            "through the page cache too a block reads as it was or not at all",
            page_cache,
        ),
        Case::new("corruption/wrong-root", "a root hash that is another tree's is refused", wrong_root),
        Case::new(
            "corruption/unchecked",
            "without checks a wrong root hash gives a device of which no block is read",
            unchecked,
        ),
        Case::new(
            "corruption/disk",
            "what a thief changes on a disk in use is refused when it is read next",
            disk,
        )
        .own_boot(OwnBoot { disks_mib: &[1, 1], ..OwnBoot::default() }),
    ]
}

/// Three levels: 16 digests a block, so 38 leaf blocks, 3 above them, and the top block.
const BLOCKS: u64 = 600;

fn three_levels(context: &Context, hash_type: HashType) -> anyhow::Result<Image> {
    // SHA-1 in type 0 leaves the last 192 bytes of each hash block unused: the kernel must check those too.
    let params = Params { hash_type, algorithm: Algorithm::Sha1, ..block_sizes(1024, 512)? };
    let image = Image::new(context, params, BLOCKS)?;
    let levels: Vec<_> = image.geometry.levels().iter().map(|level| level.blocks).collect();
    ensure!(levels == [38, 3, 1], "the levels have {levels:?} blocks");
    Ok(image)
}

/// A place on one of an image's files.
struct Damage<'a> {
    what: &'static str,
    file: &'a Path,
    offset: u64,
}

impl Damage<'_> {
    fn inflict(&self) -> anyhow::Result<()> {
        flip(self.file, self.offset, 4)
    }

    /// A bit that is flipped twice is as it was.
    fn undo(&self) -> anyhow::Result<()> {
        self.inflict()
    }
}

impl Image {
    fn data_damage(&self, what: &'static str, block: u64) -> Damage<'_> {
        let offset = block * self.params.data_block_size.as_u64();
        Damage { what, file: &self.data, offset }
    }

    /// In the last byte of a block, which no digest reaches where digests are packed.
    fn hash_damage(&self, what: &'static str, level: usize, block: u64) -> Damage<'_> {
        let offset = self.geometry.hash_block_offset(level, block + 1) - 1;
        Damage { what, file: &self.hash, offset }
    }

    /// Fails unless these blocks are refused and all others read as they were.
    fn expect_bad(&self, active: &Active, bad: Range<u64>, what: &str) -> anyhow::Result<()> {
        for good in [0..bad.start, bad.end..self.geometry.data_blocks()] {
            let size = self.params.data_block_size.as_u64();
            let bytes = usize::try_from(good.start * size)?..usize::try_from(good.end * size)?;
            let read = read_direct(&active.node, good.start * size, bytes.len())
                .with_context(|| format!("{what}: reading blocks {good:?}"))?;
            ensure!(read == self.bytes[bytes], "{what}: blocks {good:?} are not what they were");
        }
        // Its edges, and enough between them: each refusal is slow.
        let (first, last) = (bad.start, bad.end - 1);
        for block in bad.filter(|block| block % 9 == 0 || [first, last].contains(block)) {
            expect_eio(self.read_block(active, block), &format!("block {block} with {what}"))?;
        }
        Ok(())
    }
}

fn every_level(context: &mut Context) -> anyhow::Result<()> {
    for hash_type in [HashType::Normal, HashType::ChromeOs] {
        let image = three_levels(context, hash_type)?;
        for (damage, bad) in [
            (image.data_damage("a bad data block", 137), 137..138),
            (image.hash_damage("a bad leaf block", 0, 7), 112..128),
            (image.hash_damage("a bad block between leaf and top", 1, 1), 256..512),
        ] {
            damage.inflict()?;
            let active = image.activate("damaged", TableOptions::default()).context(damage.what)?;
            expect_verdict("damaged", Verdict::Verified)?;
            image.expect_bad(&active, bad, damage.what)?;
            expect_verdict("damaged", Verdict::Corrupted)?;
            remove("damaged")?;
            damage.undo()?;
        }
        // The kernel keeps the top block that it has read; this one it has not.
        let damage = image.hash_damage("a bad top block", 2, 0);
        damage.inflict()?;
        let mut activation = image.activation("damaged")?;
        activation.check = Check::None;
        let active = activate(&activation).context(damage.what)?;
        image.expect_bad(&active, 0..BLOCKS, damage.what)?;
        expect_verdict("damaged", Verdict::Corrupted)?;
        remove("damaged")?;
        damage.undo()?;

        let active = image.activate("damaged", TableOptions::default()).context("repaired")?;
        image.expect_whole(&active).context("repaired")?;
        remove("damaged")?;
    }
    Ok(())
}

fn at_activation(context: &mut Context) -> anyhow::Result<()> {
    let image = three_levels(context, HashType::Normal)?;
    let last = BLOCKS - 1;
    for (damage, bad) in [
        (image.data_damage("a bad first block", 0), 0),
        (image.data_damage("a bad last block", last), last),
        (image.hash_damage("a bad first leaf block", 0, 0), 0),
        (image.hash_damage("a bad last leaf block", 0, 37), last),
        (image.hash_damage("a bad block above the first leaf blocks", 1, 0), 0),
        (image.hash_damage("a bad block above the last leaf blocks", 1, 2), last),
    ] {
        damage.inflict()?;
        match expect_refusal(&image.activation("refused")?).context(damage.what)? {
            Error::Corrupted { block: Some(block), .. } if block == bad => {}
            other => bail!("{}: expected block {bad} to be named, got: {other}", damage.what),
        }
        damage.undo()?;
    }
    let damage = image.hash_damage("a bad top block", 2, 0);
    damage.inflict()?;
    match expect_refusal(&image.activation("refused")?)? {
        Error::Tree(tree::Error::RootHash { expected, .. }) if expected == image.root => {}
        other => bail!("{}: expected the root hash to be refused, got: {other}", damage.what),
    }
    damage.undo()?;
    let active = image.activate("refused", TableOptions::default()).context("repaired")?;
    image.expect_whole(&active)?;
    remove("refused")
}

fn every_byte(context: &mut Context) -> anyhow::Result<()> {
    let image = Image::new(context, block_sizes(512, 512)?, 3)?;
    let active = image.activate("bytes", TableOptions::default())?;
    for byte in 512..1024 {
        let bit = u8::try_from(byte % 8)?;
        flip(&image.data, byte, bit)?;
        expect_eio(image.read_block(&active, 1), &format!("a block with bit {bit} of byte {byte} flipped"))?;
        flip(&image.data, byte, bit)?;
    }
    image.expect_whole(&active).context("after each bit was flipped back")?;
    remove("bytes")
}

fn single_block(context: &mut Context) -> anyhow::Result<()> {
    let image = Image::new(context, Params::default(), 1)?;
    ensure!(image.geometry.hash_blocks() == 0, "a tree over one block");
    let active = image.activate("single", TableOptions::default())?;
    image.expect_whole(&active)?;
    flip(&image.data, 4095, 7)?;
    expect_eio(image.read_block(&active, 0), "a bad block")?;
    expect_verdict("single", Verdict::Corrupted)?;
    remove("single")?;
    match expect_refusal(&image.activation("single")?)? {
        Error::Tree(tree::Error::RootHash { .. }) => Ok(()),
        other => bail!("expected the root hash to be refused, got: {other}"),
    }
}

fn page_cache(context: &mut Context) -> anyhow::Result<()> {
    const BAD: u64 = 40;
    let image = Image::new(context, Params::default(), 64)?;
    image.data_damage("a bad data block", BAD).inflict()?;
    let active = image.activate("cached", TableOptions::default())?;
    let file = File::open(&active.node).context("opening the device")?;
    let mut refused = Vec::new();
    for index in 0..64 {
        let mut block = vec![0; 4096];
        match file.read_exact_at(&mut block, index * 4096) {
            Ok(()) => ensure!(block == image.block(index)?, "block {index} is not what it was"),
            Err(error) if error.raw_os_error() == Some(EIO) => refused.push(index),
            Err(error) => bail!("reading block {index}: {error}"),
        }
    }
    drop(file);
    // Newer kernels cache many blocks in one piece, of which then no block can be read. The pieces are of 2^n blocks.
    ensure!(refused.contains(&BAD) && refused.iter().all(|block| (32..64).contains(block)), "{refused:?}");
    context.say(format!("blocks refused beside the bad one: {}", refused.len() - 1))?;
    expect_eio(read_all(&active.node), "a device with a bad block")?;
    remove("cached")
}

fn wrong_root(context: &mut Context) -> anyhow::Result<()> {
    let image = Image::new(context, Params::default(), 16)?;
    let mut digest = image.root.as_bytes().to_vec();
    digest[31] ^= 1;
    let mut activation = image.activation("wrong")?;
    activation.root_hash = RootHash::new(Algorithm::Sha256, &digest)?;
    match expect_refusal(&activation)? {
        Error::Tree(tree::Error::RootHash { found, .. }) if found == image.root => {}
        other => bail!("expected the root hash to be refused, got: {other}"),
    }
    activation.root_hash = RootHash::new(Algorithm::Sha1, &digest[..20])?;
    match expect_refusal(&activation)? {
        Error::Tree(tree::Error::RootHashSize { expected: 32, found: 20 }) => Ok(()),
        other => bail!("expected the root hash's size to be refused, got: {other}"),
    }
}

fn unchecked(context: &mut Context) -> anyhow::Result<()> {
    let image = Image::new(context, Params::default(), 16)?;
    let mut activation = image.activation("unchecked")?;
    activation.root_hash = RootHash::new(Algorithm::Sha256, &[0x5a; 32])?;
    activation.check = Check::None;
    let active = activate(&activation)?;
    ensure!(active.status.verdict == Verdict::Verified, "{} before a block was read", active.status);
    image.expect_bad(&active, 0..16, "a wrong root hash")?;
    expect_verdict("unchecked", Verdict::Corrupted)?;
    remove("unchecked")
}

fn disk(context: &mut Context) -> anyhow::Result<()> {
    let image = Image::new(context, Params::default(), 256)?;
    let [data, hash] = ["/dev/vda", "/dev/vdb"].map(Path::new);
    for (file, disk) in [(&image.data, data), (&image.hash, hash)] {
        let disk = File::options().write(true).open(disk).with_context(|| disk.display().to_string())?;
        disk.write_all_at(&fs::read(file)?, 0).context("writing to a disk")?;
        disk.sync_all().context("writing to a disk")?;
    }
    let mut activation = image.activation("disk")?;
    activation.data = data.into();
    activation.hash = hash.into();
    let active = activate(&activation)?;
    let loops = loop_devices()?;
    ensure!(loops.is_empty(), "disks need no loop devices, found {loops:?}");
    image.expect_whole(&active)?;
    context.flip_on_disk(0, 99 * 4096 + 1000)?;
    image.expect_bad(&active, 99..100, "a bit flipped on the disk")?;
    expect_verdict("disk", Verdict::Corrupted)?;
    remove("disk")
}
