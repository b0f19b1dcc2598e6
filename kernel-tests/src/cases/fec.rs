//! Error correction: what the kernel restores, and that the library's verdict on a damage is the kernel's.

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context as _, bail, ensure};
use nix::libc::EIO;
use verity_core::block::RootHash;
use verity_core::device::{Activation, Check, Fec, Repairs, activate, query};
use verity_core::fec::{self, Layout, Roots};
use verity_core::geometry::{Geometry, HashArea};
use verity_core::io::MemoryDevice;
use verity_core::params::Params;
use verity_core::repair::{self, repair};
use verity_core::tree::Options;

use crate::case::{Body, Case, version_of};
use crate::guest::{Context, pattern, read_direct};

use super::image::{block_sizes, remove, side_by_side};

/// Random damages for each number of roots and each kernel on whose verdict kernel and library agree: on three kernels, 504 in all.
const DAMAGES: usize = 42;

/// Random damages that are tried for that, others on each kernel. In some repair can do more than the kernel.
const TRIED: u64 = 50;

/// Two rounds of codewords with any number of roots, and a tree of three levels.
const BLOCKS: u64 = 300;

pub(super) fn cases() -> Vec<Case> {
    let restored: [(u64, Body); 4] = [
        (2, |context| restores(context, 2)),
        (3, |context| restores(context, 3)),
        (13, |context| restores(context, 13)),
        (24, |context| restores(context, 24)),
    ];
    let agree: [(u64, Body); 4] = [
        (2, |context| agrees(context, 2)),
        (3, |context| agrees(context, 3)),
        (13, |context| agrees(context, 13)),
        (24, |context| agrees(context, 24)),
    ];
    let restored = restored.into_iter().map(|(roots, body)| {
        let claim =
            format!("with {roots} roots the kernel restores damage in data, tree and parity, and counts it");
        Case::new(format!("fec/restores-{roots}"), claim, body)
    });
    let agree = agree.into_iter().map(|(roots, body)| {
        let claim =
            format!("of {DAMAGES} random damages with {roots} roots the kernel and repair restore the same");
        Case::new(format!("fec/agrees-{roots}"), claim, body).limit(400)
    });
    restored.chain(agree).collect()
}

/// The three devices of an image, in memory.
#[derive(Clone, PartialEq, Eq)]
struct Devices {
    data: Vec<u8>,
    hash: Vec<u8>,
    parity: Vec<u8>,
}

/// Where a block is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Data(u64),
    /// Counted from the tree's first block on.
    Hash(u64),
    Parity(u64),
}

/// An image with its parity, and all that is needed to use it.
struct Protected {
    whole: Devices,
    params: Params,
    geometry: Geometry,
    layout: Layout,
    root: RootHash,
}

/// What the kernel did with a damaged image.
#[derive(Debug, PartialEq, Eq)]
struct Kernel {
    /// Whether every block could be read, and was right.
    restored: bool,
    /// The kernel's own count, since 6.19.
    repairs: Repairs,
}

impl Protected {
    fn new(block_size: u32, roots: u64, seed: u64) -> anyhow::Result<Self> {
        let params = block_sizes(block_size, block_size)?;
        let data = pattern(usize::try_from(BLOCKS)? * params.data_block_size.bytes(), seed);
        // Without a superblock, so that every block of the hash device is covered.
        let geometry = Geometry::new(&params, BLOCKS, HashArea::bare(0))?;
        let layout = Layout::new(&params, &geometry, geometry.hash_blocks(), Roots::new(roots)?, 0)?;
        let (hash, parity) = (MemoryDevice::default(), MemoryDevice::default());
        let root = fec::build(&data, &hash, &parity, &params, &geometry, &layout, &Options::default())?;
        let whole = Devices { data, hash: hash.into_bytes(), parity: parity.into_bytes() };
        Ok(Self { whole, params, geometry, layout, root })
    }

    fn block_size(&self) -> usize {
        self.params.data_block_size.bytes()
    }

    /// The block's bytes.
    fn block<'a>(&self, devices: &'a mut Devices, place: Place) -> anyhow::Result<&'a mut [u8]> {
        let (device, index) = match place {
            Place::Data(index) => (&mut devices.data, index),
            Place::Hash(index) => (&mut devices.hash, index),
            Place::Parity(index) => (&mut devices.parity, index),
        };
        let start = usize::try_from(index)? * self.block_size();
        device.get_mut(start..start + self.block_size()).with_context(|| format!("there is no {place:?}"))
    }

    /// The image with every byte of these blocks changed; of a block of parity, which is part of many codewords in all
    /// of their parity, the first one.
    fn without(&self, places: &[Place]) -> anyhow::Result<Devices> {
        let mut damaged = self.whole.clone();
        for place in places {
            let bytes = if matches!(place, Place::Parity(_)) { 1 } else { self.block_size() };
            self.block(&mut damaged, *place)?.iter_mut().take(bytes).for_each(|byte| *byte ^= 0xa5);
        }
        Ok(damaged)
    }

    /// Whether the library restores everything.
    fn repaired(&self, damaged: &Devices) -> anyhow::Result<bool> {
        let Devices { data, hash, parity } = damaged.clone();
        let (data, hash) = (MemoryDevice::new(data), MemoryDevice::new(hash));
        let image = repair::Image {
            data: &data,
            hash: &hash,
            parity: &parity,
            params: &self.params,
            geometry: &self.geometry,
            layout: &self.layout,
            root: &self.root,
        };
        let complete = repair(&image, &Options::default())?.is_complete();
        let whole = data.into_bytes() == self.whole.data && hash.into_bytes() == self.whole.hash;
        ensure!(complete == whole, "the library says {complete}, but {whole} is true");
        Ok(complete)
    }

    /// Puts the devices into files, activates them as `name`, and reads everything.
    fn in_kernel(&self, context: &Context, name: &str, devices: &Devices) -> anyhow::Result<Kernel> {
        let file = |what: &str, bytes: &[u8]| -> anyhow::Result<PathBuf> {
            let path = context.path(&format!("{name}.{what}"));
            fs::write(&path, bytes).with_context(|| path.display().to_string())?;
            Ok(path)
        };
        let files =
            [file("data", &devices.data)?, file("hash", &devices.hash)?, file("parity", &devices.parity)?];
        let [data, hash, parity] = &files;
        let (params, geometry) = (self.params.clone(), self.geometry.clone());
        let mut activation = Activation::new(name.parse()?, data, hash, params, geometry, self.root);
        // The kernel alone is asked.
        activation.check = Check::None;
        activation.fec = Some(Fec {
            device: parity.clone(),
            start_block: 0,
            blocks: self.layout.covered_blocks(),
            roots: self.layout.roots(),
        });
        let active = activate(&activation).with_context(|| format!("activating {name}"))?;
        let read = read_direct(&active.node, 0, self.whole.data.len());
        let status = query(&name.parse()?)?.mapping.context("no table")?.status;
        remove(name)?;
        for file in files {
            fs::remove_file(&file).with_context(|| file.display().to_string())?;
        }
        let restored = match read {
            Ok(bytes) if bytes == self.whole.data => true,
            Ok(_) => bail!("{name}: the kernel let bytes through that are not the image's"),
            Err(error) if error.raw_os_error() == Some(EIO) => false,
            Err(error) => return Err(error).context("reading the device"),
        };
        Ok(Kernel { restored, repairs: status.repairs })
    }
}

/// Whole blocks, as many as can be restored and one more.
fn restores(context: &mut Context, roots: u64) -> anyhow::Result<()> {
    let image = Protected::new(4096, roots, roots)?;
    let rounds = image.layout.rounds();
    ensure!(rounds >= 2, "one round only");
    // Blocks of one codeword, of which as many as there are roots can be restored.
    let in_one_codeword =
        |count: u64| (0..count).map(|row| Place::Data(1 + row * rounds)).collect::<Vec<_>>();
    let mut damages = vec![
        ("one data block", vec![Place::Data(7)], true),
        ("the first and the last data block", vec![Place::Data(0), Place::Data(BLOCKS - 1)], true),
        ("as many data blocks as there are roots", in_one_codeword(roots), true),
        ("one data block more", in_one_codeword(roots + 1), false),
        ("the top of the tree", vec![Place::Hash(0)], true),
        ("a leaf of the tree", vec![Place::Hash(2)], true),
        ("parity, which nobody needs", vec![Place::Parity(0)], true),
    ];
    if roots > 2 {
        // A block whose place is known counts as one, one whose place is not as two.
        damages.push(("parity and a data block", vec![Place::Parity(0), Place::Data(0)], true));
    }
    if roots > 3 {
        // The kernel does not look for bad places in the tree.
        let places = vec![Place::Hash(1), Place::Data(3)];
        damages.push(("a leaf of the tree and a data block below", places, true));
    }
    for (what, places, restored) in damages {
        let damaged = image.without(&places)?;
        let kernel = image.in_kernel(context, "restores", &damaged).context(what)?;
        ensure!(kernel.restored == restored, "{what}: the kernel restored it: {}", kernel.restored);
        ensure!(image.repaired(&damaged)? == restored, "{what}: the library does not agree");
        let needed = places.iter().any(|place| !matches!(place, Place::Parity(_)));
        match kernel.repairs {
            // Before 6.19 it does not count.
            Repairs::Unknown => {}
            Repairs::Count(count) if restored => ensure!((count > 0) == needed, "{what}: {count} repairs"),
            Repairs::Count(_) => {}
            Repairs::None => bail!("{what}: the kernel says that it corrects no errors"),
        }
    }
    Ok(())
}

/// Numbers that depend on the seed alone: splitmix64.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut number = self.0;
        number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (number ^ (number >> 31)) % end
    }
}

/// Damages some blocks, most of them of one codeword: whole, in some bytes, or in one bit. Returns what was damaged.
fn damage(image: &Protected, devices: &mut Devices, numbers: &mut Numbers) -> anyhow::Result<Vec<Place>> {
    let roots = image.layout.roots().get() as u64;
    let rounds = image.layout.rounds();
    let round = numbers.below(rounds);
    let hash_blocks = image.geometry.hash_blocks();
    let parity_blocks = rounds * roots;
    let mut places = Vec::new();
    for _ in 0..=numbers.below(roots + 3) {
        let place = match numbers.below(20) {
            0 => Place::Hash(numbers.below(hash_blocks)),
            1 => Place::Parity(numbers.below(parity_blocks)),
            2..5 => Place::Data(numbers.below(BLOCKS)),
            _ => Place::Data((round + numbers.below(BLOCKS / rounds) * rounds).min(BLOCKS - 1)),
        };
        if places.contains(&place) {
            continue;
        }
        places.push(place);
        let block = image.block(devices, place)?;
        let size = block.len() as u64;
        match numbers.below(3) {
            0 => block.iter_mut().for_each(|byte| *byte ^= 0x5a),
            1 => {
                for _ in 0..=numbers.below(8) {
                    // Never back to what it was: the bits are those that no other round of this sets.
                    block[usize::try_from(numbers.below(size))?] |= 0x80;
                    block[usize::try_from(numbers.below(size))?] ^= 0x01;
                }
            }
            _ => block[usize::try_from(numbers.below(size))?] ^= 1 << numbers.below(8),
        }
    }
    Ok(places)
}

/// The kernel keeps nothing of what it restored, gives a block up with the first codeword that it cannot correct, and looks for bad places
/// among data blocks only. So repair can do more; it must never do less.
fn agrees(context: &mut Context, roots: u64) -> anyhow::Result<()> {
    let image = Protected::new(512, roots, 100 + roots)?;
    let [both, neither, more] = [const { AtomicUsize::new(0) }; 3];
    let context = &*context;
    let release = nix::sys::utsname::uname().context("uname")?.release().to_string_lossy().into_owned();
    let (major, minor) = version_of(&release).unwrap_or_default();
    let first = roots << 32 | u64::from(major) << 24 | u64::from(minor) << 16;
    let seeds: Vec<u64> = (first..first + TRIED).collect();
    side_by_side(&seeds, |&seed| {
        let mut damaged = image.whole.clone();
        let places = damage(&image, &mut damaged, &mut Numbers(seed))?;
        let what = || format!("seed {seed:#x}, damaged: {places:?}");
        let kernel = image.in_kernel(context, &format!("agrees-{seed:x}"), &damaged).with_context(what)?;
        match (kernel.restored, image.repaired(&damaged).with_context(what)?) {
            (true, true) => both.fetch_add(1, Ordering::Relaxed),
            (false, false) => neither.fetch_add(1, Ordering::Relaxed),
            (false, true) => more.fetch_add(1, Ordering::Relaxed),
            (true, false) => bail!("{}: the kernel restored it, repair did not", what()),
        };
        Ok(())
    })?;
    let [both, neither, more] = [both, neither, more].map(AtomicUsize::into_inner);
    context.say(format!(
        "{roots} roots: {both} restored by both, {neither} by neither, {more} by repair alone"
    ))?;
    ensure!(both > 0 && neither > 0, "{both} were restored, {neither} were not: no test of a verdict");
    ensure!(both + neither >= DAMAGES, "{more} of {TRIED} were restored by repair alone");
    Ok(())
}
