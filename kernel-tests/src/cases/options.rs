//! Every option of the table, with its effect seen.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use verity_core::device::{
    Activation, Corruption, Error, Fec, KernelVersion, Mapping, OnError, Refusal, Repairs, Table,
    TableOptions, Verdict, activate, query,
};
use verity_core::fec::Roots;
use verity_core::geometry::HashArea;
use verity_core::params::Params;

use crate::case::{Case, Ending, OwnBoot};
use crate::guest::{Context, Program, flip, pattern};

use super::image::{self, Image, Place, expect_eio, expect_refusal, expect_verdict, remove, side_by_side};

pub(super) fn cases() -> Vec<Case> {
    let own = |ending| OwnBoot { ending, ..OwnBoot::default() };
    vec![
        Case::new(
            "options/ignore-corruption",
            "a block that does not match is read, and the status tells",
            ignore_corruption,
        ),
        Case::new(
            "options/restart-on-corruption",
            "a block that does not match restarts the machine",
            |context| reaction_to_corruption(context, Corruption::Restart),
        )
        .own_boot(own(Ending::Restart)),
        Case::new("options/panic-on-corruption", "a block that does not match is a panic", |context| {
            reaction_to_corruption(context, Corruption::Panic)
        })
        .own_boot(own(Ending::Panic)),
        Case::new(
            "options/read-error",
            "a block that cannot be read is an error of that block and no corruption",
            read_error,
        ),
        Case::new(
            "options/restart-on-error",
            "a block that cannot be read restarts the machine",
            |context| reaction_to_error(context, OnError::Restart),
        )
        .since(6, 12)
        .own_boot(own(Ending::Restart)),
        Case::new("options/panic-on-error", "a block that cannot be read is a panic", |context| {
            reaction_to_error(context, OnError::Panic)
        })
        .since(6, 12)
        .own_boot(own(Ending::Panic)),
        Case::new(
            "options/on-error-refused",
            "reactions to read errors are refused on a kernel without them, which is named",
            on_error_refused,
        )
        .before(6, 12),
        Case::new(
            "options/ignore-zero-blocks",
            "a block whose digest is that of zeros is zeros, whatever is on the disk",
            ignore_zero_blocks,
        ),
        Case::new(
            "options/check-at-most-once",
            "a block that was read once is not looked at again, and without the option it is",
            check_at_most_once,
        ),
        Case::new(
            "options/try-verify-in-tasklet",
            "blocks are checked as they are without it",
            try_verify_in_tasklet,
        ),
        Case::new("options/use-fec-from-device", "a damaged block is repaired from the parity", fec),
        Case::new(
            "options/root-hash-sig-key-desc",
            "a table with a signature that no key holds is refused as such",
            signature,
        ),
        Case::new(
            "options/table",
            "every combination of options comes back from the kernel as it went in",
            every_table,
        ),
    ]
}

/// Blocks of the images here; the activation itself reads the first and the last.
const BLOCKS: u64 = 24;

/// A block that the activation does not read.
const MIDDLE: u64 = 11;

fn damaged(context: &Context) -> anyhow::Result<Image> {
    let image = Image::new(context, Params::default(), BLOCKS)?;
    flip(&image.data, MIDDLE * 4096 + 1234, 6)?;
    Ok(image)
}

fn ignore_corruption(context: &mut Context) -> anyhow::Result<()> {
    let image = damaged(context)?;
    let options = TableOptions { corruption: Corruption::Ignore, ..TableOptions::default() };
    let active = image.activate("ignoring", options.clone())?;
    ensure!(active.status.verdict == Verdict::Verified, "{} before the bad block was read", active.status);
    let read = image.read_block(&active, MIDDLE).context("reading the bad block")?;
    let mut expected = image.block(MIDDLE)?.to_vec();
    expected[1234] ^= 1 << 6;
    ensure!(read == expected, "the bad block does not read as it is on the disk");
    expect_verdict("ignoring", Verdict::Corrupted)?;
    remove("ignoring")?;

    // One that the activation itself reads: the device comes to be, and says what it is.
    flip(&image.data, 0, 0)?;
    let active = image.activate("ignoring", options)?;
    ensure!(active.status.verdict == Verdict::Corrupted, "{} after the bad block was read", active.status);
    remove("ignoring")
}

fn reaction_to_corruption(context: &mut Context, corruption: Corruption) -> anyhow::Result<()> {
    let image = damaged(context)?;
    let active = image.activate("reacting", TableOptions { corruption, ..TableOptions::default() })?;
    context.arm()?;
    wait_for_the_end(image.read_block(&active, MIDDLE))
}

/// A kernel that restarts or panics does so from another thread than the reader's.
fn wait_for_the_end(read: io::Result<Vec<u8>>) -> anyhow::Result<()> {
    thread::sleep(Duration::from_secs(60));
    bail!(
        "the kernel goes on, and the block was {}",
        read.map_or_else(|error| error.to_string(), |_| "read".into())
    )
}

/// Puts a device under the name `failing` on top of the image's data, of which one block cannot be read.
fn failing(image: &Image) -> anyhow::Result<impl Fn() -> anyhow::Result<()> + use<>> {
    let device = Program::new("losetup").words("--find --show --read-only").arg(&image.data).succeed()?;
    let device = device.stdout.trim().to_owned();
    let table = format!(
        "0 {bad} linear {device} 0\n{bad} 8 error\n{rest} {len} linear {device} {rest}\n",
        bad = MIDDLE * 8,
        rest = MIDDLE * 8 + 8,
        len = (BLOCKS - MIDDLE - 1) * 8
    );
    // Told to check udev's work, dmsetup makes the node where there is no udev.
    Program::new("dmsetup").words("create --verifyudev --readonly failing").input(table).succeed()?;
    Ok(move || {
        Program::new("dmsetup").words("remove --verifyudev failing").succeed()?;
        Program::new("losetup").arg("--detach").arg(&device).succeed()?;
        Ok(())
    })
}

fn read_error(context: &mut Context) -> anyhow::Result<()> {
    let image = Image::new(context, Params::default(), BLOCKS)?;
    let tidy = failing(&image)?;
    let mut activation = image.activation("above")?;
    activation.data = "/dev/mapper/failing".into();
    let active = activate(&activation)?;
    expect_eio(image.read_block(&active, MIDDLE), "a block that cannot be read")?;
    let read = image.read_block(&active, MIDDLE + 1).context("the block behind it")?;
    ensure!(read == image.block(MIDDLE + 1)?, "the block behind it is not what it was");
    expect_verdict("above", Verdict::Verified)?;
    remove("above")?;
    tidy()
}

fn reaction_to_error(context: &mut Context, on_error: OnError) -> anyhow::Result<()> {
    let image = Image::new(context, Params::default(), BLOCKS)?;
    let _tidy = failing(&image)?;
    let mut activation = image.activation("above")?;
    activation.data = "/dev/mapper/failing".into();
    activation.options.on_error = on_error;
    let active = activate(&activation)?;
    context.arm()?;
    wait_for_the_end(image.read_block(&active, MIDDLE))
}

fn on_error_refused(context: &mut Context) -> anyhow::Result<()> {
    let image = Image::new(context, Params::default(), BLOCKS)?;
    for on_error in [OnError::Restart, OnError::Panic] {
        let mut activation = image.activation("too-new")?;
        activation.options.on_error = on_error;
        let error = expect_refusal(&activation)?;
        let (text, running) = (error.to_string(), KernelVersion::running()?.to_string());
        let word = on_error.word().unwrap_or_default();
        ensure!(matches!(error, Error::Unsupported(_)), "{text}");
        for part in [word, "kernel 6.12", running.as_str()] {
            ensure!(text.contains(part), "no {part:?} in {text:?}");
        }
    }
    Ok(())
}

fn ignore_zero_blocks(context: &mut Context) -> anyhow::Result<()> {
    let start = usize::try_from(MIDDLE * 4096)?;
    let zeros = start..start + 4096;
    let mut bytes = pattern(usize::try_from(BLOCKS * 4096)?, 3);
    bytes[zeros.clone()].fill(0);
    let area = HashArea::with_superblock(0)?;
    // With a salt: the digest of zeros is not a constant.
    let params = Params { salt: image::salt(), ..Params::default() };
    let image = Image::build(context, params, bytes, Place::Apart(area))?;
    let mut on_disk = fs::read(&image.data)?;
    on_disk[zeros].fill(0xa5);
    fs::write(&image.data, &on_disk)?;

    let active =
        image.activate("zeros", TableOptions { ignore_zero_blocks: true, ..TableOptions::default() })?;
    image.expect_whole(&active)?;
    expect_verdict("zeros", Verdict::Verified)?;
    remove("zeros")?;

    let active = image.activate("zeros", TableOptions::default())?;
    expect_eio(image.read_block(&active, MIDDLE), "a block of zeros that was changed, without the option")?;
    remove("zeros")
}

fn check_at_most_once(context: &mut Context) -> anyhow::Result<()> {
    let image = Image::new(context, Params::default(), BLOCKS)?;
    for once in [true, false] {
        let options = TableOptions { check_at_most_once: once, ..TableOptions::default() };
        let active = image.activate("once", options)?;
        let before = image.read_block(&active, MIDDLE).context("the first time")?;
        flip(&image.data, MIDDLE * 4096, 0)?;
        // Past the cache both times: it is the disk that is read again, not memory.
        let after = image.read_block(&active, MIDDLE);
        if once {
            let after = after.context("the second time, with the option")?;
            ensure!(after[0] == before[0] ^ 1 && after[1..] == before[1..], "not what is on the disk");
            expect_verdict("once", Verdict::Verified)?;
            flip(&image.data, (MIDDLE + 1) * 4096, 0)?;
            expect_eio(image.read_block(&active, MIDDLE + 1), "a bad block at its first time")?;
            flip(&image.data, (MIDDLE + 1) * 4096, 0)?;
        } else {
            expect_eio(after, "a block that was changed since it was read, without the option")?;
        }
        expect_verdict("once", Verdict::Corrupted)?;
        remove("once")?;
        flip(&image.data, MIDDLE * 4096, 0)?;
    }
    Ok(())
}

fn try_verify_in_tasklet(context: &mut Context) -> anyhow::Result<()> {
    let image = damaged(context)?;
    let options = TableOptions { try_verify_in_tasklet: true, ..TableOptions::default() };
    let active = image.activate("tasklet", options)?;
    // The first round fills the cache of hash blocks; only then is there something to do in a tasklet.
    for round in 1..=3 {
        for index in (0..BLOCKS).filter(|&index| index != MIDDLE) {
            let read = image.read_block(&active, index).with_context(|| format!("block {index}"))?;
            ensure!(read == image.block(index)?, "block {index} is not what it was, in round {round}");
        }
    }
    expect_verdict("tasklet", Verdict::Verified)?;
    expect_eio(image.read_block(&active, MIDDLE), "a bad block")?;
    expect_verdict("tasklet", Verdict::Corrupted)?;
    remove("tasklet")
}

/// The kernel's table of an active device, and its status; fails unless device-mapper's own tool shows the same table.
fn table_of(name: &str) -> anyhow::Result<Mapping> {
    let mapping = query(&name.parse()?)?.mapping.context("no table")?;
    let shown = Program::new("dmsetup").words("table").arg(name).succeed()?.stdout;
    let shown = shown.trim_end().split_once(" verity ").context("no verity table")?.1;
    ensure!(mapping.table.to_string() == shown, "{} is not what dmsetup shows: {shown}", mapping.table);
    Ok(mapping)
}

fn fec(context: &mut Context) -> anyhow::Result<()> {
    let image = Image::new(context, Params::default(), BLOCKS)?;
    let parity = context.path("fec");
    // The same tree again, for the parity that goes with it.
    let made = Program::new("veritysetup")
        .words("format --salt=- --fec-roots=4 --fec-device")
        .args([&parity, &image.data, &context.path("hash-for-fec")])
        .succeed()?;
    ensure!(made.field("Root hash:")? == image.root.to_string(), "not the same tree: {made}");
    let fec_blocks = image.geometry.data_blocks() + image.geometry.hash_blocks();

    let mut activation = image.activation("parity")?;
    let roots = Roots::new(4)?;
    activation.fec = Some(Fec { device: parity, start_block: 0, blocks: fec_blocks, roots });
    flip(&image.data, MIDDLE * 4096 + 77, 2)?;
    let active = activate(&activation)?;
    image.expect_whole(&active)?;
    let mapping = table_of("parity")?;
    let found = mapping.table.fec().context("no parity in the kernel's table")?;
    ensure!((found.start_block, found.blocks, found.roots) == (0, fec_blocks, roots), "{}", mapping.table);
    ensure!(mapping.status.verdict == Verdict::Verified, "{}", mapping.status);
    // Linux counts repairs since 6.19.
    let counted = KernelVersion::running()? >= KernelVersion::new(6, 19, 0);
    ensure!(matches!(mapping.status.repairs, Repairs::Count(1..)) == counted, "{}", mapping.status);
    remove("parity")
}

/// The key, not the signature in it: there is none.
fn signature(context: &mut Context) -> anyhow::Result<()> {
    let image = Image::new(context, Params::default(), BLOCKS)?;
    let mut activation = image.activation("unsigned")?;
    activation.options.signature_key = Some("kernel-tests:no-such-key".parse()?);
    match expect_refusal(&activation)? {
        Error::Refused { refusal: Refusal::NoKey, .. } => Ok(()),
        other => bail!("expected the refusal of a missing key, got: {other}"),
    }
}

fn every_table(context: &mut Context) -> anyhow::Result<()> {
    let image = Image::new(context, Params { salt: image::salt(), ..Params::default() }, BLOCKS)?;
    let parity = context.sparse("fec", 64 * 4096)?;
    let blocks = image.geometry.data_blocks() + image.geometry.hash_blocks();
    let reactions: &[OnError] = if KernelVersion::running()? >= KernelVersion::new(6, 12, 0) {
        &[OnError::Fail, OnError::Restart, OnError::Panic]
    } else {
        &[OnError::Fail]
    };
    let mut tables = Vec::new();
    for corruption in [Corruption::Fail, Corruption::Ignore, Corruption::Restart, Corruption::Panic] {
        for &on_error in reactions {
            for flags in 0..16_u8 {
                let flag = |bit: u8| flags & (1 << bit) != 0;
                let mut activation = image.activation(&format!("table{}", tables.len()))?;
                activation.options = TableOptions {
                    corruption,
                    on_error,
                    ignore_zero_blocks: flag(0),
                    check_at_most_once: flag(1),
                    try_verify_in_tasklet: flag(2),
                    signature_key: None,
                };
                let fec = Fec { device: parity.clone(), start_block: 3, blocks, roots: Roots::MAX };
                activation.fec = flag(3).then_some(fec);
                tables.push(activation);
            }
        }
    }
    side_by_side(&tables, |activation| {
        let Activation { name, options, fec, .. } = activation;
        activate(activation).with_context(|| format!("{options:?}"))?;
        let table = query(name)?.mapping.context("no table")?.table;
        expect_table(&table, &image, options, fec.as_ref())?;
        remove(&name.to_string())
    })?;
    context.say(format!("{} tables", tables.len()))
}

fn expect_table(
    table: &Table,
    image: &Image,
    options: &TableOptions,
    fec: Option<&Fec<PathBuf>>,
) -> anyhow::Result<()> {
    let numbers = |fec: &Fec<_>| (fec.start_block, fec.blocks, fec.roots);
    let found = table.fec().map(|fec| (fec.start_block, fec.blocks, fec.roots));
    ensure!(table.options() == options && found == fec.map(numbers), "{options:?} {fec:?} became {table}");
    ensure!(
        table.params() == &image.params
            && table.root_hash() == &image.root
            && table.data_blocks() == image.geometry.data_blocks()
            && table.hash_start_block() == image.geometry.hash_start_block(),
        "the tree became {table}"
    );
    Ok(())
}
