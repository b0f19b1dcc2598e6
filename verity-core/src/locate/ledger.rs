//! The list of what has been found, within its limits.

use std::collections::BTreeSet;
use std::ops::Range;
use std::path::PathBuf;

use super::claims::Claims;
use super::files::{Affected, Files, Gap, Owner, Part, Pieces};
use super::map::{Span, State, Strip};
use crate::erofs::{Budget, Error};

pub(super) struct Ledger<'m> {
    strip: &'m Strip,
    claims: Claims<'m>,
    budget: &'m Budget,
    /// How many affected things, paths and gaps are listed, each.
    limit: usize,
    paths: usize,
    files: Files,
}

/// What has been found of one thing.
#[derive(Clone, Debug)]
pub(super) struct Hit {
    pub(super) state: State,
    parts: BTreeSet<Part>,
    content: Pieces,
    device: Pieces,
}

impl Hit {
    pub(super) fn new() -> Self {
        let (content, device) = (Pieces::default(), Pieces::default());
        Self { state: State::Good, parts: BTreeSet::new(), content, device }
    }

    pub(super) fn is_any(&self) -> bool {
        self.state != State::Good
    }

    /// Notes bad content.
    pub(super) fn lose(&mut self, content: Range<u64>, state: State) {
        self.state = self.state.max(state);
        self.parts.insert(Part::Content);
        self.content.push(content);
    }
}

impl<'m> Ledger<'m> {
    /// `complete` unless there are bad blocks that `strip` does not have.
    pub(super) fn new(strip: &'m Strip, limit: usize, budget: &'m Budget, complete: bool) -> Self {
        let files = Files { complete, ..Files::default() };
        Self { strip, claims: Claims::new(strip), budget, limit, paths: 0, files }
    }

    /// Claims bytes of the image for a part of something, and tells of those that are bad.
    ///
    /// # Errors
    /// [`Error::Budget`].
    pub(super) fn claim(
        &mut self,
        hit: &mut Hit,
        part: Option<Part>,
        bytes: Range<u64>,
        mut each: impl FnMut(&mut Hit, Span),
    ) -> Result<(), Error> {
        self.claims.claim(bytes, |span| {
            self.budget.spend(1)?;
            hit.state = hit.state.max(span.state);
            hit.parts.extend(part);
            hit.device.push(span.bytes.clone());
            each(hit, span);
            Ok(())
        })
    }

    /// Claims bytes for something that has no parts.
    ///
    /// # Errors
    /// [`Error::Budget`].
    pub(super) fn claim_for(&mut self, owner: Owner, bytes: Range<u64>) -> Result<(), Error> {
        let mut hit = Hit::new();
        let result = self.claim(&mut hit, None, bytes, |_, _| {});
        self.add(hit, owner);
        result
    }

    /// Lists something if it is affected, and returns where.
    pub(super) fn add(&mut self, hit: Hit, owner: Owner) -> Option<usize> {
        if !hit.is_any() {
            return None;
        }
        if self.files.affected.len() >= self.limit {
            self.files.unlisted += 1;
            return None;
        }
        let Hit { state, parts, content, device } = hit;
        self.files.affected.push(Affected { owner, state, parts, content, device });
        Some(self.files.affected.len() - 1)
    }

    /// Gives something that is listed one more name.
    pub(super) fn add_path(&mut self, affected: usize, path: PathBuf) {
        let Some(Affected { owner: Owner::Inode { paths, unlisted_paths, .. }, .. }) =
            self.files.affected.get_mut(affected)
        else {
            return;
        };
        // The first name is always there: one for each of the affected.
        if paths.is_empty() || self.paths < self.limit {
            self.paths += usize::from(!paths.is_empty());
            paths.push(path);
        } else {
            *unlisted_paths += 1;
        }
    }

    /// Notes that something could not be looked at.
    pub(super) fn gap(&mut self, path: impl FnOnce() -> PathBuf, error: Error) {
        self.files.complete = false;
        if let Error::Unreadable { offset, length, .. } = error
            && self.strip.bad_in(offset..offset.saturating_add(length as u64)).next().is_some()
        {
            // That is damage that was known, and whatever it belongs to is listed as affected.
            return;
        }
        if self.files.gaps.len() < self.limit {
            self.files.gaps.push(Gap { path: path(), error });
        } else {
            self.files.unlisted_gaps += 1;
        }
    }

    /// The list, with what belongs to nothing.
    pub(super) fn finish(mut self) -> Files {
        for affected in &mut self.files.affected {
            if let Owner::Inode { paths, .. } = &mut affected.owner {
                paths.sort_unstable();
            }
        }
        self.files.affected.sort_by(|a, b| a.owner.order().cmp(&b.owner.order()));
        let owner = if self.files.complete { Owner::Unused } else { Owner::Unknown };
        for state in State::ALL {
            let mut rest = Hit::new();
            for span in self.claims.unclaimed().filter(|span| span.state == state) {
                rest.state = state;
                rest.device.push(span.bytes);
            }
            self.add(rest, owner.clone());
        }
        self.files
    }
}
