//! udev for the guests, from the cache: its program, and the rules that a device-mapper device needs.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, bail};

use super::initramfs::Initramfs;
use super::kernels;

/// Where packages put programs and rules: in one tree, or in the two that used to be apart.
const TREES: [&str; 2] = ["usr", "."];

/// udev's own rules that have to do with block devices.
const RULES: &[&str] = &["50-udev-default.rules", "60-block.rules", "60-persistent-storage.rules"];

/// Those that this machine's dmsetup brings.
const MAPPER_RULES: &[&str] = &["55-dm.rules", "60-persistent-storage-dm.rules", "95-dm-notify.rules"];

/// Adds udev to a guest, which starts it only for the cases that ask for it. Without one in the cache the guest has none,
/// and those cases say so.
pub(super) fn add(to: &mut Initramfs) -> anyhow::Result<()> {
    let root = kernels::cache()?.with_file_name("udev").join("root");
    let programs = TREES.map(|tree| root.join(tree).join("bin/udevadm"));
    let Some(program) = programs.iter().find(|path| path.is_file()) else { return Ok(()) };
    to.unpacked_program(program, &root)?;
    add_rules(to, &root, RULES)?;
    add_rules(to, Path::new("/"), MAPPER_RULES)
}

fn add_rules(to: &mut Initramfs, root: &Path, names: &[&str]) -> anyhow::Result<()> {
    for name in names {
        let paths = TREES.map(|tree| root.join(tree).join("lib/udev/rules.d").join(name));
        let Some(path) = paths.iter().find(|path| path.is_file()) else {
            bail!("no {name} among the rules of udev in {}", root.display());
        };
        let rules = fs::read(path).with_context(|| path.display().to_string())?;
        to.file(&format!("lib/udev/rules.d/{name}"), rules);
    }
    Ok(())
}
