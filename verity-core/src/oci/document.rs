//! JSON documents that every reader takes for the same.
//!
//! Container tools are written in Go, whose JSON library takes the last of several members with one name, and takes `Layers` for `layers`. Others take the
//! first, or only what is written right. A document that says two things would be checked as one and run as the other: it is refused.

use std::collections::BTreeSet;
use std::fmt;

use serde::de::{DeserializeOwned, DeserializeSeed, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use super::error::{Error, clip};

/// Members whose own members are remarks, with any names that their writers like.
const FREE: [&str; 4] = ["annotations", "Annotations", "Labels", "labels"];
/// Lists that Go writes as null if they are empty.
const LISTS: [&str; 5] = ["manifests", "layers", "diff_ids", "RepoTags", "Layers"];

/// Reads a document.
pub(super) fn parse<T: DeserializeOwned>(what: impl fmt::Display, bytes: &[u8]) -> Result<T, Error> {
    let refused = |error: serde_json::Error| Error::Document {
        what: what.to_string(),
        // The library quotes what it found.
        problem: clip(&error.to_string()).escape_debug().to_string(),
    };
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let value = Unambiguous { free: false }.deserialize(&mut deserializer).map_err(refused)?;
    deserializer.end().map_err(refused)?;
    serde_json::from_value(value).map_err(refused)
}

/// A value in which no object has two members that somebody could take for one. Nulls are as if they were not there.
#[derive(Clone, Copy)]
struct Unambiguous {
    /// Whether the members are remarks: then only equal names are the same.
    free: bool,
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
        while let Some(value) = access.next_element_seed(Self { free: false })? {
            values.push(value);
        }
        Ok(values.into())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut members = Map::new();
        let mut names = BTreeSet::new();
        while let Some(name) = access.next_key::<String>()? {
            let folded = if self.free { name.clone() } else { fold(&name) };
            if !names.insert(folded) {
                let name = clip(&name);
                return Err(A::Error::custom(format_args!(
                    "member {name:?} comes twice, and readers differ in which one counts"
                )));
            }
            let value = access.next_value_seed(Self { free: FREE.contains(&name.as_str()) })?;
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
