//! `verity layer extract`: what is in a layer, as a tar or one file's content, each block checked.

use std::fs::File;
use std::io::{self, BufWriter};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use clap::Args;
use verity_core::block::RootHash;
use verity_core::erofs::{self, Image};
use verity_core::layer::{ExportError, Exported, Limits, export, export_file, export_file_at};
use verity_core::reader::{self, VerityReader};
use verity_core::tree;

use super::limits::{LimitArguments, TRUSTED_CONTENT, TRUSTED_NAMES};
use crate::cli::help::exit_codes;
use crate::cli::options::{AreaOptions, Common};
use crate::cli::values;
use crate::commands::layout::{Layout, bad_geometry};
use crate::commands::root::{self, RootArguments};
use crate::commands::{engine, source};
use crate::failure::{Code, Failure, plain};
use crate::files::{Input, NewFile, Role};
use crate::output::layer as output;
use crate::output::progress::Progress;
use crate::session::Session;

const HELP: &str = concat!(
    "\
OUTPUT is a new file, with mode 0600, which appears when it is complete; '-' is standard output. What is written is a tar of all that is in \
the layer, whiteouts as image layers have them, or with --file the content of one file, whose holes stay holes in a file. Every byte that is read was checked against the \
root hash; at the first block that does not match, extract stops with exit code 2. Neither the kernel nor root is needed.

The tar is not the one that the layer was made of, but says the same. What may come of a layer is bounded, see --max-ratio and --max-bytes; \
holes count.

Examples:
  verity layer extract layer.erofs ROOT_HASH layer.tar
  verity layer extract layer.erofs ROOT_HASH - | tar -tv
  verity layer extract layer.erofs ROOT_HASH - --file etc/os-release
  verity layer extract layer.erofs --root-hash-file layer.roothash layer.tar --json

",
    exit_codes!()
);

/// Write what is in a layer as a tar, each block checked against a root hash
#[derive(Args, Debug)]
#[command(disable_help_flag = true, after_long_help = HELP)]
#[command(override_usage = "verity layer extract [OPTIONS] <LAYER> [ROOT_HASH] <OUTPUT>")]
pub(crate) struct Arguments {
    /// The layer: a file or a block device that begins with an EROFS image
    layer: PathBuf,

    #[command(flatten)]
    root: RootArguments,

    /// The file that is made, or '-' for standard output
    output: Option<PathBuf>,

    /// Write the content of this one file
    #[arg(long, value_name = "PATH")]
    file: Option<PathBuf>,

    /// Where in the layer the superblock of the tree is [default: behind the image]
    #[arg(long, value_name = "BYTES", value_parser = values::number)]
    hash_offset: Option<u64>,

    #[command(flatten)]
    limits: LimitArguments,
    #[command(flatten)]
    pub(super) common: Common,
}

/// A layer that was unpacked.
pub(crate) struct Unpacked {
    pub(crate) layer: PathBuf,
    pub(crate) output: PathBuf,
    pub(crate) file: Option<PathBuf>,
    pub(crate) layout: Layout,
    pub(crate) root: RootHash,
    pub(crate) entries: u64,
    /// Of content.
    pub(crate) bytes: u64,
}

impl Arguments {
    /// Whether standard output is for data.
    pub(super) fn prints_data(&self) -> bool {
        self.output.as_deref().or(self.root.other_argument()) == Some(Path::new("-"))
    }

    fn take_output(&mut self) -> Result<PathBuf, Failure> {
        let last = self.output.take().or_else(|| self.root.take_other_argument());
        last.ok_or_else(|| {
            Failure::argument("layer extract: <OUTPUT> missing")
                .hint("give the file that is to be made as the last argument, or '-'")
        })
    }

    /// Where the tree is.
    fn layout(&self, layer: &Input, session: &Session) -> Result<Layout, Failure> {
        let hash_offset = match self.hash_offset {
            Some(offset) => offset,
            // It is not to be trusted yet, and need not be: what is found there is checked.
            None => image_end(layer)?,
        };
        let layout =
            Layout::from_superblock(layer, &AreaOptions { hash_offset, no_superblock: false }, session)?;
        layout.geometry.check_shared_file().map_err(|error| bad_geometry(&error))?;
        layout.check_hash_size(layer)?;
        Ok(layout)
    }
}

pub(super) fn run(mut arguments: Arguments, session: &Session) -> Result<Code, Failure> {
    if session.json && session.data_on_stdout {
        return Err(Failure::argument("--json: what is printed are the data themselves")
            .hint("leave it out, or give a file as the output"));
    }
    let path = arguments.take_output()?;
    let text = arguments.root.text(session)?;
    let layer = Input::open(&arguments.layer, Role::Layer)?;
    let layout = arguments.layout(&layer, session)?;
    let root = root::parse(&text, layout.params.algorithm)?;
    let Layout { params, geometry, .. } = &layout;
    let name = |_| format!("{:?}", layer.path);
    tree::verify_top(&layer.file, &layer.file, params, geometry, &root)
        .map_err(|error| engine::failure(&error, name))?;
    let reader = VerityReader::new(&layer.file, &layer.file, params.clone(), geometry.clone(), root)
        .map_err(|error| Failure::new(Code::General, error))?;
    let image = Image::open(&reader, reader.data_bytes()).map_err(|error| bad_image(&layer.path, &error))?;
    let progress = session.progress();
    let (limits, file) = (arguments.limits.limits(), arguments.file.as_deref());
    let exported = if session.data_on_stdout {
        let output = io::stdout().as_fd().try_clone_to_owned().map_err(|error| cannot_print(&error))?;
        let output = BufWriter::with_capacity(BUFFER_BYTES, File::from(output));
        match file {
            None => export(&image, output, &limits, &progress),
            Some(file) => export_file(&image, file.as_os_str().as_bytes(), output, &limits, &progress),
        }
        .or_else(broken_pipe)
        .map_err(|error| failure(&error, &layer.path, cannot_print))?
    } else {
        let output = NewFile::create(&path, 0)?;
        let exported = make(&image, file, output.file(), &limits, &progress)
            .map_err(|error| failure(&error, &layer.path, |error| output.cannot_write(error)))?;
        output.publish()?;
        exported
    };
    drop(progress);
    if session.data_on_stdout {
        return Ok(Code::Success);
    }
    let Exported { entries, bytes, .. } = exported;
    let Arguments { layer, file, .. } = arguments;
    let unpacked = Unpacked { layer, output: path, file, layout, root, entries, bytes };
    session.print(String::new, || output::unpacked_json(&unpacked))?;
    Ok(Code::Success)
}

/// Bytes that are written at once.
const BUFFER_BYTES: usize = 256 * 1024;

/// Fills a new file.
fn make(
    image: &Image<'_>,
    file: Option<&Path>,
    output: &File,
    limits: &Limits,
    progress: &Progress,
) -> Result<Exported, ExportError> {
    let Some(file) = file else {
        return export(image, BufWriter::with_capacity(BUFFER_BYTES, output), limits, progress);
    };
    let exported = export_file_at(image, file.as_os_str().as_bytes(), output, limits, progress)?;
    // A hole at the end is not written, either.
    output.set_len(exported.bytes).map_err(ExportError::Write)?;
    Ok(exported)
}

/// Where the image says that it ends, in bytes.
fn image_end(layer: &Input) -> Result<u64, Failure> {
    let image = Image::open(&layer.file, layer.size).map_err(|error| bad_image(&layer.path, &error))?;
    Ok(u64::from(image.superblock().blocks).saturating_mul(image.block_size()))
}

fn bad_image(layer: &Path, error: &erofs::Error) -> Failure {
    match error {
        erofs::Error::Unreadable { source, .. } => vouched_for(source),
        _ => None,
    }
    .unwrap_or_else(|| Failure::new(Code::General, error))
    .within(format_args!("layer {layer:?}"))
    .hint("give a layer as 'verity layer build' makes it: an EROFS image with its tree behind it")
}

/// The failure that an error is.
fn failure(error: &ExportError, layer: &Path, unwritable: impl Fn(&io::Error) -> Failure) -> Failure {
    let (path, corrupted) = match error {
        ExportError::Write(source) => return unwritable(source),
        ExportError::Cancelled => return engine::failure(&tree::Error::Cancelled, |_| String::new()),
        ExportError::Image { path, source: erofs::Error::Unreadable { source, .. } }
        | ExportError::Content { path, source } => (path, vouched_for(source)),
        ExportError::Expansion { .. } => return told(error, layer).hint(TRUSTED_CONTENT),
        ExportError::Entries(_) | ExportError::Memory(_) => return told(error, layer).hint(TRUSTED_NAMES),
        _ => return told(error, layer),
    };
    let failure = corrupted.unwrap_or_else(|| Failure::new(Code::General, error));
    let path = String::from_utf8_lossy(path);
    failure.within(format_args!("layer {layer:?}: reading {path:?}"))
}

fn told(error: &ExportError, layer: &Path) -> Failure {
    Failure::new(Code::General, error).within(format_args!("layer {layer:?}"))
}

/// What the reader that checks blocks says, if it was that.
fn vouched_for(error: &io::Error) -> Option<Failure> {
    let error = error.get_ref()?.downcast_ref::<reader::Error>()?;
    Some(match error {
        reader::Error::Corrupted { .. } => source::corrupted(error),
        error => Failure::new(Code::General, error),
    })
}

fn cannot_print(error: &io::Error) -> Failure {
    Failure::new(Code::General, format_args!("standard output cannot be written: {}", plain(error)))
}

/// Whoever read has seen what he wanted.
fn broken_pipe(error: ExportError) -> Result<Exported, ExportError> {
    match error {
        ExportError::Write(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(Exported::default()),
        error => Err(error),
    }
}
