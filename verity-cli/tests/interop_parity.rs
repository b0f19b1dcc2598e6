//! Parity of random parameters, made by one program and checked by the other; and how far the repair of each goes.
//!
//! `VERITY_INTEROP_CASES` says how many (100; 500 where `CI=true`), `VERITY_INTEROP_SEED` repeats a run: the seed is printed, and each
//! failure names its case.

mod common;

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{SystemTime, UNIX_EPOCH};

use common::numbers::Numbers;
use common::{FIXED, Sandbox, pattern};

tests! {
    needs_veritysetup_random_parity_agrees: [Veritysetup];
    needs_veritysetup_repair_goes_twice_as_far: [Veritysetup];
}

/// Bytes of data that a case may have: veritysetup makes parity at some 10 MB/s.
const MOST_BYTES: u64 = 2 << 20;

fn number_of(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().expect("a number"))
}

fn needs_veritysetup_random_parity_agrees() {
    let in_ci = std::env::var_os("CI").is_some_and(|ci| ci == "true");
    let cases = number_of("VERITY_INTEROP_CASES").unwrap_or(if in_ci { 500 } else { 100 });
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let seed = number_of("VERITY_INTEROP_SEED").unwrap_or_else(now);
    eprintln!("{cases} cases, VERITY_INTEROP_SEED={seed}");
    let next = AtomicU64::new(0);
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().unwrap().get() {
            scope.spawn(|| {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    if index >= cases {
                        break;
                    }
                    let numbers = &mut Numbers::new(seed.wrapping_mul(1_000_003).wrapping_add(index));
                    let case = Case::random(numbers);
                    let what = format!("case {index} of seed {seed}: {case:?}");
                    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| case.check()));
                    assert!(result.is_ok(), "{what}");
                }
            });
        }
    });
}

/// Where the parity goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Separate,
    WithHash,
    WithData,
    AllInOne,
}

#[derive(Debug)]
struct Case {
    data_blocks: u64,
    block_size: u64,
    place: Place,
    /// What the hash file holds beforehand, in bytes.
    before: u64,
    tree: String,
    fec: String,
}

impl Case {
    fn random(numbers: &mut Numbers) -> Self {
        let block_size = 512 << numbers.choose(&[0, 1, 2, 3, 3, 3, 3, 4, 6]);
        let roots = 2 + numbers.below(23);
        // Around whole rounds, and anywhere.
        let round = 255 - roots;
        let blocks = match numbers.below(3) {
            0 => round * (1 + numbers.below(3)) + numbers.below(3) - 1,
            _ => 2 + numbers.below(4 * round),
        };
        let data_blocks = blocks.clamp(2, (MOST_BYTES / block_size).max(2));
        let place = numbers.choose(&[
            Place::Separate,
            Place::Separate,
            Place::WithHash,
            Place::WithData,
            Place::AllInOne,
        ]);
        let fan_out = 1 << (block_size / 32).ilog2();
        let superblock = numbers.below(4) > 0;
        let hash_start = if place == Place::AllInOne {
            data_blocks
        } else if numbers.below(3) == 0 {
            1 + numbers.below(3)
        } else {
            0
        };
        let mut tree_blocks = u64::from(superblock);
        let mut level = data_blocks;
        while level > 1 {
            level = level.div_ceil(fan_out);
            tree_blocks += level;
        }
        let fec_start = match place {
            Place::Separate => numbers.choose(&[0, 0, 1, 7]),
            Place::WithData => data_blocks + numbers.below(2),
            Place::WithHash | Place::AllInOne => hash_start + tree_blocks,
        };
        let before = match place {
            Place::Separate if numbers.below(3) == 0 => numbers.below(20 * block_size),
            _ => 0,
        };
        let mut tree = format!(
            "--data-block-size {block_size} --hash-block-size {block_size} --data-blocks {data_blocks} --hash-offset {} --salt {:016x}",
            hash_start * block_size,
            numbers.next()
        );
        tree += if superblock { " --uuid 01234567-89ab-cdef-0123-456789abcdef" } else { " --no-superblock" };
        let fec = format!("--fec-offset {} --fec-roots {roots}", fec_start * block_size);
        Self { data_blocks, block_size, place, before, tree, fec }
    }

    fn check(&self) {
        let data = pattern(usize::try_from(self.data_blocks * self.block_size).unwrap());
        let (hash, fec) = match self.place {
            Place::Separate => ("hash", "fec"),
            Place::WithHash => ("hash", "hash"),
            Place::WithData => ("hash", "data"),
            Place::AllInOne => ("data", "data"),
        };
        let (theirs, ours) = (Sandbox::new(), Sandbox::new());
        for sandbox in [&theirs, &ours] {
            sandbox.write("data", &data);
            if self.before > 0 {
                // Zeros behind the superblock, where veritysetup leaves what was there.
                let mut before = pattern(usize::try_from(self.before).unwrap());
                let padding = before.len().min(usize::try_from(self.block_size).unwrap());
                before[..padding].fill(0);
                sandbox.write("hash", &before);
            }
        }
        let format = format!("format data {hash} {} --fec-device {fec} {}", self.tree, self.fec);
        let told = ours.verity(&format).success();
        let run = theirs.veritysetup(&format);
        assert_eq!(run.code, Some(0), "{run:?}");
        for name in ["data", hash, fec] {
            assert!(theirs.read(name) == ours.read(name), "{name} differs");
        }
        let root = told.lines().find_map(|line| line.strip_prefix("Root hash:")).unwrap().trim();
        let tree = self.tree.replace("--uuid 01234567-89ab-cdef-0123-456789abcdef", "");
        let verify = format!("verify data {hash} {root} {tree} --fec-device {fec} {}", self.fec);
        theirs.verity(&verify).is(0, "", "");
        // The same parity again, over the tree that there is.
        let encode = format!("fec encode -q data {hash} {root} {tree} --fec-device {fec} {}", self.fec);
        theirs.verity(&encode).is(0, "", "");
        assert!(theirs.read(fec) == ours.read(fec), "made again it differs");
    }
}

/// Bad blocks of the same codewords: veritysetup corrects half as many as there are parity bytes, `verity` all of these
/// since the tree tells the blocks.
fn needs_veritysetup_repair_goes_twice_as_far() {
    eprintln!("roots  veritysetup  verity");
    for roots in 2..=24 {
        let sandbox = Sandbox::with_data(600);
        let format = format!("format -q data hash {FIXED} --fec-device fec --fec-roots {roots}");
        let root = sandbox.verity(&format).success().trim().to_owned();
        let right = sandbox.content();
        let verify = format!("verify data hash {root} --fec-device fec --fec-roots {roots}");
        let (mut by_them, mut by_us) = (0, 0);
        for count in 1..=roots + 1 {
            // Three rounds: every third block. All of it, so that no chance makes all codewords look right.
            sandbox.garble("data", (count - 1) * 3 * 4096, 4096);
            let damaged = sandbox.content();
            if by_them + 1 == count && sandbox.veritysetup(&verify).code == Some(0) {
                by_them = count;
            }
            let run = sandbox.verity(&verify);
            if run.stderr.contains("; repairable: ") {
                by_us = count;
                sandbox.verity(&verify.replace("verify", "repair -q --in-place")).is(0, "", "");
                assert!(sandbox.content() == right, "{roots} {count}");
                sandbox.write("data", &damaged["data"]);
            } else {
                // Each block that cannot be restored is named.
                let named = (0..count).all(|row| run.stdout.contains(&format!("\ndata block {} (", row * 3)));
                assert!(run.code == Some(2) && run.stdout.contains("Beyond repair:") && named, "{run:?}");
            }
        }
        eprintln!("{roots:>5}  {by_them:>11}  {by_us:>6}");
        assert_eq!((by_them, by_us), (roots / 2, roots));
    }
}
