//! Where a tree lies and what it is made with: from the superblock, or from the command line.

use std::io;

use verity_core::geometry::{Geometry, GeometryError, HashArea};
use verity_core::io::ReadAt;
use verity_core::params::Params;
use verity_core::superblock::{Superblock, SuperblockError};

use crate::cli::options::{AreaOptions, TreeOptions};
use crate::failure::{Code, Failure};
use crate::files::{Input, check_apart};
use crate::session::Session;

/// A tree's description.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    /// Only a superblock holds one.
    pub(crate) uuid: Option<[u8; 16]>,
    pub(crate) params: Params,
    pub(crate) geometry: Geometry,
}

impl Layout {
    /// Reads the superblock on `hash`.
    pub(crate) fn from_superblock(
        hash: &Input,
        area: &AreaOptions,
        session: &Session,
    ) -> Result<Self, Failure> {
        let invalid = format!("Device {} is not a valid VERITY device.", hash.path.display());
        let place = area.area().map_err(|failure| {
            let (code, text) = failure.as_veritysetup();
            failure.veritysetup(code, format_args!("{text}\n{invalid}"))
        })?;
        session.debug(|| {
            format!(
                "Reading VERITY header of size {} on device {}, offset {}.",
                Superblock::SIZE,
                hash.path.display(),
                area.hash_offset
            )
        });
        let mut bytes = [0; Superblock::SIZE];
        let length = read_up_to(&hash.file, &mut bytes, area.hash_offset).map_err(|error| {
            Failure::system(format_args!("hash device {:?} cannot be read", hash.path), &error)
                .veritysetup(Code::General, &invalid)
        })?;
        let superblock = Superblock::parse(&bytes[..length])
            .map_err(|error| bad_superblock(hash, &error, &bytes[ALGORITHM]))?;
        let geometry = Geometry::new(&superblock.params, superblock.data_blocks, place)
            .map_err(|error| bad_geometry(&error))?;
        Ok(Self { uuid: Some(superblock.uuid), params: superblock.params, geometry })
    }

    /// The layout of an existing tree: by its superblock, or without one by the options and the data's size.
    pub(crate) fn of_existing(
        data: &Input,
        hash: &Input,
        area: &AreaOptions,
        tree: &TreeOptions,
        session: &Session,
    ) -> Result<Self, Failure> {
        let layout = Self::of_damaged(data, hash, area, tree, session)?;
        layout.check_sizes(data, hash)?;
        Ok(layout)
    }

    /// As [`of_existing`](Self::of_existing), of devices that may end too early.
    pub(crate) fn of_damaged(
        data: &Input,
        hash: &Input,
        area: &AreaOptions,
        tree: &TreeOptions,
        session: &Session,
    ) -> Result<Self, Failure> {
        let layout = if area.no_superblock {
            let params = tree.params_without_superblock()?;
            let data_blocks = tree.data_blocks_of(data, &params, session)?;
            let geometry =
                Geometry::new(&params, data_blocks, area.area()?).map_err(|error| bad_geometry(&error))?;
            Self { uuid: None, params, geometry }
        } else {
            let layout = Self::from_superblock(hash, area, session)?;
            if !session.is_veritysetup() {
                layout.check_against(tree)?;
            }
            layout
        };
        check_apart((data.extent, layout.geometry.data_bytes()), (hash.extent, layout.area_bytes()))?;
        Ok(layout)
    }

    /// The hash area's bytes on the hash device.
    pub(crate) fn area_bytes(&self) -> std::ops::Range<u64> {
        self.geometry.area().offset()..self.geometry.hash_area_end()
    }

    /// An option that says something else than the superblock is not ignored.
    fn check_against(&self, tree: &TreeOptions) -> Result<(), Failure> {
        let data_blocks = tree.data_blocks.filter(|&blocks| blocks != 0);
        differs("--data-blocks", data_blocks.as_ref(), &self.geometry.data_blocks())?;
        self.check_params_against(tree)
    }

    /// As [`check_against`](Self::check_against), but for the number of data blocks, which can be another tree's.
    pub(super) fn check_params_against(&self, tree: &TreeOptions) -> Result<(), Failure> {
        let Params { hash_type, algorithm, data_block_size, hash_block_size, salt } = &self.params;
        differs("--data-block-size", tree.data_block_size.as_ref(), data_block_size)?;
        differs("--hash-block-size", tree.hash_block_size.as_ref(), hash_block_size)?;
        differs("--hash", tree.algorithm.as_ref(), algorithm)?;
        differs("--format", tree.format.as_ref(), hash_type)?;
        differs("--salt", tree.salt.as_ref(), salt)
    }

    /// Devices that are too short are told apart from blocks that do not match.
    fn check_sizes(&self, data: &Input, hash: &Input) -> Result<(), Failure> {
        check_size(data, self.geometry.data_bytes())?;
        self.check_hash_size(hash)
    }

    /// As [`check_sizes`](Self::check_sizes), of the hash device alone.
    pub(super) fn check_hash_size(&self, hash: &Input) -> Result<(), Failure> {
        match self.geometry.hash_blocks() {
            // Where there is no tree, the superblock's padding may be missing.
            0 => Ok(()),
            _ => check_size(hash, self.geometry.hash_area_end()),
        }
    }
}

fn check_size(input: &Input, needed: u64) -> Result<(), Failure> {
    if input.size >= needed {
        return Ok(());
    }
    let Input { role, path, size, .. } = input;
    Err(Failure::new(Code::General, format_args!("{role} {path:?} is too short: {size} bytes of {needed}"))
        .hint("the file is truncated, or data and hash device do not belong together")
        .veritysetup(Code::General, "Verification of data area failed."))
}

impl AreaOptions {
    /// The hash area that the options describe.
    pub(crate) fn area(&self) -> Result<HashArea, Failure> {
        if self.no_superblock {
            Ok(HashArea::bare(self.hash_offset))
        } else {
            HashArea::with_superblock(self.hash_offset).map_err(|error| bad_geometry(&error))
        }
    }
}

impl TreeOptions {
    /// The parameters of a tree that has no superblock to read them from.
    pub(crate) fn params_without_superblock(&self) -> Result<Params, Failure> {
        let salt = self.salt.clone().ok_or_else(|| {
            Failure::argument("without a superblock the salt is stored nowhere, and --salt is missing")
                .hint("give --salt as format printed it, or '--salt -' if there was none")
        })?;
        Ok(self.params(salt))
    }

    /// The parameters that the options describe.
    pub(crate) fn params(&self, salt: verity_core::block::Salt) -> Params {
        Params {
            hash_type: self.format.unwrap_or_default(),
            algorithm: self.algorithm.unwrap_or_default(),
            data_block_size: self.data_block_size.unwrap_or_default(),
            hash_block_size: self.hash_block_size.unwrap_or_default(),
            salt,
        }
    }

    /// How many blocks of `data` are covered.
    pub(crate) fn data_blocks_of(
        &self,
        data: &Input,
        params: &Params,
        session: &Session,
    ) -> Result<u64, Failure> {
        let block_size = params.data_block_size;
        let whole = data.size / block_size.as_u64();
        let surplus = data.size % block_size.as_u64();
        let path = &data.path;
        match self.data_blocks {
            Some(blocks) if blocks > whole => Err(Failure::argument(format_args!(
                "--data-blocks {blocks}: data device {path:?} has {whole} blocks of {block_size} bytes"
            ))
            .veritysetup(Code::General, "Input/output error while creating hash area.")),
            Some(blocks) if blocks > 0 => Ok(blocks),
            _ if whole == 0 => Err(Failure::new(
                Code::General,
                format_args!(
                    "data device {path:?} is too small: {} bytes, a block has {block_size}",
                    data.size
                ),
            )
            .hint("a tree covers at least one whole block")
            .veritysetup(
                Code::General,
                if data.size < 512 {
                    format!("Header detected but device {} is too small.", path.display())
                } else {
                    "Hash area overflow.".to_owned()
                },
            )),
            _ if surplus != 0 && !session.is_veritysetup() => Err(Failure::new(
                Code::General,
                format_args!(
                    "data device {path:?}: {} bytes are no multiple of the block size {block_size}",
                    data.size
                ),
            )
            .hint(format_args!(
                "pad the file to whole blocks, or cover only the whole ones with --data-blocks={whole}"
            ))),
            _ => Ok(whole),
        }
    }
}

fn differs<T: PartialEq + std::fmt::Display>(
    option: &str,
    given: Option<&T>,
    found: &T,
) -> Result<(), Failure> {
    match given {
        Some(given) if given != found => {
            Err(Failure::argument(format_args!("{option} is {given}, but the superblock says {found}"))
                .hint("leave the option out; with --no-superblock the options count and not the superblock"))
        }
        _ => Ok(()),
    }
}

fn read_up_to(source: &dyn ReadAt, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match source.read_at(&mut buffer[filled..], offset.saturating_add(filled as u64)) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// Where a superblock holds the algorithm's name.
const ALGORITHM: std::ops::Range<usize> = 32..64;

fn bad_superblock(hash: &Input, error: &SuperblockError, algorithm: &[u8]) -> Failure {
    let path = hash.path.display();
    let hint = match error {
        SuperblockError::Magic | SuperblockError::Short(_) => {
            "check the order of the arguments and --hash-offset; a tree without a superblock needs --no-superblock"
        }
        SuperblockError::NotZero(_) | SuperblockError::NoDataBlocks | SuperblockError::SaltSize(_) => {
            "the superblock is corrupted"
        }
        _ => "the superblock is corrupted, or newer than this program",
    };
    let invalid = format!("Device {path} is not a valid VERITY device.");
    let text = match error {
        SuperblockError::Version(version) => format!("Unsupported VERITY version {version}.\n{invalid}"),
        SuperblockError::HashType(unknown) => {
            format!("Unsupported VERITY hash type {}.\n{invalid}", unknown.0)
        }
        SuperblockError::BlockSize { .. } => format!("Unsupported VERITY block size.\n{invalid}"),
        SuperblockError::Algorithm(_) | SuperblockError::AlgorithmText => {
            let name = algorithm.split(|&byte| byte == 0).next().unwrap_or_default();
            format!("Hash algorithm {} not supported.\n{invalid}", String::from_utf8_lossy(name))
        }
        SuperblockError::SaltSize(_) | SuperblockError::NotZero(_) => {
            format!("VERITY header corrupted.\n{invalid}")
        }
        _ => invalid,
    };
    Failure::new(Code::General, format_args!("hash device {:?}: {error}", hash.path))
        .hint(hint)
        .veritysetup(Code::General, text)
}

/// Why a tree cannot be laid out.
pub(crate) fn bad_geometry(error: &GeometryError) -> Failure {
    let failure = Failure::new(Code::General, error);
    match error {
        GeometryError::Unaligned { .. } => failure
            .hint("give another --hash-offset")
            .veritysetup(Code::General, "Unsupported VERITY hash offset."),
        GeometryError::TooLarge => failure.veritysetup(Code::General, "Device offset overflow."),
        _ => failure,
    }
}
