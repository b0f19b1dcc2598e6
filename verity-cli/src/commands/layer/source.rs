//! An existing layer, of whatever dialect: where its data and its tree are, and what is said of its root hash.

use std::ops::Range;
use std::path::{Path, PathBuf};

use verity_core::algorithm::Algorithm;
use verity_core::block::{BlockSize, RootHash};
use verity_core::dialect::notary::{Descriptor, Referrer, Schema};
use verity_core::dialect::{Dialect, containerd, ddi, find, kata, nydus, stacker, systemd, vhd};
use verity_core::geometry::{Geometry, HashArea};
use verity_core::io::{ReadAt, Window};
use verity_core::superblock::Superblock;
use verity_core::tree::Device;

use super::describe;
use super::reading::{ReadingArguments, SourceArguments};
use crate::commands::engine;
use crate::commands::layout::{Layout, bad_geometry};
use crate::commands::root::{self, RootArguments};
use crate::failure::{Code, Failure};
use crate::files::{Input, Role, RootHashFile, signature};
use crate::session::Session;

/// A root hash that a description gives. Nothing vouches for it but who wrote the description.
#[derive(Clone, Debug)]
pub(crate) struct Claim {
    pub(crate) root: RootHash,
    /// What gives it.
    pub(crate) by: String,
}

/// The layer of an image that a description is about.
#[derive(Clone, Debug)]
pub(crate) struct ImageLayer {
    /// The image's manifest.
    pub(crate) subject: Descriptor,
    /// The digest of the image's own layer.
    pub(crate) digest: String,
}

/// An open layer.
pub(crate) struct Layer {
    pub(crate) path: PathBuf,
    pub(crate) dialect: Dialect,
    /// The file that describes it, where it is one of its own.
    pub(crate) description: Option<PathBuf>,
    /// The tree; its places are counted in the part of the file that holds it.
    pub(crate) layout: Layout,
    pub(crate) claim: Option<Claim>,
    /// Which image it is a layer of, where a description says so.
    pub(crate) image: Option<ImageLayer>,
    /// Whether there is a signature of the root hash, of a form that a kernel reads.
    pub(crate) signed: bool,
    /// The file system of the data.
    pub(crate) file_system: Option<find::FileSystem>,
    pub(crate) data_bytes: Range<u64>,
    pub(crate) hash_bytes: Range<u64>,
    data: Input,
    /// Another file than the data's.
    tree: Option<Input>,
}

/// What came of a description.
pub(crate) type Opened = (Dialect, Result<Layer, Failure>);

/// What is found in a description, before it is looked whether the layer is like that.
struct Found {
    layout: Layout,
    claim: Option<Claim>,
    image: Option<ImageLayer>,
    signed: bool,
    data_bytes: Range<u64>,
    hash_bytes: Range<u64>,
    tree: Option<Input>,
    description: Option<PathBuf>,
}

impl Layer {
    /// Opens the layer in the one dialect that it is in.
    pub(super) fn open(arguments: &SourceArguments, session: &Session) -> Result<Self, Failure> {
        let SourceArguments { layer: path, reading } = arguments;
        let file = Input::open(path, Role::TreeLayer)?;
        let dialect = match reading.from {
            Some(dialect) => dialect,
            None => match dialects(&file)?.as_slice() {
                [one] => *one,
                several => {
                    let names: Vec<_> = several.iter().map(|dialect| dialect.name()).collect();
                    let message = format!("layer {path:?} is described more than once: {}", names.join(", "));
                    return Err(
                        Failure::new(Code::General, message).hint("say with --from which description counts")
                    );
                }
            },
        };
        Self::of(file, dialect, reading, session)
    }

    /// Opens it in every dialect that it is in. That one of several descriptions is broken does not hide the others.
    ///
    /// # Errors
    /// The first one, if all are broken.
    pub(super) fn open_all(arguments: &SourceArguments, session: &Session) -> Result<Vec<Opened>, Failure> {
        let SourceArguments { layer: path, reading } = arguments;
        let file = Input::open(path, Role::TreeLayer)?;
        let dialects = match reading.from {
            Some(dialect) => vec![dialect],
            None => dialects(&file)?,
        };
        let open = |dialect| Self::of(Input::open(path, Role::TreeLayer)?, dialect, reading, session);
        let opened: Vec<Opened> = dialects.into_iter().map(|dialect| (dialect, open(dialect))).collect();
        match opened.first() {
            Some((_, Err(first))) if opened.iter().all(|(_, layer)| layer.is_err()) => Err(first.clone()),
            _ => Ok(opened),
        }
    }

    fn of(
        file: Input,
        dialect: Dialect,
        reading: &ReadingArguments,
        session: &Session,
    ) -> Result<Self, Failure> {
        session.debug(|| format!("Reading {} as {dialect}.", file.path.display()));
        let found = Found::new(&file, dialect, reading)?;
        let Found { layout, claim, image, signed, data_bytes, hash_bytes, tree, description } = found;
        let path = file.path.clone();
        let mut layer = Self {
            path,
            dialect,
            description,
            layout,
            claim,
            image,
            signed,
            file_system: None,
            data_bytes,
            hash_bytes,
            data: file,
            tree,
        };
        layer.check_sizes()?;
        let unreadable =
            |error| Failure::system(format_args!("layer {:?} cannot be read", layer.path), &error);
        layer.file_system = find::file_system(&layer.data()).map_err(unreadable)?.map(|(kind, _)| kind);
        Ok(layer)
    }

    /// The image.
    pub(super) fn data(&self) -> Window<&std::fs::File> {
        Window::new(&self.data.file, self.data_bytes.clone())
    }

    /// What the tree's places are counted in.
    pub(super) fn hash(&self) -> Window<&std::fs::File> {
        let file = self.tree.as_ref().map_or(&self.data.file, |tree| &tree.file);
        Window::new(file, self.hash_bytes.clone())
    }

    /// The root hash to check against: the one that was given, else the one that is claimed. Whether it was given is told, too.
    pub(super) fn root(&self, given: &RootArguments, session: &Session) -> Result<(RootHash, bool), Failure> {
        let given = if given.is_given() {
            let text = given.text(session)?;
            Some(root::parse(&text, self.layout.params.algorithm)?)
        } else {
            None
        };
        match (given, &self.claim) {
            (Some(given), Some(claim)) if given != claim.root => Err(Failure::new(
                Code::General,
                format_args!("wrong root hash: {given} was given, but {} says {}", claim.by, claim.root),
            )
            .hint("the description or the layer was replaced, or belongs to another; use neither")),
            (Some(given), _) => Ok((given, true)),
            (None, Some(claim)) => {
                session.note(&format!(
                    "the root hash is that of {}; whoever can write the layer can write that, too",
                    claim.by
                ));
                Ok((claim.root, false))
            }
            (None, None) => Err(Failure::argument("the root hash is missing, and nothing describes one")
                .hint("give it as the last argument, or --root-hash-file PATH")),
        }
    }

    /// What the user called a device.
    pub(super) fn name(&self, device: Device) -> String {
        match (device, &self.tree) {
            (Device::Hash, Some(tree)) => format!("{:?}", tree.path),
            _ => format!("{:?}", self.path),
        }
    }

    /// Whether something lies behind the tree in what holds it: parity, if it is that. Zeros are nothing.
    pub(super) fn goes_on(&self, cancelled: impl Fn() -> bool) -> Result<bool, Failure> {
        let (hash, end) = (self.hash(), self.hash_bytes.end - self.hash_bytes.start);
        let unreadable =
            |error| Failure::system(format_args!("{} cannot be read", self.name(Device::Hash)), &error);
        let mut buffer = vec![0; 256 * 1024];
        let mut offset = self.layout.geometry.hash_area_end().min(end);
        while offset < end && !cancelled() {
            offset = hash.zeros_until(offset).map_err(unreadable)?;
            let length = usize::try_from(end.saturating_sub(offset)).unwrap_or(usize::MAX).min(buffer.len());
            let count = hash.read_at(&mut buffer[..length], offset).map_err(unreadable)?;
            if buffer[..count].iter().any(|&byte| byte != 0) {
                return Ok(true);
            }
            if count == 0 {
                break;
            }
            offset += count as u64;
        }
        Ok(false)
    }

    fn check_sizes(&self) -> Result<(), Failure> {
        let geometry = &self.layout.geometry;
        if self.tree.is_none() && self.data_bytes == self.hash_bytes {
            geometry.check_shared_file().map_err(|error| {
                bad_geometry(&error).hint("the description is damaged, or another layer's")
            })?;
        }
        let needed = if geometry.hash_blocks() == 0 { 0 } else { geometry.hash_area_end() };
        for (what, bytes, needed) in
            [("data", &self.data_bytes, geometry.data_bytes()), ("hash tree", &self.hash_bytes, needed)]
        {
            let found = bytes.end - bytes.start;
            if found < needed {
                let path = &self.path;
                return Err(Failure::new(
                    Code::General,
                    format_args!(
                        "layer {path:?} is too short: {found} bytes for the {what}, which has {needed}"
                    ),
                )
                .hint("the file is truncated, or the description is another layer's"));
            }
        }
        Ok(())
    }
}

/// The dialects that a layer is described in; `plain` where it is none.
fn dialects(file: &Input) -> Result<Vec<Dialect>, Failure> {
    let described = Dialect::ALL.into_iter().filter(|&dialect| {
        describe::path(&file.path, dialect).is_some_and(|path| path.symlink_metadata().is_ok())
    });
    let mut found: Vec<_> = described.collect();
    let unreadable = |error| Failure::system(format_args!("layer {:?} cannot be read", file.path), &error);
    if ddi::Image::is_one(&file.file, file.size).map_err(unreadable)? {
        found.push(Dialect::Ddi);
    }
    if footer(file)?.is_some_and(|bytes| vhd::Footer::is_one(&bytes)) {
        found.push(Dialect::Vhd);
    }
    if found.is_empty() {
        found.push(Dialect::Plain);
    }
    Ok(found)
}

/// The last 512 bytes.
fn footer(file: &Input) -> Result<Option<[u8; vhd::Footer::SIZE]>, Failure> {
    let mut bytes = [0; vhd::Footer::SIZE];
    let Some(offset) = file.size.checked_sub(bytes.len() as u64) else { return Ok(None) };
    file.file
        .read_exact_at(&mut bytes, offset)
        .map_err(|error| Failure::system(format_args!("layer {:?} cannot be read", file.path), &error))?;
    Ok(Some(bytes))
}

impl Found {
    fn new(file: &Input, dialect: Dialect, reading: &ReadingArguments) -> Result<Self, Failure> {
        reading.check(dialect)?;
        let beside = reading.description.clone().or_else(|| describe::path(&file.path, dialect));
        let path = beside.unwrap_or_else(|| file.path.clone());
        let found = match dialect {
            Dialect::Containerd => Self::containerd(file, &path),
            Dialect::Vhd => Self::vhd(file, reading),
            Dialect::Nydus => Self::nydus(file, &path),
            Dialect::Kata => Self::kata(file, &path),
            Dialect::Stacker => Self::stacker(file, &path, reading),
            Dialect::Notation => Self::notary(file, &path, Schema::Notation, reading),
            Dialect::Bundle => Self::notary(file, &path, Schema::Bundle, reading),
            Dialect::Systemd => Self::systemd(file, &path),
            Dialect::Ddi => Self::ddi(file),
            _ => Self::plain(file, file.size, reading),
        }?;
        let description = (path != file.path).then_some(path);
        Ok(Self { description, ..found })
    }

    /// All in one file, the first `length` bytes of it.
    fn appended(layout: Layout, length: u64) -> Self {
        Self {
            layout,
            claim: None,
            image: None,
            signed: false,
            data_bytes: 0..length,
            hash_bytes: 0..length,
            tree: None,
            description: None,
        }
    }

    fn claimed(self, root: RootHash, by: &Path) -> Self {
        Self { claim: Some(Claim { root, by: format!("{by:?}") }), ..self }
    }

    fn plain(file: &Input, length: u64, reading: &ReadingArguments) -> Result<Self, Failure> {
        let window = Window::new(&file.file, 0..length);
        if let Some(offset) = reading.hash_offset {
            return Ok(Self::appended(with_superblock(&window, &file.path, offset)?, length));
        }
        let found = find::superblock(&window, length)
            .map_err(|error| Failure::system(format_args!("layer {:?} cannot be read", file.path), &error))?;
        match found {
            Some((offset, _)) => Ok(Self::appended(with_superblock(&window, &file.path, offset)?, length)),
            None => Err(Failure::new(
                Code::General,
                format_args!("layer {:?}: no description, and no superblock behind an image", file.path),
            )
            .hint("give --hash-offset, or --from and --description; 'verity layer adopt' makes a layer of an image")),
        }
    }

    fn containerd(file: &Input, path: &Path) -> Result<Self, Failure> {
        let sidecar = containerd::Sidecar::parse(&describe::read(path)?)
            .map_err(|error| describe::malformed(path, error))?;
        let layout =
            with_superblock(&Window::new(&file.file, 0..file.size), &file.path, sidecar.hash_offset)?;
        check_root_size(&layout, &sidecar.root, path)?;
        Ok(Self::appended(layout, file.size).claimed(sidecar.root, path))
    }

    fn vhd(file: &Input, reading: &ReadingArguments) -> Result<Self, Failure> {
        let disk_bytes = file.size.saturating_sub(vhd::Footer::SIZE as u64);
        let bytes = footer(file)?.unwrap_or([0; vhd::Footer::SIZE]);
        vhd::Footer::parse(&bytes, disk_bytes).map_err(|error| describe::malformed(&file.path, error))?;
        Self::plain(file, disk_bytes, reading)
    }

    fn nydus(file: &Input, path: &Path) -> Result<Self, Failure> {
        let text = describe::read_text(path)?;
        let options = if text.contains(nydus::PREFIX) {
            nydus::Options::parse(&text)
        } else {
            // The label says no block size; over a tar, which it is kept for, it is 512.
            nydus::Options::from_label(&text, BlockSize::MIN)
        };
        let options = options.map_err(|error| describe::malformed(path, error))?;
        let layout = without_superblock(options.params(), options.data_blocks, options.area())?;
        Ok(Self::appended(layout, file.size).claimed(options.root, path))
    }

    fn kata(file: &Input, path: &Path) -> Result<Self, Failure> {
        let volume =
            kata::Volume::parse(&describe::read(path)?).map_err(|error| describe::malformed(path, error))?;
        let kata::Tree { params, root, superblock, offset, .. } = &volume.tree;
        let geometry = volume.tree.geometry().map_err(|error| bad_geometry(&error))?;
        let layout = if *superblock {
            let layout = with_superblock(&Window::new(&file.file, 0..file.size), &file.path, *offset)?;
            if layout.params != *params || layout.geometry != geometry {
                return Err(describe::malformed(path, "it says something else than the superblock"));
            }
            layout
        } else {
            Layout { uuid: None, params: params.clone(), geometry }
        };
        Ok(Self::appended(layout, file.size).claimed(*root, path))
    }

    fn stacker(file: &Input, path: &Path, reading: &ReadingArguments) -> Result<Self, Failure> {
        let annotations = stacker::Annotations::parse(&describe::read(path)?)
            .map_err(|error| describe::malformed(path, error))?;
        let found = Self::plain(file, file.size, reading)?;
        check_root_size(&found.layout, &annotations.root, path)?;
        Ok(found.claimed(annotations.root, path))
    }

    fn notary(
        file: &Input,
        path: &Path,
        schema: Schema,
        reading: &ReadingArguments,
    ) -> Result<Self, Failure> {
        let referrer =
            Referrer::parse(&describe::read(path)?).map_err(|error| describe::malformed(path, error))?;
        if referrer.schema != schema {
            let (found, from) = match referrer.schema {
                Schema::Notation => ("a notation manifest", Dialect::Notation),
                Schema::Bundle => ("a bundle manifest", Dialect::Bundle),
            };
            return Err(describe::malformed(path, format_args!("it is {found}"))
                .hint(format_args!("give --from {from} and --description {path:?}")));
        }
        let wanted = reading.layer_digest.as_deref();
        let mut layers =
            referrer.layers.iter().filter(|layer| wanted.is_none_or(|wanted| layer.digest == wanted));
        let layer = match (layers.next(), layers.next()) {
            (Some(one), None) => one,
            (None, _) => {
                return Err(describe::malformed(path, "it has no such layer")
                    .hint("--layer-digest takes the digest of a layer of the image"));
            }
            (Some(_), Some(_)) => {
                let message = format!("description {path:?} has {} layers", referrer.layers.len());
                return Err(
                    Failure::new(Code::General, message).hint("say with --layer-digest which one this is")
                );
            }
        };
        let found = Self::plain(file, file.size, reading)?;
        check_root_size(&found.layout, &layer.root, path)?;
        let image = ImageLayer { subject: referrer.subject.clone(), digest: layer.digest.clone() };
        Ok(Self { image: Some(image), ..found.claimed(layer.root, path) })
    }

    fn systemd(file: &Input, path: &Path) -> Result<Self, Failure> {
        let tree = Input::open(path, Role::Hash)?;
        let layout = with_superblock(&tree.file, path, 0)?;
        let hash_bytes = 0..tree.size;
        let found = Self { hash_bytes, tree: Some(tree), ..Self::appended(layout, file.size) };
        let beside = |kind| describe::sidecar(&file.path, kind);
        let signed = beside(systemd::Sidecar::Signature);
        let signed = signed.symlink_metadata().is_ok() && signature::read(&signed).map(|_| true)?;
        let root_hash = beside(systemd::Sidecar::RootHash);
        let found = Self { signed, ..found };
        if root_hash.symlink_metadata().is_err() {
            return Ok(found);
        }
        let text = RootHashFile::read(&root_hash)?;
        let root = RootHash::from_hex(found.layout.params.algorithm, text.trim())
            .map_err(|error| describe::malformed(&root_hash, error))?;
        Ok(found.claimed(root, &root_hash))
    }

    fn ddi(file: &Input) -> Result<Self, Failure> {
        let malformed = |error| describe::malformed(&file.path, error);
        let image = ddi::Image::read(&file.file, file.size).map_err(malformed)?;
        let signature = image.signature(&file.file).map_err(malformed)?;
        let (data_bytes, hash_bytes) = (image.data.bytes.clone(), image.verity.bytes.clone());
        let layout = with_superblock(&Window::new(&file.file, hash_bytes.clone()), &file.path, 0)?;
        let root = RootHash::new(layout.params.algorithm, &image.root())
            .map_err(|error| describe::malformed(&file.path, error))?;
        let by = "the partitions' UUIDs".to_owned();
        Ok(Self {
            claim: Some(Claim { root, by }),
            signed: signature.is_some(),
            data_bytes,
            hash_bytes,
            ..Self::appended(layout, 0)
        })
    }
}

/// The tree behind the superblock at `offset`.
fn with_superblock(device: &dyn ReadAt, path: &Path, offset: u64) -> Result<Layout, Failure> {
    let failed = |error: &dyn std::fmt::Display| {
        Failure::new(Code::General, format_args!("layer {path:?}: at byte {offset}: {error}"))
            .hint("the layer is damaged, or the description is another layer's")
    };
    let area = HashArea::with_superblock(offset).map_err(|error| failed(&error))?;
    let mut bytes = [0; Superblock::SIZE];
    device.read_exact_at(&mut bytes, offset).map_err(|error| match error.kind() {
        std::io::ErrorKind::UnexpectedEof => failed(&"no superblock there: the file ends before"),
        _ => Failure::system(format_args!("layer {path:?} cannot be read"), &error),
    })?;
    let Superblock { uuid, params, data_blocks } =
        Superblock::parse(&bytes).map_err(|error| failed(&error))?;
    let geometry = Geometry::new(&params, data_blocks, area).map_err(|error| failed(&error))?;
    Ok(Layout { uuid: Some(uuid), params, geometry })
}

fn without_superblock(
    params: verity_core::params::Params,
    data_blocks: u64,
    area: HashArea,
) -> Result<Layout, Failure> {
    let geometry = Geometry::new(&params, data_blocks, area).map_err(|error| bad_geometry(&error))?;
    Ok(Layout { uuid: None, params, geometry })
}

/// The dialects that know only SHA-256 may describe no other tree.
fn check_root_size(layout: &Layout, root: &RootHash, path: &Path) -> Result<(), Failure> {
    let algorithm: Algorithm = layout.params.algorithm;
    if algorithm.digest_size() == root.as_bytes().len() {
        return Ok(());
    }
    Err(describe::malformed(
        path,
        format_args!("its root hash is none of {algorithm}, which the superblock says"),
    ))
}

/// The failure that an engine's error about a layer is.
pub(super) fn failure(layer: &Layer, error: &verity_core::tree::Error) -> Failure {
    engine::failure(error, |device| layer.name(device))
}
