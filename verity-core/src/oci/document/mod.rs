//! JSON documents that every reader takes for the same.
//!
//! Container tools are written in Go, whose JSON library takes the last of several members with one name, and takes `Layers` for `layers`. Others take the
//! first, or only what is written right. A document that says two things would be checked as one and run as the other: it is refused.

mod clean;

use std::collections::BTreeMap;
use std::fmt;

use oci_spec::image as spec;
use serde::de::{DeserializeOwned, IgnoredAny};

use super::error::{Error, clip};

/// What readers of indexes and manifests know.
const KNOWN: &[&str] = &[
    "schemaVersion",
    "mediaType",
    "artifactType",
    "manifests",
    "config",
    "layers",
    "fsLayers",
    "subject",
    "annotations",
    "digest",
    "size",
    "urls",
    "data",
    "platform",
    "os",
    "os.version",
    "os.features",
    "architecture",
    "variant",
];

/// Reads a document's members `known`, which are ASCII, there and in what is in them. It is refused where only some readers take a member for one of those.
pub(super) fn parse<T: DeserializeOwned>(
    what: impl fmt::Display,
    bytes: &[u8],
    known: &'static [&'static str],
) -> Result<T, Error> {
    read(&what, &clean(&what, bytes, known, false)?)
}

/// Reads a document that is a list of objects, like [`parse`].
pub(super) fn parse_list<T: DeserializeOwned>(
    what: impl fmt::Display,
    bytes: &[u8],
    known: &'static [&'static str],
) -> Result<Vec<T>, Error> {
    read(&what, &clean(&what, bytes, known, true)?)
}

fn clean(
    what: &impl fmt::Display,
    bytes: &[u8],
    known: &'static [&'static str],
    is_list: bool,
) -> Result<Vec<u8>, Error> {
    clean::clean(bytes, known, is_list).map_err(|error| refused(what, &error.to_string()))
}

/// Reads what has been cleaned.
fn read<T: DeserializeOwned>(what: &impl fmt::Display, clean: &[u8]) -> Result<T, Error> {
    serde_json::from_slice(clean).map_err(|error| {
        let text = error.to_string();
        // It is somewhere else in the document itself.
        let place = format!(" at line {} column {}", error.line(), error.column());
        refused(what, text.strip_suffix(&place).unwrap_or(&text))
    })
}

fn refused(what: &impl fmt::Display, problem: &str) -> Error {
    // The library quotes what it found.
    Error::Document { what: what.to_string(), problem: clip(problem).escape_debug().to_string() }
}

/// Reads an index.
pub(super) fn index(what: &str, bytes: &[u8]) -> Result<spec::ImageIndex, Error> {
    let index: spec::ImageIndex = one_kind(what, bytes, &["config", "layers"])?;
    check_version(what, index.schema_version()).map(|()| index)
}

/// Reads a manifest.
pub(super) fn manifest(what: &str, bytes: &[u8]) -> Result<spec::ImageManifest, Error> {
    let manifest: spec::ImageManifest = one_kind(what, bytes, &["manifests", "fsLayers"])?;
    check_version(what, manifest.schema_version()).map(|()| manifest)
}

/// A document that could be taken for one of another kind is refused: CVE-2021-41190.
fn one_kind<T: DeserializeOwned>(what: &str, bytes: &[u8], foreign: &[&str]) -> Result<T, Error> {
    let clean = clean(&what, bytes, KNOWN, false)?;
    let members: BTreeMap<String, IgnoredAny> = read(&what, &clean)?;
    match foreign.iter().find(|name| members.contains_key(**name)) {
        Some(name) => {
            let problem = format!("there is {name:?} in it, which belongs into another kind of document");
            Err(Error::Document { what: what.to_owned(), problem })
        }
        None => read(&what, &clean),
    }
}

fn check_version(what: &str, version: u32) -> Result<(), Error> {
    if version == spec::SCHEMA_VERSION {
        return Ok(());
    }
    let problem = format!("schemaVersion is {version}, and only {} is known", spec::SCHEMA_VERSION);
    Err(Error::Document { what: what.to_owned(), problem })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    struct Thing {
        layers: Vec<u64>,
        #[serde(default)]
        annotations: BTreeMap<String, String>,
        subject: Option<bool>,
    }

    fn thing(text: &str) -> Result<Thing, Error> {
        parse("a thing", text.as_bytes(), &["layers", "annotations", "subject"])
    }

    #[test]
    fn what_is_said_once_is_read() {
        let found = thing(
            r#"{"layers":[1,2],"annotations":{"a":"1","A":"2"},"subject":null,"other":{"x":[1.5,-1,null,true]}}"#,
        );
        let Thing { layers, annotations, subject } = found.unwrap();
        assert_eq!((layers, annotations.len(), subject), (vec![1, 2], 2, None));
        assert!(thing(r#"{"layers":null}"#).unwrap().layers.is_empty());
    }

    #[test]
    fn what_readers_differ_in_is_refused() {
        for text in [
            r#"{"layers":[],"layers":[1]}"#,
            r#"{"layers":[],"Layers":[1]}"#,
            "{\"layers\":[],\"layer\u{17f}\":[1]}",
            r#"{"layers":[],"annotations":{"a":"1","a":"2"}}"#,
            r#"{"layers":[],"x":[{"y":1,"Y":1}]}"#,
        ] {
            let error = thing(text).unwrap_err().to_string();
            assert!(error.starts_with("a thing: ") && error.contains("comes twice"), "{error}");
        }
    }

    #[test]
    fn what_only_some_readers_know_is_refused() {
        let digest = "0".repeat(64);
        let entry = |platform: &str| {
            format!(
                r#"{{"schemaVersion":2,"manifests":[{{"mediaType":"a/b","digest":"sha256:{digest}","size":1,"platform":{platform}}}]}}"#
            )
        };
        let good = entry(r#"{"os":"linux","architecture":"arm","x":{"OS":1}}"#);
        assert!(index("an index", good.as_bytes()).is_ok());
        for text in [
            entry(r#"{"os":"linux","architecture":"arm","Variant":"v7"}"#),
            good.replace("\"schemaVersion\"", "\"Layers\":[],\"schemaVersion\""),
            good.replace("\"schemaVersion\"", "\"\u{17f}ubject\":{},\"schemaVersion\""),
        ] {
            let error = index("an index", text.as_bytes()).unwrap_err().to_string();
            assert!(error.contains("nothing to others"), "{error}");
        }
    }

    #[test]
    fn what_is_no_document_is_refused() {
        let deep = "[".repeat(100_000);
        for text in [
            "",
            "{}",
            "[]",
            "null",
            r#"{"layers":[1]} {}"#,
            r#"{"layers":[1"#,
            r#"{"layers":["\u001b"]}"#,
            &deep,
        ] {
            let error = thing(text).unwrap_err().to_string();
            assert!(error.len() < 600 && !error.contains('\u{1b}'), "{error}");
        }
    }
}
