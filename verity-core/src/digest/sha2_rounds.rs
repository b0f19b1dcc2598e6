//! The SHA-2 compression functions over vectors: one message in each lane, one word of each message in each vector.
//!
//! Written once for SHA-256 and SHA-512, which differ in the word, the rotations and the number of rounds, and once for all instruction sets,
//! which differ in how they add and rotate ([`Vector`]). Groups of lanes are interleaved: a chain of rounds waits for its own
//! results, and a second, independent one fills the gaps.

use super::sha2_constants::{SHA256_ROUNDS, SHA512_ROUNDS};

/// A register of lanes, and the few operations that SHA-2 needs of it.
///
/// # Safety
/// Every method executes instructions of one set. Calls are sound only in code that runs after that set was detected, and fast
/// only where they are inlined into a function that enables it.
pub(super) trait Vector: Copy {
    /// `u32` or `u64`.
    type Word: Copy;
    /// How many lanes it has.
    const LANES: usize;

    unsafe fn splat(word: Self::Word) -> Self;
    /// Reads [`LANES`](Self::LANES) words.
    unsafe fn load(words: *const Self::Word) -> Self;
    /// Writes [`LANES`](Self::LANES) words.
    unsafe fn store(self, words: *mut Self::Word);
    /// Reads 16 big-endian words of each lane, that of lane `i` from `input + offsets[i]` on, and returns them word by word.
    unsafe fn load_message(input: *const u8, offsets: *const usize) -> [Self; 16];
    unsafe fn add(self, other: Self) -> Self;
    unsafe fn rotate_right<const BITS: i32>(self) -> Self;
    unsafe fn shift_right<const BITS: u32>(self) -> Self;
    /// `a ^ b ^ c`
    unsafe fn xor3(a: Self, b: Self, c: Self) -> Self;
    /// `(e & f) ^ (!e & g)`
    unsafe fn choose(e: Self, f: Self, g: Self) -> Self;
    /// `(a & b) ^ (a & c) ^ (b & c)`
    unsafe fn majority(a: Self, b: Self, c: Self) -> Self;
}

macro_rules! compression {
    (
        $(#[$doc:meta])* $name:ident, $word:ty, $block:literal, $constants:ident,
        big: ($a1:literal, $a2:literal, $a3:literal), ($e1:literal, $e2:literal, $e3:literal),
        small: ($w0a:literal, $w0b:literal, >> $w0c:literal), ($w1a:literal, $w1b:literal, >> $w1c:literal)
    ) => {
        $(#[$doc])*
        ///
        /// # Safety
        /// The instruction set of `V` was detected, and `blocks * BLOCK` bytes can be read from `input + offsets[i]` on for each of
        /// the `GROUPS * V::LANES` lanes.
        #[inline(always)]
        pub(super) unsafe fn $name<V: Vector<Word = $word>, const GROUPS: usize, const LANES: usize>(
            states: &mut [[$word; LANES]; 8],
            input: *const u8,
            offsets: &[usize; LANES],
            blocks: usize,
        ) {
            const { assert!(GROUPS * V::LANES <= LANES) };
            // SAFETY: the caller vouches for the instruction set and for `input`; states and offsets hold at least `GROUPS * V::LANES` lanes.
            unsafe {
                // Loops and no closures: those would not be compiled for the instruction set.
                let mut state = [[V::splat(0); 8]; GROUPS];
                for group in 0..GROUPS {
                    for word in 0..8 {
                        state[group][word] = V::load(states[word].as_ptr().add(group * V::LANES));
                    }
                }
                let mut w = [[V::splat(0); 16]; GROUPS];
                for block in 0..blocks {
                    let input = input.add(block * $block);
                    for group in 0..GROUPS {
                        w[group] = V::load_message(input, offsets.as_ptr().add(group * V::LANES));
                    }
                    let mut working = state;
                    // Sixteen rounds at a time, unrolled: the eight working variables change places by name, not by moves. Once a round
                    // has used a word of the message, the one for sixteen rounds later takes its place: so early, no round waits for it.
                    macro_rules! sixteen_rounds {
                        ($words:expr, $and_schedule:literal) => {
                            let constants: &[$word; 16] = $words;
                            macro_rules! round {
                                ($i:literal) => {
                                    for group in 0..GROUPS {
                                        let w = &mut w[group];
                                        let v = &mut working[group];
                                        let (a, b, c, d) = (v[(16 - $i) % 8], v[(17 - $i) % 8], v[(18 - $i) % 8], v[(19 - $i) % 8]);
                                        let (e, f, g, h) = (v[(20 - $i) % 8], v[(21 - $i) % 8], v[(22 - $i) % 8], v[(23 - $i) % 8]);
                                        let s1 = V::xor3(e.rotate_right::<$e1>(), e.rotate_right::<$e2>(), e.rotate_right::<$e3>());
                                        let t1 = h.add(s1).add(V::choose(e, f, g)).add(w[$i].add(V::splat(constants[$i])));
                                        let s0 = V::xor3(a.rotate_right::<$a1>(), a.rotate_right::<$a2>(), a.rotate_right::<$a3>());
                                        v[(19 - $i) % 8] = d.add(t1);
                                        v[(23 - $i) % 8] = t1.add(s0.add(V::majority(a, b, c)));
                                        if $and_schedule {
                                            let (w0, w1) = (w[($i + 1) % 16], w[($i + 14) % 16]);
                                            let s0 = V::xor3(w0.rotate_right::<$w0a>(), w0.rotate_right::<$w0b>(), w0.shift_right::<$w0c>());
                                            let s1 = V::xor3(w1.rotate_right::<$w1a>(), w1.rotate_right::<$w1b>(), w1.shift_right::<$w1c>());
                                            w[$i] = w[$i].add(s0).add(w[($i + 9) % 16].add(s1));
                                        }
                                    }
                                };
                            }
                            round!(0); round!(1); round!(2); round!(3); round!(4); round!(5); round!(6); round!(7);
                            round!(8); round!(9); round!(10); round!(11); round!(12); round!(13); round!(14); round!(15);
                        };
                    }
                    // The last ones are code of their own: a branch in every round cost 5 %.
                    let (first, last) = $constants.split_at($constants.len() - 16);
                    for constants in first.as_chunks().0 {
                        sixteen_rounds!(constants, true);
                    }
                    for constants in last.as_chunks().0 {
                        sixteen_rounds!(constants, false);
                    }
                    for group in 0..GROUPS {
                        for word in 0..8 {
                            state[group][word] = state[group][word].add(working[group][word]);
                        }
                    }
                }
                for group in 0..GROUPS {
                    for word in 0..8 {
                        state[group][word].store(states[word].as_mut_ptr().add(group * V::LANES));
                    }
                }
            }
        }
    };
}

compression! {
    /// SHA-224's and SHA-256's.
    sha256, u32, 64, SHA256_ROUNDS,
    big: (2, 13, 22), (6, 11, 25),
    small: (7, 18, >> 3), (17, 19, >> 10)
}

compression! {
    /// SHA-384's and SHA-512's.
    sha512, u64, 128, SHA512_ROUNDS,
    big: (28, 34, 39), (14, 18, 41),
    small: (1, 8, >> 7), (19, 61, >> 6)
}
