//! The fifth field of a veritytab's line.

use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::{DeviceSpec, Entry, Problem, Source, clip, value};
use crate::algorithm::Algorithm;
use crate::block::{BlockSize, Salt};
use crate::device::Corruption;
use crate::fec::Roots;
use crate::params::HashType;
use crate::signature::Signature;

/// What is said of a tree. With a superblock, which says it too, both must agree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TreeOptions {
    /// Whether there is a superblock (`superblock=`).
    pub superblock: bool,
    /// `format=`
    pub hash_type: Option<HashType>,
    /// `data-block-size=`
    pub data_block_size: Option<BlockSize>,
    /// `hash-block-size=`
    pub hash_block_size: Option<BlockSize>,
    /// `data-blocks=`, in data blocks; none, and 0, is as many as the data device has.
    pub data_blocks: Option<u64>,
    /// `hash-offset=`: where the hash area begins on the hash device, in bytes.
    pub hash_offset: u64,
    /// `salt=`
    pub salt: Option<Salt>,
    /// `uuid=`
    pub uuid: Option<[u8; 16]>,
    /// `hash=`
    pub algorithm: Option<Algorithm>,
}

impl Default for TreeOptions {
    fn default() -> Self {
        Self {
            superblock: true,
            hash_type: None,
            data_block_size: None,
            hash_block_size: None,
            data_blocks: None,
            hash_offset: 0,
            salt: None,
            uuid: None,
            algorithm: None,
        }
    }
}

/// Where parity lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fec {
    /// `fec-device=`
    pub device: DeviceSpec,
    /// `fec-offset=`, in bytes; 0 if nothing is said.
    pub offset: u64,
    /// `fec-roots=`; 2 if nothing is said.
    pub roots: Roots,
}

/// Where a signature is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SignatureSource {
    /// In a file, at an absolute path.
    File(PathBuf),
    /// In the veritytab itself (`base64:`).
    Inline(Signature),
}

/// Every option, with its `=` if it has a value.
const ALL: [&str; 22] = [
    "superblock=",
    "format=",
    "data-block-size=",
    "hash-block-size=",
    "data-blocks=",
    "hash-offset=",
    "salt=",
    "uuid=",
    "hash=",
    "ignore-corruption",
    "restart-on-corruption",
    "panic-on-corruption",
    "ignore-zero-blocks",
    "check-at-most-once",
    "fec-device=",
    "fec-offset=",
    "fec-roots=",
    "root-hash-signature=",
    "_netdev",
    "noauto",
    "nofail",
    "x-initrd.attach",
];

/// Reads the options of an entry that has none yet.
pub(super) fn parse(text: &str, entry: &mut Entry) -> Result<(), Problem> {
    let mut seen: Vec<&'static str> = Vec::new();
    let mut fec = Parity::default();
    for word in text.split(',') {
        // The manual page's examples have it, for "none".
        if word == "auto" {
            continue;
        }
        let (option, value) = split(word)?;
        if seen.contains(&option) {
            return Err(Problem::Twice(option));
        }
        if reaction(option).is_some()
            && let Some(other) = seen.iter().find(|other| reaction(other).is_some())
        {
            return Err(Problem::Conflict(other, option));
        }
        seen.push(option);
        apply(option, value, entry, &mut fec)?;
    }
    entry.fec = fec.finish()?;
    Ok(())
}

/// An option's name as [`ALL`] has it, and its value; empty for one that takes none.
fn split(word: &str) -> Result<(&'static str, &str), Problem> {
    let (name, value) = word.split_once('=').map_or((word, None), |(name, value)| (name, Some(value)));
    let option = ALL.into_iter().find(|option| option.strip_suffix('=').unwrap_or(option) == name);
    let option = option.ok_or_else(|| Problem::UnknownOption(clip(word)))?;
    match (option.ends_with('='), value) {
        (true, None | Some("")) => Err(Problem::NoValue(option)),
        (false, Some(_)) => Err(Problem::SurplusValue(option)),
        (_, value) => Ok((option, value.unwrap_or_default())),
    }
}

fn reaction(option: &str) -> Option<Corruption> {
    match option {
        "ignore-corruption" => Some(Corruption::Ignore),
        "restart-on-corruption" => Some(Corruption::Restart),
        "panic-on-corruption" => Some(Corruption::Panic),
        _ => None,
    }
}

fn apply(option: &'static str, text: &str, entry: &mut Entry, fec: &mut Parity) -> Result<(), Problem> {
    let tree = &mut entry.tree;
    let bad = |source: Source| Problem::value(option, text, source);
    match option {
        "superblock=" => tree.superblock = boolean(text).map_err(bad)?,
        "format=" => {
            let number = small(text).map_err(bad)?;
            tree.hash_type = Some(HashType::try_from(number).map_err(|error| bad(error.into()))?);
        }
        "data-block-size=" => tree.data_block_size = Some(block_size(text).map_err(bad)?),
        "hash-block-size=" => tree.hash_block_size = Some(block_size(text).map_err(bad)?),
        "data-blocks=" => tree.data_blocks = Some(number(text).map_err(bad)?),
        "hash-offset=" => tree.hash_offset = number(text).map_err(bad)?,
        "salt=" => tree.salt = Some(value(option, text)?),
        "uuid=" => tree.uuid = Some(uuid(text).map_err(bad)?),
        "hash=" => {
            let algorithm = Algorithm::from_name_ignore_case(text);
            tree.algorithm = Some(algorithm.map_err(|error| bad(error.into()))?);
        }
        "ignore-zero-blocks" => entry.table.ignore_zero_blocks = true,
        "check-at-most-once" => entry.table.check_at_most_once = true,
        "fec-device=" => fec.device = Some(value(option, text)?),
        "fec-offset=" => fec.offset = Some(number(text).map_err(bad)?),
        "fec-roots=" => {
            let roots = Roots::new(number(text).map_err(bad)?);
            fec.roots = Some(roots.map_err(|error| bad(error.into()))?);
        }
        "root-hash-signature=" => entry.signature = Some(signature(text).map_err(bad)?),
        "_netdev" => entry.network = true,
        "noauto" => entry.automatic = false,
        "nofail" => entry.required = false,
        "x-initrd.attach" => entry.initrd = true,
        other => match reaction(other) {
            Some(reaction) => entry.table.corruption = reaction,
            None => return Err(Problem::UnknownOption(option.to_owned())),
        },
    }
    Ok(())
}

/// The options of error correction as they come.
#[derive(Default)]
struct Parity {
    device: Option<DeviceSpec>,
    offset: Option<u64>,
    roots: Option<Roots>,
}

impl Parity {
    fn finish(self) -> Result<Option<Fec>, Problem> {
        let Self { device, offset, roots } = self;
        match (device, offset, roots) {
            (Some(device), offset, roots) => {
                Ok(Some(Fec { device, offset: offset.unwrap_or(0), roots: roots.unwrap_or_default() }))
            }
            (None, Some(_), _) => Err(Problem::Alone("fec-offset=", "fec-device=")),
            (None, None, Some(_)) => Err(Problem::Alone("fec-roots=", "fec-device=")),
            (None, None, None) => Ok(None),
        }
    }
}

/// systemd's words for yes and no.
fn boolean(text: &str) -> Result<bool, Source> {
    match text.to_ascii_lowercase().as_str() {
        "1" | "yes" | "y" | "true" | "t" | "on" => Ok(true),
        "0" | "no" | "n" | "false" | "f" | "off" => Ok(false),
        _ => Err("neither yes nor no".into()),
    }
}

/// Decimal digits, no sign, no unit.
fn number(text: &str) -> Result<u64, Source> {
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err("it is not a number (decimal digits only, no sign, no unit)".into());
    }
    text.parse().map_err(|_| format!("it is too large (at most {})", u64::MAX).into())
}

fn small(text: &str) -> Result<u32, Source> {
    u32::try_from(number(text)?).map_err(|_| format!("it is too large (at most {})", u32::MAX).into())
}

fn block_size(text: &str) -> Result<BlockSize, Source> {
    Ok(BlockSize::new(small(text)?)?)
}

/// The usual form, with dashes.
fn uuid(text: &str) -> Result<[u8; 16], Source> {
    let groups: Vec<&str> = text.split('-').collect();
    let lengths: Vec<usize> = groups.iter().map(|group| group.len()).collect();
    let mut bytes = [0; 16];
    if lengths != [8, 4, 4, 4, 12] || hex::decode_to_slice(groups.concat(), &mut bytes).is_err() {
        return Err("it is not a UUID (like 01234567-89ab-cdef-0123-456789abcdef)".into());
    }
    Ok(bytes)
}

fn signature(text: &str) -> Result<SignatureSource, Source> {
    if let Some(text) = text.strip_prefix("base64:") {
        // Four digits stand for three bytes; what is longer need not be decoded.
        if text.len() > Signature::MAX_SIZE.div_ceil(3) * 4 {
            return Err(format!("more than {} bytes are no signature", Signature::MAX_SIZE).into());
        }
        return Ok(SignatureSource::Inline(Signature::from_der(STANDARD.decode(text)?)?));
    }
    if !text.starts_with('/') || text.contains('\0') {
        return Err("neither an absolute path nor base64:".into());
    }
    Ok(SignatureSource::File(text.into()))
}
