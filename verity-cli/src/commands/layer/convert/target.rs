//! What a dialect has beside image and tree: footers, partition tables, and files that describe the layer.

use std::ops::Range;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use verity_core::block::RootHash;
use verity_core::dialect::notary::{self, Descriptor, Referrer, Schema, Subject};
use verity_core::dialect::systemd::{Sidecar, SignaturePartition};
use verity_core::dialect::{Dialect, containerd, ddi, find, kata, nydus, stacker, systemd, vhd};
use verity_core::io::WriteAt;
use verity_core::signature::Signature;

use super::Arguments;
use super::plan::Plan;
use crate::commands::layer::describe::{self, unwritable};
use crate::commands::layer::making::uuid_of;
use crate::commands::layer::source::Layer;
use crate::commands::layout::bad_geometry;
use crate::failure::{Code, Failure};
use crate::files::{NewFile, signature};

/// Dialects whose readers go by the superblock, and do not mind what lies behind the tree.
pub(super) const WITH_PARITY: [Dialect; 4] =
    [Dialect::Plain, Dialect::Containerd, Dialect::Stacker, Dialect::Notation];

/// Everything that is known before the work begins: what cannot be made is refused here.
pub(super) struct Target<'a> {
    to: Dialect,
    output: &'a Path,
    file_system: Option<find::FileSystem>,
    signature: Option<Signature>,
    disk: Option<Disk>,
    manifest: Option<Manifest>,
    volume: Option<kata::Volume>,
}

/// A disk image.
struct Disk {
    kind: ddi::Kind,
    layout: ddi::Layout,
    /// The content of the signature partition.
    signature: Option<String>,
}

/// What a manifest says beside the root hash.
struct Manifest {
    subject: Descriptor,
    layer_digest: String,
    signature: Descriptor,
}

impl<'a> Target<'a> {
    pub(super) fn new(
        arguments: &'a Arguments,
        layer: &Layer,
        plan: &Plan,
        before: &RootHash,
    ) -> Result<Self, Failure> {
        let to = arguments.to;
        let signature = arguments.root_hash_signature.as_deref().map(signature::read).transpose()?;
        if signature.is_some() && !plan.kept {
            return Err(Failure::argument(format_args!(
                "--root-hash-signature: --to {to} needs another tree, whose root hash is not the one that was signed"
            ))
            .hint("convert without it, and sign the new root hash"));
        }
        let file_system = layer.file_system;
        let output = arguments.output.as_path();
        let target = Self { to, output, file_system, signature, disk: None, manifest: None, volume: None };
        match to {
            Dialect::Ddi => Ok(Self { disk: Some(target.disk(arguments, plan, before)?), ..target }),
            Dialect::Notation => Ok(Self { manifest: Some(target.manifest(arguments)?), ..target }),
            Dialect::Kata => Ok(Self { volume: Some(target.volume(plan, before)?), ..target }),
            _ => Ok(target),
        }
    }

    fn disk(&self, arguments: &Arguments, plan: &Plan, root: &RootHash) -> Result<Disk, Failure> {
        let architecture = arguments.architecture.or_else(ddi::Architecture::host).ok_or_else(|| {
            Failure::argument("no partition types are known for this machine").hint("give --architecture")
        })?;
        let designator = if arguments.usr { ddi::Designator::Usr } else { ddi::Designator::Root };
        let fingerprint = match &arguments.certificate {
            Some(path) => Some(certificate(path)?),
            None => None,
        };
        let signature = match &self.signature {
            Some(signature) => {
                let content = SignaturePartition { root: *root, signature: signature.clone(), fingerprint };
                Some(content.encode().map_err(|error| unwritable(&error))?)
            }
            None => None,
        };
        let size = signature.as_ref().map(|text| text.len() as u64);
        let (data, hash) = (plan.geometry.data_bytes(), plan.geometry.hash_area_end());
        let layout = ddi::Layout::new(data, hash, size).map_err(|error| bad_geometry(&error))?;
        Ok(Disk { kind: ddi::Kind { designator, architecture }, layout, signature })
    }

    fn manifest(&self, arguments: &Arguments) -> Result<Manifest, Failure> {
        let missing = |option: &str, what: &str| {
            Failure::argument(format_args!("--to notation needs {option}")).hint(format_args!("give {what}"))
        };
        let signature = self
            .signature
            .as_ref()
            .ok_or_else(|| missing("--root-hash-signature", "the signature in DER"))?;
        let layer_digest = arguments.source.reading.layer_digest.clone();
        let layer_digest =
            layer_digest.ok_or_else(|| missing("--layer-digest", "the digest of the image's own layer"))?;
        notary::check_digest("--layer-digest", &layer_digest).map_err(Failure::argument)?;
        let path =
            arguments.subject.as_deref().ok_or_else(|| missing("--subject", "the image's manifest"))?;
        let refused = |error| Failure::argument(format_args!("--subject {path:?}: {error}"));
        let subject = Subject::parse(&describe::read(path)?)
            .map_err(|error| refused(error).hint("give the manifest of the image, byte for byte"))?;
        subject.check_layer(&layer_digest).map_err(|error| {
            refused(error)
                .hint("--layer-digest takes the digest of a layer of the image, as its manifest has it")
        })?;
        let bytes = signature.as_bytes();
        let signature =
            Descriptor::new(Schema::Notation.signature_type(), &digest(bytes), bytes.len() as u64);
        let signature = signature.map_err(Failure::argument)?;
        Ok(Manifest { subject: subject.descriptor, layer_digest, signature })
    }

    fn volume(&self, plan: &Plan, root: &RootHash) -> Result<kata::Volume, Failure> {
        let path = std::path::absolute(self.output)
            .map_err(|error| Failure::system(format_args!("output {:?}", self.output), &error))?;
        let source = path.to_str().ok_or_else(|| {
            Failure::argument(format_args!("output {path:?}: a volume names its file as text in UTF-8"))
                .hint("choose another name")
        })?;
        let file_system = self.file_system.ok_or_else(|| {
            Failure::new(Code::General, "a volume names its file system, and that of this layer is not known")
                .hint("known are EROFS, ext4 and squashfs; choose another dialect with --to")
        })?;
        let tree = kata::Tree {
            params: plan.params.clone(),
            root: *root,
            data_blocks: plan.geometry.data_blocks(),
            offset: plan.geometry.data_bytes(),
            superblock: false,
        };
        Ok(kata::Volume {
            kind: kata::Kind::LayerRawBlock,
            source: source.to_owned(),
            fs_type: file_system.name().to_owned(),
            options: vec!["ro".to_owned()],
            tree,
        })
    }

    /// How many bytes the layer's file has.
    pub(super) fn length(&self, plan: &Plan) -> u64 {
        match (&self.disk, self.to) {
            (Some(disk), _) => disk.layout.length,
            (None, Dialect::Systemd) => plan.geometry.data_bytes(),
            (None, Dialect::Vhd) => plan.geometry.hash_area_end() + vhd::Footer::SIZE as u64,
            _ => {
                let parity = plan.parity.as_ref().map(|parity| parity.bytes().end);
                parity.unwrap_or_else(|| plan.geometry.hash_area_end())
            }
        }
    }

    pub(super) fn data_bytes(&self, plan: &Plan) -> Range<u64> {
        match &self.disk {
            Some(disk) => disk.layout.data.clone(),
            None => 0..plan.geometry.data_bytes(),
        }
    }

    pub(super) fn hash_bytes(&self, plan: &Plan) -> Range<u64> {
        match &self.disk {
            Some(disk) => disk.layout.verity.clone(),
            None => 0..plan.geometry.hash_area_end(),
        }
    }

    /// The file for the tree, where it has one of its own.
    pub(super) fn tree_file(&self, plan: &Plan) -> Result<Option<NewFile>, Failure> {
        let path = (self.to == Dialect::Systemd).then(|| describe::sidecar(self.output, Sidecar::Verity));
        path.map(|path| NewFile::create(&path, plan.geometry.hash_area_end())).transpose()
    }

    /// The files that are to describe the layer, empty.
    pub(super) fn descriptions(&self) -> Result<Vec<NewFile>, Failure> {
        let paths: Vec<PathBuf> = match self.to {
            Dialect::Systemd => {
                let signature = self.signature.as_ref().map(|_| Sidecar::Signature);
                let kinds = signature.into_iter().chain([Sidecar::RootHash]);
                kinds.map(|kind| describe::sidecar(self.output, kind)).collect()
            }
            to => describe::path(self.output, to).into_iter().collect(),
        };
        paths.iter().map(|path| NewFile::create(path, 0)).collect()
    }

    /// Writes what belongs into the layer's file beside image and tree.
    pub(super) fn complete(&self, plan: &Plan, root: &RootHash, output: &NewFile) -> Result<(), Failure> {
        let file = output.file();
        let put = |bytes: &[u8], offset: u64| {
            file.write_all_at(bytes, offset).map_err(|error| output.cannot_write(&error))
        };
        if self.to == Dialect::Vhd {
            let size = plan.geometry.hash_area_end();
            return put(&vhd::Footer::new(size, uuid_of(root)).encode(), size);
        }
        let Some(Disk { kind, layout, signature }) = &self.disk else { return Ok(()) };
        if let (Some(signature), Some(place)) = (signature, &layout.signature) {
            put(signature.as_bytes(), place.start)?;
        }
        ddi::write(file, layout, *kind, root).map_err(|error| unwritable(&error))
    }

    /// Fills the files that describe the layer.
    pub(super) fn describe(&self, plan: &Plan, root: &RootHash, files: &[NewFile]) -> Result<(), Failure> {
        let texts = self.texts(plan, root).map_err(|error| unwritable(&error))?;
        files.iter().zip(texts).try_for_each(|(file, text)| describe::fill(file, &text))
    }

    fn texts(&self, plan: &Plan, root: &RootHash) -> Result<Vec<Vec<u8>>, verity_core::dialect::Error> {
        let (params, geometry) = (&plan.params, &plan.geometry);
        let text = match self.to {
            Dialect::Containerd => {
                containerd::Sidecar { root: *root, hash_offset: geometry.area().offset() }.encode()?
            }
            Dialect::Nydus => {
                let options = nydus::Options {
                    data_block_size: params.data_block_size,
                    data_blocks: geometry.data_blocks(),
                    hash_offset: geometry.area().offset(),
                    root: *root,
                };
                format!("{options}\n")
            }
            Dialect::Kata => match &self.volume {
                Some(volume) => {
                    let tree = kata::Tree { root: *root, ..volume.tree.clone() };
                    kata::Volume { tree, ..volume.clone() }.to_json()? + "\n"
                }
                None => return Ok(Vec::new()),
            },
            Dialect::Stacker => {
                let squashfs = self.file_system == Some(find::FileSystem::Squashfs);
                let name = if squashfs { stacker::Name::Squashfs } else { stacker::Name::Atomfs };
                stacker::Annotations { root: *root, name }.encode()?
            }
            Dialect::Notation => match &self.manifest {
                Some(manifest) => manifest.text(root)?,
                None => return Ok(Vec::new()),
            },
            Dialect::Systemd => {
                let signature = self.signature.as_ref().map(|signature| signature.as_bytes().to_vec());
                return Ok(signature.into_iter().chain([root.to_string().into_bytes()]).collect());
            }
            _ => return Ok(Vec::new()),
        };
        Ok(vec![text.into_bytes()])
    }
}

impl Manifest {
    fn text(&self, root: &RootHash) -> Result<String, verity_core::dialect::Error> {
        let Self { subject, layer_digest, signature } = self;
        let layer = notary::Layer {
            digest: layer_digest.clone(),
            root: *root,
            signature: signature.clone(),
            parts: None,
        };
        Referrer { schema: Schema::Notation, subject: subject.clone(), layers: vec![layer] }.encode()
    }
}

/// An option that means nothing for a dialect is not ignored.
pub(super) fn check_options(arguments: &Arguments) -> Result<(), Failure> {
    use Dialect::{Ddi, Notation, Systemd};
    let Arguments { to, root_hash_signature, certificate, subject, architecture, usr, fec_roots, .. } =
        arguments;
    for (option, given, of) in [
        ("--root-hash-signature", root_hash_signature.is_some(), &[Systemd, Ddi, Notation][..]),
        ("--certificate", certificate.is_some(), &[Ddi]),
        ("--subject", subject.is_some(), &[Notation]),
        ("--architecture", architecture.is_some(), &[Ddi]),
        ("--usr", *usr, &[Ddi]),
        ("--fec-roots", fec_roots.is_some(), &WITH_PARITY),
    ] {
        if given && !of.contains(to) {
            let of: Vec<_> = of.iter().map(|dialect| dialect.name()).collect();
            return Err(Failure::argument(format_args!("{option} does not go with --to {to}"))
                .hint(format_args!("it goes with {}", of.join(", "))));
        }
    }
    Ok(())
}

/// The fingerprint of the certificate in a file.
fn certificate(path: &Path) -> Result<[u8; 32], Failure> {
    let bytes = describe::read(path)?;
    systemd::fingerprint(&bytes).map_err(|error| {
        Failure::argument(format_args!("certificate {path:?}: {error}")).hint("give it as PEM or DER")
    })
}

/// A digest as registries write it.
fn digest(bytes: &[u8]) -> String {
    let digest = Sha256::digest(bytes);
    let digits: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{digits}")
}
