//! Directories that a layer has without an entry of their own, because there is something in them.
//!
//! An overlay takes a directory's attributes from the uppermost layer that has it: such a one should have what the lower layers give it.

use std::fmt;

use super::Limits;
use super::digest::{Digest, Hasher};
use super::error::Error;
use super::import::OVERLAY;
use super::whiteout::Cut;
use crate::erofs::write::{self, Attributes, Writer};

/// Takes a directory's path and what it has.
pub type Answer<'a> = dyn FnMut(&[u8], Attributes) -> Result<(), Error> + 'a;

/// Whoever knows the layers below the one that is built.
pub trait Parents: Sync {
    /// Answers for each of these directories that the lower layers have what they give it, in the order of `paths`. One that it says nothing of has mode 0755,
    /// owner root and the time 0. Extended attributes that are overlayfs's own are left out by the caller.
    ///
    /// `paths` are sorted by their components; the empty one is the root. Asked is once, when all of the tar was read and checked; what is hidden in lower layers by
    /// this one is not asked for.
    ///
    /// # Errors
    /// What `answer` answers; [`Error::ParentsUnknown`] where the answers will be known later; [`Error::Parents`]. Then the layer is not built.
    fn ask(&self, paths: &[Vec<u8>], answer: &mut Answer<'_>) -> Result<(), Error>;
}

impl fmt::Debug for dyn Parents + '_ {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Parents")
    }
}

/// What was asked of [`Parents`], and what they answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inherited {
    /// The directories without an entry. They follow from the tar.
    pub paths: Vec<Vec<u8>>,
    /// A digest of the answers. Two files of one tar that are made with the same parameters are the same if these are.
    pub answers: Digest,
}

impl Default for Inherited {
    fn default() -> Self {
        Self { paths: Vec::new(), answers: Digest::sha256(b"") }
    }
}

/// What a layer with these directories would inherit, as [`Inherited::answers`] has it.
///
/// # Errors
/// What `parents` answer.
pub fn inherited(parents: &dyn Parents, paths: &[Vec<u8>]) -> Result<Digest, Error> {
    ask(parents, paths, |_, _| Ok(()))
}

/// Gives directories without an entry what lower layers have for them.
pub(super) fn inherit(
    writer: &mut Writer<'_>,
    cut: &Cut,
    parents: &dyn Parents,
    limits: &Limits,
) -> Result<Inherited, Error> {
    let mut paths = Vec::new();
    let mut memory = writer.memory();
    writer.implied(|path| {
        if cut.is_shared(path) {
            memory = memory.saturating_add(path.len() as u64);
            if memory > limits.memory {
                return Err(write::Error::Memory { most: limits.memory });
            }
            paths.push(path.to_vec());
        }
        Ok(())
    })?;
    let answers =
        ask(parents, &paths, |path, attributes| writer.describe(path, attributes).map_err(Error::from))?;
    Ok(Inherited { paths, answers })
}

/// Asks, and digests what is answered: of each directory that is not as it would be without an answer, the path and the attributes.
fn ask(
    parents: &dyn Parents,
    paths: &[Vec<u8>],
    mut take: impl FnMut(&[u8], &Attributes) -> Result<(), Error>,
) -> Result<Digest, Error> {
    let unanswered = Attributes { mode: 0o755, ..Attributes::default() };
    let mut encoded = Vec::new();
    let mut hasher = Hasher::new(None);
    parents.ask(paths, &mut |path, mut attributes| {
        attributes.xattrs.retain(|name, _| !OVERLAY.iter().any(|own| name.starts_with(own)));
        if attributes == unanswered {
            return Ok(());
        }
        take(path, &attributes)?;
        encoded.clear();
        let Attributes { mode, uid, gid, mtime, mtime_nsec, xattrs } = &attributes;
        put(&mut encoded, path);
        encoded.extend(mode.to_le_bytes());
        encoded.extend([*uid, *gid, *mtime_nsec].map(u32::to_le_bytes).concat());
        encoded.extend(mtime.to_le_bytes());
        encoded.extend((xattrs.len() as u64).to_le_bytes());
        for (name, value) in xattrs {
            put(&mut encoded, name);
            put(&mut encoded, value);
        }
        hasher.update(&encoded);
        Ok(())
    })?;
    Ok(hasher.finish().sha256)
}

fn put(encoded: &mut Vec<u8>, bytes: &[u8]) {
    encoded.extend((bytes.len() as u64).to_le_bytes());
    encoded.extend_from_slice(bytes);
}
