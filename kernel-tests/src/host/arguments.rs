//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

/// Runs the dm-verity test cases in real kernels.
#[derive(Debug, Parser)]
#[command(version, arg_required_else_help = true)]
pub(super) struct Arguments {
    #[command(subcommand)]
    pub(super) command: Command,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// List the cases, or with --kernels the kernels
    List(List),
    /// Boot kernels and run cases in them
    Run(Run),
    /// Show the main job on two real layers, in the newest of the kernels
    Demo(Demo),
    /// Kill guests in the middle of `verity repair --in-place`, and repair again, in the newest of the kernels
    PowerCuts(PowerCuts),
    /// Boot a kernel to a shell on this terminal
    Shell(Shell),
}

#[derive(Debug, Args)]
pub(super) struct List {
    /// The kernels that can be booted instead of the cases
    #[arg(long)]
    pub(super) kernels: bool,
    /// Only cases whose name matches; `*` and `?` as in a shell
    #[arg(long = "case", value_name = "NAME")]
    pub(super) cases: Vec<String>,
}

#[derive(Debug, Args)]
pub(super) struct Choice {
    /// A kernel series of the cache, such as 6.12; all of them if not given
    #[arg(long = "kernel", value_name = "SERIES")]
    pub(super) kernels: Vec<String>,
    /// A kernel of your own (bzImage) instead; needs --modules
    #[arg(long, value_name = "FILE", requires = "modules", conflicts_with = "kernels")]
    pub(super) kernel_image: Option<PathBuf>,
    /// Its modules: what INSTALL_MOD_PATH was, or the folder of the version below it
    #[arg(long, value_name = "DIR", requires = "kernel_image")]
    pub(super) modules: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(super) struct Run {
    #[command(flatten)]
    pub(super) choice: Choice,
    /// Only cases whose name matches; `*` and `?` as in a shell
    #[arg(long = "case", value_name = "NAME")]
    pub(super) cases: Vec<String>,
    /// Run the whole matrix so many times
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) repeat: u32,
    /// Guests side by side; one per processor if not given
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub(super) jobs: Option<u16>,
    /// No guest may run longer than this, in seconds
    #[arg(long, value_name = "S", default_value_t = 1800)]
    pub(super) timeout: u64,
    /// Keep the console logs of guests where nothing failed too
    #[arg(long)]
    pub(super) keep_logs: bool,
    /// Print what cases say, too: figures, the rows of comparisons
    #[arg(long)]
    pub(super) say: bool,
    /// One line of JSON per outcome on standard output, and no table
    #[arg(long)]
    pub(super) json: bool,
    /// A case that is skipped fails the run (as with CI=true in the environment)
    #[arg(long)]
    pub(super) require_all: bool,
}

#[derive(Debug, Args)]
pub(super) struct Demo {
    #[command(flatten)]
    pub(super) choice: Choice,
    /// The folder with base.erofs, patch.erofs and facts; `./x layers` makes one
    #[arg(long, value_name = "DIR")]
    pub(super) layers: PathBuf,
}

#[derive(Debug, Args)]
pub(super) struct PowerCuts {
    #[command(flatten)]
    pub(super) choice: Choice,
    /// How often
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) cuts: u32,
    /// Guests side by side; one per processor if not given
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub(super) jobs: Option<u16>,
    /// Cut at the moments of an earlier run, which told its seed; random if not given
    #[arg(long, value_name = "SEED")]
    pub(super) seed: Option<u64>,
}

#[derive(Debug, Args)]
pub(super) struct Shell {
    #[command(flatten)]
    pub(super) choice: Choice,
    /// Added to the kernel command line
    #[arg(long = "append", value_name = "ARGUMENT", allow_hyphen_values = true)]
    pub(super) append: Vec<String>,
    /// Start through UEFI firmware, whose db holds the certificate of /etc/keys/trusted.key
    #[arg(long)]
    pub(super) uefi: bool,
    /// A raw image as a disk of the guest, read-only: /dev/vda and so on
    #[arg(long = "disk", value_name = "FILE")]
    pub(super) disks: Vec<PathBuf>,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_consistent() {
        super::Arguments::command().debug_assert();
    }
}
