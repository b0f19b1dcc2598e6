//! Groups of options that several commands have.

use std::path::PathBuf;

use clap::{ArgAction, Args};
use verity_core::algorithm::Algorithm;
use verity_core::block::{BlockSize, Salt};
use verity_core::fec::Roots;
use verity_core::params::HashType;
use verity_core::tree::Threads;

use super::values;

/// How much is said, and how.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Output")]
pub(crate) struct Common {
    /// Print one JSON document on standard output, also for errors
    #[arg(long)]
    pub(crate) json: bool,

    /// Print less: no remarks, no progress, no lists
    #[arg(short, long)]
    pub(crate) quiet: bool,

    /// Say how the command ended
    #[arg(short, long)]
    pub(crate) verbose: bool,

    /// Say what is being done, in lines that begin with '#'
    #[arg(long)]
    pub(crate) debug: bool,

    /// Show this help
    #[arg(long, short = '?', action = ArgAction::HelpLong)]
    help: Option<bool>,
}

/// What a tree is made with. Without a superblock to read it from, it has to be told.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "The tree")]
pub(crate) struct TreeOptions {
    /// Block size on the data device: a power of two from 512 to 524288 [default: 4096]
    #[arg(long, value_name = "BYTES", value_parser = values::block_size)]
    pub(crate) data_block_size: Option<BlockSize>,

    /// Block size on the hash device: a power of two from 512 to 524288 [default: 4096]
    #[arg(long, value_name = "BYTES", value_parser = values::block_size)]
    pub(crate) hash_block_size: Option<BlockSize>,

    /// The number of data blocks; 0 is as many as the data device has [default: 0]
    #[arg(long, value_name = "BLOCKS", value_parser = values::number)]
    pub(crate) data_blocks: Option<u64>,

    #[arg(help = algorithm_help(), short = 'h', long = "hash", value_name = "ALGORITHM", value_parser = values::algorithm)]
    pub(crate) algorithm: Option<Algorithm>,

    /// Hash type: 1 is the normal one, 0 Chrome OS's [default: 1]
    #[arg(long, value_name = "TYPE", value_parser = values::hash_type)]
    pub(crate) format: Option<HashType>,

    /// Salt, up to 256 bytes in hexadecimal; '-' is none
    #[arg(short, long, value_name = "HEX", value_parser = values::salt)]
    pub(crate) salt: Option<Salt>,
}

fn algorithm_help() -> String {
    let names = Algorithm::ALL.map(Algorithm::name).join(", ");
    format!("Hash algorithm, one of {names} [default: {}]", Algorithm::default())
}

/// Where the hash area is.
#[derive(Args, Clone, Copy, Debug)]
#[command(next_help_heading = "The hash area")]
pub(crate) struct AreaOptions {
    /// Start of the hash area on the hash device, a multiple of 512 (without a superblock: of the hash block size)
    #[arg(long, value_name = "BYTES", value_parser = values::number, default_value = "0")]
    pub(crate) hash_offset: u64,

    /// There is no superblock: the parameters are those of the command line
    #[arg(long)]
    pub(crate) no_superblock: bool,
}

/// Forward error correction: parity from which damaged blocks can be restored.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Forward error correction")]
pub(crate) struct FecOptions {
    /// Where the parity is: a file or a block device; it can be the hash device
    #[arg(long, value_name = "PATH")]
    pub(crate) fec_device: Option<PathBuf>,

    /// Start of the parity on the FEC device, a multiple of the block size [default: 0]
    #[arg(long, value_name = "BYTES", value_parser = values::number)]
    pub(crate) fec_offset: Option<u64>,

    /// Parity bytes of each codeword, 2 to 24: so many bad blocks of 255 can be restored [default: 2]
    #[arg(long, value_name = "ROOTS", value_parser = values::roots)]
    pub(crate) fec_roots: Option<Roots>,
}

/// How work is shared out.
#[derive(Args, Clone, Copy, Debug)]
#[command(next_help_heading = "Work")]
pub(crate) struct WorkOptions {
    /// Threads that hash, 1 to 1024 [default: one for each processor]
    #[arg(long, value_name = "N", value_parser = values::threads)]
    pub(crate) threads: Option<Threads>,
}
