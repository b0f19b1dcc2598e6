//! Where images are made: a layout, or an archive of one.

use std::io::{self, BufWriter, Write};
use std::path::Path;

use verity_core::oci::store::{Store, StoreError};
use verity_core::oci::{ImageName, Reference, RegistryName, RegistryReference};
use verity_core::progress::Observer;
use verity_core::tree;

use crate::commands::engine;
use crate::failure::{Code, Failure};
use crate::files::{NewFile, TemporaryFolder};

/// Written to at once.
const BUFFER_BYTES: usize = 1 << 20;

/// A layout that is written to, and what becomes of it.
pub(super) struct Destination {
    store: Store,
    archive: Option<(NewFile, TemporaryFolder)>,
}

/// The name that an image is to have there, if one was given.
pub(super) fn name(destination: &ImageName) -> Result<Option<&str>, Failure> {
    let (ImageName::OciLayout { reference, .. } | ImageName::OciArchive { reference, .. }) = destination
    else {
        return Err(Failure::argument(format_args!(
            "DST {destination}: images are made in OCI layouts and archives"
        ))
        .hint("give oci:DIR[:REFERENCE]; 'skopeo copy --preserve-digests' puts the result elsewhere"));
    };
    match reference {
        None => Ok(None),
        Some(Reference::Name(name)) => Ok(Some(name)),
        Some(_) => {
            let message =
                format_args!("DST {destination}: an image cannot be given a digest or a number").to_string();
            Err(Failure::argument(message).hint("give a name, or none"))
        }
    }
}

/// The name of a registry's image, where it is asked for by one: its indexes do not say what it is to be called elsewhere.
pub(super) fn own_name(source: &ImageName) -> Option<&str> {
    match source {
        ImageName::Registry(RegistryName { reference: RegistryReference::Tag(tag), .. }) => Some(tag),
        _ => None,
    }
}

impl Destination {
    pub(super) fn open(name: &ImageName, observer: &dyn Observer) -> Result<Self, Failure> {
        let opened = |dir: &Path| Store::open(dir, observer).map_err(|error| cannot_store(&error));
        match name {
            ImageName::OciArchive { path, .. } => {
                let output = NewFile::create(path, 0)?;
                let folder = TemporaryFolder::beside(path).map_err(|error| cannot_write(path, &error))?;
                // The folder itself is locked.
                Ok(Self { store: opened(&folder.path().join("layout"))?, archive: Some((output, folder)) })
            }
            ImageName::OciLayout { dir, .. } => Ok(Self { store: opened(dir)?, archive: None }),
            // Refused when its name was asked for.
            other => Err(Failure::argument(format_args!(
                "DST {other}: images are made in OCI layouts and archives"
            ))),
        }
    }

    pub(super) fn store(&self) -> &Store {
        &self.store
    }

    /// What is to be done when all images are in the layout.
    pub(super) fn publish(self, observer: &dyn Observer) -> Result<(), Failure> {
        let Some((output, folder)) = self.archive else { return Ok(()) };
        let mut out = BufWriter::with_capacity(BUFFER_BYTES, output.file());
        let written = self.store.archive(&mut out, output.path(), observer);
        written.map_err(|error| cannot_store(&error))?;
        out.flush().map_err(|error| output.cannot_write(&error))?;
        drop(out);
        output.publish()?;
        drop((self.store, folder));
        Ok(())
    }
}

/// A source is never written to: in its own layout the result has to have a name that none of the images it is made of has.
pub(super) fn refuse_own_source(
    source: &ImageName,
    destination: &ImageName,
    own_names: &[String],
    name: Option<&str>,
) -> Result<(), Failure> {
    let (ImageName::OciLayout { dir: other, .. }, ImageName::OciLayout { dir, .. }) = (source, destination)
    else {
        // An archive that is there is not replaced at all.
        return Ok(());
    };
    let same_layout = match (dir.canonicalize(), other.canonicalize()) {
        (Ok(dir), Ok(other)) => dir == other,
        _ => false,
    };
    if same_layout && name.is_some_and(|name| own_names.iter().any(|own| own == name)) {
        return Err(Failure::new(
            Code::Busy,
            format_args!("{source} would be replaced by what is made of it"),
        )
        .hint("give DST another name, or another directory"));
    }
    Ok(())
}

pub(super) fn cannot_store(error: &StoreError) -> Failure {
    match error {
        StoreError::NotALayout { .. } => {
            Failure::new(Code::Busy, error).hint("give a directory that is empty or does not exist yet")
        }
        StoreError::Link { .. } => Failure::new(Code::Busy, error)
            .hint("look who put it there, and remove it; or give another directory"),
        StoreError::Gone { .. } => Failure::new(Code::Busy, error)
            .hint("do it again; what is in the directory has to stay there until it is done, '.verity' too"),
        StoreError::Write { path, source } => cannot_write(path, source),
        StoreError::Read { path, source } => Failure::system(format_args!("{path:?} cannot be read"), source),
        StoreError::Cancelled => engine::failure(&tree::Error::Cancelled, |_| String::new()),
        _ => Failure::new(Code::General, error),
    }
}

pub(super) fn cannot_write(path: &Path, error: &io::Error) -> Failure {
    let failure = Failure::system(format_args!("output {path:?} cannot be written"), error);
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
            failure.hint("make room; layers that are complete are not made again")
        }
        io::ErrorKind::NotFound => failure.code(Code::General).hint("give a directory in one that exists"),
        io::ErrorKind::ResourceBusy => failure.hint("wait until that is done"),
        _ => failure.hint("give a directory that can be written to"),
    }
}
