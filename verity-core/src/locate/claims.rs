//! Which damage has been found to belong to something.

use std::collections::BTreeMap;
use std::ops::Range;

use super::map::{Span, Strip};

/// The bad blocks of an image, and those of them that something claimed.
pub(super) struct Claims<'m> {
    strip: &'m Strip,
    /// The claimed blocks, good ones not among them: first block, and the one behind the last. Neighbours are one.
    claimed: BTreeMap<u64, u64>,
}

impl<'m> Claims<'m> {
    pub(super) const fn new(strip: &'m Strip) -> Self {
        Self { strip, claimed: BTreeMap::new() }
    }

    /// Claims some bytes of the image, and tells of those that are bad, in order.
    ///
    /// # Errors
    /// What `each` returns; the rest is not claimed then.
    pub(super) fn claim<E>(
        &mut self,
        bytes: Range<u64>,
        mut each: impl FnMut(Span) -> Result<(), E>,
    ) -> Result<(), E> {
        let strip = self.strip;
        for span in strip.bad_in(bytes) {
            self.insert(span.blocks.clone());
            each(span)?;
        }
        Ok(())
    }

    fn insert(&mut self, blocks: Range<u64>) {
        let (mut start, mut end) = (blocks.start, blocks.end);
        if let Some((&before, &before_end)) = self.claimed.range(..=start).next_back()
            && before_end >= start
        {
            if before_end >= end {
                return;
            }
            start = before;
        }
        while let Some((&next, &next_end)) = self.claimed.range(start..=end).next_back() {
            self.claimed.remove(&next);
            end = end.max(next_end);
        }
        self.claimed.insert(start, end);
    }

    /// The bad blocks that nothing claimed, in order.
    pub(super) fn unclaimed(&self) -> impl Iterator<Item = Span> {
        self.strip.bad_spans().flat_map(|span| {
            let size = self.strip.block_size();
            let first = span.blocks.start;
            let begin = span.bytes.start;
            let mut behind = first;
            let before = self.claimed.range(..first).next_back().filter(|&(_, &end)| end > first);
            let within = self.claimed.range(span.blocks.clone());
            let claimed = before.into_iter().chain(within).map(|(&start, &end)| (start, end));
            let last = std::iter::once((span.blocks.end, span.blocks.end));
            let gaps: Vec<Span> = claimed
                .chain(last)
                .filter_map(|(start, end)| {
                    let blocks = behind..start.min(span.blocks.end);
                    behind = behind.max(end);
                    let bytes = begin + (blocks.start - first) * size
                        ..begin + (blocks.end.max(blocks.start) - first) * size;
                    (blocks.start < blocks.end).then_some(Span { blocks, bytes, state: span.state })
                })
                .collect();
            gaps
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::map::{Area, Map, State};
    use super::*;
    use crate::geometry::{Geometry, HashArea};
    use crate::params::Params;
    use crate::tree::Report;

    proptest! {
        /// Against one flag for each block.
        #[test]
        fn what_is_bad_is_claimed_or_not(
            bad in prop::collection::vec((0_u64..40, 1_u64..9, 1_usize..4), 0..8),
            claims in prop::collection::vec((0_u64..40 * 4096, 1_u64..40_000), 0..8),
        ) {
            let geometry = Geometry::new(&Params::default(), 40, HashArea::bare(0)).unwrap();
            let mut map = Map::new(&Params::default(), &geometry, &Report::default());
            for (start, length, state) in bad {
                map.mark(Area::Data, start..start + length, State::ALL[state]);
            }
            let strip = map.strip(Area::Data);
            let state = |block: u64| strip.bad_in(block * 4096..(block + 1) * 4096).next().map(|span| span.state);
            let mut claimed = [false; 40];
            let mut all = Claims::new(strip);
            for (start, length) in claims {
                let mut told = Vec::new();
                let each = |span| {
                    told.push(span);
                    Ok::<_, ()>(())
                };
                all.claim(start..start + length, each).unwrap();
                for block in start / 4096..(start + length).div_ceil(4096).min(40) {
                    claimed[usize::try_from(block).unwrap()] = true;
                    let byte = start.max(block * 4096);
                    let found = told.iter().find(|span| span.bytes.contains(&byte)).map(|span| span.state);
                    prop_assert_eq!(found, state(block));
                }
                prop_assert!(told.iter().all(|span| span.bytes.start >= start && span.bytes.end <= start + length));
            }
            let left: Vec<_> = all
                .unclaimed()
                .inspect(|span| assert_eq!(span.bytes, span.blocks.start * 4096..span.blocks.end * 4096))
                .flat_map(|span| span.blocks.map(move |block| (block, span.state)))
                .collect();
            let expected: Vec<_> = (0..40)
                .filter(|&block| !claimed[usize::try_from(block).unwrap()])
                .filter_map(|block| Some((block, state(block)?)))
                .collect();
            prop_assert_eq!(left, expected);
        }
    }
}
