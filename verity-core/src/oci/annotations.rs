//! What a manifest says of a layer with a hash tree: annotations of the layer's descriptor.
//!
//! | annotation | value |
//! |---|---|
//! | `io.dm-verity.layer.diff-id` | the digest of the tar that the layer was made of, as in the image's configuration |
//! | `io.dm-verity.layer.root-hash` | hexadecimal |
//! | `io.dm-verity.layer.algorithm` | the tree's digest, such as `sha256` |
//! | `io.dm-verity.layer.salt` | hexadecimal, or `-` for none |
//! | `io.dm-verity.layer.block-size` | of data and hash blocks, in bytes |
//! | `io.dm-verity.layer.data-blocks` | how many blocks of the image the tree covers |
//! | `io.dm-verity.layer.hash-offset` | the byte of the blob at which the superblock lies, and behind it the tree |
//! | `io.dm-verity.layer.fec-roots` | bytes of parity in each codeword; missing without parity |
//! | `io.dm-verity.layer.fec-offset` | the byte at which the parity begins; missing without parity |
//!
//! Numbers are decimal, without signs or leading zeros. They come from whoever made the manifest, and are as trustworthy as its digest: a
//! value here is well formed, and its parts lie one behind the other.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use crate::algorithm::Algorithm;
use crate::block::{BlockSize, RootHash, Salt};
use crate::fec::{self, Roots};
use crate::geometry::{Geometry, GeometryError, HashArea};
use crate::layer::{Built, Digest};
use crate::params::Params;

/// The media type of a layer that is an EROFS image, whether or not a tree is behind it: containerd's.
pub const LAYER_MEDIA_TYPE: &str = "application/vnd.erofs.layer.v1";
/// The artifact type of a manifest whose layers have trees.
pub const ARTIFACT_TYPE: &str = "application/vnd.dm-verity.image.v1";
/// What the annotations' keys begin with.
pub const PREFIX: &str = "io.dm-verity.layer.";

const DIFF_ID: &str = "io.dm-verity.layer.diff-id";
const ROOT_HASH: &str = "io.dm-verity.layer.root-hash";
const ALGORITHM: &str = "io.dm-verity.layer.algorithm";
const SALT: &str = "io.dm-verity.layer.salt";
const BLOCK_SIZE: &str = "io.dm-verity.layer.block-size";
const DATA_BLOCKS: &str = "io.dm-verity.layer.data-blocks";
const HASH_OFFSET: &str = "io.dm-verity.layer.hash-offset";
const FEC_ROOTS: &str = "io.dm-verity.layer.fec-roots";
const FEC_OFFSET: &str = "io.dm-verity.layer.fec-offset";

const KEYS: [&str; 9] =
    [DIFF_ID, ROOT_HASH, ALGORITHM, SALT, BLOCK_SIZE, DATA_BLOCKS, HASH_OFFSET, FEC_ROOTS, FEC_OFFSET];

/// Everything that is needed to activate and mount a layer's blob.
///
/// ```
/// use std::collections::BTreeMap;
/// use verity_core::oci::annotations::LayerAnnotations;
/// let text = [
///     ("diff-id", format!("sha256:{}", "0a".repeat(32))),
///     ("root-hash", "1b".repeat(32)),
///     ("algorithm", "sha256".to_owned()),
///     ("salt", "2c".repeat(32)),
///     ("block-size", "4096".to_owned()),
///     ("data-blocks", "100".to_owned()),
///     ("hash-offset", "409600".to_owned()),
/// ];
/// let map: BTreeMap<_, _> = text.map(|(key, value)| (format!("io.dm-verity.layer.{key}"), value)).into();
/// let layer = LayerAnnotations::of(&map)?;
/// assert_eq!((layer.data_blocks, layer.fec), (100, None));
/// assert_eq!(layer.to_map(), map);
/// // Superblock and one hash block.
/// assert_eq!(layer.blob_bytes()?, 409_600 + 2 * 4096);
/// # Ok::<(), verity_core::oci::annotations::AnnotationError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LayerAnnotations {
    /// The digest of the uncompressed tar that the layer was made of.
    pub diff_id: Digest,
    /// What vouches for the image.
    pub root_hash: RootHash,
    /// What the tree is hashed with.
    pub algorithm: Algorithm,
    /// What is hashed with every block.
    pub salt: Salt,
    /// The size of data and hash blocks.
    pub block_size: BlockSize,
    /// How many blocks of the image the tree covers.
    pub data_blocks: u64,
    /// The byte at which the superblock lies.
    pub hash_offset: u64,
    /// The parity, if there is any.
    pub fec: Option<Fec>,
}

/// Parity behind a layer's tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fec {
    /// How many bytes of parity each codeword has.
    pub roots: Roots,
    /// The byte at which it begins.
    pub offset: u64,
}

/// Annotations that describe no layer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AnnotationError {
    /// One that has to be there is not.
    #[error("annotation {0} is missing")]
    Missing(&'static str),
    /// One says what cannot be.
    #[error("annotation {name} is {value:?}: {problem}")]
    Value {
        /// Its key.
        name: &'static str,
        /// What it says, or the start of it.
        value: String,
        /// What is wrong.
        problem: String,
    },
    /// One that begins as these do, and is none of them: something of a later version, which may change what the others mean.
    #[error("annotation {0:?} is unknown")]
    Unknown(String),
    /// Parts that do not fit, or lie on top of each other.
    #[error("the annotations' {0}")]
    Layout(String),
}

impl LayerAnnotations {
    /// What is to be said of a layer that was built. `diff_id` is the image configuration's, where that has one of another algorithm.
    #[must_use]
    pub fn of_built(built: &Built, diff_id: Option<&Digest>) -> Self {
        Self {
            diff_id: diff_id.unwrap_or(&built.diff_id).clone(),
            root_hash: built.root,
            algorithm: built.params.algorithm,
            salt: built.params.salt.clone(),
            block_size: built.params.data_block_size,
            data_blocks: built.geometry.data_blocks(),
            hash_offset: built.geometry.area().offset(),
            fec: built.parity.as_ref().map(|parity| Fec { roots: parity.roots(), offset: parity.offset() }),
        }
    }

    /// Reads a descriptor's annotations. Those of other meaning are left alone.
    ///
    /// # Errors
    /// [`AnnotationError`]: which one is missing or wrong.
    pub fn of(annotations: &BTreeMap<String, String>) -> Result<Self, AnnotationError> {
        let known = |name: &str| KEYS.contains(&name);
        if let Some(name) = annotations.keys().find(|name| name.starts_with(PREFIX) && !known(name)) {
            return Err(AnnotationError::Unknown(clip(name)));
        }
        let values = Values(annotations);
        let algorithm = values.parse(ALGORITHM)?;
        let fec = match (values.optional(FEC_ROOTS)?, values.optional(FEC_OFFSET)?) {
            (None, None) => None,
            (Some(Number(roots)), Some(Number(offset))) => {
                let roots = Roots::new(roots).map_err(|error| values.problem(FEC_ROOTS, error))?;
                Some(Fec { roots, offset })
            }
            (None, Some(_)) => return Err(AnnotationError::Missing(FEC_ROOTS)),
            (Some(_), None) => return Err(AnnotationError::Missing(FEC_OFFSET)),
        };
        let Number(block_size) = values.parse(BLOCK_SIZE)?;
        let block_size = u32::try_from(block_size)
            .ok()
            .and_then(|bytes| BlockSize::new(bytes).ok())
            .ok_or_else(|| values.problem(BLOCK_SIZE, "not a power of two from 512 to 524288"))?;
        let root_hash = RootHash::from_hex(algorithm, values.get(ROOT_HASH)?)
            .map_err(|error| values.problem(ROOT_HASH, error))?;
        let layer = Self {
            diff_id: values.parse(DIFF_ID)?,
            root_hash,
            algorithm,
            salt: values.parse(SALT)?,
            block_size,
            data_blocks: values.parse::<Number>(DATA_BLOCKS)?.0,
            hash_offset: values.parse::<Number>(HASH_OFFSET)?.0,
            fec,
        };
        // One text for one layer: manifests that say the same are the same.
        let canonical = layer.to_map();
        if let Some(name) = KEYS.into_iter().find(|name| annotations.get(*name) != canonical.get(*name)) {
            return Err(values.problem(name, "not as it is written: lower-case digits, no leading zeros"));
        }
        layer.blob_bytes()?;
        Ok(layer)
    }

    /// The annotations, to be put into a descriptor.
    #[must_use]
    pub fn to_map(&self) -> BTreeMap<String, String> {
        let mut map = BTreeMap::new();
        let mut put = |name: &str, value: &dyn fmt::Display| map.insert(name.to_owned(), value.to_string());
        put(DIFF_ID, &self.diff_id);
        put(ROOT_HASH, &self.root_hash);
        put(ALGORITHM, &self.algorithm);
        put(SALT, &self.salt);
        put(BLOCK_SIZE, &self.block_size);
        put(DATA_BLOCKS, &self.data_blocks);
        put(HASH_OFFSET, &self.hash_offset);
        if let Some(Fec { roots, offset }) = self.fec {
            put(FEC_ROOTS, &roots);
            put(FEC_OFFSET, &offset);
        }
        map
    }

    /// What the tree is made with.
    #[must_use]
    pub fn params(&self) -> Params {
        Params {
            algorithm: self.algorithm,
            data_block_size: self.block_size,
            hash_block_size: self.block_size,
            salt: self.salt.clone(),
            ..Params::default()
        }
    }

    /// Where the tree lies in the blob.
    ///
    /// # Errors
    /// [`AnnotationError::Layout`] where image and tree overlap, or positions are too large. A value that [`of`](Self::of) gave has none.
    pub fn geometry(&self) -> Result<Geometry, AnnotationError> {
        let laid_out = || -> Result<Geometry, GeometryError> {
            let area = HashArea::with_superblock(self.hash_offset)?;
            let geometry = Geometry::new(&self.params(), self.data_blocks, area)?;
            geometry.check_shared_file()?;
            Ok(geometry)
        };
        laid_out().map_err(|error| AnnotationError::Layout(error.to_string()))
    }

    /// Where the parity lies in the blob, if there is any.
    ///
    /// # Errors
    /// As [`geometry`](Self::geometry), and where the parity does not lie behind the tree.
    pub fn parity(&self) -> Result<Option<fec::Layout>, AnnotationError> {
        let Some(Fec { roots, offset }) = self.fec else { return Ok(None) };
        let geometry = self.geometry()?;
        if offset < geometry.hash_area_end() {
            let problem = format!(
                "FEC offset {offset} lies within the tree, which ends at {}",
                geometry.hash_area_end()
            );
            return Err(AnnotationError::Layout(problem));
        }
        fec::Layout::new(&self.params(), &geometry, geometry.hash_blocks(), roots, offset)
            .map(Some)
            .map_err(|error| AnnotationError::Layout(error.to_string()))
    }

    /// How many bytes the blob has: the end of its last part.
    ///
    /// # Errors
    /// As [`parity`](Self::parity).
    pub fn blob_bytes(&self) -> Result<u64, AnnotationError> {
        let too_large = || AnnotationError::Layout("FEC offset is too large".to_owned());
        match self.parity()? {
            Some(parity) => parity.offset().checked_add(parity.parity_bytes()).ok_or_else(too_large),
            None => Ok(self.geometry()?.hash_area_end()),
        }
    }
}

/// Decimal digits and nothing else.
struct Number(u64);

impl FromStr for Number {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err("not a number in decimal digits");
        }
        text.parse().map(Self).map_err(|_| "too large")
    }
}

/// Annotations, as they are looked up.
struct Values<'a>(&'a BTreeMap<String, String>);

impl<'a> Values<'a> {
    fn get(&self, name: &'static str) -> Result<&'a str, AnnotationError> {
        self.0.get(name).map(String::as_str).ok_or(AnnotationError::Missing(name))
    }

    fn parse<T: FromStr<Err: fmt::Display>>(&self, name: &'static str) -> Result<T, AnnotationError> {
        self.get(name)?.parse().map_err(|error| self.problem(name, error))
    }

    fn optional<T: FromStr<Err: fmt::Display>>(
        &self,
        name: &'static str,
    ) -> Result<Option<T>, AnnotationError> {
        if self.0.contains_key(name) { self.parse(name).map(Some) } else { Ok(None) }
    }

    fn problem(&self, name: &'static str, problem: impl fmt::Display) -> AnnotationError {
        let value = self.0.get(name).map(|value| clip(value)).unwrap_or_default();
        AnnotationError::Value { name, value, problem: problem.to_string() }
    }
}

/// As much of a stranger's text as a message shows.
fn clip(text: &str) -> String {
    text.chars().take(150).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> LayerAnnotations {
        let roots = Roots::new(2).unwrap();
        LayerAnnotations {
            diff_id: format!("sha256:{}", "0a".repeat(32)).parse().unwrap(),
            root_hash: RootHash::new(Algorithm::Sha256, &[0xb1; 32]).unwrap(),
            algorithm: Algorithm::Sha256,
            salt: Salt::new(&[0xc2; 32]).unwrap(),
            block_size: BlockSize::new(4096).unwrap(),
            data_blocks: 1000,
            hash_offset: 1000 * 4096,
            fec: Some(Fec { roots, offset: 1010 * 4096 }),
        }
    }

    #[test]
    fn what_is_written_is_read() {
        for fec in [example().fec, None] {
            for salt in [example().salt, Salt::default()] {
                let layer = LayerAnnotations { fec, salt, ..example() };
                let mut map = layer.to_map();
                map.insert("org.example".to_owned(), "left alone".to_owned());
                assert_eq!(LayerAnnotations::of(&map).unwrap(), layer);
            }
        }
        // 1000 data blocks, the superblock's, 9 of the tree; and of parity 2 for each of 4 rounds.
        assert_eq!(example().blob_bytes().unwrap(), (1010 + 8) * 4096);
    }

    #[test]
    fn each_has_to_be_there() {
        for name in KEYS {
            let mut map = example().to_map();
            map.remove(name);
            assert_eq!(LayerAnnotations::of(&map), Err(AnnotationError::Missing(name)));
        }
    }

    #[test]
    fn other_values_are_refused_and_named() {
        let long = "9".repeat(1000);
        for (name, values) in [
            (DIFF_ID, &["", "sha256:0", "md5:00", "latest"][..]),
            (ROOT_HASH, &["", "0", &"b1".repeat(31), &"B1".repeat(32), &"zz".repeat(32)]),
            (ALGORITHM, &["", "SHA256", "md4", "sha512"]),
            (SALT, &["", "0", "C2", "zz", &"00".repeat(257)]),
            (BLOCK_SIZE, &["", "0", "04096", "4097", "4294971392", "-4096"]),
            (DATA_BLOCKS, &["", "0", "+1", "01000", "1e3", "1001", "18446744073709551615", &long]),
            (HASH_OFFSET, &["", "0", "4095999", "4096001", "18446744073709551615"]),
            (FEC_ROOTS, &["", "1", "25", "02"]),
            (FEC_OFFSET, &["", "0", "4096000", "4136961", "18446744073709547520"]),
        ] {
            for value in values {
                let mut map = example().to_map();
                map.insert(name.to_owned(), (*value).to_owned());
                let error = LayerAnnotations::of(&map).unwrap_err();
                assert!(error.to_string().len() < 400, "{error}");
                let names_it = match &error {
                    // The algorithm says how long a root hash is.
                    AnnotationError::Value { name: found, .. } => *found == name || name == ALGORITHM,
                    AnnotationError::Layout(_) => matches!(name, DATA_BLOCKS | HASH_OFFSET | FEC_OFFSET),
                    _ => false,
                };
                assert!(names_it, "{name} {value:?}: {error}");
            }
        }
    }

    #[test]
    fn what_a_later_version_adds_is_not_passed_over() {
        let mut map = example().to_map();
        map.insert(format!("{PREFIX}hash-type"), "0".to_owned());
        assert_eq!(
            LayerAnnotations::of(&map),
            Err(AnnotationError::Unknown("io.dm-verity.layer.hash-type".to_owned()))
        );
    }
}
