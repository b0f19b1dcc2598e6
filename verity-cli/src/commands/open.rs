//! `verity open`: activates a verity device.

use std::path::{Path, PathBuf};

use clap::Args;
use verity_core::device::{
    self, Activation, Check, Corruption, DeviceName, Error, OnError, Sharing, TableOptions, Verdict,
};
use verity_core::veritytab::SignatureSource;

use super::kernel;
use super::layout::Layout;
use super::parity::Parity;
use super::root::{self, RootArguments, RootText};
use crate::cli::help::exit_codes;
use crate::cli::options::{AreaOptions, Common, FecOptions, TreeOptions};
use crate::failure::{Code, Failure};
use crate::files::{Input, Role, signature};
use crate::output::{self, json};
use crate::session::Session;

const HELP: &str = concat!(
    "\
A wrong root hash is refused before there is a device. After the activation the first and the last block are read and \
the kernel is asked: a device that is not verified is removed again. Files are attached to read-only loop devices that \
detach themselves when the device is closed. Nothing is printed if all is well.

With --fec-device the kernel restores damaged blocks when they are read, from the parity that 'format --fec-device' made; 'verity status' \
counts them. It writes nothing: 'verity repair' does.

Examples:
  verity open image.erofs layer image.verity ROOT_HASH
  verity open /dev/sda2 system /dev/sda3 --root-hash-file system.roothash
  verity open image.img layer image.img ROOT_HASH --hash-offset 8388608
  verity open image.erofs layer image.verity ROOT_HASH --restart-on-corruption
  verity open image.erofs layer image.verity ROOT_HASH --fec-device image.fec --fec-roots 8
  verity open image.erofs layer image.verity ROOT_HASH --root-hash-signature image.p7s

",
    exit_codes!()
);

/// Activate a device that the kernel checks on every read
///
/// Makes /dev/mapper/NAME: the data, read-only, each block checked by the kernel against the tree and the root hash.
#[derive(Args, Debug)]
#[command(disable_help_flag = true, after_long_help = HELP)]
pub(crate) struct Arguments {
    /// The data: a file or a block device
    data: PathBuf,

    /// The device's name below /dev/mapper
    name: String,

    /// Where the hash tree is: a file or a block device
    hash: PathBuf,

    #[command(flatten)]
    options: OpenOptions,
}

/// Activate a device (an old form of 'open')
#[derive(Args, Debug)]
#[command(disable_help_flag = true, after_long_help = HELP)]
pub(crate) struct CreateArguments {
    /// The device's name below /dev/mapper
    name: String,

    /// The data: a file or a block device
    data: PathBuf,

    /// Where the hash tree is: a file or a block device
    hash: PathBuf,

    #[command(flatten)]
    options: OpenOptions,
}

impl From<CreateArguments> for Arguments {
    fn from(CreateArguments { name, data, hash, options }: CreateArguments) -> Self {
        Self { data, name, hash, options }
    }
}

/// What `open` and `create` share.
#[derive(Args, Debug)]
struct OpenOptions {
    #[command(flatten)]
    root: RootArguments,

    /// The root hash's signature (detached PKCS#7 in DER), which the kernel checks with its own keys
    #[arg(long, value_name = "PATH")]
    root_hash_signature: Option<PathBuf>,

    #[command(flatten)]
    device: DeviceOptions,
    #[command(flatten)]
    tree: TreeOptions,
    #[command(flatten)]
    area: AreaOptions,
    #[command(flatten)]
    fec: FecOptions,
    #[command(flatten)]
    common: Common,
}

/// What the kernel does with the device.
#[derive(Args, Clone, Copy, Debug)]
#[command(next_help_heading = "The device")]
#[allow(clippy::struct_excessive_bools)] // They are the command line's.
struct DeviceOptions {
    /// Let reads of bad blocks succeed, and only log them
    #[arg(long, group = "corruption")]
    ignore_corruption: bool,

    /// Restart the machine when a bad block is read
    #[arg(long, group = "corruption")]
    restart_on_corruption: bool,

    /// Panic when a bad block is read
    #[arg(long, group = "corruption")]
    panic_on_corruption: bool,

    /// Handle a failed read below like a bad block; with --restart-on-corruption or --panic-on-corruption
    #[arg(long)]
    error_as_corruption: bool,

    /// Do not read blocks that should be zero: return zeros
    #[arg(long)]
    ignore_zero_blocks: bool,

    /// Check each data block only when it is first read; a disk that changes later is not noticed
    #[arg(long)]
    check_at_most_once: bool,

    /// Check blocks with cached digests in a tasklet, for speed
    #[arg(long)]
    use_tasklets: bool,

    /// Share the data device with other verity devices
    #[arg(long)]
    shared: bool,
}

impl DeviceOptions {
    fn table_options(self) -> Result<TableOptions, Failure> {
        let (corruption, on_error) =
            match (self.ignore_corruption, self.restart_on_corruption, self.panic_on_corruption) {
                (true, _, _) => (Corruption::Ignore, None),
                (_, true, _) => (Corruption::Restart, Some(OnError::Restart)),
                (_, _, true) => (Corruption::Panic, Some(OnError::Panic)),
                _ => (Corruption::Fail, None),
            };
        let on_error = match (self.error_as_corruption, on_error) {
            (false, _) => OnError::Fail,
            (true, Some(on_error)) => on_error,
            (true, None) => {
                return Err(Failure::argument(
                    "--error-as-corruption goes only with --restart-on-corruption or --panic-on-corruption",
                )
                .hint("add one of them")
                .veritysetup(
                    Code::General,
                    "veritysetup: Option --error-as-corruption must be used with --panic-on-corruption or \
                     --restart-on-corruption.",
                ));
            }
        };
        Ok(TableOptions {
            corruption,
            on_error,
            ignore_zero_blocks: self.ignore_zero_blocks,
            check_at_most_once: self.check_at_most_once,
            try_verify_in_tasklet: self.use_tasklets,
            ..TableOptions::default()
        })
    }
}

impl Arguments {
    pub(super) fn common(&self) -> &Common {
        &self.options.common
    }
}

impl CreateArguments {
    pub(super) fn common(&self) -> &Common {
        &self.options.common
    }
}

pub(super) fn run(arguments: &Arguments, session: &Session) -> Result<Code, Failure> {
    let options = &arguments.options;
    options.fec.device(session)?;
    let table = options.device.table_options()?;
    let name: DeviceName =
        arguments.name.parse().map_err(|error| kernel::bad_name(&error, &arguments.name))?;
    let root_hash = options.root.text(session)?;
    let signature = options.root_hash_signature.clone().map(SignatureSource::File);

    let request = Request {
        name: &name,
        data: &arguments.data,
        hash: &arguments.hash,
        root_hash: &root_hash,
        tree: &options.tree,
        area: &options.area,
        fec: &options.fec,
        signature: signature.as_ref(),
        table,
    };
    let mut activation = request.prepare(session)?;
    if options.device.shared {
        activation.sharing = Sharing::Shared;
    }
    if session.is_veritysetup() {
        activation.check = Check::None;
    }
    let steps = kernel::DebugSteps { session, name: &name };
    let active =
        device::activate_with(&activation, &steps).map_err(|error| failure(&error, &name, session))?;
    if active.status.verdict == Verdict::Corrupted {
        if session.is_veritysetup() {
            output::plain("Verity device detected corruption after activation.");
        } else {
            session.note(&format!("device {name} is corrupted, which --ignore-corruption lets pass"));
        }
    }
    session.print(String::new, || json::opened(&name, &active, &activation.root_hash))?;
    Ok(Code::Success)
}

/// A device that is to be, as a command line or a line of a veritytab describes it.
pub(super) struct Request<'a> {
    pub(super) name: &'a DeviceName,
    pub(super) data: &'a Path,
    pub(super) hash: &'a Path,
    pub(super) root_hash: &'a RootText,
    pub(super) tree: &'a TreeOptions,
    pub(super) area: &'a AreaOptions,
    pub(super) fec: &'a FecOptions,
    pub(super) signature: Option<&'a SignatureSource>,
    pub(super) table: TableOptions,
}

impl Request<'_> {
    /// Reads what describes the tree, and puts together what is to be activated.
    pub(super) fn prepare(self, session: &Session) -> Result<Activation, Failure> {
        let hash = Input::open(self.hash, Role::Hash)?;
        let data = Input::open(self.data, Role::Data)?;
        let layout = Layout::of_existing(&data, &hash, self.area, self.tree, session)?;
        let root = root::parse(self.root_hash, layout.params.algorithm)?;
        let parity = Parity::open(self.fec, &layout, &data, &hash, session)?;
        let Layout { uuid, params, geometry } = layout;
        let mut activation = Activation::new(self.name.clone(), self.data, self.hash, params, geometry, root);
        activation.uuid = uuid;
        activation.fec = parity.map(|(parity, _)| parity.for_kernel());
        activation.signature = match self.signature {
            None => None,
            Some(SignatureSource::File(path)) => Some(signature::read(path)?),
            Some(SignatureSource::Inline(signature)) => Some(signature.clone()),
        };
        activation.options = self.table;
        Ok(activation)
    }
}

/// veritysetup's `open` says more than other actions where it may not ask the kernel.
fn failure(error: &Error, name: &DeviceName, session: &Session) -> Failure {
    let failure = kernel::failure(error, session);
    match error {
        Error::Permission { .. } if session.is_veritysetup() => {
            let (code, text) = failure.as_veritysetup();
            let more = format!("Cannot use device {name}, name is invalid or still in use.");
            failure.veritysetup(code, format_args!("{text}\n{more}"))
        }
        _ => failure,
    }
}
