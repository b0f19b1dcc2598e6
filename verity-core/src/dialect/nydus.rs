//! nydus: an image with its tree appended, without superblock and salt; what else there is to know is a line of text.
//!
//! Source: `nydus-image export --block --verity` (`service/src/block_device.rs` of nydus), which prints
//!
//! ```text
//! dm-verity options: --no-superblock --format=1 -s "" --hash=sha256 --data-block-size=512 --hash-block-size=4096 --data-blocks 4576 --hash-offset 2342912 6b57...
//! ```
//!
//! and the nydus snapshotter (`pkg/tarfs`), which reads that and keeps `4576,2342912,sha256:6b57...` as a label of the snapshot.

use std::fmt;

use super::{Error, clip, field, sha256_root};
use crate::block::{BlockSize, RootHash};
use crate::geometry::HashArea;
use crate::params::Params;

const WHAT: &str = "nydus's dm-verity options";

/// What the line begins with.
pub const PREFIX: &str = "dm-verity options:";

/// The label in which the snapshotter keeps what it knows of a layer.
pub const LAYER_LABEL: &str = "containerd.io/snapshot/nydus-layer-block";

/// The label in which it keeps what it knows of a whole image.
pub const IMAGE_LABEL: &str = "containerd.io/snapshot/nydus-image-block";

/// No line has more bytes.
const MOST_BYTES: usize = 64 * 1024;

/// A tree of nydus's. As text it is the line that `nydus-image` prints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// The size of data blocks: 512 for images over a tar, else 4096.
    pub data_block_size: BlockSize,
    /// How many data blocks there are.
    pub data_blocks: u64,
    /// Where the tree begins, in bytes; a multiple of 4096.
    pub hash_offset: u64,
    /// The root hash.
    pub root: RootHash,
}

impl Options {
    /// Finds the line in a text, what `nydus-image` printed for example.
    ///
    /// # Errors
    /// [`Error::Absent`] without such a line, [`Error::Contradiction`] with several, [`Error::Field`] for a line of another form.
    pub fn parse(text: &str) -> Result<Self, Error> {
        if text.len() > MOST_BYTES {
            return Err(Error::TooLarge { what: WHAT, found: text.len() as u64, most: MOST_BYTES as u64 });
        }
        let mut lines = text.lines().filter_map(|line| line.trim().strip_prefix(PREFIX));
        let line = lines.next().ok_or(Error::Absent { what: WHAT, why: "no line begins with them" })?;
        if lines.next().is_some() {
            let problem = "several lines begin with them".to_owned();
            return Err(Error::Contradiction { what: WHAT, problem });
        }
        let mut words = Words(line.split_ascii_whitespace());
        for fixed in ["--no-superblock", "--format=1", "-s", "\"\"", "--hash=sha256"] {
            words.fixed(fixed)?;
        }
        let data_block_size = words.assigned("--data-block-size")?;
        words.fixed("--hash-block-size=4096")?;
        let data_blocks = words.number("--data-blocks")?;
        let hash_offset = words.number("--hash-offset")?;
        let root = sha256_root(WHAT, "root hash", words.next("root hash")?)?;
        if let Some(word) = words.0.next() {
            return Err(field(WHAT, "end", format_args!("{} is one word too many", clip(word))));
        }
        Ok(Self { data_block_size, data_blocks, hash_offset, root })
    }

    /// Reads a label of the snapshotter's, which does not say the size of data blocks.
    ///
    /// # Errors
    /// [`Error::Field`] for a label of another form.
    pub fn from_label(label: &str, data_block_size: BlockSize) -> Result<Self, Error> {
        let mut parts = label.trim().split(',');
        let (Some(blocks), Some(offset), Some(root), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            let problem = format_args!("{} is not BLOCKS,OFFSET,sha256:ROOT_HASH", clip(label));
            return Err(field(WHAT, "label", problem));
        };
        let root = root
            .strip_prefix("sha256:")
            .ok_or_else(|| field(WHAT, "label", format_args!("{} is no digest of sha256", clip(root))))?;
        Ok(Self {
            data_block_size,
            data_blocks: number("data blocks", blocks)?,
            hash_offset: number("hash offset", offset)?,
            root: sha256_root(WHAT, "root hash", root)?,
        })
    }

    /// The label.
    #[must_use]
    pub fn label(&self) -> String {
        format!("{},{},sha256:{}", self.data_blocks, self.hash_offset, self.root)
    }

    /// The parameters of the tree.
    #[must_use]
    pub fn params(&self) -> Params {
        params(self.data_block_size)
    }

    /// Where the tree lies.
    #[must_use]
    pub const fn area(&self) -> HashArea {
        HashArea::bare(self.hash_offset)
    }
}

/// The parameters that nydus makes trees with: SHA-256 in hash blocks of 4096 bytes, without a salt.
#[must_use]
pub fn params(data_block_size: BlockSize) -> Params {
    Params { data_block_size, ..Params::default() }
}

impl fmt::Display for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { data_block_size, data_blocks, hash_offset, root } = self;
        write!(
            f,
            "{PREFIX} --no-superblock --format=1 -s \"\" --hash=sha256 --data-block-size={data_block_size} \
             --hash-block-size=4096 --data-blocks {data_blocks} --hash-offset {hash_offset} {root}"
        )
    }
}

fn number(name: &'static str, text: &str) -> Result<u64, Error> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let number = if digits { text.parse().ok() } else { None };
    number.ok_or_else(|| field(WHAT, name, format_args!("{} is no number of 64 bits", clip(text))))
}

/// The words of the line that are left.
struct Words<'a>(std::str::SplitAsciiWhitespace<'a>);

impl<'a> Words<'a> {
    fn next(&mut self, name: &'static str) -> Result<&'a str, Error> {
        self.0.next().ok_or(Error::Missing { what: WHAT, field: name })
    }

    fn fixed(&mut self, word: &'static str) -> Result<(), Error> {
        let found = self.next(word)?;
        if found == word {
            return Ok(());
        }
        Err(field(WHAT, word, format_args!("{} stands in its place", clip(found))))
    }

    fn number(&mut self, option: &'static str) -> Result<u64, Error> {
        self.fixed(option)?;
        number(option, self.next(option)?)
    }

    fn assigned(&mut self, option: &'static str) -> Result<BlockSize, Error> {
        let word = self.next(option)?;
        let value = word.strip_prefix(option).and_then(|rest| rest.strip_prefix('='));
        let value =
            value.ok_or_else(|| field(WHAT, option, format_args!("{} stands in its place", clip(word))))?;
        value.parse().map_err(|error| field(WHAT, option, error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::geometry::Geometry;

    /// From nydus's own documentation (`docs/nydus-image.md`).
    const PUBLISHED: &str = "dm-verity options: --no-superblock --format=1 -s \"\" --hash=sha256 --data-block-size=512 \
        --hash-block-size=4096 --data-blocks 4576 --hash-offset 2342912 \
        6b5743e7da406a33ab3a8bb03b65e67d1c1951b2d7ebc5026e0de3fb44a7cc20";

    #[test]
    fn the_published_example_is_read_and_written() {
        let log = format!("[2023-03-29 17:20:47] INFO RAFS features: COMPRESSION_NONE\n{PUBLISHED}\n");
        let options = Options::parse(&log).unwrap();
        assert_eq!(options.to_string(), PUBLISHED);
        assert_eq!(
            options.label(),
            "4576,2342912,sha256:6b5743e7da406a33ab3a8bb03b65e67d1c1951b2d7ebc5026e0de3fb44a7cc20"
        );
        assert_eq!(Options::from_label(&options.label(), BlockSize::MIN).unwrap(), options);
        // The documentation lists the file, too: it ends with this tree.
        let geometry = Geometry::new(&options.params(), options.data_blocks, options.area()).unwrap();
        assert_eq!(geometry.hash_area_end(), 2_494_464);
    }

    #[test]
    fn other_lines_are_refused_by_the_word_that_differs() {
        for (from, to, said) in [
            ("--no-superblock ", "", "--no-superblock"),
            ("--format=1", "--format=0", "--format=1"),
            ("-s \"\"", "-s 00", "\"\""),
            ("sha256", "sha512", "--hash=sha256"),
            ("--data-block-size=512", "--data-block-size=500", "500"),
            ("4576", "-4576", "--data-blocks"),
            ("4576", "18446744073709551616", "64 bits"),
            ("2342912 ", "", "--hash-offset"),
            ("cc20", "cc2", "root hash"),
            ("cc20", "cc20 more", "more"),
            ("dm-verity options:", "verity:", "no line"),
        ] {
            let error = Options::parse(&PUBLISHED.replace(from, to)).unwrap_err().to_string();
            assert!(error.contains(said), "{from} -> {to}: {error}");
        }
        let twice = format!("{PUBLISHED}\n{PUBLISHED}");
        assert!(matches!(Options::parse(&twice), Err(Error::Contradiction { .. })));
    }

    #[test]
    fn labels_of_other_forms_are_refused() {
        for label in ["", "1,2", "1,2,sha256:00", "1,2,6b57", "a,2,sha256:00", "1,2,sha256:00,4", "1,,2"] {
            assert!(Options::from_label(label, BlockSize::MIN).is_err(), "{label:?}");
        }
    }
}
