//! Kata Containers: a volume as JSON, which in base64 is the mount option `io.katacontainers.volume=...`.
//!
//! Source: `KataVirtualVolume` and `DmVerityInfo` in `src/libs/kata-types/src/mount.rs` of kata-containers, and the guest's reader, which
//! makes the kernel's table from them: the tree begins at the first hash block at or behind `offset`, without a superblock, with hash type 1
//! and no salt. `salt`, `hash_type` and `no_superblock` are read where they are given; what is written has none of the three, so that readers that do
//! not know them read it, too.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use super::{Error, clip, field, json, root_hash};
use crate::algorithm::Algorithm;
use crate::block::{BlockSize, RootHash, Salt};
use crate::geometry::{Geometry, GeometryError, HashArea};
use crate::params::{HashType, Params};

const WHAT: &str = "Kata volume";

/// The mount option's name, with the equals sign.
pub const OPTION: &str = "io.katacontainers.volume=";

/// No option has more bytes: it shares a page with others.
const MOST_BASE64: usize = 64 * 1024;

/// The algorithms that the guest takes, but for RIPEMD-160, for which it and the kernel have different names.
const ALGORITHMS: [Algorithm; 5] =
    [Algorithm::Sha1, Algorithm::Sha224, Algorithm::Sha256, Algorithm::Sha384, Algorithm::Sha512];

/// What kind of volume it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Kind {
    /// A layer of an image, as a block device.
    LayerRawBlock,
    /// A whole image, as a block device.
    ImageRawBlock,
}

/// A volume that is a block device with a hash tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Volume {
    /// What it is.
    pub kind: Kind,
    /// The path of the file with image and tree.
    pub source: String,
    /// The image's file system.
    pub fs_type: String,
    /// Mount options.
    pub options: Vec<String>,
    /// The tree.
    pub tree: Tree,
}

/// Where a volume's tree lies, and what it is made with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tree {
    /// What the tree is made with.
    pub params: Params,
    /// The root hash.
    pub root: RootHash,
    /// How many data blocks there are.
    pub data_blocks: u64,
    /// The end of the data, behind which the tree lies, in bytes; with a superblock, that lies there.
    pub offset: u64,
    /// Whether there is a superblock.
    pub superblock: bool,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Document {
    volume_type: Kind,
    source: String,
    fs_type: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    options: Vec<String>,
    dm_verity: Option<Verity>,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Verity {
    hashtype: String,
    hash: String,
    blocknum: u64,
    blocksize: u64,
    hashsize: u64,
    offset: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    salt: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hash_type: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    no_superblock: Option<bool>,
}

impl Volume {
    /// Reads a volume: as JSON, or as the mount option with or without its name.
    ///
    /// # Errors
    /// [`Error::Json`], or an error that names the field.
    pub fn parse(text: &[u8]) -> Result<Self, Error> {
        let text = text.trim_ascii();
        if text.first() == Some(&b'{') {
            return Self::from_json(text);
        }
        let encoded = text.strip_prefix(OPTION.as_bytes()).unwrap_or(text);
        if encoded.len() > MOST_BASE64 {
            let (found, most) = (encoded.len() as u64, MOST_BASE64 as u64);
            return Err(Error::TooLarge { what: WHAT, found, most });
        }
        let decoded = STANDARD.decode(encoded);
        Self::from_json(&decoded.map_err(|error| field(WHAT, "base64", error))?)
    }

    fn from_json(text: &[u8]) -> Result<Self, Error> {
        let Document { volume_type, source, fs_type, options, dm_verity } = json::parse(WHAT, text)?;
        let verity = dm_verity.ok_or(Error::Missing { what: WHAT, field: "dm_verity" })?;
        for (name, value) in [("source", &source), ("fs_type", &fs_type)] {
            if value.is_empty() {
                return Err(Error::Missing { what: WHAT, field: name });
            }
        }
        Ok(Self { kind: volume_type, source, fs_type, options, tree: verity.read()? })
    }

    /// The volume as JSON.
    ///
    /// # Errors
    /// [`Error::Field`] for a tree with a salt, a superblock or hash type 0, which the guest does not know.
    pub fn to_json(&self) -> Result<String, Error> {
        let Self { kind, source, fs_type, options, tree } = self;
        let document = Document {
            volume_type: *kind,
            source: source.clone(),
            fs_type: fs_type.clone(),
            options: options.clone(),
            dm_verity: Some(Verity::of(tree)?),
        };
        json::compact(WHAT, &document)
    }

    /// The volume as a mount option.
    ///
    /// # Errors
    /// As [`to_json`](Self::to_json).
    pub fn to_option(&self) -> Result<String, Error> {
        Ok(format!("{OPTION}{}", STANDARD.encode(self.to_json()?)))
    }
}

impl Tree {
    /// Lays the tree out.
    ///
    /// # Errors
    /// [`GeometryError`].
    pub fn geometry(&self) -> Result<Geometry, GeometryError> {
        let area = if self.superblock {
            HashArea::with_superblock(self.offset)?
        } else {
            let size = self.params.hash_block_size.as_u64();
            HashArea::bare(self.offset.checked_next_multiple_of(size).ok_or(GeometryError::TooLarge)?)
        };
        Geometry::new(&self.params, self.data_blocks, area)
    }
}

/// The parameters like these that every guest reads: hash type 1, no salt, and one of its algorithms.
#[must_use]
pub fn params(params: &Params) -> Params {
    let Params { algorithm, data_block_size, hash_block_size, .. } = *params;
    let algorithm = if ALGORITHMS.contains(&algorithm) { algorithm } else { Algorithm::Sha256 };
    Params { hash_type: HashType::Normal, algorithm, data_block_size, hash_block_size, salt: Salt::default() }
}

impl Verity {
    fn read(self) -> Result<Tree, Error> {
        let algorithm: Algorithm =
            self.hashtype.parse().map_err(|error| field(WHAT, "dm_verity.hashtype", error))?;
        let hash_type = HashType::try_from(self.hash_type.unwrap_or(1))
            .map_err(|error| field(WHAT, "dm_verity.hash_type", error))?;
        let salt = self.salt.as_deref().unwrap_or_default();
        let salt: Salt = salt.parse().map_err(|error| field(WHAT, "dm_verity.salt", error))?;
        let params = Params {
            hash_type,
            algorithm,
            data_block_size: block_size("dm_verity.blocksize", self.blocksize)?,
            hash_block_size: block_size("dm_verity.hashsize", self.hashsize)?,
            salt,
        };
        let data_bytes = self.blocknum.checked_mul(self.blocksize);
        if self.blocknum == 0 || data_bytes.is_none_or(|bytes| bytes > self.offset) {
            let (blocks, offset) = (self.blocknum, self.offset);
            let problem =
                format_args!("{offset} lies inside the data: {blocks} blocks of {} bytes", self.blocksize);
            return Err(field(WHAT, "dm_verity.offset", problem));
        }
        Ok(Tree {
            root: root_hash(WHAT, "dm_verity.hash", algorithm, &self.hash)?,
            params,
            data_blocks: self.blocknum,
            offset: self.offset,
            superblock: !self.no_superblock.unwrap_or(true),
        })
    }

    fn of(tree: &Tree) -> Result<Self, Error> {
        if tree.superblock || tree.params != params(&tree.params) {
            let problem = "a tree with a superblock, a salt or hash type 0 is none that every guest reads";
            return Err(field(WHAT, "dm_verity", problem));
        }
        Ok(Self {
            hashtype: tree.params.algorithm.name().to_owned(),
            hash: tree.root.to_string(),
            blocknum: tree.data_blocks,
            blocksize: tree.params.data_block_size.as_u64(),
            hashsize: tree.params.hash_block_size.as_u64(),
            offset: tree.offset,
            salt: None,
            hash_type: None,
            no_superblock: None,
        })
    }
}

fn block_size(name: &'static str, bytes: u64) -> Result<BlockSize, Error> {
    u32::try_from(bytes)
        .ok()
        .and_then(|bytes| BlockSize::new(bytes).ok())
        .ok_or_else(|| field(WHAT, name, format_args!("{} is no block size", clip(&bytes.to_string()))))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The `DmVerityInfo` of Kata's own tests.
    const VERITY: &str = r#"{"hashtype":"sha256","hash":"9de18652fe74edfb9b805aaed72ae2aa48f94333f1ba5c452ac33b1c39325174","blocknum":16384,"blocksize":512,"hashsize":512,"offset":8388608}"#;

    fn volume(verity: &str) -> String {
        format!(
            r#"{{"volume_type":"layer_raw_block","source":"/l.erofs","fs_type":"erofs","options":["ro"],"dm_verity":{verity}}}"#
        )
    }

    #[test]
    fn the_published_example_is_read_and_written() {
        let text = volume(VERITY);
        let volume = Volume::parse(text.as_bytes()).unwrap();
        assert_eq!(volume.to_json().unwrap(), text);
        let option = volume.to_option().unwrap();
        for form in [option.as_str(), option.strip_prefix(OPTION).unwrap(), &format!("{option}\n")] {
            assert_eq!(Volume::parse(form.as_bytes()).unwrap(), volume);
        }
        let geometry = volume.tree.geometry().unwrap();
        assert_eq!(geometry.hash_start_block(), 8_388_608 / 512);
    }

    /// Kata's test of the device itself: `hash_start_block` is `(offset + hashsize - 1) / hashsize`.
    #[test]
    fn the_tree_begins_at_the_next_hash_block() {
        let text = VERITY
            .replace("16384", "1025")
            .replace(r#""hashsize":512"#, r#""hashsize":4096"#)
            .replace("8388608", "524800");
        let tree = Volume::parse(volume(&text).as_bytes()).unwrap().tree;
        assert_eq!(tree.geometry().unwrap().hash_start_block(), 524_800_u64.div_ceil(4096));
    }

    #[test]
    fn later_fields_are_read_and_not_written() {
        let text =
            VERITY.replace("8388608}", r#"8388608,"salt":"00ff","hash_type":1,"no_superblock":false}"#);
        let volume = Volume::parse(volume(&text).as_bytes()).unwrap();
        assert_eq!(volume.tree.params.salt.as_bytes(), [0, 255]);
        assert!(volume.tree.superblock);
        assert_eq!(volume.tree.geometry().unwrap().hash_start_block(), 8_388_608 / 512 + 1);
        assert!(volume.to_json().unwrap_err().to_string().contains("salt"));
    }

    /// What Kata's tests say is refused, and some more.
    #[test]
    fn impossible_values_are_refused_by_name() {
        for (from, to, said) in [
            ("sha256", "md7", "hashtype"),
            (r#""blocksize":512"#, r#""blocksize":3000"#, "blocksize"),
            (r#""blocksize":512"#, r#""blocksize":0"#, "blocksize"),
            (r#""hashsize":512"#, r#""hashsize":1048576"#, "hashsize"),
            ("16384", "0", "offset"),
            ("8388608", "0", "offset"),
            ("16384", "18446744073709551615", "offset"),
            ("9de1", "9d", "hash"),
            (r#""offset""#, r#""color":1,"offset""#, "color"),
        ] {
            let error = Volume::parse(volume(&VERITY.replace(from, to)).as_bytes()).unwrap_err().to_string();
            assert!(error.contains(said), "{from} -> {to}: {error}");
        }
        for text in ["", "{", "io.katacontainers.volume=", "!!!!", "{\"volume_type\":\"direct_block\"}"] {
            assert!(Volume::parse(text.as_bytes()).is_err(), "{text}");
        }
        let without = volume(VERITY).replace(&format!(",\"dm_verity\":{VERITY}"), "");
        assert!(Volume::parse(without.as_bytes()).unwrap_err().to_string().contains("dm_verity is missing"));
    }
}
