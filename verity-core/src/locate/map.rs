//! A map of a device: which blocks are good, and what is wrong with the others.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;

use crate::geometry::Geometry;
use crate::params::Params;
use crate::tree::{BadRun, Place, Report};

/// What is known of a block; the worse, the greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum State {
    /// It is what the root hash says.
    Good,
    /// It is not, but error correction restores it.
    Repairable,
    /// Nothing vouches for it: a hash block above is damaged.
    Unverifiable,
    /// It is not what the root hash says.
    Damaged,
}

impl State {
    /// All of them, from good to bad.
    pub const ALL: [Self; 4] = [Self::Good, Self::Repairable, Self::Unverifiable, Self::Damaged];

    /// Its name, in lower case.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Repairable => "repairable",
            Self::Unverifiable => "unverifiable",
            Self::Damaged => "damaged",
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// One of the two parts of a verity device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Area {
    /// The data.
    Data,
    /// The hash tree: its blocks in the order in which they lie on the hash device, the top block first.
    Tree,
}

impl fmt::Display for Area {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Data => "data",
            Self::Tree => "tree",
        })
    }
}

/// Which blocks of data and tree are good.
///
/// ```
/// use verity_core::geometry::{Geometry, HashArea};
/// use verity_core::locate::{Area, Map, State};
/// use verity_core::{params::Params, tree::Report};
///
/// let geometry = Geometry::new(&Params::default(), 1000, HashArea::bare(0))?;
/// let mut map = Map::new(&Params::default(), &geometry, &Report::default());
/// map.mark(Area::Data, 10..12, State::Repairable);
/// let spans: Vec<_> = map.strip(Area::Data).spans().map(|span| (span.blocks, span.state)).collect();
/// assert_eq!(spans, [(0..10, State::Good), (10..12, State::Repairable), (12..1000, State::Good)]);
/// # Ok::<(), verity_core::geometry::GeometryError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Map {
    data: Strip,
    tree: Strip,
    /// Blocks that are not good, and of which the verification did not keep where they are.
    pub unplaced_blocks: u64,
}

impl Map {
    /// The map of what a verification found.
    #[must_use]
    pub fn new(params: &Params, geometry: &Geometry, report: &Report) -> Self {
        let hash_block_size = params.hash_block_size.as_u64();
        let mut map = Self {
            data: Strip::new(geometry.data_blocks(), params.data_block_size.as_u64(), 0),
            tree: Strip::new(
                geometry.hash_blocks(),
                hash_block_size,
                geometry.hash_start_block() * hash_block_size,
            ),
            unplaced_blocks: report.unplaced_blocks,
        };
        map.mark_runs(
            geometry,
            report,
            |unverifiable| {
                if unverifiable { State::Unverifiable } else { State::Damaged }
            },
        );
        map
    }

    /// The map of what one verification found, where another one found only `remaining` once error correction had been
    /// tried: the difference is [`State::Repairable`].
    #[must_use]
    pub fn with_repair(params: &Params, geometry: &Geometry, report: &Report, remaining: &Report) -> Self {
        let mut map = Self::new(params, geometry, remaining);
        let beyond = map.clone();
        map.mark_runs(geometry, report, |_| State::Repairable);
        for area in [Area::Data, Area::Tree] {
            for span in beyond.strip(area).bad_spans() {
                map.mark(area, span.blocks, span.state);
            }
        }
        map.unplaced_blocks = map.unplaced_blocks.max(report.unplaced_blocks);
        map
    }

    fn mark_runs(&mut self, geometry: &Geometry, report: &Report, state: impl Fn(bool) -> State) {
        for BadRun { place, blocks, unverifiable } in &report.bad_runs {
            let state = state(*unverifiable);
            match place {
                Place::Data => self.mark(Area::Data, blocks.clone(), state),
                Place::Hash { level } => {
                    let Some(level) = geometry.levels().get(*level) else { continue };
                    let first = level.first_block - geometry.hash_start_block();
                    self.mark(Area::Tree, first + blocks.start..first + blocks.end, state);
                }
            }
        }
    }

    /// The blocks of an area.
    #[must_use]
    pub const fn strip(&self, area: Area) -> &Strip {
        match area {
            Area::Data => &self.data,
            Area::Tree => &self.tree,
        }
    }

    /// Sets what is known of blocks, whatever was known before. Blocks that the area does not have are left out.
    pub fn mark(&mut self, area: Area, blocks: Range<u64>, state: State) {
        match area {
            Area::Data => self.data.mark(blocks, state),
            Area::Tree => self.tree.mark(blocks, state),
        }
    }

    /// Whether every block is good.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.unplaced_blocks == 0 && self.data.marks.is_empty() && self.tree.marks.is_empty()
    }
}

/// The blocks of one area.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Strip {
    blocks: u64,
    block_size: u64,
    first_byte: u64,
    /// What is not good, by its first block: the block behind the last one, and what it is. Neighbours of one state are one.
    marks: BTreeMap<u64, (u64, State)>,
}

/// Blocks in the same state, one after the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    /// Which blocks.
    pub blocks: Range<u64>,
    /// Where they lie on the device.
    pub bytes: Range<u64>,
    /// What they are.
    pub state: State,
}

impl Strip {
    const fn new(blocks: u64, block_size: u64, first_byte: u64) -> Self {
        Self { blocks, block_size, first_byte, marks: BTreeMap::new() }
    }

    /// How many blocks there are.
    #[must_use]
    pub const fn blocks(&self) -> u64 {
        self.blocks
    }

    /// The size of one, in bytes.
    #[must_use]
    pub const fn block_size(&self) -> u64 {
        self.block_size
    }

    fn mark(&mut self, blocks: Range<u64>, state: State) {
        let (mut start, mut end) = (blocks.start, blocks.end.min(self.blocks));
        if start >= end {
            return;
        }
        // What is there already gives way; what sticks out on either side stays, or becomes a part of the new one.
        let first = self.marks.range(..start).next_back().filter(|(_, mark)| mark.0 >= start);
        let from = first.map_or(start, |(&from, _)| from);
        let touched: Vec<_> =
            self.marks.range(from..=end).map(|(&from, &(to, other))| (from, to, other)).collect();
        for (from, to, other) in touched {
            self.marks.remove(&from);
            if other == state {
                start = start.min(from);
                end = end.max(to);
                continue;
            }
            if from < start {
                self.marks.insert(from, (start, other));
            }
            if to > end {
                self.marks.insert(end, (to, other));
            }
        }
        if state != State::Good {
            self.marks.insert(start, (end, state));
        }
    }

    /// What is not good, in order.
    pub fn bad_spans(&self) -> impl Iterator<Item = Span> {
        self.marks.iter().map(|(&start, &(end, state))| self.span(start..end, state))
    }

    /// What is not good among some bytes of the device, in order, and no more of it than lies there.
    pub fn bad_in(&self, bytes: Range<u64>) -> impl Iterator<Item = Span> {
        let block = |byte: u64| byte.saturating_sub(self.first_byte) / self.block_size;
        let first = block(bytes.start);
        let end = block(bytes.end.saturating_add(self.block_size - 1));
        let before = self.marks.range(..first).next_back().filter(|(_, mark)| mark.0 > first);
        let within = self.marks.range(first..end.max(first));
        before.into_iter().chain(within).filter_map(move |(&start, &(behind, state))| {
            let span = self.span(start.max(first)..behind.min(end), state);
            let bytes = span.bytes.start.max(bytes.start)..span.bytes.end.min(bytes.end);
            (bytes.start < bytes.end).then_some(Span { bytes, ..span })
        })
    }

    /// All blocks, in order.
    pub fn spans(&self) -> impl Iterator<Item = Span> {
        let bad = self.marks.iter().map(|(&start, &(end, state))| (start, end, state));
        let end = std::iter::once((self.blocks, self.blocks, State::Good));
        let mut behind = 0;
        bad.chain(end).flat_map(move |(start, end, state)| {
            let good = self.span(behind..start, State::Good);
            behind = end;
            [good, self.span(start..end, state)].into_iter().filter(|span| !span.blocks.is_empty())
        })
    }

    /// How many blocks are in this state.
    #[must_use]
    pub fn count(&self, state: State) -> u64 {
        let sum = |state: Option<State>| -> u64 {
            let marks = self.marks.iter().filter(|(_, mark)| state.is_none_or(|state| mark.1 == state));
            marks.map(|(start, mark)| mark.0 - start).sum()
        };
        if state == State::Good { self.blocks - sum(None) } else { sum(Some(state)) }
    }

    /// The area in pieces of `blocks` blocks, the last one of what is left: the worst state in each.
    ///
    /// # Panics
    /// If `blocks` is 0.
    pub fn worst_of_each(&self, blocks: u64) -> impl Iterator<Item = State> {
        assert!(blocks > 0, "a piece has at least one block");
        let pieces = self.blocks.div_ceil(blocks);
        (0..pieces).map(move |piece| {
            let piece = piece * blocks..self.blocks.min((piece + 1).saturating_mul(blocks));
            let before =
                self.marks.range(..=piece.start).next_back().filter(|(_, mark)| mark.0 > piece.start);
            let within = self.marks.range(piece).map(|(_, mark)| mark.1);
            within.chain(before.map(|(_, mark)| mark.1)).max().unwrap_or(State::Good)
        })
    }

    fn span(&self, blocks: Range<u64>, state: State) -> Span {
        let byte = |block: u64| self.first_byte + block * self.block_size;
        Span { bytes: byte(blocks.start)..byte(blocks.end), blocks, state }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::geometry::HashArea;

    fn strip(blocks: u64) -> Strip {
        Strip::new(blocks, 512, 4096)
    }

    #[test]
    fn bytes_count_from_the_areas_beginning() {
        let mut strip = strip(10);
        strip.mark(3..5, State::Damaged);
        let span = strip.bad_spans().next().unwrap();
        assert_eq!(span.bytes, 4096 + 3 * 512..4096 + 5 * 512);
    }

    #[test]
    fn a_piece_is_as_bad_as_its_worst_block() {
        let mut strip = strip(10);
        strip.mark(2..9, State::Unverifiable);
        strip.mark(4..5, State::Damaged);
        let states = |blocks| strip.worst_of_each(blocks).collect::<Vec<_>>();
        use State::{Damaged, Good, Unverifiable};
        assert_eq!(states(4), [Unverifiable, Damaged, Unverifiable]);
        assert_eq!(
            states(1),
            [
                Good,
                Good,
                Unverifiable,
                Unverifiable,
                Damaged,
                Unverifiable,
                Unverifiable,
                Unverifiable,
                Unverifiable,
                Good
            ]
        );
        assert_eq!(states(100), [Damaged]);
        assert_eq!(Strip::new(0, 512, 0).worst_of_each(1).count(), 0);
    }

    #[test]
    fn what_a_repair_leaves_is_not_repairable() {
        let params = Params::default();
        let geometry = Geometry::new(&params, 300, HashArea::with_superblock(0).unwrap()).unwrap();
        let hash = Place::Hash { level: 0 };
        let run = |place, blocks, unverifiable| BadRun { place, blocks, unverifiable };
        let found = Report {
            bad_runs: vec![
                run(hash, 1..2, false),
                run(Place::Data, 3..9, false),
                run(Place::Data, 128..256, true),
            ],
            ..Report::default()
        };
        let remaining = Report { bad_runs: vec![run(Place::Data, 5..6, false)], ..Report::default() };
        let spans = |map: &Map, area| {
            map.strip(area).bad_spans().map(|span| (span.blocks, span.state)).collect::<Vec<_>>()
        };
        let map = Map::new(&params, &geometry, &found);
        assert_eq!(spans(&map, Area::Data), [(3..9, State::Damaged), (128..256, State::Unverifiable)]);
        // The top block comes before the leaf level's.
        assert_eq!(spans(&map, Area::Tree), [(2..3, State::Damaged)]);
        let map = Map::with_repair(&params, &geometry, &found, &remaining);
        let expected = [
            (3..5, State::Repairable),
            (5..6, State::Damaged),
            (6..9, State::Repairable),
            (128..256, State::Repairable),
        ];
        assert_eq!(spans(&map, Area::Data), expected);
        assert_eq!(spans(&map, Area::Tree), [(2..3, State::Repairable)]);
    }

    proptest! {
        /// Against one state for each block.
        #[test]
        fn marks_are_what_was_marked_last(marks in prop::collection::vec((0_u64..40, 0_u64..12, 0_usize..4), 0..12)) {
            let mut strip = strip(32);
            let mut states = [State::Good; 32];
            for (start, length, state) in marks {
                let state = State::ALL[state];
                strip.mark(start..start + length, state);
                for block in start..start + length {
                    if let Some(slot) = states.get_mut(usize::try_from(block).unwrap()) {
                        *slot = state;
                    }
                }
            }
            let told: Vec<_> = strip
                .spans()
                .flat_map(|span| (span.blocks.start..span.blocks.end).map(move |_| span.state))
                .collect();
            prop_assert_eq!(&told[..], &states[..]);
            let spans: Vec<_> = strip.spans().collect();
            prop_assert!(spans.windows(2).all(|pair| pair[0].state != pair[1].state));
            for start in 0..40 {
                for length in 0..40 {
                    // Bytes 700 from the area's beginning lie in its second block.
                    let bytes = 4096 + start * 100..4096 + (start + length) * 100;
                    let told: Vec<_> = strip.bad_in(bytes.clone()).map(|span| (span.bytes, span.state)).collect();
                    let expected: Vec<_> = strip
                        .bad_spans()
                        .map(|span| (span.bytes.start.max(bytes.start)..span.bytes.end.min(bytes.end), span.state))
                        .filter(|(bytes, _)| !bytes.is_empty())
                        .collect();
                    prop_assert_eq!(told, expected);
                }
            }
            for state in State::ALL {
                let count = states.iter().filter(|&&other| other == state).count() as u64;
                prop_assert_eq!(strip.count(state), count);
            }
            for blocks in 1..34 {
                let worst: Vec<_> = states
                    .chunks(usize::try_from(blocks).unwrap())
                    .map(|piece| *piece.iter().max().unwrap())
                    .collect();
                prop_assert_eq!(strip.worst_of_each(blocks).collect::<Vec<_>>(), worst);
            }
        }
    }
}
