//! The documents of images that are built, and whether anybody would read them: that is known before the first layer is made.

use std::collections::BTreeMap;

use super::{Error, Options, Wanted};
use crate::block::RootHash;
use crate::layer::{Digest, Identity};
use crate::oci::annotations::{ARTIFACT_TYPE, Fec, LAYER_MEDIA_TYPE, LayerAnnotations};
use crate::oci::descriptor::Descriptor;
use crate::oci::document;
use crate::oci::encode::{self, Manifest};
use crate::oci::image::Image;
use crate::oci::media;
use crate::oci::source::DOCUMENT_MAX;

/// Sizes and positions have no more digits than this: a file has fewer bytes.
const LARGEST: u64 = i64::MAX.cast_unsigned();

/// The manifest of an image, with these layers.
pub(super) fn manifest(image: &Image, layers: &[Descriptor]) -> Result<Vec<u8>, Error> {
    let config = &image.config.bytes;
    // Docker's has a name of its own, and is the same document.
    let config = Descriptor::new(media::CONFIG, Digest::sha256(config), config.len() as u64);
    let subject = &image.manifest;
    let manifest = Manifest {
        artifact_type: ARTIFACT_TYPE,
        config: &config,
        layers,
        subject: &Descriptor::new(subject.media_type.clone(), subject.digest.clone(), subject.size),
        annotations: &image.annotations,
    };
    manifest.encode().map_err(Error::Document)
}

/// The index of images for several platforms, whose manifests are these.
pub(super) fn index(images: &[Image], manifests: &[Descriptor]) -> Result<Vec<u8>, Error> {
    encode::index(manifests, &common_annotations(images)).map_err(Error::Document)
}

/// What an index lists an image as.
pub(super) fn listed(mut manifest: Descriptor, image: &Image) -> Descriptor {
    manifest.platform.clone_from(&image.platform);
    manifest
}

/// Refuses what would have documents that nobody reads. Numbers that are not known yet are taken for the largest that there can be.
pub(super) fn check(wanted: &[Wanted<'_>], options: &Options<'_>) -> Result<(), Error> {
    for Wanted { images, .. } in wanted {
        images.iter().try_for_each(|image| check_manifest(image, options))?;
        if images.len() > 1 {
            let manifest = Descriptor::new(media::MANIFEST, Digest::sha256(b""), DOCUMENT_MAX);
            let manifests: Vec<_> = images.iter().map(|image| listed(manifest.clone(), image)).collect();
            let index = index(images, &manifests)?;
            let size = index.len() as u64;
            if size > DOCUMENT_MAX {
                return Err(Error::IndexSize { images: images.len(), size, limit: DOCUMENT_MAX });
            }
            let what = format!("the index of {} images", images.len());
            document::index(&what, &index).map_err(Error::Unreadable)?;
        }
    }
    Ok(())
}

fn check_manifest(image: &Image, options: &Options<'_>) -> Result<(), Error> {
    let frame = manifest(image, &[])?.len() as u64;
    let mut size = frame;
    let mut most = 0;
    for layer in &image.layers {
        let descriptor = encode::descriptor(&largest(&layer.diff_id, options)).map_err(Error::Document)?;
        // And a comma.
        size += descriptor.len() as u64 + 1;
        most += usize::from(size <= DOCUMENT_MAX);
    }
    if size <= DOCUMENT_MAX {
        // Their bytes are not all that readers bound.
        let layers: Vec<_> = image.layers.iter().map(|layer| largest(&layer.diff_id, options)).collect();
        let what = format!("the manifest made of image {}", image.manifest.digest);
        return document::manifest(&what, &manifest(image, &layers)?).map(drop).map_err(Error::Unreadable);
    }
    let (manifest, layers) = (image.manifest.digest.clone(), image.layers.len());
    Err(Error::ManifestSize { manifest, layers, most, size, limit: DOCUMENT_MAX })
}

/// The descriptor of what may become of a layer.
fn largest(diff_id: &Digest, options: &Options<'_>) -> Descriptor {
    let &Options { algorithm, block_size, roots, .. } = options;
    let annotations = LayerAnnotations {
        diff_id: diff_id.clone(),
        root_hash: RootHash::from_digest(&vec![0; algorithm.digest_size()]),
        algorithm,
        salt: Identity::of(diff_id).salt,
        block_size,
        data_blocks: LARGEST,
        hash_offset: LARGEST,
        fec: roots.map(|roots| Fec { roots, offset: LARGEST }),
    };
    let mut layer = Descriptor::new(LAYER_MEDIA_TYPE, Digest::sha256(b""), LARGEST);
    layer.annotations = annotations.to_map();
    layer
}

/// What the indexes say of all images alike.
fn common_annotations(images: &[Image]) -> BTreeMap<String, String> {
    let mut common =
        images.first().map(|image| BTreeMap::clone(&image.index_annotations)).unwrap_or_default();
    common.retain(|name, value| images.iter().all(|image| image.index_annotations.get(name) == Some(value)));
    common
}
