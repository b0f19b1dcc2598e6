//! Attributes by which an image that somebody else made speaks to the overlay.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::Path;

use anyhow::{Context as _, ensure};
use nix::libc::EPERM;
use nix::sys::utsname::uname;
use verity_core::erofs::write::{self, Attributes, Kind, Writer};
use verity_core::geometry::{Geometry, HashArea};
use verity_core::mount::{Layer, Options, Until, mount, unmount};
use verity_core::params::Params;

use crate::case::{Case, version_of};
use crate::guest::Context;

use super::layers::{What, directory, layer};

pub(super) fn cases() -> Vec<Case> {
    vec![Case::new(
        "mount/attributes",
        "no attribute of an image leads the overlay elsewhere, and what else they do is as the manual says",
        attributes,
    )]
}

/// A layer as no tar makes it: paths with attributes of one name, directories where they end in a slash.
fn strange(context: &Context, entries: &[(&str, &[(&str, &str)])]) -> anyhow::Result<Layer> {
    let blob = context.path("strange");
    let file = File::options().read(true).write(true).create_new(true).open(&blob)?;
    let mut writer = Writer::new(&file, write::Options::default())?;
    for (path, xattrs) in entries {
        let xattrs: BTreeMap<_, _> = xattrs
            .iter()
            .map(|(name, value)| (name.as_bytes().to_vec(), value.as_bytes().to_vec()))
            .collect();
        let attributes = Attributes { mode: 0o755, xattrs, ..Attributes::default() };
        let kind = if path.is_empty() || path.ends_with('/') {
            Kind::Directory
        } else {
            Kind::File { size: 0, content: &mut io::empty() }
        };
        writer.add(path.trim_end_matches('/').as_bytes(), &attributes, kind)?;
    }
    writer.finish()?;
    let data = fs::read(&blob)?;
    let params = Params::default();
    let blocks = u64::try_from(data.len())? / params.data_block_size.as_u64();
    let geometry = Geometry::new(&params, blocks, HashArea::with_superblock(u64::try_from(data.len())?)?)?;
    let root_hash = verity_core::tree::build(&data, &file, &params, &geometry, &Default::default())?;
    Ok(Layer { blob, params, geometry, root_hash, parity: None })
}

fn expect_refused_path(path: &Path) -> anyhow::Result<()> {
    let found = fs::symlink_metadata(path);
    let refused = found.as_ref().is_err_and(|error| error.raw_os_error() == Some(EPERM));
    ensure!(refused, "{}: expected EPERM, got {found:?}", path.display());
    Ok(())
}

fn attributes(context: &mut Context) -> anyhow::Result<()> {
    let base = layer(
        context,
        "base",
        &[
            ("secret/file", What::File(b"secret")),
            ("x/gone", What::File(b"old")),
            ("x/kept", What::File(b"kept")),
        ],
    )?;
    let strange = strange(
        context,
        &[
            ("", &[("trusted.overlay.opaque", "x")]),
            ("directory/", &[("trusted.overlay.redirect", "/secret")]),
            ("file", &[("trusted.overlay.metacopy", ""), ("trusted.overlay.redirect", "/secret/file")]),
            ("metacopy", &[("trusted.overlay.metacopy", "")]),
            ("user/", &[("user.overlay.opaque", "y"), ("user.overlay.redirect", "/secret")]),
            ("x/", &[("trusted.overlay.opaque", "x")]),
            ("x/gone", &[("trusted.overlay.whiteout", "y")]),
        ],
    )?;
    let target = directory(context, "target")?;
    for layers in [&[base, strange.clone()][..], &[strange]] {
        mount(layers, &target, &Options::default(), &())?;
        for path in ["directory", "file", "metacopy"] {
            expect_refused_path(&target.join(path)).with_context(|| format!("{} layers", layers.len()))?;
        }
        ensure!(fs::read_dir(target.join("user"))?.next().is_none(), "user.overlay.* is followed");
        let names = |path: &str| -> anyhow::Result<Vec<String>> {
            let entries = fs::read_dir(target.join(path)).context(path.to_owned())?;
            let names = entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
            let mut names = names.collect::<io::Result<Vec<_>>>()?;
            names.sort();
            Ok(names)
        };
        // Whether whiteouts can be attributes is up to the kernel, in merged directories at least.
        if layers.len() == 2 {
            let release = uname()?.release().to_string_lossy().into_owned();
            let shown = version_of(&release).is_some_and(|version| version < (6, 7));
            let expected: &[&str] = if shown { &["gone", "kept"] } else { &["kept"] };
            let found = (target.join("x/gone").exists(), names("x")?);
            ensure!(found.0 == shown && found.1 == expected, "on {release}: {found:?}");
        }
        unmount(&target, Until::Gone, &())?;
    }
    Ok(())
}
