//! The index of a layout, which says what images there are.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, Read};
use std::path::Path;

use serde::de::{Error as _, MapAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serializer};
use serde_json::value::RawValue;

use super::folder::Folder;
use super::{LAYOUT, LIST, Store, StoreError};
use crate::oci::DOCUMENT_MAX;
use crate::oci::descriptor::Descriptor;
use crate::oci::document;
use crate::oci::encode;
use crate::oci::layout;
use crate::oci::media;
use crate::progress::Observer;

/// The member that lists the images.
const ENTRIES: &str = "manifests";

/// What is changed of an index.
#[derive(Deserialize)]
struct Entries<'t> {
    /// umoci writes null where there are none.
    #[serde(borrow, default)]
    manifests: Option<Vec<&'t RawValue>>,
}

/// What counts of an entry.
#[derive(Deserialize)]
struct Entry {
    digest: String,
    #[serde(default)]
    annotations: Option<BTreeMap<String, Option<String>>>,
}

/// Checks what the file `oci-layout` says, as who reads images does. Whether there is one.
pub(super) fn check_layout(dir: &Folder) -> Result<bool, StoreError> {
    let Some(text) = read_document(dir, layout::MARKER, layout::MARKER_MAX)? else { return Ok(false) };
    layout::check_marker(&text)
        .map_err(|problem| StoreError::document(&dir.path_of(layout::MARKER), &problem))?;
    Ok(true)
}

/// Checks that the index of a layout is one that images can be listed in: before any is made.
pub(super) fn check(dir: &Folder) -> Result<(), StoreError> {
    let path = dir.path_of(layout::INDEX);
    let text = read(dir)?;
    check_text(&path, &text)?;
    for entry in entries(&path, &text)? {
        parse(&path, entry)?;
    }
    Ok(())
}

/// Checks that who reads images reads this index.
fn check_text(path: &Path, text: &[u8]) -> Result<(), StoreError> {
    document::index("the index", text).map(drop).map_err(|error| StoreError::document(path, &error))
}

fn entries<'t>(path: &Path, text: &'t [u8]) -> Result<Vec<&'t RawValue>, StoreError> {
    let read: serde_json::Result<Entries<'t>> = serde_json::from_slice(text);
    read.map(|read| read.manifests.unwrap_or_default()).map_err(|error| StoreError::document(path, &error))
}

fn parse(path: &Path, entry: &RawValue) -> Result<Entry, StoreError> {
    serde_json::from_str(entry.get()).map_err(|error| StoreError::document(path, &error))
}

pub(super) fn set_image(
    store: &Store,
    image: &Descriptor,
    observer: &dyn Observer,
) -> Result<(), StoreError> {
    let dir = &store.dir;
    let path = dir.path_of(layout::INDEX);
    let failed = |error| StoreError::document(&path, &error);
    let _lock = store.work.lock(LIST, observer)?;
    let before = read(dir)?;
    // Others may have written it since the layout was opened.
    check_text(&path, &before)?;
    let entries = entries(&path, &before)?;
    let text = encode::descriptor(image).map_err(failed)?;
    let new = RawValue::from_string(text).map_err(failed)?;
    let mut new = Some(&*new);
    let mut kept = Vec::with_capacity(entries.len() + 1);
    for entry in entries {
        let other = parse(&path, entry)?;
        let theirs =
            other.annotations.as_ref().and_then(|annotations| annotations.get(layout::NAME)?.as_ref());
        let replaced = match (image.annotations.get(layout::NAME), theirs) {
            (None, None) => other.digest == image.digest.to_string(),
            (ours, theirs) => ours == theirs,
        };
        // In the place of the first, so that nothing moves.
        if !replaced {
            kept.push(entry);
        } else if let Some(new) = new.take() {
            kept.push(new);
        }
    }
    kept.extend(new);
    let text = with_entries(&before, &kept).map_err(failed)?;
    // Nobody could read it, nor list anything else in it.
    if text.len() as u64 > DOCUMENT_MAX {
        let message = format_args!("with this image it would have more than {DOCUMENT_MAX} bytes");
        return Err(StoreError::document(&path, &message));
    }
    check_text(&path, &text)?;
    if !check_layout(dir)? {
        replace(store, layout::MARKER, LAYOUT)?;
    }
    if !dir.holds(layout::INDEX, &text) {
        replace(store, layout::INDEX, &text)?;
    }
    dir.sync();
    Ok(())
}

/// An index with other entries. All else is as it was written, and where it was; none of it is kept in memory beside that.
fn with_entries(text: &[u8], entries: &[&RawValue]) -> serde_json::Result<Vec<u8>> {
    struct Members<'e>(&'e [&'e RawValue]);

    impl<'de> Visitor<'de> for Members<'_> {
        type Value = Vec<u8>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an index")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Vec<u8>, A::Error> {
            let mut text = Vec::new();
            let mut serializer = serde_json::Serializer::new(&mut text);
            let mut members = serializer.serialize_map(None).map_err(A::Error::custom)?;
            let mut is_there = false;
            while let Some(name) = access.next_key::<String>()? {
                let value: &RawValue = access.next_value()?;
                let written = if name == ENTRIES {
                    is_there = true;
                    members.serialize_entry(&name, self.0)
                } else {
                    members.serialize_entry(&name, value)
                };
                written.map_err(A::Error::custom)?;
            }
            if !is_there {
                members.serialize_entry(ENTRIES, self.0).map_err(A::Error::custom)?;
            }
            members.end().map_err(A::Error::custom)?;
            Ok(text)
        }
    }

    serde_json::Deserializer::from_slice(text).deserialize_map(Members(entries))
}

/// The index that is there, or a new one.
fn read(dir: &Folder) -> Result<Vec<u8>, StoreError> {
    let new = || format!(r#"{{"{ENTRIES}":[],"mediaType":"{}","schemaVersion":2}}"#, media::INDEX);
    Ok(read_document(dir, layout::INDEX, DOCUMENT_MAX)?.unwrap_or_else(|| new().into_bytes()))
}

/// A document of the layout itself, if it is there.
///
/// A link that leads nowhere is none that is not there: nothing could be read by it, and what is written would not be found.
fn read_document(dir: &Folder, name: &str, limit: u64) -> Result<Option<Vec<u8>>, StoreError> {
    let path = dir.path_of(name);
    let mut text = Vec::new();
    match dir.read(name) {
        Ok((file, _)) => file.take(limit + 1).read_to_end(&mut text).map_err(StoreError::read(&path))?,
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(StoreError::read(&path)(error)),
        Err(_) if dir.is_link(name) => return Err(StoreError::Link { path }),
        Err(_) => return Ok(None),
    };
    if text.len() as u64 > limit {
        return Err(StoreError::document(&path, &format_args!("more than {limit} bytes")));
    }
    Ok(Some(text))
}

fn replace(store: &Store, name: &str, text: &[u8]) -> Result<(), StoreError> {
    let file = store.begin_blob()?;
    file.write(text)?;
    file.publish(&store.dir, name)
}
