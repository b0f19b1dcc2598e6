//! The two halves of a cut of the power: a repair that does not come to its end, and the next one, which has to.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use nix::mount::{MsFlags, mount, umount};

use crate::case::Case;
use crate::guest::{Context, Program};

/// What is on the disk when nothing is left to be done.
const FILES: [&str; 5] = ["data", "hash", "lost+found", "parity", "root"];

/// The repair, and what comes after the cut.
pub(crate) fn cases() -> [Case; 2] {
    [
        Case::new("power/repair", "a repair in place", repair),
        Case::new("power/finish", "the repair after a cut ends with an intact image", finish),
    ]
}

fn mounted(context: &Context) -> anyhow::Result<PathBuf> {
    let folder = context.path("disk");
    fs::create_dir(&folder).context("a folder to mount on")?;
    mount(Some("/dev/vda"), &folder, Some("ext4"), MsFlags::empty(), None::<&str>)
        .context("mounting the disk")?;
    Ok(folder)
}

fn verity(folder: &Path, words: &str) -> Program {
    Program::new("verity").words(words).folder(folder)
}

const REPAIR: &str = "repair --in-place data hash --root-hash-file root --fec-device parity --fec-roots 8";

fn repair(context: &mut Context) -> anyhow::Result<()> {
    let folder = mounted(context)?;
    context.say("the repair begins")?;
    verity(&folder, REPAIR).succeed()?;
    context.say("the repair is done")?;
    umount(&folder).context("unmounting the disk")
}

fn finish(context: &mut Context) -> anyhow::Result<()> {
    let folder = mounted(context)?;
    let before = names(&folder)?;
    let intact = verity(&folder, "verify --quiet data hash --root-hash-file root").run()?.code == Some(0);
    let left: Vec<_> = before.iter().filter(|name| !FILES.contains(&name.as_str())).cloned().collect();
    context.say(match (intact, left.is_empty()) {
        (true, true) => "nothing was left to do".to_owned(),
        (false, true) => "nothing had been written".to_owned(),
        (_, false) => format!("there was {}", left.join(", ")),
    })?;
    verity(&folder, REPAIR).succeed()?;
    verity(&folder, "verify data hash --root-hash-file root").succeed()?;
    let after = names(&folder)?;
    ensure!(after.iter().eq(FILES.iter()), "left behind: {after:?}");
    umount(&folder).context("unmounting the disk")
}

fn names(folder: &Path) -> anyhow::Result<BTreeSet<String>> {
    let entries = fs::read_dir(folder).context("looking at the disk")?;
    entries
        .map(|entry| Ok(entry.context("looking at the disk")?.file_name().to_string_lossy().into_owned()))
        .collect()
}
