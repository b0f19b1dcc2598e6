//! From a source to its images.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use oci_spec::image as spec;

use super::annotations::{self, LayerAnnotations};
use super::config::Contents;
use super::descriptor::{Descriptor, Platform};
use super::document;
use super::error::{Error, clip};
use super::image::{Config, Image, Images, Layer, LayerKind, Platforms};
use super::layout::NAME;
use super::media;
use super::source::{Source, read_document};
use crate::layer::Digest;

/// How deep indexes may be nested. A loop of indexes would need a digest that contains itself; what claims to be one does not match its digest.
const DEPTH_MAX: usize = 8;
/// The most entries of indexes that are looked at.
const ENTRIES_MAX: u64 = 10_000;
/// The most bytes of annotations, labels and names that are kept of one source: 64 MiB.
const REMARKS_MAX: u64 = 64 << 20;
/// What one of them takes beside its bytes: a short one needs more memory than it has bytes in its document.
const REMARK_BYTES: u64 = 64;
/// What BuildKit says of an attestation, whatever platform it gives that.
const ATTESTATION: &str = "vnd.docker.reference.type";

/// Follows a source's indexes to its images.
///
/// What an index lists beside images is passed over and counted: attestations (`unknown/unknown`), and manifests that say that they are artifacts of
/// other kinds. What is wanted by name and is no image is an error, and so is a media type that is not known.
///
/// # Errors
/// [`Error`]: what is missing, contradictory, unknown or too large. A source without an image that is wanted is an error.
pub fn images(source: &dyn Source, platforms: &Platforms) -> Result<Images, Error> {
    let wanted = match platforms {
        Platforms::All => None,
        Platforms::Host => Some(vec![Platform::host()]),
        Platforms::These(platforms) => Some(platforms.clone()),
    };
    let root = source.root()?;
    let mut search = Search {
        source,
        wanted,
        images: Images::default(),
        others: BTreeSet::new(),
        entries: 0,
        bytes: 0,
        remarks: 0,
    };
    let is_list = source.is_list(&root);
    let context = Context { is_named: true, ..Context::default() };
    search.follow(&root, &context, is_list)?;
    let Search { wanted, images, others, .. } = search;
    match wanted {
        _ if !images.images.is_empty() => Ok(images),
        Some(wanted) if !others.is_empty() => {
            Err(Error::NoPlatform { wanted, found: others.into_iter().collect() })
        }
        _ => Err(Error::NoImage { place: root.digest.to_string() }),
    }
}

/// What indexes say of what is in them. An index of many entries has one for each: nothing of it is copied.
#[derive(Clone, Default)]
struct Context<'c> {
    depth: usize,
    /// Whether what comes next is listed by the source itself, which gives it its name. Indexes in it are anybody's.
    is_named: bool,
    reference: Option<&'c str>,
    platform: Option<&'c Platform>,
    annotations: Arc<BTreeMap<String, String>>,
}

struct Search<'s> {
    source: &'s dyn Source,
    wanted: Option<Vec<Platform>>,
    images: Images,
    /// Platforms that are not wanted.
    others: BTreeSet<Platform>,
    entries: u64,
    bytes: u64,
    remarks: u64,
}

impl Search<'_> {
    /// Follows an entry; `is_list` is said of the list of the source itself.
    fn follow(&mut self, descriptor: &Descriptor, context: &Context<'_>, is_list: bool) -> Result<(), Error> {
        let is_listed = context.depth > 0;
        let attests = descriptor.annotations.contains_key(ATTESTATION)
            || descriptor.platform.as_ref().is_some_and(Platform::is_unknown);
        if is_listed && (attests || descriptor.artifact_type.as_deref().is_some_and(is_foreign)) {
            self.images.artifacts += 1;
            return Ok(());
        }
        let mut context = context.clone();
        if context.is_named && !is_list {
            context.reference = descriptor.annotations.get(NAME).map(String::as_str);
        }
        context.is_named &= is_list;
        if let Some(platform) = &descriptor.platform {
            context.platform = Some(platform);
        }
        if !self.is_wanted(descriptor.platform.as_ref()) {
            return Ok(());
        }
        match media::document(&descriptor.media_type) {
            Some(media::Document::Index) => self.index(descriptor, context),
            Some(media::Document::Manifest) => self.manifest(descriptor, context),
            None => Err(unknown(format_args!("manifest {}", descriptor.digest), &descriptor.media_type)),
        }
    }

    /// Whether an image for that platform is one of those that were asked for; without one, it has to be looked at.
    fn is_wanted(&mut self, platform: Option<&Platform>) -> bool {
        let (Some(wanted), Some(platform)) = (&self.wanted, platform) else { return true };
        let fits = wanted.iter().any(|wanted| platform.is_one_of(wanted));
        if !fits && !self.others.contains(platform) {
            self.others.insert(platform.clone());
        }
        fits
    }

    fn document(&mut self, descriptor: &Descriptor) -> Result<Vec<u8>, Error> {
        let bytes = read_document(self.source, descriptor)?;
        self.bytes += descriptor.size;
        if self.bytes > media::DOCUMENTS_MAX {
            return Err(Error::TooMany { what: "bytes of documents", limit: media::DOCUMENTS_MAX });
        }
        Ok(bytes)
    }

    /// Counts what is kept of documents beside their bytes.
    fn keep<'r>(&mut self, remarks: impl IntoIterator<Item = (&'r String, &'r String)>) -> Result<(), Error> {
        for (name, value) in remarks {
            self.remarks += REMARK_BYTES + name.len() as u64 + value.len() as u64;
        }
        if self.remarks > REMARKS_MAX {
            return Err(Error::TooMany {
                what: "bytes of annotations, labels and names",
                limit: REMARKS_MAX,
            });
        }
        Ok(())
    }

    fn index(&mut self, descriptor: &Descriptor, mut context: Context<'_>) -> Result<(), Error> {
        if context.depth == DEPTH_MAX {
            return Err(Error::Depth { limit: DEPTH_MAX });
        }
        context.depth += 1;
        let what = format!("index {}", descriptor.digest);
        let index = document::index(&what, &self.document(descriptor)?)?;
        check_type(&what, index.media_type().as_ref(), descriptor)?;
        if index.annotations().as_ref().is_some_and(|annotations| !annotations.is_empty()) {
            self.keep(&*context.annotations)?;
            self.keep(index.annotations().iter().flatten())?;
            Arc::make_mut(&mut context.annotations).extend(pairs(index.annotations().as_ref()));
        }
        for entry in index.manifests() {
            self.entries += 1;
            if self.entries > ENTRIES_MAX {
                return Err(Error::TooMany { what: "entries of indexes", limit: ENTRIES_MAX });
            }
            self.follow(&Descriptor::try_from(entry)?, &context, false)?;
        }
        Ok(())
    }

    fn manifest(&mut self, descriptor: &Descriptor, context: Context<'_>) -> Result<(), Error> {
        let what = format!("manifest {}", descriptor.digest);
        let bytes = self.document(descriptor)?;
        let manifest = document::manifest(&what, &bytes)?;
        check_type(&what, manifest.media_type().as_ref(), descriptor)?;
        let artifact_type = manifest.artifact_type().as_ref().map(|kind| kind.as_ref().to_owned());
        let config = Descriptor::try_from(manifest.config())?;
        // Where there is no type for it, the configuration's is the artifact's.
        let kind = artifact_type.as_deref().filter(|kind| is_foreign(kind));
        let kind = kind.or_else(|| Some(&*config.media_type).filter(|kind| !media::is_config(kind)));
        if let Some(kind) = kind {
            if context.depth == 0 {
                return Err(unknown(format_args!("the artifact of {what}"), kind));
            }
            self.images.artifacts += 1;
            return Ok(());
        }
        let config_bytes = self.document(&config)?;
        let Contents { platform, diff_ids, labels } = Contents::parse(&config.digest, &config_bytes)?;
        let config = Config { descriptor: config, bytes: config_bytes, platform, diff_ids, labels };
        let platform = context.platform.or(config.platform.as_ref()).cloned();
        if !self.is_wanted(platform.as_ref()) {
            return Ok(());
        }
        let layers = layers(&descriptor.digest, manifest.layers(), &config.diff_ids)?;
        self.keep(&descriptor.annotations)?;
        self.keep(&config.descriptor.annotations)?;
        self.keep(&config.labels)?;
        self.keep(manifest.annotations().iter().flatten())?;
        for layer in &layers {
            self.keep(&layer.descriptor.annotations)?;
        }
        // Many images may have them of one entry that leads to an index.
        let reference = context.reference.map(str::to_owned);
        self.keep(reference.iter().zip(&reference))?;
        self.keep(platform.iter().map(|platform| (&platform.os, &platform.architecture)))?;
        self.images.images.push(Image {
            manifest: descriptor.clone(),
            manifest_bytes: bytes,
            config,
            platform,
            layers,
            annotations: pairs(manifest.annotations().as_ref()).collect(),
            index_annotations: context.annotations,
            reference,
            subject: manifest.subject().as_ref().map(Descriptor::try_from).transpose()?,
            artifact_type,
        });
        Ok(())
    }
}

/// An artifact that is no image.
fn is_foreign(artifact_type: &str) -> bool {
    !artifact_type.is_empty()
        && artifact_type != annotations::ARTIFACT_TYPE
        && !media::is_config(artifact_type)
}

fn unknown(what: impl std::fmt::Display, media_type: &str) -> Error {
    Error::MediaType { what: what.to_string(), media_type: clip(media_type) }
}

/// What a document says of itself has to be what was said of it.
fn check_type(what: &str, own: Option<&spec::MediaType>, descriptor: &Descriptor) -> Result<(), Error> {
    match own.map(AsRef::as_ref) {
        Some(own) if own != descriptor.media_type => Err(Error::Document {
            what: what.to_owned(),
            problem: format!(
                "it says that it is of the media type {:?}, and was listed as {:?}",
                clip(own),
                descriptor.media_type
            ),
        }),
        _ => Ok(()),
    }
}

fn pairs(
    annotations: Option<&std::collections::HashMap<String, String>>,
) -> impl Iterator<Item = (String, String)> {
    annotations.into_iter().flatten().map(|(name, value)| (name.clone(), value.clone()))
}

fn layers(manifest: &Digest, layers: &[spec::Descriptor], diff_ids: &[Digest]) -> Result<Vec<Layer>, Error> {
    if layers.len() != diff_ids.len() {
        let (manifest, layers, diff_ids) = (manifest.clone(), layers.len(), diff_ids.len());
        return Err(Error::LayerCount { manifest, layers, diff_ids });
    }
    layers.iter().zip(diff_ids).map(|(descriptor, diff_id)| layer(descriptor.try_into()?, diff_id)).collect()
}

fn layer(descriptor: Descriptor, diff_id: &Digest) -> Result<Layer, Error> {
    let has_tree = descriptor.annotations.keys().any(|name| name.starts_with(annotations::PREFIX));
    let kind = match media::tar(&descriptor.media_type) {
        Some(compression) => LayerKind::Tar(compression),
        None if descriptor.media_type == annotations::LAYER_MEDIA_TYPE && has_tree => {
            let failed = |source| Error::Annotations { layer: descriptor.digest.clone(), source };
            let found = LayerAnnotations::of(&descriptor.annotations).map_err(failed)?;
            if found.diff_id != *diff_id {
                let (expected, found) = (diff_id.clone(), found.diff_id);
                return Err(Error::DiffId { layer: descriptor.digest, expected, found });
            }
            LayerKind::Verity(Box::new(found))
        }
        None => LayerKind::Other,
    };
    Ok(Layer { descriptor, diff_id: diff_id.clone(), kind })
}
