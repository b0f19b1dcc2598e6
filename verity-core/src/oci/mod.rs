//! Images, as the Open Container Initiative describes them: an index, manifests, a configuration and layers, in a directory, in a tar or in a registry.
//!
//! An [`ImageName`] says where an image is, [`open`] gives the [`Source`] that its blobs are read from, and [`images`] follows the indexes in it to the
//! images of the platforms that are wanted. Everything in a source is a stranger's: documents are bounded, and their digests checked before a byte of
//! them is looked at; what is said of layers (size, digest, diffID) is for whoever reads a layer to check, as [`layer::build`](crate::layer::build) does.
//!
//! What is read and what is refused is in `docs/images.md`.

pub mod annotations;
mod archive;
pub mod auth;
pub mod build;
mod config;
mod descriptor;
mod directory;
mod docker;
mod document;
mod encode;
mod error;
mod hashing;
mod image;
mod layout;
mod media;
mod name;
mod positions;
#[cfg(feature = "registry")]
pub mod registry;
mod resolve;
mod source;
pub mod store;
pub mod verify;
mod watcher;

pub use descriptor::{Descriptor, Platform, PlatformError};
pub use error::{Error, NameError};
pub use image::{Config, Image, Images, Layer, LayerKind, Platforms};
pub use name::{ImageName, Reference, RegistryName, RegistryReference};
pub use resolve::images;
pub use source::{DOCUMENT_MAX, Source, open, open_with, read_document};
pub use watcher::Watcher;
