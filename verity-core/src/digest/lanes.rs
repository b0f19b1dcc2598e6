//! Hashing many equal blocks side by side, one in each lane of a kernel.
//!
//! A message is `salt ‖ block` or `block ‖ salt`, then padding. Whole compression blocks of the salt are digested once,
//! when a hasher is made. A data block's bytes are read where they lie; only what shares a compression block with
//! salt or padding goes through a small buffer.
//!
//! Nothing here is unsafe: kernels take slices and offsets and check them.

use super::Backend;
use crate::block::Salt;
use crate::params::HashType;

/// A compression function of the SHA-2 family.
pub(super) trait Compression: 'static {
    /// `u32` or `u64`.
    type Word: Copy + Default + Send + Sync;
    /// Bytes of a compression block.
    const BLOCK: usize;
    /// Bytes of the message length at the end of the padding.
    const LENGTH: usize;

    /// Appends a state word as the digest holds it.
    fn put(word: Self::Word, digest: &mut [u8]);

    /// Compresses `blocks` whole blocks of one message, by the book.
    fn compress(state: &mut [Self::Word; 8], blocks: &[u8]);
}

/// States of up to [`MAX_LANES`] messages: word by word, each word of every lane.
pub(super) type States<C> = [[<C as Compression>::Word; MAX_LANES]; 8];

/// The most lanes of any kernel.
pub(super) const MAX_LANES: usize = 32;

/// The largest compression block, in bytes.
const MAX_BLOCK: usize = 128;

/// A kernel: compresses `blocks` whole compression blocks of each lane, that of lane `i` from `input[offsets[i]..]` on.
///
/// # Panics
/// If a lane's blocks do not lie inside `input`.
pub(super) type Kernel<C> =
    fn(states: &mut States<C>, input: &[u8], offsets: &[usize; MAX_LANES], blocks: usize);

/// Panics unless every lane's blocks lie inside `input`: what each kernel's unsafe part relies on.
pub(super) fn check_bounds<C: Compression>(input: &[u8], offsets: &[usize], blocks: usize) {
    let room = blocks.checked_mul(C::BLOCK).and_then(|bytes| input.len().checked_sub(bytes));
    assert!(
        room.is_some_and(|last| offsets.iter().all(|&offset| offset <= last)),
        "a lane outside its input"
    );
}

/// The kernel that needs nothing: one lane, by the book.
pub(super) fn single<C: Compression>(
    states: &mut States<C>,
    input: &[u8],
    offsets: &[usize; MAX_LANES],
    blocks: usize,
) {
    let mut state = states.each_ref().map(|lanes| lanes[0]);
    let start = offsets[0];
    C::compress(&mut state, &input[start..start + blocks * C::BLOCK]);
    for (lanes, word) in states.iter_mut().zip(state) {
        lanes[0] = word;
    }
}

/// One kernel of a backend, and when to take it.
pub(super) struct Step<C: Compression> {
    pub(super) lanes: usize,
    /// With fewer blocks than this left, the next step is faster, idle lanes considered.
    pub(super) at_least: usize,
    pub(super) kernel: Kernel<C>,
}

/// A backend made of kernels, the widest first. The last one takes a single block.
pub(super) struct Lanes<C: Compression> {
    steps: &'static [Step<C>],
    digest_size: usize,
    /// The state after the salt's whole compression blocks, or the initial one.
    start: [C::Word; 8],
    /// Bytes of the salt's whole compression blocks.
    digested: usize,
    /// What precedes each block: less than a compression block of salt.
    head: Vec<u8>,
    /// What follows each block: the salt for hash type 0.
    foot: Vec<u8>,
}

impl<C: Compression> Lanes<C> {
    pub(super) fn new(
        steps: &'static [Step<C>],
        initial: [C::Word; 8],
        digest_size: usize,
        hash_type: HashType,
        salt: &Salt,
    ) -> Self {
        let salt = salt.as_bytes();
        let (before, foot) = match hash_type {
            HashType::Normal => (salt, &[][..]),
            HashType::ChromeOs => (&[][..], salt),
        };
        let (whole, head) = before.split_at(before.len() - before.len() % C::BLOCK);
        let mut start = initial;
        C::compress(&mut start, whole);
        Self { steps, digest_size, start, digested: whole.len(), head: head.to_vec(), foot: foot.to_vec() }
    }

    /// Hashes `count` blocks, no more than the step has lanes.
    fn hash_group(&self, step: &Step<C>, blocks: &[u8], block_size: usize, out: &mut [u8], stride: usize) {
        let count = blocks.len() / block_size;
        let mut states = [[C::Word::default(); MAX_LANES]; 8];
        for (lanes, word) in states.iter_mut().zip(self.start) {
            *lanes = [word; MAX_LANES];
        }
        // Idle lanes repeat the last block.
        let offsets = |first: usize, distance: usize| -> [usize; MAX_LANES] {
            std::array::from_fn(|lane| first + lane.min(count - 1) * distance)
        };

        let mut buffer = [0; MAX_LANES * 2 * MAX_BLOCK];
        let lead = if self.head.is_empty() { 0 } else { C::BLOCK - self.head.len() };
        // A block is a multiple of every compression block, so the head and the lead fill one exactly.
        if lead > 0 {
            for (block, space) in blocks.chunks_exact(block_size).zip(buffer.chunks_exact_mut(C::BLOCK)) {
                let (head, rest) = space.split_at_mut(self.head.len());
                head.copy_from_slice(&self.head);
                rest.copy_from_slice(&block[..lead]);
            }
            (step.kernel)(&mut states, &buffer, &offsets(0, C::BLOCK), 1);
        }

        let whole = (block_size - lead) / C::BLOCK;
        (step.kernel)(&mut states, blocks, &offsets(lead, block_size), whole);

        let rest = lead + whole * C::BLOCK;
        let tail = self.tail(block_size, block_size - rest);
        if rest == block_size {
            // The same for all.
            (step.kernel)(&mut states, &tail.bytes, &[0; MAX_LANES], tail.length / C::BLOCK);
        } else {
            for (block, space) in blocks.chunks_exact(block_size).zip(buffer.chunks_exact_mut(tail.length)) {
                space.copy_from_slice(&tail.bytes[..tail.length]);
                space[..block_size - rest].copy_from_slice(&block[rest..]);
            }
            (step.kernel)(&mut states, &buffer, &offsets(0, tail.length), tail.length / C::BLOCK);
        }

        for (lane, slot) in out.chunks_mut(stride).take(count).enumerate() {
            let mut digest = [0; 64];
            let size = C::BLOCK / 16;
            for (word, lanes) in states.iter().enumerate() {
                C::put(lanes[lane], &mut digest[word * size..(word + 1) * size]);
            }
            slot[..self.digest_size].copy_from_slice(&digest[..self.digest_size]);
        }
    }

    /// What ends a message: room for `rest` bytes of the block, the salt of hash type 0, padding.
    fn tail(&self, block_size: usize, rest: usize) -> Tail {
        let mut bytes = [0; Tail::MAX];
        let end = rest + self.foot.len();
        bytes[rest..end].copy_from_slice(&self.foot);
        bytes[end] = 0x80;
        let length = (end + 1 + C::LENGTH).next_multiple_of(C::BLOCK);
        let message_bits = (self.digested + self.head.len() + block_size + self.foot.len()) as u64 * 8;
        bytes[length - 8..length].copy_from_slice(&message_bits.to_be_bytes());
        Tail { bytes, length }
    }
}

struct Tail {
    bytes: [u8; Self::MAX],
    length: usize,
}

impl Tail {
    /// A compression block's rest, the longest salt, padding.
    const MAX: usize = MAX_BLOCK + Salt::MAX_SIZE + MAX_BLOCK;
}

impl<C: Compression> Backend for Lanes<C> {
    fn hash(&self, mut blocks: &[u8], block_size: usize, mut out: &mut [u8], stride: usize) {
        while !blocks.is_empty() {
            let left = blocks.len() / block_size;
            let best = self.steps.iter().find(|step| left >= step.at_least);
            // Any step makes any number of digests: the choice is one of speed alone.
            let Some(step) = best.or(self.steps.last()) else { unreachable!("a backend without kernels") };
            let count = left.min(step.lanes);
            let (now, later) = blocks.split_at(count * block_size);
            // Behind the last digest there may be no room for a whole stride.
            let slots_end = (count * stride).min(out.len());
            let (slots, rest) = std::mem::take(&mut out).split_at_mut(slots_end);
            self.hash_group(step, now, block_size, slots, stride);
            (blocks, out) = (later, rest);
        }
    }
}
