//! `verity layer build --mkfs`: an image that another program makes of the layer, and that is compared with it.

use std::fs::File;
use std::io::{self, BufWriter, Read};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::str::FromStr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::Pid;
use verity_core::block::BlockSize;
use verity_core::erofs::{self, Image};
use verity_core::geometry::{Geometry, HashArea};
use verity_core::io::{Storage, WriteAt};
use verity_core::layer::{self, Difference, ExportError, Options, Unread, compare, export_as_it_is};
use verity_core::params::Params;
use verity_core::superblock::Superblock;
use verity_core::tree;

use super::making::{Making, parity_behind};
use crate::commands::engine;
use crate::commands::layout::bad_geometry;
use crate::failure::{Code, Failure, plain};
use crate::files::NewFile;

/// How much of what the program says is shown, in bytes: the last of it.
const MOST_SAID: usize = 2000;
/// How often it is looked whether the program has ended.
const WAIT: Duration = Duration::from_millis(20);

/// A program that makes images, with its arguments.
#[derive(Clone, Debug)]
pub(super) struct Mkfs {
    program: String,
    arguments: Vec<String>,
}

impl FromStr for Mkfs {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.contains(['\'', '"', '\\', '$', '`']) {
            return Err("quotes and the like mean nothing here: words are separated by spaces".to_owned());
        }
        let mut words = text.split_whitespace().map(str::to_owned);
        let program = words.next().ok_or("no program is named")?;
        Ok(Self { program, arguments: words.collect() })
    }
}

/// What is made of a layer that was built already, in a file of its own.
pub(super) struct Layer<'a> {
    /// Image and tree.
    pub(super) file: &'a File,
    pub(super) built: layer::Built,
    pub(super) options: &'a Options<'a>,
    /// What becomes of files that the program compresses in a way that is not read here.
    pub(super) unread: Unread,
}

impl Mkfs {
    /// Lets the program make the image, and puts tree and parity behind it. Returns also of how many files the content was not compared.
    pub(super) fn make(&self, layer: Layer<'_>, output: &NewFile) -> Result<(layer::Built, u64), Failure> {
        let Layer { file, mut built, options, unread } = layer;
        self.run(file, &built, output, options)?;
        let made = output.file();
        let size = made.metadata().map_err(|error| self.failed(plain(&error)))?.len();
        if size == 0 {
            return Err(self.failed("it wrote nothing into the file that it was given").hint(
                "it is called as 'mkfs.erofs OPTIONS --tar=f -U UUID IMAGE', with a tar on standard input",
            ));
        }
        let image = Image::open(made, size).map_err(|error| self.failed(error))?;
        image.require_one_device().map_err(|error| {
            self.failed(error).hint("a layer has to be whole: leave out options such as --blobdev")
        })?;
        let said = u64::from(image.superblock().blocks).saturating_mul(image.block_size());
        if said != size {
            return Err(
                self.failed(format_args!("its image says that it has {said} bytes, and the file has {size}"))
            );
        }
        let block_size = u32::try_from(image.block_size()).ok().and_then(|size| BlockSize::new(size).ok());
        let block_size = block_size.filter(|size| matches!(size.get(), 512 | 4096)).ok_or_else(|| {
            self.failed(format_args!("its image has blocks of {} bytes", image.block_size()))
                .hint("give it -b4096: larger blocks are larger than a page on most machines")
        })?;
        let expected = Image::open(file, built.image.size).map_err(|error| self.failed(error))?;
        let compared = compare(&expected, &image, &options.limits, unread, options.engine.observer)
            .map_err(|difference| self.differs(&difference))?;
        let uuid = image.superblock().uuid;
        drop(image);

        let params = Params {
            algorithm: options.algorithm,
            data_block_size: block_size,
            hash_block_size: block_size,
            salt: built.params.salt.clone(),
            ..Params::default()
        };
        let data_blocks = size / block_size.as_u64();
        let geometry = HashArea::with_superblock(size)
            .and_then(|area| Geometry::new(&params, data_blocks, area))
            .map_err(|error| bad_geometry(&error))?;
        let parity = options.roots.map(|roots| parity_behind(output.path(), roots, &params, &geometry));
        let parity = parity.transpose()?;
        let making = Making {
            image: made,
            image_bytes: size,
            copy: None,
            hash: made,
            params: &params,
            geometry: &geometry,
            parity: parity.as_ref().map(|parity| (made as &dyn Storage, &parity.places)),
        };
        built.root = making.run(&options.engine, output, |_| format!("{:?}", output.path()))?;
        // A whole block, so that the file ends with one where there is no tree.
        let mut block = vec![0; block_size.bytes()];
        let superblock = Superblock { uuid: built.uuid, params: params.clone(), data_blocks };
        block[..Superblock::SIZE].copy_from_slice(&superblock.encode());
        made.write_all_at(&block, size).map_err(|error| output.cannot_write(&error))?;
        built.image.size = size;
        built.image.blocks = data_blocks;
        built.image.inodes = compared.inodes;
        built.uuid = uuid;
        (built.params, built.geometry) = (params, geometry);
        built.parity = parity.map(|parity| parity.places);
        Ok((built, compared.unread))
    }

    /// Runs the program. It gets the layer as a tar that every program reads in one way, and not the bytes that came in.
    fn run(
        &self,
        layer: &File,
        built: &layer::Built,
        output: &NewFile,
        options: &Options<'_>,
    ) -> Result<(), Failure> {
        let mut command = Command::new(&self.program);
        command.args(&self.arguments).arg("--tar=f");
        if !self.arguments.iter().any(|argument| argument.starts_with("-U")) {
            command.arg("-U").arg(uuid::Uuid::from_bytes(built.uuid).to_string());
        }
        // A group of its own: what it starts ends with it.
        command.arg(output.temporary_path()).process_group(0);
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
        let child = command.spawn().map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => self
                .failed("there is no such program")
                .code(Code::NoDevice)
                .hint("install it (Debian: erofs-utils), or give its path"),
            _ => self.failed(format_args!("it cannot be started: {}", plain(&error))),
        })?;
        let mut group = Group { child, ended: false };
        let (stdin, stderr) = (group.child.stdin.take(), group.child.stderr.take());
        let failed = AtomicBool::new(false);
        let observer = options.engine.observer;
        let (status, fed, said) = thread::scope(|scope| {
            let feeder = scope.spawn(|| {
                let fed = feed(layer, built.image.size, stdin, options);
                failed.store(fed.is_err(), Ordering::Relaxed);
                fed
            });
            let listener = scope.spawn(|| last_words(stderr));
            while group.runs() && !observer.cancelled() && !failed.load(Ordering::Relaxed) {
                thread::sleep(WAIT);
            }
            // Whatever it left running would keep the ends of the pipes open.
            let status = group.end();
            (status, feeder.join(), listener.join().unwrap_or_default())
        });
        if observer.cancelled() {
            return Err(engine::failure(&tree::Error::Cancelled, |_| String::new()));
        }
        match fed {
            Ok(Err(error)) => return Err(self.failed(format_args!("its input cannot be made: {error}"))),
            Err(_) => return Err(self.failed("a thread ended early")),
            Ok(Ok(())) => {}
        }
        match status {
            Ok(status) if status.success() => Ok(()),
            Ok(status) => Err(self.ended(status, &said)),
            Err(error) => Err(self.failed(plain(&error))),
        }
    }

    fn ended(&self, status: ExitStatus, said: &str) -> Failure {
        let said = if said.is_empty() { "it said nothing".to_owned() } else { format!("it said: {said}") };
        self.failed(format_args!("it ended with {status}; {said}"))
            .hint("erofs-utils reads tars since version 1.7; 'OPTIONS --help' lists what yours takes")
    }

    fn differs(&self, difference: &Difference) -> Failure {
        match difference {
            Difference::Cancelled => engine::failure(&tree::Error::Cancelled, |_| String::new()),
            Difference::Image { source: erofs::Error::Compressed(_), .. } => self
                .failed(format_args!("what it made cannot be compared with the layer: {difference}"))
                .code(Code::Refused)
                .hint("give it -zlz4hc, -zdeflate or -zzstd; with --mkfs-unread its word is taken for what is in such files"),
            _ => self.failed(format_args!("what it made is not the layer: {difference}")).code(Code::Refused).hint(
                "leave out options that change or drop what is in the layer (-T, -x, --all-root, -Eforce-inode-compact, -Efragments of a tar and the like)",
            ),
        }
    }

    fn failed(&self, problem: impl std::fmt::Display) -> Failure {
        Failure::new(Code::General, format_args!("--mkfs: {:?}: {problem}", self.program))
    }
}

/// A running program, and all that it started. It does not outlive this.
struct Group {
    child: Child,
    ended: bool,
}

impl Group {
    fn id(&self) -> Option<Pid> {
        i32::try_from(self.child.id()).ok().map(Pid::from_raw)
    }

    /// Whether the program runs. It keeps its number when it has ended, until it is waited for.
    fn runs(&self) -> bool {
        let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
        self.id().is_some_and(|id| matches!(waitid(Id::Pid(id), flags), Ok(WaitStatus::StillAlive)))
    }

    /// Ends what still runs of it. The number is the group's as long as the program was not waited for.
    fn end(&mut self) -> io::Result<ExitStatus> {
        if !self.ended
            && let Some(id) = self.id()
        {
            let _ = killpg(id, Signal::SIGKILL);
        }
        self.ended = true;
        self.child.wait()
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let _ = self.end();
    }
}

/// Writes the layer's tar into a pipe. That nobody reads all of it is for the program to say.
fn feed(
    layer: &File,
    size: u64,
    stdin: Option<impl io::Write>,
    options: &Options<'_>,
) -> Result<(), ExportError> {
    let Some(stdin) = stdin else { return Ok(()) };
    let failed = |source| ExportError::Image { path: Vec::new(), source };
    let image = Image::open(layer, size).map_err(failed)?;
    let out = BufWriter::with_capacity(256 * 1024, stdin);
    // The blob's limits held when the layer was read.
    let mut limits = options.limits.clone();
    limits.allowance = u64::MAX;
    match export_as_it_is(&image, out, &limits, options.engine.observer) {
        Err(ExportError::Write(error)) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        fed => fed.map(|_| ()),
    }
}

/// The last of what a program says, on one line.
fn last_words(stderr: Option<ChildStderr>) -> String {
    let Some(mut stderr) = stderr else { return String::new() };
    let (mut said, mut buffer) = (Vec::new(), [0; 4096]);
    // What cannot be read was not said.
    while let Ok(count @ 1..) = stderr.read(&mut buffer) {
        said.extend_from_slice(&buffer[..count]);
        said.drain(..said.len().saturating_sub(MOST_SAID));
    }
    let said = String::from_utf8_lossy(&said);
    let lines = said.lines().map(|line| line.trim().escape_debug().to_string());
    lines.filter(|line| !line.is_empty()).collect::<Vec<_>>().join("; ")
}
