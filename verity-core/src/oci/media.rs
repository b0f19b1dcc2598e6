//! Media types of the documents and layers of images: OCI's, and Docker's, which mean the same.

use crate::layer::Compression;

pub(super) const INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub(super) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(super) const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
pub(super) const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

/// The most bytes of documents that are kept of one source: 256 MiB.
pub(super) const DOCUMENTS_MAX: u64 = 256 << 20;

/// What a document is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Document {
    Index,
    Manifest,
}

/// Which kind of document leads on to images.
pub(super) fn document(media_type: &str) -> Option<Document> {
    match media_type {
        INDEX | "application/vnd.docker.distribution.manifest.list.v2+json" => Some(Document::Index),
        MANIFEST | "application/vnd.docker.distribution.manifest.v2+json" => Some(Document::Manifest),
        _ => None,
    }
}

/// Whether it is an image's configuration.
pub(super) fn is_config(media_type: &str) -> bool {
    matches!(media_type, CONFIG | "application/vnd.docker.container.image.v1+json")
}

/// How a layer that is a tar is compressed; `None` if it is none.
///
/// Layers that are not to be handed on are tars like all others.
pub(super) fn tar(media_type: &str) -> Option<Compression> {
    Some(match media_type {
        LAYER
        | "application/vnd.oci.image.layer.nondistributable.v1.tar"
        | "application/vnd.docker.image.rootfs.diff.tar" => Compression::None,
        "application/vnd.oci.image.layer.v1.tar+gzip"
        | "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"
        | "application/vnd.docker.image.rootfs.diff.tar.gzip"
        | "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip" => Compression::Gzip,
        "application/vnd.oci.image.layer.v1.tar+zstd"
        | "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd"
        | "application/vnd.docker.image.rootfs.diff.tar.zstd" => Compression::Zstd,
        _ => return None,
    })
}

/// What OCI calls a layer that is a tar.
pub(super) const fn layer(compression: Compression) -> &'static str {
    match compression {
        Compression::None => LAYER,
        Compression::Gzip => "application/vnd.oci.image.layer.v1.tar+gzip",
        Compression::Zstd => "application/vnd.oci.image.layer.v1.tar+zstd",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_have_the_type_that_is_read() {
        for compression in [Compression::None, Compression::Gzip, Compression::Zstd] {
            assert_eq!(tar(layer(compression)), Some(compression));
        }
        assert_eq!(tar("application/vnd.oci.image.layer.v1.tar+gzip+encrypted"), None);
    }
}
