//! The kernels that can be booted: Debian's, from the cache, or a developer's own.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail, ensure};

/// A kernel and its modules.
#[derive(Debug, Clone)]
pub(super) struct Kernel {
    /// What the user calls it: its series, or `own`.
    pub(super) label: String,
    /// What `uname -r` says in it.
    pub(super) version: String,
    /// The bzImage.
    pub(super) image: PathBuf,
    /// The folder with all its modules, in folders of any depth.
    pub(super) modules: PathBuf,
}

impl Kernel {
    /// A kernel of the user's own making. `modules` is the folder that `make modules_install` was given as
    /// INSTALL_MOD_PATH, or the version's folder below it.
    pub(super) fn own(image: &Path, modules: &Path) -> anyhow::Result<Self> {
        ensure!(image.is_file(), "{}: no such kernel image", image.display());
        let modules = only_version(modules)?;
        let version = file_name(&modules);
        Ok(Self { label: "own".into(), version, image: image.to_owned(), modules })
    }

    fn cached(folder: &Path) -> anyhow::Result<Self> {
        let image = folder.join("vmlinuz");
        ensure!(image.is_file(), "{}: no such file", image.display());
        let modules = only_version(&folder.join("modules"))?;
        let version = fs::read_to_string(folder.join("version"))
            .with_context(|| format!("{}/version", folder.display()))?;
        Ok(Self { label: file_name(folder), version: version.trim().to_owned(), image, modules })
    }
}

/// Where the kernels lie: `$VERITY_CACHE/kernels`, by default in the user's cache folder.
pub(super) fn cache() -> anyhow::Result<PathBuf> {
    let folder = |name: &str| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let cache = folder("VERITY_CACHE")
        .or_else(|| Some(folder("XDG_CACHE_HOME")?.join("verity")))
        .or_else(|| Some(folder("HOME")?.join(".cache/verity")))
        .context("neither VERITY_CACHE nor XDG_CACHE_HOME nor HOME is set: no place for kernels")?;
    Ok(cache.join("kernels"))
}

/// The kernels of the cache, oldest first; of these series only, where any are given.
pub(super) fn cached(series: &[String]) -> anyhow::Result<Vec<Kernel>> {
    let cache = cache()?;
    let advice = "`./x kernels` fetches them";
    let entries =
        fs::read_dir(&cache).with_context(|| format!("no kernels in {}: {advice}", cache.display()))?;
    let mut kernels = Vec::new();
    for entry in entries {
        let path = entry.with_context(|| cache.display().to_string())?.path();
        // A fetch that was interrupted may have left a folder without a version.
        if path.join("version").is_file() && (series.is_empty() || series.contains(&file_name(&path))) {
            kernels.push(Kernel::cached(&path)?);
        }
    }
    kernels.sort_by_key(|kernel| crate::case::version_of(&kernel.version));
    for wanted in series {
        if !kernels.iter().any(|kernel| kernel.label == *wanted) {
            bail!("no kernel of series {wanted} in {}: {advice}", cache.display());
        }
    }
    ensure!(!kernels.is_empty(), "no kernels in {}: {advice}", cache.display());
    Ok(kernels)
}

/// `folder` itself where it has modules in `kernel/`, else the one version below `lib/modules`.
fn only_version(folder: &Path) -> anyhow::Result<PathBuf> {
    let folder = fs::canonicalize(folder).with_context(|| format!("modules in {}", folder.display()))?;
    if folder.join("kernel").is_dir() {
        return Ok(folder);
    }
    let parent = folder.join("lib/modules");
    let mut versions = Vec::new();
    for entry in fs::read_dir(&parent).with_context(|| format!("modules in {}", parent.display()))? {
        let path = entry.with_context(|| parent.display().to_string())?.path();
        if path.join("kernel").is_dir() {
            versions.push(path);
        }
    }
    match <[PathBuf; 1]>::try_from(versions) {
        Ok([version]) => Ok(version),
        Err(versions) => {
            bail!("{}: expected the modules of one kernel, found {}", parent.display(), versions.len())
        }
    }
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_are_found_from_either_folder() {
        let root = tempfile::tempdir().expect("a temporary folder");
        let version = root.path().join("lib/modules/6.1.0-test");
        fs::create_dir_all(version.join("kernel")).expect("inside it");
        let version = fs::canonicalize(version).expect("made above");
        assert_eq!(only_version(root.path()).expect("one version"), version);
        assert_eq!(only_version(&version).expect("the version itself"), version);
        fs::create_dir_all(root.path().join("lib/modules/6.2.0/kernel")).expect("inside it");
        assert!(only_version(root.path()).is_err(), "which one?");
    }
}
