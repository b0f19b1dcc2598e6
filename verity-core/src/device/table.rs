//! The table line of a verity target, as device-mapper takes and prints it.
//!
//! ```text
//! <hash type> <data device> <hash device> <data block size> <hash block size> <data blocks> <hash start block>
//! <algorithm> <root hash> <salt or -> [<number of option words> <option words>]
//! ```
//!
//! Source: `drivers/md/dm-verity-target.c` and `dm-verity-fec.c` of the kernel, which print options in the order
//! that [`Table`] prints them in.

use std::error::Error;
use std::fmt;
use std::str::{FromStr, Split};

use crate::algorithm::Algorithm;
use crate::block::{BlockSize, RootHash, Salt};
use crate::geometry::{Geometry, GeometryError, MAX_OFFSET};
use crate::params::{HashType, Params};

use super::number::decimal;
use super::options::{BadWord, Corruption, DeviceRef, Fec, OnError, TableOptions, clip};
use crate::fec::Roots;

/// The longest line that is parsed, in bytes. The longest that can be printed is shorter: three paths, a salt and a
/// key description at their limits.
const MAX_LENGTH: usize = 16 * 1024;

/// One sector, the unit of device-mapper, in bytes.
const SECTOR: u64 = 512;

const USE_FEC: &str = "use_fec_from_device";
const FEC_BLOCKS: &str = "fec_blocks";
const FEC_START: &str = "fec_start";
const FEC_ROOTS: &str = "fec_roots";
const IGNORE_ZERO_BLOCKS: &str = "ignore_zero_blocks";
const CHECK_AT_MOST_ONCE: &str = "check_at_most_once";
const TRY_VERIFY_IN_TASKLET: &str = "try_verify_in_tasklet";
const SIGNATURE_KEY: &str = "root_hash_sig_key_desc";

/// What a verity device is made of.
///
/// A table that exists has at least one data block, a root hash of its algorithm's size, and no position beyond
/// 2^63 bytes. Parsing is strict: an unknown option, one given twice, a wrong number of option words and anything
/// behind them are errors.
///
/// ```
/// use verity_core::device::{Corruption, Table};
/// let line = "1 7:1 7:0 4096 4096 2 1 sha1 da39a3ee5e6b4b0d3255bfef95601890afd80709 - 1 panic_on_corruption";
/// let table: Table = line.parse()?;
/// assert_eq!(table.sectors(), 16);
/// assert_eq!(table.options().corruption, Corruption::Panic);
/// assert_eq!(table.to_string(), line);
/// # Ok::<(), verity_core::device::TableError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    params: Params,
    data: DeviceRef,
    hash: DeviceRef,
    data_blocks: u64,
    hash_start_block: u64,
    root_hash: RootHash,
    options: TableOptions,
    fec: Option<Fec<DeviceRef>>,
}

impl Table {
    /// The table of a tree that lies on `hash` as `geometry` says.
    ///
    /// # Errors
    /// [`TableError::RootHashSize`] if `root_hash` is not a digest of the parameters' algorithm, [`TableError::Geometry`] if the
    /// geometry is not one for the parameters.
    pub fn new(
        params: &Params,
        geometry: &Geometry,
        root_hash: RootHash,
        data: DeviceRef,
        hash: DeviceRef,
    ) -> Result<Self, TableError> {
        geometry.check_params(params)?;
        let found = root_hash.as_bytes().len();
        if found != params.algorithm.digest_size() {
            return Err(TableError::RootHashSize { algorithm: params.algorithm, found });
        }
        Ok(Self {
            params: params.clone(),
            data,
            hash,
            data_blocks: geometry.data_blocks(),
            hash_start_block: geometry.hash_start_block(),
            root_hash,
            options: TableOptions::default(),
            fec: None,
        })
    }

    /// The same table with other options.
    #[must_use]
    pub fn with_options(mut self, options: TableOptions) -> Self {
        self.options = options;
        self
    }

    /// The same table with error correction.
    ///
    /// # Errors
    /// [`TableError::TooLarge`] if the parity or what it covers lies beyond 2^63 bytes.
    pub fn with_fec(mut self, fec: Fec<DeviceRef>) -> Result<Self, TableError> {
        let block_size = self.params.data_block_size;
        position(FEC_START, fec.start_block, block_size)?;
        position(FEC_BLOCKS, fec.blocks, block_size)?;
        self.fec = Some(fec);
        Ok(self)
    }

    /// The tree's parameters.
    #[must_use]
    pub const fn params(&self) -> &Params {
        &self.params
    }

    /// The device that holds the data.
    #[must_use]
    pub const fn data(&self) -> &DeviceRef {
        &self.data
    }

    /// The device that holds the tree.
    #[must_use]
    pub const fn hash(&self) -> &DeviceRef {
        &self.hash
    }

    /// How many data blocks the tree covers; at least 1.
    #[must_use]
    pub const fn data_blocks(&self) -> u64 {
        self.data_blocks
    }

    /// The tree's first block, counted in hash blocks.
    #[must_use]
    pub const fn hash_start_block(&self) -> u64 {
        self.hash_start_block
    }

    /// The root hash.
    #[must_use]
    pub const fn root_hash(&self) -> &RootHash {
        &self.root_hash
    }

    /// The options that name no device.
    #[must_use]
    pub const fn options(&self) -> &TableOptions {
        &self.options
    }

    /// The parity, if there is one.
    #[must_use]
    pub const fn fec(&self) -> Option<&Fec<DeviceRef>> {
        self.fec.as_ref()
    }

    /// The device's size in sectors of 512 bytes.
    #[must_use]
    pub const fn sectors(&self) -> u64 {
        // No overflow: a table's data ends below 2^63 bytes.
        self.data_blocks * self.params.data_block_size.as_u64() / SECTOR
    }

    /// The option words in the kernel's order.
    fn option_words(&self) -> Vec<String> {
        let options = &self.options;
        let flags = [
            options.corruption.word(),
            options.on_error.word(),
            options.ignore_zero_blocks.then_some(IGNORE_ZERO_BLOCKS),
            options.check_at_most_once.then_some(CHECK_AT_MOST_ONCE),
            options.try_verify_in_tasklet.then_some(TRY_VERIFY_IN_TASKLET),
        ];
        let mut words: Vec<String> = flags.into_iter().flatten().map(str::to_owned).collect();
        let mut value = |name: &str, value: &dyn fmt::Display| {
            words.push(name.to_owned());
            words.push(value.to_string());
        };
        if let Some(fec) = &self.fec {
            value(USE_FEC, &fec.device);
            value(FEC_BLOCKS, &fec.blocks);
            value(FEC_START, &fec.start_block);
            value(FEC_ROOTS, &fec.roots);
        }
        if let Some(key) = &options.signature_key {
            value(SIGNATURE_KEY, key);
        }
        words
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { params, data, hash, data_blocks, hash_start_block, root_hash, .. } = self;
        write!(
            f,
            "{} {data} {hash} {} {} {data_blocks} {hash_start_block} {} {root_hash} {}",
            params.hash_type,
            params.data_block_size,
            params.hash_block_size,
            params.algorithm.kernel_name(),
            params.salt,
        )?;
        let words = self.option_words();
        if words.is_empty() {
            return Ok(());
        }
        write!(f, " {}", words.len())?;
        words.iter().try_for_each(|word| write!(f, " {word}"))
    }
}

impl FromStr for Table {
    type Err = TableError;

    fn from_str(line: &str) -> Result<Self, Self::Err> {
        if line.len() > MAX_LENGTH {
            return Err(TableError::TooLong(line.len()));
        }
        let mut words = Words(line.split(' '));
        let hash_type = words.field("hash type", |text| {
            HashType::try_from(decimal::<u32>(text).ok_or(NotANumber)?).map_err(Box::from)
        })?;
        let data = words.parse("data device")?;
        let hash = words.parse("hash device")?;
        let data_block_size = words.field("data block size", block_size)?;
        let hash_block_size = words.field("hash block size", block_size)?;
        let data_blocks = words.number("data blocks")?;
        let hash_start_block = words.number("hash start block")?;
        let algorithm: Algorithm = words.parse("algorithm")?;
        let root_hash = words.field("root hash", |text| Ok(RootHash::from_hex(algorithm, text)?))?;
        let salt: Salt = words.parse("salt")?;
        let params = Params { hash_type, algorithm, data_block_size, hash_block_size, salt };

        if data_blocks == 0 {
            return Err(TableError::NoData);
        }
        position("data blocks", data_blocks, data_block_size)?;
        position("hash start block", hash_start_block, hash_block_size)?;

        let mut table = Self {
            params,
            data,
            hash,
            data_blocks,
            hash_start_block,
            root_hash,
            options: TableOptions::default(),
            fec: None,
        };
        if let Some(count) = words.0.next() {
            let expected =
                decimal(count).ok_or_else(|| field_error("number of option words", count, NotANumber))?;
            let options: Vec<&str> = words.0.collect();
            if options.len() != expected {
                return Err(TableError::OptionWords { expected, found: options.len() });
            }
            let (options, fec) = Options::parse(&options)?.finish()?;
            table.options = options;
            if let Some(fec) = fec {
                table = table.with_fec(fec)?;
            }
        }
        Ok(table)
    }
}

/// The words of a line, each asked for by the name of its field.
struct Words<'a>(Split<'a, char>);

impl<'a> Words<'a> {
    fn field<T>(
        &mut self,
        field: &'static str,
        parse: impl FnOnce(&'a str) -> Result<T, Box<dyn Error + Send + Sync>>,
    ) -> Result<T, TableError> {
        let text = self.0.next().filter(|text| !text.is_empty()).ok_or(TableError::Missing(field))?;
        parse(text).map_err(|source| field_error(field, text, source))
    }

    fn parse<T: FromStr<Err: Error + Send + Sync + 'static>>(
        &mut self,
        field: &'static str,
    ) -> Result<T, TableError> {
        self.field(field, |text| Ok(text.parse()?))
    }

    fn number(&mut self, field: &'static str) -> Result<u64, TableError> {
        self.field(field, |text| Ok(decimal(text).ok_or(NotANumber)?))
    }
}

/// Option words as they are read; each at most once.
#[derive(Default)]
struct Options {
    flags: TableOptions,
    seen: Vec<&'static str>,
    fec_device: Option<DeviceRef>,
    fec_blocks: Option<u64>,
    fec_start: Option<u64>,
    fec_roots: Option<Roots>,
}

impl Options {
    fn parse(words: &[&str]) -> Result<Self, TableError> {
        let mut options = Self::default();
        let mut words = words.iter().copied();
        while let Some(word) = words.next() {
            options.option(word, &mut words)?;
        }
        Ok(options)
    }

    fn option<'a>(
        &mut self,
        word: &'a str,
        rest: &mut impl Iterator<Item = &'a str>,
    ) -> Result<(), TableError> {
        for corruption in [Corruption::Ignore, Corruption::Restart, Corruption::Panic] {
            if corruption.word() == Some(word) {
                self.flags.corruption = corruption;
                return self.once("the reaction to corruption");
            }
        }
        for on_error in [OnError::Restart, OnError::Panic] {
            if on_error.word() == Some(word) {
                self.flags.on_error = on_error;
                return self.once("the reaction to read errors");
            }
        }
        match word {
            IGNORE_ZERO_BLOCKS => {
                self.flags.ignore_zero_blocks = true;
                self.once(IGNORE_ZERO_BLOCKS)
            }
            CHECK_AT_MOST_ONCE => {
                self.flags.check_at_most_once = true;
                self.once(CHECK_AT_MOST_ONCE)
            }
            TRY_VERIFY_IN_TASKLET => {
                self.flags.try_verify_in_tasklet = true;
                self.once(TRY_VERIFY_IN_TASKLET)
            }
            USE_FEC => {
                self.fec_device = Some(value(USE_FEC, rest, |text| Ok(text.parse()?))?);
                self.once(USE_FEC)
            }
            FEC_BLOCKS => {
                self.fec_blocks = Some(value(FEC_BLOCKS, rest, |text| Ok(decimal(text).ok_or(NotANumber)?))?);
                self.once(FEC_BLOCKS)
            }
            FEC_START => {
                self.fec_start = Some(value(FEC_START, rest, |text| Ok(decimal(text).ok_or(NotANumber)?))?);
                self.once(FEC_START)
            }
            FEC_ROOTS => {
                let roots =
                    |text: &str| Ok(Roots::new(decimal(text).ok_or(NotANumber)?).map_err(BadWord::from)?);
                self.fec_roots = Some(value(FEC_ROOTS, rest, roots)?);
                self.once(FEC_ROOTS)
            }
            SIGNATURE_KEY => {
                self.flags.signature_key = Some(value(SIGNATURE_KEY, rest, |text| Ok(text.parse()?))?);
                self.once(SIGNATURE_KEY)
            }
            unknown => Err(TableError::UnknownOption(clip(unknown))),
        }
    }

    fn once(&mut self, option: &'static str) -> Result<(), TableError> {
        if self.seen.contains(&option) {
            return Err(TableError::Duplicate(option));
        }
        self.seen.push(option);
        Ok(())
    }

    fn finish(self) -> Result<(TableOptions, Option<Fec<DeviceRef>>), TableError> {
        if !self.seen.iter().any(|option| [USE_FEC, FEC_BLOCKS, FEC_START, FEC_ROOTS].contains(option)) {
            return Ok((self.flags, None));
        }
        let fec = Fec {
            device: self.fec_device.ok_or(TableError::IncompleteFec(USE_FEC))?,
            start_block: self.fec_start.ok_or(TableError::IncompleteFec(FEC_START))?,
            blocks: self.fec_blocks.ok_or(TableError::IncompleteFec(FEC_BLOCKS))?,
            roots: self.fec_roots.ok_or(TableError::IncompleteFec(FEC_ROOTS))?,
        };
        Ok((self.flags, Some(fec)))
    }
}

fn value<'a, T>(
    option: &'static str,
    rest: &mut impl Iterator<Item = &'a str>,
    parse: impl FnOnce(&'a str) -> Result<T, Box<dyn Error + Send + Sync>>,
) -> Result<T, TableError> {
    let text = rest.next().ok_or(TableError::Missing(option))?;
    parse(text).map_err(|source| field_error(option, text, source))
}

fn block_size(text: &str) -> Result<BlockSize, Box<dyn Error + Send + Sync>> {
    Ok(BlockSize::new(decimal(text).ok_or(NotANumber)?)?)
}

fn position(field: &'static str, blocks: u64, block_size: BlockSize) -> Result<(), TableError> {
    match blocks.checked_mul(block_size.as_u64()) {
        Some(bytes) if bytes <= MAX_OFFSET => Ok(()),
        _ => Err(TableError::TooLarge { field, blocks }),
    }
}

fn field_error(
    field: &'static str,
    text: &str,
    source: impl Into<Box<dyn Error + Send + Sync>>,
) -> TableError {
    TableError::Field { field, text: clip(text), source: source.into() }
}

#[derive(Debug, thiserror::Error)]
#[error("it is not a decimal number in range")]
struct NotANumber;

/// A line that is no verity table, or values that make none.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TableError {
    /// More text than any table has.
    #[error("a verity table of {0} bytes is too long")]
    TooLong(usize),
    /// The line ends, or has two spaces in a row, where a field or an option's value should be.
    #[error("verity table: {0} is missing")]
    Missing(&'static str),
    /// A field or an option's value that means nothing.
    #[error("verity table: {field} {text:?}: {source}")]
    Field {
        /// Which one.
        field: &'static str,
        /// What it holds (at most 64 characters of it).
        text: String,
        /// Why that means nothing.
        source: Box<dyn Error + Send + Sync>,
    },
    /// No data block.
    #[error("verity table: data blocks is 0")]
    NoData,
    /// A tree that was laid out for other parameters.
    #[error("verity table: {0}")]
    Geometry(#[from] GeometryError),
    /// A position beyond what a device can have.
    #[error("verity table: {field} {blocks} lies beyond 2^63 bytes")]
    TooLarge {
        /// Which field.
        field: &'static str,
        /// What it holds.
        blocks: u64,
    },
    /// A root hash of another size than its algorithm's.
    #[error("verity table: root hash of {found} bytes is no {algorithm} digest, which has {} bytes", algorithm.digest_size())]
    RootHashSize {
        /// The algorithm.
        algorithm: Algorithm,
        /// The root hash's size in bytes.
        found: usize,
    },
    /// More or fewer option words than the table says.
    #[error("verity table: {expected} option words announced, {found} found")]
    OptionWords {
        /// How many it says.
        expected: usize,
        /// How many there are.
        found: usize,
    },
    /// An option that this version does not know: it may change what the device does.
    #[error("verity table: option {0:?} is unknown")]
    UnknownOption(String),
    /// An option given twice, or two that exclude each other.
    #[error("verity table: {0} is given twice")]
    Duplicate(&'static str),
    /// Some options of error correction without the others.
    #[error("verity table: error correction without {0}")]
    IncompleteFec(&'static str),
}

#[cfg(test)]
#[path = "table_tests.rs"]
mod tests;
