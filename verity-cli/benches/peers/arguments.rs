//! The command line.

use std::path::PathBuf;

use clap::Parser;

/// Compare verity with its peers, pair by pair
///
/// Every answer is checked: a wrong one is exit code 1. Floors that are not met are not, unless --check-floors is given.
#[derive(Parser, Debug)]
#[command(name = "bench", bin_name = "./x bench")]
pub(crate) struct Arguments {
    /// Measure only the case of that name, or all whose name begins so; see --list
    #[arg(value_name = "CASE")]
    pub(crate) cases: Vec<String>,

    /// Small data and three pairs: whether it works, not how fast it is
    #[arg(long)]
    pub(crate) quick: bool,

    /// Counted pairs of each comparison [default: 11]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(11..=1000))]
    pub(crate) pairs: Option<u16>,

    /// A folder on a disk, for what has to be read from one; 12 GiB of room let every case run [default: in the build's]
    #[arg(long, value_name = "PATH", default_value = env!("CARGO_TARGET_TMPDIR"), hide_default_value = true)]
    pub(crate) dir: PathBuf,

    /// A folder in memory, for everything else; 4 GiB are needed
    #[arg(long, value_name = "PATH", default_value = "/dev/shm")]
    pub(crate) memory_dir: PathBuf,

    /// A floor that is not met, or that could not be measured, is exit code 1
    #[arg(long, conflicts_with = "quick")]
    pub(crate) check_floors: bool,

    /// Write the table and the chart to docs/, of the cases that are measured and no others
    #[arg(long, conflicts_with = "quick")]
    pub(crate) write: bool,

    /// Print the names of the cases, and measure nothing
    #[arg(long)]
    pub(crate) list: bool,

    /// What cargo adds
    #[arg(long, hide = true)]
    bench: bool,
}
