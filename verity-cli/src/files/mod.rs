//! The files and devices that commands work on: opened safely, never confused with each other, never left half
//! written.

mod copy;
mod extent;
mod input;
mod journal;
mod lock;
mod new_file;
mod root_hash;
pub(crate) mod signature;
mod target;
mod temporary;
mod temporary_folder;
pub(crate) mod veritytab;

pub(crate) use copy::copy;
pub(crate) use extent::{Extent, check_apart};
pub(crate) use input::{Input, Role};
pub(crate) use journal::{Decision, InPlace, journal_path, recover};
pub(crate) use new_file::NewFile;
pub(crate) use root_hash::RootHashFile;
pub(crate) use target::{Plan, Target};
pub(crate) use temporary::{Temporary, leaf_store, scratch, scratch_beside};
pub(crate) use temporary_folder::TemporaryFolder;
