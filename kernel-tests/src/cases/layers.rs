//! Layers, made by the library in the guest, and images of them.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use verity_core::erofs::write::Attributes;
use verity_core::fec::Roots;
use verity_core::layer::tar::{EntryKind, Writer};
use verity_core::layer::{Built, Options, build};
use verity_core::mount::Layer;

use crate::guest::Context;

/// What a path of a layer is.
#[derive(Debug, Clone)]
pub(super) enum What<'a> {
    File(&'a [u8]),
    Directory,
    Symlink(&'a str),
}

/// The tar of a layer, whiteouts as OCI has them.
pub(super) fn tar(entries: &[(&str, What)]) -> anyhow::Result<Vec<u8>> {
    let mut writer = Writer::new(Vec::new());
    for (path, what) in entries {
        let mode = if matches!(what, What::Directory) { 0o755 } else { 0o644 };
        let attributes = Attributes { mode, mtime: 1_700_000_000, ..Attributes::default() };
        let mut content: &[u8] = b"";
        let kind = match what {
            What::Directory => EntryKind::Directory,
            What::Symlink(target) => EntryKind::Symlink(target.as_bytes().to_vec()),
            What::File(bytes) => {
                content = bytes;
                let size = u64::try_from(bytes.len())?;
                EntryKind::File { size, data: (size > 0).then_some(0..size).into_iter().collect() }
            }
        };
        writer.add(path.as_bytes(), &attributes, &kind, &mut content)?;
    }
    Ok(writer.finish()?)
}

/// Makes a layer in a file of its own.
pub(super) fn built(path: &Path, tar: &[u8], roots: Option<Roots>) -> anyhow::Result<Built> {
    let file = File::options().read(true).write(true).create_new(true).open(path);
    let file = file.with_context(|| path.display().to_string())?;
    let mut options = Options::default();
    options.roots = roots;
    Ok(build(tar, &file, &options)?)
}

/// A layer of these entries, as it is mounted.
pub(super) fn layer(context: &Context, name: &str, entries: &[(&str, What)]) -> anyhow::Result<Layer> {
    layer_with(context, name, entries, None)
}

/// A layer with parity, or without.
pub(super) fn layer_with(
    context: &Context,
    name: &str,
    entries: &[(&str, What)],
    roots: Option<Roots>,
) -> anyhow::Result<Layer> {
    let blob = context.path(name);
    let built = built(&blob, &tar(entries)?, roots)?;
    let Built { params, geometry, root, parity, .. } = built;
    Ok(Layer { blob, params, geometry, root_hash: root, parity })
}

/// A new directory.
pub(super) fn directory(context: &Context, name: &str) -> anyhow::Result<PathBuf> {
    let path = context.path(name);
    fs::create_dir(&path).with_context(|| path.display().to_string())?;
    Ok(path)
}
