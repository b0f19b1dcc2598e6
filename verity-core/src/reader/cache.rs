//! Hash blocks that were checked, kept in bounded memory.
//!
//! Blocks are spread over shards, each with a lock of its own that readers share: threads wait for one another only while a block
//! is being put into the same shard. What goes first is what was not used since the clock's hand last passed it.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{PoisonError, RwLock};

use crate::io::usize_of;

/// The most shards: more than the threads that meet in practice.
const MOST_SHARDS: usize = 32;

/// A shard has room for at least so many blocks, unless the whole cache has not.
const LEAST_BLOCKS: usize = 8;

/// A bounded set of blocks, each with its number in the tree.
pub(super) struct Cache {
    shards: Vec<RwLock<Shard>>,
    /// In each shard.
    most_blocks: usize,
}

#[derive(Default)]
struct Shard {
    slots: Vec<Slot>,
    /// Where in `slots` a block is.
    places: HashMap<u64, usize>,
    hand: usize,
}

struct Slot {
    block: u64,
    bytes: Box<[u8]>,
    used: AtomicBool,
}

impl Cache {
    /// A cache of at most `blocks` blocks. It may be none.
    pub(super) fn new(blocks: usize) -> Self {
        let shards = (blocks / LEAST_BLOCKS).clamp(1, MOST_SHARDS);
        Self { shards: (0..shards).map(|_| RwLock::default()).collect(), most_blocks: blocks / shards }
    }

    /// What `look` makes of a block's bytes, if it is here.
    pub(super) fn get<T>(&self, block: u64, look: impl FnOnce(&[u8]) -> T) -> Option<T> {
        let shard = self.shard(block).read().unwrap_or_else(PoisonError::into_inner);
        let slot = &shard.slots[*shard.places.get(&block)?];
        // Written only when it changes anything, or every reader would take the line from every other.
        if !slot.used.load(Ordering::Relaxed) {
            slot.used.store(true, Ordering::Relaxed);
        }
        Some(look(&slot.bytes))
    }

    /// Keeps a block that was checked.
    pub(super) fn insert(&self, block: u64, bytes: Box<[u8]>) {
        if self.most_blocks == 0 {
            return;
        }
        let mut shard = self.shard(block).write().unwrap_or_else(PoisonError::into_inner);
        if shard.places.contains_key(&block) {
            // Another thread was faster.
            return;
        }
        let slot = Slot { block, bytes, used: AtomicBool::new(false) };
        if shard.slots.len() < self.most_blocks {
            let place = shard.slots.len();
            shard.slots.push(slot);
            shard.places.insert(block, place);
        } else {
            shard.replace(slot);
        }
    }

    fn shard(&self, block: u64) -> &RwLock<Shard> {
        // Neighbours lie in different shards.
        let count = self.shards.len() as u64;
        &self.shards[usize_of(block % count)]
    }
}

impl Shard {
    /// Puts a block in the place of the first from the hand on that was not used since the hand was there.
    fn replace(&mut self, slot: Slot) {
        while self.slots[self.hand].used.swap(false, Ordering::Relaxed) {
            self.advance();
        }
        self.places.insert(slot.block, self.hand);
        let old = std::mem::replace(&mut self.slots[self.hand], slot);
        self.places.remove(&old.block);
        self.advance();
    }

    fn advance(&mut self) {
        self.hand = (self.hand + 1) % self.slots.len();
    }
}

impl fmt::Debug for Cache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cache")
            .field("shards", &self.shards.len())
            .field("blocks", &(self.shards.len() * self.most_blocks))
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(block: u64) -> Box<[u8]> {
        block.to_le_bytes().into()
    }

    fn held(cache: &Cache) -> usize {
        cache.shards.iter().map(|shard| shard.read().unwrap().slots.len()).sum()
    }

    #[test]
    fn no_more_is_kept_than_allowed_and_nothing_is_mixed_up() {
        for most in [0, 1, 7, 8, 100, 1000] {
            let cache = Cache::new(most);
            for block in (0..3000).chain((0..3000).rev()) {
                cache.insert(block, bytes(block));
                assert_eq!(
                    cache.get(block, |found| *found == *bytes(block)),
                    (most > 0).then_some(true),
                    "{block}"
                );
                assert!(held(&cache) <= most);
            }
            assert!((0..3000).all(|block| cache.get(block, |found| *found == *bytes(block)) != Some(false)));
            assert!(most < 100 || held(&cache) * 2 > most, "{most} blocks may be kept, {} are", held(&cache));
        }
    }

    #[test]
    fn what_is_used_outlives_what_is_not() {
        let cache = Cache::new(4);
        for block in 0..1000 {
            cache.insert(block, bytes(block));
            assert_eq!(cache.get(0, |_| ()), Some(()), "{block}");
        }
    }
}
