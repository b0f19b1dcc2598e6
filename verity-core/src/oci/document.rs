//! JSON documents that every reader takes for the same.
//!
//! Container tools are written in Go, whose JSON library takes the last of several members with one name, and takes `Layers` for `layers`. Others take the
//! first, or only what is written right. A document that says two things would be checked as one and run as the other: it is refused.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use oci_spec::image as spec;
use serde::de::{DeserializeOwned, DeserializeSeed, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use super::error::{Error, clip};

/// Members whose own members are remarks, with any names that their writers like.
const FREE: [&str; 4] = ["annotations", "Annotations", "Labels", "labels"];
/// Lists that Go writes as null if they are empty.
const LISTS: [&str; 5] = ["manifests", "layers", "diff_ids", "RepoTags", "Layers"];

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

/// Reads a document.
pub(super) fn parse<T: DeserializeOwned>(what: impl fmt::Display, bytes: &[u8]) -> Result<T, Error> {
    parse_known(what, bytes, &[])
}

/// Reads a document, and refuses members that only some readers take for those of the names `known`, which are ASCII.
pub(super) fn parse_known<T: DeserializeOwned>(
    what: impl fmt::Display,
    bytes: &[u8],
    known: &'static [&'static str],
) -> Result<T, Error> {
    let refused = |error: serde_json::Error| Error::Document {
        what: what.to_string(),
        // The library quotes what it found.
        problem: clip(&error.to_string()).escape_debug().to_string(),
    };
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let value = Unambiguous { free: false, known }.deserialize(&mut deserializer).map_err(refused)?;
    deserializer.end().map_err(refused)?;
    serde_json::from_value(value).map_err(refused)
}

/// Reads an index.
pub(super) fn index(what: &str, bytes: &[u8]) -> Result<spec::ImageIndex, Error> {
    check_members(what, bytes, &["config", "layers"])?;
    let index: spec::ImageIndex = parse_known(what, bytes, KNOWN)?;
    check_version(what, index.schema_version()).map(|()| index)
}

/// Reads a manifest.
pub(super) fn manifest(what: &str, bytes: &[u8]) -> Result<spec::ImageManifest, Error> {
    check_members(what, bytes, &["manifests", "fsLayers"])?;
    let manifest: spec::ImageManifest = parse_known(what, bytes, KNOWN)?;
    check_version(what, manifest.schema_version()).map(|()| manifest)
}

/// A document that could be taken for one of another kind is refused: CVE-2021-41190.
fn check_members(what: &str, bytes: &[u8], foreign: &[&str]) -> Result<(), Error> {
    let members: BTreeMap<String, IgnoredAny> = parse_known(what, bytes, KNOWN)?;
    match foreign.iter().find(|name| members.contains_key(**name)) {
        Some(name) => {
            let problem = format!("there is {name:?} in it, which belongs into another kind of document");
            Err(Error::Document { what: what.to_owned(), problem })
        }
        None => Ok(()),
    }
}

fn check_version(what: &str, version: u32) -> Result<(), Error> {
    if version == spec::SCHEMA_VERSION {
        return Ok(());
    }
    let problem = format!("schemaVersion is {version}, and only {} is known", spec::SCHEMA_VERSION);
    Err(Error::Document { what: what.to_owned(), problem })
}

/// A value in which no object has two members that somebody could take for one. Nulls are as if they were not there.
#[derive(Clone, Copy)]
struct Unambiguous {
    /// Whether the members are remarks: then only equal names are the same.
    free: bool,
    /// Members that are read, here and in those among them; what is in others is nobody's business.
    known: &'static [&'static str],
}

impl<'de> DeserializeSeed<'de> for Unambiguous {
    type Value = Value;

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Unambiguous {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut values = Vec::new();
        while let Some(value) = access.next_element_seed(Self { free: false, ..self })? {
            values.push(value);
        }
        Ok(values.into())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut members = Map::new();
        let mut names = BTreeSet::new();
        while let Some(name) = access.next_key::<String>()? {
            let is_known = self.known.contains(&name.as_str());
            let folded = if self.free { name.clone() } else { fold(&name) };
            let meant = self.known.iter().find(|known| folded.eq_ignore_ascii_case(known));
            let meant = meant.filter(|_| !self.free && !is_known);
            if !names.insert(folded) {
                let name = clip(&name);
                return Err(A::Error::custom(format_args!(
                    "member {name:?} comes twice, and readers differ in which one counts"
                )));
            }
            if let Some(meant) = meant {
                let name = clip(&name);
                return Err(A::Error::custom(format_args!(
                    "member {name:?} is {meant:?} to some readers and nothing to others"
                )));
            }
            let known = if is_known { self.known } else { &[] };
            let value = access.next_value_seed(Self { free: FREE.contains(&name.as_str()), known })?;
            match value {
                Value::Null if LISTS.contains(&name.as_str()) => {
                    members.insert(name, Value::Array(Vec::new()))
                }
                Value::Null => None,
                value => members.insert(name, value),
            };
        }
        Ok(members.into())
    }
}

/// What Go's reader takes for the same name: it compares without regard to case, in Unicode's sense.
fn fold(name: &str) -> String {
    name.chars().flat_map(char::to_uppercase).flat_map(char::to_lowercase).collect()
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
        parse("a thing", text.as_bytes())
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
