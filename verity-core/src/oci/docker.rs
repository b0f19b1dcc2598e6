//! Tars as `docker save` writes them: `manifest.json` lists the images, each with its configuration, its names and the tars of its layers.
//!
//! They are shown as OCI's: a manifest is made for each image, and an index where there are several. A layer's digest is what its file hashes to: of a tar
//! that is not compressed that is the diffID, as the configuration says, and it is for whoever reads the layer to check; a compressed one is
//! hashed when the archive is opened.
//!
//! Source: Docker's image specification 1.2, "Combined Image JSON + Filesystem Changeset Format", and what skopeo writes.

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::io::Read;
use std::path::Path;

use oci_spec::image as spec;
use serde::Deserialize;

use super::archive::Tar;
use super::config::Contents;
use super::descriptor::{Descriptor, Platform};
use super::document;
use super::error::{Error, clip};
use super::layout::{NAME, TopIndex};
use super::media;
use super::name::{Reference, RegistryName};
use super::positions::Extent;
use super::source::{DOCUMENT_MAX, Source, from_memory};
use crate::layer::{Compression, Digest};
use crate::progress::Observer;

/// The list of the images.
const LIST: &str = "manifest.json";
/// The most layers that all images of an archive may have together.
const LAYERS_MAX: u64 = 10_000;

/// The most images and names that the list may have.
const NAMES_MAX: u64 = 10_000;
/// What an entry of an index has beside its name and what all entries of an image have, in bytes; rather too many.
const ENTRY_BYTES: u64 = 128;

/// An image in the list.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Item {
    config: String,
    #[serde(default)]
    repo_tags: Vec<String>,
    layers: Vec<String>,
}

/// A tar as `docker save` writes it.
#[derive(Debug)]
pub(super) struct DockerArchive {
    tar: Tar,
    index: TopIndex,
    reference: Option<Reference>,
    /// Manifests and configurations.
    documents: BTreeMap<Digest, Vec<u8>>,
    layers: BTreeMap<Digest, Extent>,
}

/// What is found in an archive, image by image.
#[derive(Default)]
struct Found {
    entries: Vec<spec::Descriptor>,
    documents: BTreeMap<Digest, Vec<u8>>,
    layers: BTreeMap<Digest, Extent>,
    /// What files hash to, by where they lie: images have layers in common, and one image may list one of them many times.
    hashed: BTreeMap<Extent, Digest>,
    mentions: u64,
    /// Bytes of the index's entries.
    listed: u64,
}

impl DockerArchive {
    pub(super) fn open(
        path: &Path,
        reference: Option<&Reference>,
        observer: &dyn Observer,
    ) -> Result<Self, Error> {
        let tar = Tar::open(path, "Docker archive")?;
        if tar.find(LIST)?.is_none() {
            let problem = match tar.find("repositories")? {
                Some(_) => format!(
                    "there is no {LIST} in it, as Docker before 1.10 wrote none: save the image again"
                ),
                None => format!("there is no {LIST} in it"),
            };
            return Err(tar.refused(problem));
        }
        let list = format!("{LIST} of {}", tar.place());
        let items: Vec<Item> = document::parse_list(
            &list,
            &tar.document(LIST, DOCUMENT_MAX)?,
            &["Config", "RepoTags", "Layers"],
        )?;
        let names: u64 = items.iter().map(|item| item.repo_tags.len().max(1) as u64).sum();
        if names > NAMES_MAX {
            return Err(Error::TooMany { what: "images and names in manifest.json", limit: NAMES_MAX });
        }
        let mut found = Found::default();
        let mut bytes = 0;
        for item in &items {
            bytes += found.add(&tar, item, observer)?;
            if bytes > media::DOCUMENTS_MAX {
                return Err(Error::TooMany { what: "bytes of documents", limit: media::DOCUMENTS_MAX });
            }
        }
        let entries = found.entries.iter().map(Descriptor::try_from).collect::<Result<_, _>>()?;
        let index =
            spec::ImageIndexBuilder::default().schema_version(spec::SCHEMA_VERSION).manifests(found.entries);
        let index = TopIndex::new(text(index.build().and_then(|index| index.to_string()))?, entries);
        let Found { documents, layers, .. } = found;
        Ok(Self { tar, index, reference: reference.cloned(), documents, layers })
    }
}

/// What cannot fail: every field that has to be there is.
fn text(document: Result<String, oci_spec::OciSpecError>) -> Result<Vec<u8>, Error> {
    document.map(String::into_bytes).map_err(|error| Error::Other(Box::new(error)))
}

impl Found {
    /// Takes in an image. The answer is how many bytes its documents have.
    fn add(&mut self, tar: &Tar, item: &Item, observer: &dyn Observer) -> Result<u64, Error> {
        let config = tar.document(&item.config, DOCUMENT_MAX)?;
        let digest = Digest::sha256(&config);
        check_name(&item.config, &digest)?;
        let contents = Contents::parse(&digest, &config)?;
        let layers = self.layers(tar, item, &contents.diff_ids, observer)?;
        let manifest = spec::ImageManifestBuilder::default()
            .schema_version(spec::SCHEMA_VERSION)
            .media_type(media::MANIFEST)
            .config(described(media::CONFIG, &digest, config.len() as u64)?)
            .layers(layers);
        let manifest = text(manifest.build().and_then(|manifest| manifest.to_string()))?;
        let manifest_digest = Digest::sha256(&manifest);
        let bytes = config.len() as u64 + manifest.len() as u64;
        let mut entry = described(media::MANIFEST, &manifest_digest, manifest.len() as u64)?;
        entry.set_platform(contents.platform.as_ref().map(platform));
        let common = serde_json::to_vec(&entry).map_err(|error| Error::Other(Box::new(error)))?.len() as u64;
        for tag in &item.repo_tags {
            // In full, so that names that mean the same are the same.
            let name: RegistryName =
                tag.parse().map_err(|error: super::NameError| tar.refused(error.to_string()))?;
            let name = name.to_string();
            self.list(tar, common + name.len() as u64)?;
            let mut entry = entry.clone();
            entry.set_annotations(Some(HashMap::from([(NAME.to_owned(), name)])));
            self.entries.push(entry);
        }
        if item.repo_tags.is_empty() {
            self.list(tar, common)?;
            self.entries.push(entry);
        }
        self.documents.insert(digest, config);
        self.documents.insert(manifest_digest, manifest);
        Ok(bytes)
    }

    /// Counts an entry of the index, which is a document like others: what all of its names share (a platform, in the configuration's words) is in each.
    fn list(&mut self, tar: &Tar, bytes: u64) -> Result<(), Error> {
        self.listed += bytes + ENTRY_BYTES;
        if self.listed > DOCUMENT_MAX - ENTRY_BYTES {
            return Err(tar.refused(format!(
                "an index of the images that {LIST} lists, with their names and platforms, would have more than {DOCUMENT_MAX} bytes"
            )));
        }
        Ok(())
    }

    /// The descriptors of an image's layers.
    fn layers(
        &mut self,
        tar: &Tar,
        item: &Item,
        diff_ids: &[Digest],
        observer: &dyn Observer,
    ) -> Result<Vec<spec::Descriptor>, Error> {
        let (layers, found) = (item.layers.len(), diff_ids.len());
        if layers != found {
            return Err(
                tar.refused(format!("{LIST} lists {layers} layers, and the configuration {found} diffIDs"))
            );
        }
        self.mentions += layers as u64;
        if self.mentions > LAYERS_MAX {
            return Err(Error::TooMany { what: "layers in an archive", limit: LAYERS_MAX });
        }
        let mut descriptors = Vec::with_capacity(layers);
        for (name, diff_id) in item.layers.iter().zip(diff_ids) {
            let missing = || {
                tar.refused(format!("there is no {} in it, which {LIST} lists", clip(name).escape_debug()))
            };
            let extent = tar.find(name)?.ok_or_else(missing)?;
            let mut claim = Descriptor::new(media::LAYER, diff_id.clone(), extent.size);
            let mut start = Vec::new();
            let read = |source| Error::Read { digest: diff_id.clone(), source };
            tar.read(extent, &claim, 0)?.take(12).read_to_end(&mut start).map_err(read)?;
            let compression = Compression::detect(&start).map_err(|name| Error::MediaType {
                what: format!("layer {diff_id}"),
                media_type: format!("tar compressed with {name}"),
            })?;
            if compression != Compression::None {
                claim.digest = match self.hashed.get(&extent) {
                    Some(digest) => digest.clone(),
                    None => tar.digest(extent, observer).map_err(read)?.ok_or(Error::Cancelled)?,
                };
                self.hashed.insert(extent, claim.digest.clone());
            }
            claim.media_type = media::layer(compression).to_owned();
            // Of two files that claim to be one the first is read, and then it is seen which it is.
            self.layers.entry(claim.digest.clone()).or_insert(extent);
            descriptors.push(described(&claim.media_type, &claim.digest, claim.size)?);
        }
        Ok(descriptors)
    }
}

/// Configurations are named by their digests; a name that is none says nothing.
fn check_name(name: &str, found: &Digest) -> Result<(), Error> {
    let file = name.rsplit('/').next().unwrap_or_default();
    let stem = file.strip_suffix(".json").unwrap_or(file);
    match format!("sha256:{stem}").parse::<Digest>() {
        Ok(expected) if expected != *found => Err(Error::Mismatch { expected, found: found.clone() }),
        _ => Ok(()),
    }
}

fn described(media_type: &str, digest: &Digest, size: u64) -> Result<spec::Descriptor, Error> {
    let digest = digest.to_string().parse::<spec::Digest>().map_err(|error| Error::Other(Box::new(error)))?;
    Ok(spec::Descriptor::new(media_type.into(), size, digest))
}

fn platform(platform: &Platform) -> spec::Platform {
    let mut own = spec::Platform::default();
    own.set_os(platform.os.as_str().into());
    own.set_architecture(platform.architecture.as_str().into());
    own.set_variant(platform.variant.clone());
    own
}

impl Source for DockerArchive {
    fn root(&self) -> Result<Descriptor, Error> {
        self.index.select(self.reference.as_ref(), &self.tar.place())
    }

    fn is_list(&self, root: &Descriptor) -> bool {
        self.index.is(root)
    }

    fn blob(&self, descriptor: &Descriptor, from: u64) -> Result<Box<dyn Read + Send + '_>, Error> {
        let digest = &descriptor.digest;
        if let Some(bytes) =
            self.index.document(descriptor).or_else(|| self.documents.get(digest).map(Vec::as_slice))
        {
            return from_memory(bytes, descriptor, from);
        }
        let missing = || Error::Missing { digest: digest.clone(), place: self.tar.place() };
        let extent = *self.layers.get(digest).ok_or_else(missing)?;
        Ok(Box::new(self.tar.read(extent, descriptor, from)?))
    }
}
