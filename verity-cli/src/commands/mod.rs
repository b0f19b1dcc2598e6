//! The commands, one file each: arguments, then work. What they print is in `output`.

mod attach;
mod benchmark;
mod cat;
mod changes;
mod close;
mod completions;
mod dump;
mod engine;
mod extract;
mod fec;
mod format;
mod image;
mod kernel;
mod layer;
mod layout;
mod list;
mod locate;
mod man;
mod mending;
mod open;
mod parity;
mod recover;
mod repair;
mod root;
mod source;
mod status;
mod stream;
mod update;
mod verify;

use std::ffi::OsString;

use clap::Subcommand;
use verity_core::digest::{BACKEND_VARIABLE, BackendKind};

pub(crate) use attach::{Attached, Outcome};
pub(crate) use benchmark::Benchmark;
pub(crate) use close::Closed;
pub(crate) use extract::Copied;
pub(crate) use format::Formatted;
pub(crate) use image::{
    BuiltImages, Compared, Inspected, MountedImage, Role, UnmountedImage, VerifiedImage, VerifiedImages,
};
pub(crate) use layer::{
    Built, Converted as ConvertedLayer, Layer, Opened as OpenedLayer, Unpacked, Verified as VerifiedLayer,
};
pub(crate) use layout::Layout;
pub(crate) use locate::Located;
pub(crate) use mending::{Diagnosis, Finding as FecFinding};
pub(crate) use parity::Parity;
pub(crate) use repair::Repaired;
pub(crate) use verify::Verified;

use crate::cli::options::Common;
use crate::failure::{Code, Failure};
use crate::interrupt;
use crate::output;
use crate::personality::Personality;
use crate::session::Session;

/// A command and its arguments.
#[derive(Subcommand)]
pub(crate) enum Command {
    Format(Box<format::Arguments>),
    Verify(Box<verify::Arguments>),
    Cat(Box<cat::Arguments>),
    Extract(Box<extract::Arguments>),
    Update(Box<update::Arguments>),
    Recover(recover::Arguments),
    Repair(Box<repair::Arguments>),
    Fec(Box<fec::Arguments>),
    Layer(layer::Arguments),
    Image(image::Arguments),
    Open(Box<open::Arguments>),
    #[command(hide = true)]
    Create(Box<open::CreateArguments>),
    #[command(alias = "remove")]
    Close(close::Arguments),
    AttachAll(attach::AttachArguments),
    DetachAll(attach::DetachArguments),
    Status(status::Arguments),
    Dump(dump::Arguments),
    List(list::Arguments),
    Benchmark(benchmark::Arguments),
    Completions(completions::Arguments),
    Man(man::Arguments),
}

impl Command {
    /// Does what was asked for, and tells how it went.
    pub(crate) fn run(self, line: &[OsString], personality: Personality) -> Code {
        let common = self.common();
        let session = Session {
            personality,
            quiet: common.quiet,
            verbose: common.verbose || common.debug,
            debug: common.debug,
            json: common.json,
            data_on_stdout: self.prints_data(),
        };
        session.debug(|| {
            let line: Vec<_> = line.iter().map(|argument| argument.to_string_lossy()).collect();
            format!("{} {} processing \"{}\"", personality.name(), env!("CARGO_PKG_VERSION"), line.join(" "))
        });
        // Where nothing has to be cleaned up a signal does what it does by itself: end a write that waits for its reader, too.
        let watched = if session.data_on_stdout { Ok(()) } else { interrupt::watch() };
        let result = watched
            .map_err(|error| Failure::system("signals cannot be watched", &error))
            .and_then(|()| check_backend())
            .and_then(|()| self.dispatch(&session));
        let code = match result {
            Ok(code) => code,
            Err(failure) => output::failure(&failure, personality, session.json),
        };
        session.epilogue(code);
        code
    }

    /// Whether standard output is for data, and nothing else may be printed there.
    fn prints_data(&self) -> bool {
        match self {
            Self::Cat(_) => true,
            Self::Layer(arguments) => arguments.prints_data(),
            _ => false,
        }
    }

    fn common(&self) -> Common {
        match self {
            Self::Format(arguments) => &arguments.common,
            Self::Verify(arguments) => &arguments.common,
            Self::Cat(arguments) => &arguments.common,
            Self::Extract(arguments) => &arguments.common,
            Self::Update(arguments) => &arguments.common,
            Self::Recover(arguments) => &arguments.common,
            Self::Repair(arguments) => &arguments.common,
            Self::Fec(arguments) => &arguments.common,
            Self::Layer(arguments) => arguments.common(),
            Self::Image(arguments) => arguments.common(),
            Self::Open(arguments) => arguments.common(),
            Self::Create(arguments) => arguments.common(),
            Self::Close(arguments) => &arguments.common,
            Self::AttachAll(arguments) => arguments.common(),
            Self::DetachAll(arguments) => arguments.common(),
            Self::Status(arguments) => &arguments.common,
            Self::Dump(arguments) => &arguments.common,
            Self::List(arguments) => &arguments.common,
            Self::Benchmark(arguments) => &arguments.common,
            Self::Completions(arguments) => &arguments.common,
            Self::Man(arguments) => &arguments.common,
        }
        .clone()
    }

    fn dispatch(self, session: &Session) -> Result<Code, Failure> {
        match self {
            Self::Format(arguments) => format::run(*arguments, session),
            Self::Verify(arguments) => verify::run(*arguments, session),
            Self::Cat(arguments) => cat::run(&arguments, session),
            Self::Extract(arguments) => extract::run(*arguments, session),
            Self::Update(arguments) => update::run(&arguments, session),
            Self::Recover(arguments) => recover::run(&arguments, session),
            Self::Repair(arguments) => repair::run(*arguments, session),
            Self::Fec(arguments) => fec::run(&arguments, session),
            Self::Layer(arguments) => layer::run(arguments, session),
            Self::Image(arguments) => image::run(&arguments, session),
            Self::Open(arguments) => open::run(&arguments, session),
            Self::Create(arguments) => open::run(&(*arguments).into(), session),
            Self::Close(arguments) => close::run(&arguments, session),
            Self::AttachAll(arguments) => attach::attach_all(&arguments, session),
            Self::DetachAll(arguments) => attach::detach_all(&arguments, session),
            Self::Status(arguments) => status::run(&arguments, session),
            Self::Dump(arguments) => dump::run(&arguments, session),
            Self::List(arguments) => list::run(&arguments, session),
            Self::Benchmark(arguments) => benchmark::run(&arguments, session),
            Self::Completions(arguments) => completions::run(&arguments, session),
            Self::Man(arguments) => man::run(&arguments, session),
        }
    }
}

/// A digest backend that is asked for in vain is an error before any work, not a silent other choice.
fn check_backend() -> Result<(), Failure> {
    match BackendKind::from_environment() {
        Ok(_) => Ok(()),
        Err(error) => Err(Failure::argument(format_args!("{BACKEND_VARIABLE}: {error}")).hint(format_args!(
            "unset {BACKEND_VARIABLE}; 'verity benchmark' lists the backends of this machine"
        ))),
    }
}
