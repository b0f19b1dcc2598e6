//! `verity layer build`: from a layer's tar to one file of image, tree and parity.

use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use clap::Args;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use verity_core::algorithm::Algorithm;
use verity_core::block::BlockSize;
use verity_core::erofs::write;
use verity_core::fec::Roots;
use verity_core::layer::{self, Digest, Error, Options, Unread};
use verity_core::tree;

use super::limits::{LimitArguments, TRUSTED_CONTENT, TRUSTED_NAMES};
use super::mkfs::{self, Mkfs};
use crate::cli::help::exit_codes;
use crate::cli::options::{Common, WorkOptions};
use crate::cli::values;
use crate::commands::{engine, image, stream};
use crate::failure::{Code, Failure, plain};
use crate::files::{Input, NewFile, Role, scratch_beside};
use crate::output::layer as output;
use crate::session::{Session, engine_options};

const HELP: &str = concat!(
    "\
OUTPUT is a new file, with mode 0600: an EROFS image of what is in the layer, behind it superblock and hash tree, and with --fec-roots \
parity behind these. It appears when it is complete and on disk. The same layer makes the same file everywhere; whiteouts become overlayfs's. \
How the layer is compressed is told by its content. What may come of a layer is bounded, see --max-ratio and --max-bytes.

A hard link to a file of another layer, '..' in a name, and whatever else other programs could read in another way is refused; \
docs/layer-format.md has the list.

With --mkfs another program makes the image, for example a compressed one. It is run as COMMAND --tar=f -U UUID IMAGE, with a tar of the layer on standard \
input, and what it made is read back and compared with the layer, contents and all, before it gets its tree. It may compress by LZ4, DEFLATE or Zstandard. COMMAND is split at spaces. \
The file is the same everywhere only if the program makes the same of the same input.

Examples:
  verity layer build layer.tar.gz layer.erofs
  verity layer build layer.tar layer.erofs --diff-id sha256:0c56... --fec-roots 2
  verity layer build layer.tar layer.erofs --mkfs 'mkfs.erofs -zlz4hc,12 -C65536 -T0 --mkfs-time'
  zstd -dc layer.tar.zst | verity layer build - layer.erofs --json
  ROOT=$(verity layer build --quiet blobs/sha256/3b1f... layer.erofs --digest sha256:3b1f...)
  verity open layer.erofs layer layer.erofs ROOT_HASH --hash-offset HASH_OFFSET

",
    exit_codes!()
);

/// Make a layer that the kernel can mount and check, from its tar
///
/// Reads a tar (plain, gzip or zstd) once, and makes of it an EROFS image with its hash tree. Prints the root hash.
#[derive(Args, Debug)]
#[command(disable_help_flag = true, after_long_help = HELP)]
pub(crate) struct Arguments {
    /// The layer's tar, plain or compressed: a file, or '-' for standard input
    #[arg(value_name = "TAR")]
    layer: PathBuf,

    /// The file that is made
    output: PathBuf,

    /// What the digest of the uncompressed tar has to be, such as sha256:0c56...
    #[arg(long, value_name = "DIGEST", help_heading = "The layer")]
    diff_id: Option<Digest>,

    /// What the digest of the file as it is has to be, as a manifest has it
    #[arg(long, value_name = "DIGEST", help_heading = "The layer")]
    digest: Option<Digest>,

    /// Block size of image, data and tree: 4096, or 512 [default: 4096]
    #[arg(long, value_name = "BYTES", value_parser = block_size, help_heading = "The tree")]
    block_size: Option<BlockSize>,

    /// Hash algorithm of the tree, one of those that 'verity format' has [default: sha256]
    #[arg(short = 'h', long = "hash", value_name = "ALGORITHM", value_parser = values::algorithm, help_heading = "The tree")]
    algorithm: Option<Algorithm>,

    /// A program that makes the image, with its options: see above [default: none, images are made here]
    #[arg(long, value_name = "COMMAND", value_parser = Mkfs::from_str, conflicts_with = "block_size", help_heading = "The image")]
    mkfs: Option<Mkfs>,

    /// Take the program's word for the content of files that it compresses in a way that is not read here (LZMA)
    #[arg(long, requires = "mkfs", help_heading = "The image")]
    mkfs_unread: bool,

    /// Put parity behind the tree, of so many bytes in each codeword, 2 to 24 [default: no parity]
    #[arg(long, value_name = "ROOTS", value_parser = values::roots, help_heading = "Forward error correction")]
    fec_roots: Option<Roots>,

    #[command(flatten)]
    limits: LimitArguments,
    #[command(flatten)]
    work: WorkOptions,
    #[command(flatten)]
    pub(super) common: Common,
}

/// A finished layer.
pub(crate) struct Built {
    pub(crate) layer: PathBuf,
    pub(crate) output: PathBuf,
    pub(crate) built: layer::Built,
}

/// Larger blocks are larger than a page on most machines.
pub(in crate::commands) fn block_size(text: &str) -> Result<BlockSize, String> {
    match values::block_size(text) {
        Ok(size) if matches!(size.get(), 512 | 4096) => Ok(size),
        _ => Err("not 4096 or 512".to_owned()),
    }
}

pub(super) fn run(arguments: &Arguments, session: &Session) -> Result<Code, Failure> {
    if let Some(weakness) = arguments.algorithm.and_then(Algorithm::weakness) {
        session.note(&format!("{} is weak: {weakness}", arguments.algorithm.unwrap_or_default()));
    }
    let (source, blob_bytes) = arguments.open()?;
    let output = NewFile::create(&arguments.output, 0)?;
    session.debug(|| format!("Building {:?} from {:?}.", arguments.output, arguments.layer));
    let progress = session.progress();
    let options = arguments.options(blob_bytes, engine_options(&progress, arguments.work.threads));
    let failed = |error: Error| {
        failure(&error, output.path(), |error| output.cannot_write(error))
            .within(format_args!("layer {:?}", arguments.layer))
    };
    let (built, unread) = match &arguments.mkfs {
        None => (layer::build(source, output.file(), &options).map_err(failed)?, 0),
        Some(mkfs) => {
            // What the layer is to say: an image of it that is made here, and goes when it was compared.
            let file = scratch_beside(output.path())?;
            let mut plain = options.clone();
            plain.roots = None;
            let built = layer::build(source, &file, &plain).map_err(failed)?;
            let unread = if arguments.mkfs_unread { Unread::Count } else { Unread::Refuse };
            mkfs.make(mkfs::Layer { file: &file, built, options: &options, unread }, &output)?
        }
    };
    output.publish()?;
    drop(progress);

    if built.dropped_xattrs > 0 {
        session.note(&format!(
            "{} extended attributes were left out: Linux has none of their kinds",
            built.dropped_xattrs
        ));
    }
    if unread > 0 {
        session.note(&format!("the content of {unread} files was not compared with the layer: it is compressed in a way that is not read here"));
    }
    let built = Built { layer: arguments.layer.clone(), output: arguments.output.clone(), built };
    session.print(
        || if session.quiet { format!("{}\n", built.built.root) } else { output::built(&built) },
        || output::built_json(&built),
    )?;
    Ok(Code::Success)
}

impl Arguments {
    /// What is read, and how many bytes it has, if that is known.
    fn open(&self) -> Result<(Box<dyn Read + Send>, Option<u64>), Failure> {
        if self.layer == Path::new("-") {
            return Ok((Box::new(Waiting(stream::stdin("layer")?)), None));
        }
        let mut input = Input::open(&self.layer, Role::Layer)?;
        // Its size was found out at its end.
        let what = || format!("{} {:?} cannot be read", Role::Layer, self.layer);
        input.file.rewind().map_err(|error| Failure::system(what(), &error))?;
        Ok((Box::new(input.file), Some(input.size)))
    }

    fn options<'a>(&self, blob_bytes: Option<u64>, engine: tree::Options<'a>) -> Options<'a> {
        let mut options = Options::default();
        options.block_size = self.block_size.unwrap_or_default();
        options.algorithm = self.algorithm.unwrap_or_default();
        options.roots = self.fec_roots;
        options.diff_id.clone_from(&self.diff_id);
        options.digest.clone_from(&self.digest);
        options.blob_bytes = blob_bytes;
        options.limits = self.limits.limits();
        options.engine = engine;
        options
    }
}

/// A pipe, of which a read lets go while nothing comes.
struct Waiting(File);

impl Read for Waiting {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut wait = [PollFd::new(self.0.as_fd(), PollFlags::POLLIN)];
        match poll(&mut wait, PollTimeout::from(stream::WAIT_MS)) {
            Ok(0) => Err(io::ErrorKind::WouldBlock.into()),
            Ok(_) => self.0.read(buffer),
            Err(errno) => Err(errno.into()),
        }
    }
}

/// The failure that an error is, and what to do. `output` was to become the layer.
pub(in crate::commands) fn failure(
    error: &Error,
    output: &Path,
    cannot_write: impl Fn(&io::Error) -> Failure,
) -> Failure {
    let general = || Failure::new(Code::General, error);
    match error {
        Error::Source(source) => image::reading_failure(source).unwrap_or_else(|| {
            Failure::new(Code::General, format_args!("it cannot be read: {}", plain(source)))
        }),
        Error::Mismatch { .. } => Failure::new(Code::Refused, error)
            .hint("do not use this layer; fetch it anew, and check that the digest is this layer's"),
        Error::Compression { .. } => general().hint("the file is damaged or truncated: fetch it anew"),
        Error::Parents(_) => general().hint(
            "'verity image verify' says whether that layer is damaged; without its blob it is built anew",
        ),
        Error::Unsupported(_) => general().hint("decompress it, and give the tar as '-'"),
        Error::Expansion { .. } => general().hint(TRUSTED_CONTENT),
        Error::Tar(error) if matches!(error.fault, layer::tar::Fault::NoEnd) => {
            Failure::new(Code::General, error)
                .hint("fetch it anew; if it is whole, say what its digest is with --diff-id or --digest")
        }
        Error::Entries(_) | Error::Image(write::Error::Inodes { .. } | write::Error::Memory { .. }) => {
            general().hint(TRUSTED_NAMES)
        }
        Error::Image(write::Error::NotADirectory { .. }) => general().hint(
            "if that is a symbolic link, write the file under the link's target when the layer is made",
        ),
        Error::Image(write::Error::TooLarge { block_size, .. }) if *block_size < 4096 => {
            general().hint("use --block-size 4096")
        }
        Error::Tar(_) | Error::Entry { .. } => {
            general().hint("the layer is damaged, or made to mislead; build its image anew")
        }
        Error::Image(write::Error::Write { source, .. }) => cannot_write(source),
        Error::Tree(tree::Error::Write { source, .. }) => cannot_write(source),
        Error::Tree(error) => engine::failure(error, |_| format!("{output:?}")),
        Error::Cancelled => engine::failure(&tree::Error::Cancelled, |_| String::new()),
        Error::Image(write::Error::NoTarget { .. }) => general()
            .hint("links to files of other layers cannot be kept: squash the layers, or copy the file"),
        _ => general(),
    }
}
