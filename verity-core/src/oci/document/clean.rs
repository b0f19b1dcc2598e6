//! What is read of a document, written anew: nulls, and members that nobody asked for, are left out.
//!
//! All of a document is checked, and no tree is made of it: of what is not read, nothing is kept but the names of the members of objects that are not
//! at their end yet. A few bytes of a document would become a hundred times as many in a tree.

use std::fmt;
use std::ops::Range;

use serde::de::{DeserializeSeed, Error as _, MapAccess, SeqAccess, Unexpected, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use crate::oci::error::clip;

/// Members whose own members have any names that their writers like: remarks, paths, ports. Go reads them as maps, in which case matters.
const FREE: [&str; 6] = ["annotations", "Annotations", "Labels", "labels", "Volumes", "ExposedPorts"];
/// Members that are lists. Go writes those as null that are empty.
const LISTS: [&str; 5] = ["manifests", "layers", "diff_ids", "RepoTags", "Layers"];
/// Members that mean the same to all readers, and are not read here.
const UNREAD: [&str; 4] = ["urls", "data", "os.version", "os.features"];

/// The most values that are read of a document: in the types that it becomes, each takes some hundred bytes, however few it has there. 4 MiB of the shortest
/// descriptors have fewer.
pub(super) const VALUES_MAX: usize = 200_000;

/// Checks a document, and answers what it says in the members `known`. One that `is_list` is a list of objects.
///
/// No other lists are left than those that are expected: `serde` fills structures from them, member by member, and no other reader does.
pub(super) fn clean(
    bytes: &[u8],
    known: &'static [&'static str],
    is_list: bool,
) -> serde_json::Result<Vec<u8>> {
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let mut clean = Clean { known, names: Names::default(), text: Vec::new(), values: 0 };
    Value { clean: &mut clean, is_read: true, is_free: false, is_list }.deserialize(&mut deserializer)?;
    deserializer.end()?;
    Ok(clean.text)
}

/// What has been checked so far.
struct Clean {
    known: &'static [&'static str],
    names: Names,
    /// What is to be read of it.
    text: Vec<u8>,
    /// How many values that are.
    values: usize,
}

impl Clean {
    /// Puts a comma where one is needed.
    fn separate(&mut self) {
        if !matches!(self.text.last(), None | Some(b'{' | b'[' | b':')) {
            self.text.push(b',');
        }
    }

    fn write<E: serde::de::Error>(&mut self, value: &(impl Serialize + ?Sized)) -> Result<(), E> {
        serde_json::to_writer(&mut self.text, value).map_err(E::custom)
    }
}

/// The names of the members of objects, those of an object within another one behind that one's: as they are compared.
#[derive(Default)]
struct Names {
    text: String,
    spans: Vec<Range<usize>>,
}

impl Names {
    /// Adds a name. Of those that are free only equal ones are the same.
    fn add(&mut self, name: &str, is_free: bool) -> &str {
        let start = self.text.len();
        if is_free {
            self.text.push_str(name);
        } else {
            self.text.extend(fold(name));
        }
        self.spans.push(start..self.text.len());
        &self.text[start..]
    }

    /// One that is there twice, of those from `first` on.
    fn twice(&mut self, first: usize) -> Option<&str> {
        let Self { text, spans } = self;
        let spans = &mut spans[first..];
        spans.sort_unstable_by(|one, other| text[one.clone()].cmp(&text[other.clone()]));
        let twice = spans.windows(2).find(|pair| text[pair[0].clone()] == text[pair[1].clone()])?;
        Some(&text[twice[0].clone()])
    }
}

/// What Go's reader takes for the same name: it compares without regard to case, in Unicode's sense.
fn fold(name: &str) -> impl Iterator<Item = char> {
    name.chars().flat_map(char::to_uppercase).flat_map(char::to_lowercase)
}

/// A value to be checked. No object in it may have two members that somebody could take for one.
struct Value<'c> {
    clean: &'c mut Clean,
    /// Whether it is read here: it is a known member, and among others like that. What is in others is nobody's business.
    is_read: bool,
    /// Whether the members have any names: they are remarks, or nothing that is read.
    is_free: bool,
    /// Whether it may be a list, if it is read.
    is_list: bool,
}

/// What a value was.
#[derive(PartialEq, Eq)]
enum Found {
    /// As if it were not there.
    Null,
    Something,
}

impl Value<'_> {
    fn scalar<E: serde::de::Error>(self, value: &(impl Serialize + ?Sized)) -> Result<Found, E> {
        if self.is_read {
            self.clean.write(value)?;
        }
        Ok(Found::Something)
    }

    fn open(&mut self, bracket: u8) {
        if self.is_read {
            self.clean.text.push(bracket);
        }
    }

    /// A member, but for its name; the answer is its name to those who do not look closely, if it is not written like that.
    fn member<'de, A: MapAccess<'de>>(
        &mut self,
        name: &str,
        access: &mut A,
    ) -> Result<Option<&'static str>, A::Error> {
        let Self { is_read, is_free, .. } = *self;
        let Clean { known, names, text, .. } = &mut *self.clean;
        let folded = names.add(name, is_free);
        let is_known = known.contains(&name);
        let meant = known.iter().copied().find(|known| folded.eq_ignore_ascii_case(known));
        let meant = meant.filter(|_| is_read && !is_free && !is_known);
        let is_read = is_read && (is_free || (is_known && !UNREAD.contains(&name)));
        let before = text.len();
        if is_read {
            self.clean.separate();
            self.clean.write(name)?;
            self.clean.text.push(b':');
        }
        let is_list = LISTS.contains(&name) && !is_free;
        let value = Value { clean: self.clean, is_read, is_free: FREE.contains(&name), is_list };
        if access.next_value_seed(value)? == Found::Null && is_read {
            let text = &mut self.clean.text;
            // Go's readers leave what is null as it is made: empty.
            let empty = if is_free { Some("\"\"") } else { is_list.then_some("[]") };
            match empty {
                Some(empty) => {
                    text.truncate(text.len() - b"null".len());
                    text.extend(empty.as_bytes());
                }
                None => text.truncate(before),
            }
        }
        Ok(meant)
    }
}

impl<'de> DeserializeSeed<'de> for Value<'_> {
    type Value = Found;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Found, D::Error> {
        if self.is_read {
            self.clean.values += 1;
            if self.clean.values > VALUES_MAX {
                return Err(D::Error::custom(format_args!("there are more than {VALUES_MAX} values in it")));
            }
            self.clean.separate();
        }
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Value<'_> {
    type Value = Found;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<Found, E> {
        self.scalar(&()).map(|_| Found::Null)
    }

    fn visit_bool<E: serde::de::Error>(self, value: bool) -> Result<Found, E> {
        self.scalar(&value)
    }

    fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<Found, E> {
        self.scalar(&value)
    }

    fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<Found, E> {
        self.scalar(&value)
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Found, E> {
        self.scalar(&value)
    }

    fn visit_str<E: serde::de::Error>(self, value: &str) -> Result<Found, E> {
        self.scalar(value)
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut access: A) -> Result<Found, A::Error> {
        if self.is_read && !self.is_list {
            return Err(A::Error::invalid_type(Unexpected::Seq, &"an object or a single value"));
        }
        self.open(b'[');
        loop {
            let value = Value { clean: self.clean, is_read: self.is_read, is_free: false, is_list: false };
            if access.next_element_seed(value)?.is_none() {
                break;
            }
        }
        self.open(b']');
        Ok(Found::Something)
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut access: A) -> Result<Found, A::Error> {
        let mut next = access.next_key_seed(Name)?;
        if next == Some(None) {
            let number: String = access.next_value()?;
            if self.is_read {
                self.clean.text.extend(number.as_bytes());
            }
            return Ok(Found::Something);
        }
        self.open(b'{');
        let (first, start) = (self.clean.names.spans.len(), self.clean.names.text.len());
        let mut misspelt = None;
        while let Some(name) = next.flatten() {
            if let Some(meant) = self.member(&name, &mut access)? {
                misspelt = misspelt.or(Some((clip(&name), meant)));
            }
            next = access.next_key_seed(Name)?;
        }
        if let Some(name) = self.clean.names.twice(first) {
            let name = clip(name);
            return Err(A::Error::custom(format_args!(
                "member {name:?} comes twice, and readers differ in which one counts"
            )));
        }
        if let Some((name, meant)) = misspelt {
            return Err(A::Error::custom(format_args!(
                "member {name:?} is {meant:?} to some readers and nothing to others"
            )));
        }
        self.clean.names.spans.truncate(first);
        self.clean.names.text.truncate(start);
        self.open(b'}');
        Ok(Found::Something)
    }
}

/// The name of a member of an object. There is none where it is a number: `serde_json` shows some as objects with one member if any crate of the program
/// turns its feature `arbitrary_precision` on. That member's name is a string and nothing else; those in a document could be something else to it.
struct Name;

impl<'de> DeserializeSeed<'de> for Name {
    type Value = Option<String>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Option<String>, D::Error> {
        deserializer.deserialize_option(self)
    }
}

impl<'de> Visitor<'de> for Name {
    type Value = Option<String>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Option<String>, D::Error> {
        String::deserialize(deserializer).map(Some)
    }

    fn visit_str<E: serde::de::Error>(self, _: &str) -> Result<Option<String>, E> {
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use std::iter;

    use serde::de::value::MapDeserializer;

    use super::*;

    fn cleaned(text: &str) -> String {
        let known = &["layers", "manifests", "annotations", "subject", "urls", "size"];
        String::from_utf8(clean(text.as_bytes(), known, text.starts_with('[')).unwrap()).unwrap()
    }

    #[test]
    fn what_is_read_stays_as_it_is() {
        for text in [
            "null",
            "[]",
            "{}",
            r#"[1,-1,1.5,true,null,"a\"\\\u001b\né",{"layers":[]},{}]"#,
            r#"{"layers":[{"size":18446744073709551615},{"subject":{"layers":[]}}],"size":false}"#,
            r#"{"annotations":{"A":"1","a":"2","":"3"},"subject":{"annotations":{}}}"#,
        ] {
            assert_eq!(cleaned(text), text);
        }
    }

    #[test]
    fn what_is_not_read_is_left_out() {
        for (text, clean) in [
            (r#"{"x":{"layers":[]},"layers":[],"y":1}"#, r#"{"layers":[]}"#),
            (r#"{"size":null,"layers":[{"x":1}, null],"x":null}"#, r#"{"layers":[{},null]}"#),
            (r#"{"layers":null,"manifests":null,"subject":null}"#, r#"{"layers":[],"manifests":[]}"#),
            (
                r#"{"annotations":{"a":null,"b":"1","layers":null}}"#,
                r#"{"annotations":{"a":"","b":"1","layers":""}}"#,
            ),
            (r#"{"urls":[1],"x":[[]],"size":1}"#, r#"{"size":1}"#),
        ] {
            assert_eq!(cleaned(text), clean);
        }
    }

    #[test]
    fn lists_are_where_they_are_expected() {
        for text in [
            "[]",
            r#"{"subject":[]}"#,
            r#"{"size":[1]}"#,
            r#"{"layers":[[]]}"#,
            r#"{"layers":[{"subject":[1]}]}"#,
            r#"{"annotations":{"layers":[]}}"#,
        ] {
            let known = &["layers", "annotations", "subject", "size"];
            let error = clean(text.as_bytes(), known, false).unwrap_err().to_string();
            assert!(error.starts_with("invalid type: sequence, expected an object"), "{text}: {error}");
        }
    }

    #[test]
    fn numbers_may_be_shown_as_objects() {
        let name = "$serde_json::private::Number";
        // As the library does it, in features that this one has not.
        let number = MapDeserializer::<_, serde_json::Error>::new(iter::once((name, "1.50")));
        let mut clean = Clean { known: &[], names: Names::default(), text: Vec::new(), values: 0 };
        let value = Value { clean: &mut clean, is_read: true, is_free: false, is_list: false };
        assert!(value.deserialize(number).unwrap() == Found::Something);
        assert_eq!(clean.text, b"1.50");
        // Nobody can write one.
        let text = format!(r#"{{"annotations":{{"{name}":"1"}},"size":1.5}}"#);
        assert_eq!(cleaned(&text), text);
        assert_eq!(cleaned(&format!(r#"{{"size":{{"{name}":"1"}}}}"#)), r#"{"size":{}}"#);
    }

    #[test]
    fn no_more_is_read_than_can_be_kept() {
        let clean = |count: usize| {
            let (passed, read) = ("1,".repeat(300_000), "1,".repeat(count));
            clean(format!(r#"{{"x":[{passed}1],"layers":[{read}1]}}"#).as_bytes(), &["layers"], false)
        };
        // The document and the list are values, too.
        assert!(clean(VALUES_MAX - 3).is_ok());
        let error = clean(VALUES_MAX - 2).unwrap_err().to_string();
        assert!(error.starts_with("there are more than 200000 values in it at line 1"), "{error}");
    }
}
