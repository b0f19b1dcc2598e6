//! Where damage is, and what it hits: a [`Map`] of a device, and the files of its EROFS image.
//!
//! A map is made from what a verification found. [`files`] then reads names, inodes and indexes of the image, as far as
//! they are intact, and says to which of them the damaged bytes belong.

mod claims;
mod files;
mod ledger;
mod map;
mod metadata;
mod search;

pub use files::{Affected, Files, Gap, Owner, PIECES_LIMIT, Part, Pieces, files};
pub use map::{Area, Map, Span, State, Strip};
