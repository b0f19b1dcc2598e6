//! Sets of bad blocks, by their rounds and rows: sorted lists of keys.

use std::sync::{Mutex, PoisonError};

use crate::io::usize_of;

/// A block's round and its row in that, as one number that sorts by rounds.
pub(super) type Key = u64;

/// Rows are below 255; rounds are blocks of 512 bytes or more below 2^63 bytes.
const ROW_BITS: u32 = 8;

pub(super) const fn key(round: u64, row: u64) -> Key {
    round << ROW_BITS | row
}

pub(super) const fn round(key: Key) -> u64 {
    key >> ROW_BITS
}

pub(super) const fn row(key: Key) -> u64 {
    key & ((1 << ROW_BITS) - 1)
}

/// Bad blocks as they are found. If there are too many, those of the last rounds are left out, and of each round that is kept
/// all are.
pub(super) struct BadBlocks {
    /// Those of earlier rounds do not count.
    first_round: u64,
    most: usize,
    found: Mutex<Found>,
}

struct Found {
    keys: Vec<Key>,
    /// From here on they are left out.
    end_round: Option<u64>,
}

impl BadBlocks {
    /// For at most `most` blocks, which are more than a round has, in rounds from `first_round` on.
    pub(super) fn new(first_round: u64, most: usize) -> Self {
        Self { first_round, most, found: Mutex::new(Found { keys: Vec::new(), end_round: None }) }
    }

    pub(super) fn add(&self, key: Key) {
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        if round(key) < self.first_round || found.end_round.is_some_and(|end| round(key) >= end) {
            return;
        }
        found.keys.push(key);
        if found.keys.len() > 2 * self.most {
            found.shorten(self.most);
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.found.lock().unwrap_or_else(PoisonError::into_inner).keys.is_empty()
    }

    /// The blocks, sorted, and the first round that there was no room for.
    pub(super) fn into_keys(self) -> (Vec<Key>, Option<u64>) {
        let mut found = self.found.into_inner().unwrap_or_else(PoisonError::into_inner);
        found.shorten(self.most);
        (found.keys, found.end_round)
    }
}

impl Found {
    fn shorten(&mut self, most: usize) {
        self.keys.sort_unstable();
        self.keys.dedup();
        if let Some(&beyond) = self.keys.get(most) {
            let end = round(beyond);
            self.keys.truncate(self.keys.partition_point(|&key| round(key) < end));
            self.end_round = Some(end);
        }
    }
}

/// The blocks of either set.
pub(super) fn union(a: &[Key], b: &[Key]) -> Vec<Key> {
    let mut all = [a, b].concat();
    all.sort_unstable();
    all.dedup();
    all
}

/// The blocks of `all` that are not `restored`.
pub(super) fn without(all: &[Key], restored: &[Key]) -> Vec<Key> {
    all.iter().copied().filter(|key| restored.binary_search(key).is_err()).collect()
}

/// The rows of `all` that are in `round`.
pub(super) fn rows_in(all: &[Key], round: u64) -> impl Iterator<Item = usize> {
    let first = all.partition_point(|&key| self::round(key) < round);
    let in_round = all[first..].iter().take_while(move |&&key| self::round(key) == round);
    in_round.map(|&key| usize_of(row(key)))
}

/// The blocks of `all` that are in the same rounds as `some`.
pub(super) fn in_rounds_of(all: &[Key], some: &[Key]) -> Vec<Key> {
    let has_some = |key: Key| {
        let next = some.partition_point(|&other| round(other) < round(key));
        some.get(next).is_some_and(|&other| round(other) == round(key))
    };
    all.iter().copied().filter(|&key| has_some(key)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_there_is_no_room_for_is_whole_rounds_at_the_end() {
        let bad = BadBlocks::new(1, 5);
        for round in (0..100).rev() {
            for row in 0..2 {
                bad.add(key(round, row));
                bad.add(key(round, row));
            }
        }
        let (keys, next) = bad.into_keys();
        assert_eq!(keys, [key(1, 0), key(1, 1), key(2, 0), key(2, 1)]);
        assert_eq!(next, Some(3));
        let all = BadBlocks::new(0, 5);
        (0..5).for_each(|row| all.add(key(7, row)));
        assert_eq!(all.into_keys(), ((0..5).map(|row| key(7, row)).collect(), None));
    }

    #[test]
    fn sets_are_put_together() {
        let (a, b) = ([key(1, 1), key(2, 0)], [key(1, 0), key(1, 1), key(3, 9)]);
        let all = union(&a, &b);
        assert_eq!(all, [key(1, 0), key(1, 1), key(2, 0), key(3, 9)]);
        assert_eq!(without(&all, &a), [key(1, 0), key(3, 9)]);
        assert_eq!(in_rounds_of(&all, &[key(1, 200)]), [key(1, 0), key(1, 1)]);
        assert_eq!((round(all[3]), row(all[3])), (3, 9));
        assert!(rows_in(&all, 1).eq([0, 1]) && rows_in(&all, 3).eq([9]) && rows_in(&all, 4).next().is_none());
    }
}
