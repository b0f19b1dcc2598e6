//! Trees of random parameters, made by one program and checked by the other, both ways, with every digest backend that runs here.
//!
//! `VERITY_INTEROP_CASES` says how many (100; 1,000 where `CI=true`), `VERITY_INTEROP_SEED` repeats a run: the seed is
//! printed, and each failure names its case.

mod common;

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{SystemTime, UNIX_EPOCH};

use common::numbers::Numbers;
use common::{Run, Sandbox, backends, pattern};
use verity_core::digest::{BACKEND_VARIABLE, BackendKind};

tests! {
    needs_veritysetup_random_trees_agree_both_ways: [Veritysetup];
}

const ALGORITHMS: [(&str, u64); 15] = [
    ("sha256", 32),
    ("sha224", 28),
    ("sha384", 48),
    ("sha512", 64),
    ("sha3-224", 28),
    ("sha3-256", 32),
    ("sha3-384", 48),
    ("sha3-512", 64),
    ("blake2b-512", 64),
    ("blake2s-256", 32),
    ("sm3", 32),
    ("whirlpool", 64),
    ("ripemd160", 20),
    ("sha1", 20),
    ("md5", 16),
];

/// Bytes of data that a case may have.
const MOST_BYTES: u64 = 24 << 20;

fn number_of(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().expect("a number"))
}

fn needs_veritysetup_random_trees_agree_both_ways() {
    let in_ci = std::env::var_os("CI").is_some_and(|ci| ci == "true");
    let cases = number_of("VERITY_INTEROP_CASES").unwrap_or(if in_ci { 1000 } else { 100 });
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let seed = number_of("VERITY_INTEROP_SEED").unwrap_or_else(now);
    let names: Vec<_> = backends().map(BackendKind::name).collect();
    eprintln!("{cases} cases with each of {}, VERITY_INTEROP_SEED={seed}", names.join(", "));

    let next = AtomicU64::new(0);
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().unwrap().get() {
            scope.spawn(|| {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    if index >= cases {
                        break;
                    }
                    let case =
                        Case::random(&mut Numbers::new(seed.wrapping_mul(1_000_003).wrapping_add(index)));
                    eprintln_on_panic(&format!("case {index} of seed {seed}: {case:?}"), || case.check());
                }
            });
        }
    });
}

/// Says which case failed, since the panic of a thread does not.
fn eprintln_on_panic(what: &str, body: impl FnOnce()) {
    struct Say<'a>(&'a str);
    impl Drop for Say<'_> {
        fn drop(&mut self) {
            if thread::panicking() {
                eprintln!("{}", self.0);
            }
        }
    }
    let _say = Say(what);
    body();
}

#[derive(Debug)]
struct Case {
    data_blocks: u64,
    data_block_size: u64,
    /// The options that say all of it.
    options: String,
    superblock: bool,
    /// In the data's own file, at this offset.
    shared_at: Option<u64>,
}

impl Case {
    fn random(numbers: &mut Numbers) -> Self {
        let block_size =
            |numbers: &mut Numbers| 512 << numbers.choose(&[0, 0, 1, 2, 3, 3, 3, 3, 4, 6, 8, 10]);
        let data_block_size: u64 = block_size(numbers);
        let hash_block_size: u64 = block_size(numbers);
        let (algorithm, digest) = numbers.choose(&ALGORITHMS);
        let hash_type = numbers.below(2);
        let fan_out = 1 << (hash_block_size / digest).ilog2();
        let data_blocks = data_blocks(numbers, data_block_size, fan_out);
        let superblock = numbers.below(4) > 0;
        let alignment = if superblock { 512 } else { hash_block_size };
        let data_bytes = data_blocks * data_block_size;
        let shared_at =
            (numbers.below(3) == 0).then(|| (data_bytes.div_ceil(alignment) + numbers.below(3)) * alignment);
        let offset = shared_at.unwrap_or_else(|| numbers.choose(&[0, 0, 0, 1, 7, 8, 64]) * alignment);
        let uuid = |n: u64| format!("{:08x}-{:04x}-4000-8000-{:012x}", n & 0xffff_ffff, n >> 48, n >> 16);
        let mut options = format!(
            "--hash {algorithm} --format {hash_type} --data-block-size {data_block_size} \
             --hash-block-size {hash_block_size} --data-blocks {data_blocks} --hash-offset {offset} --salt {}",
            salt(numbers)
        );
        if superblock {
            options += &format!(" --uuid {}", uuid(numbers.next()));
        } else {
            options += " --no-superblock";
        }
        Self { data_blocks, data_block_size, options, superblock, shared_at }
    }

    fn check(&self) {
        let length = usize::try_from(self.data_blocks * self.data_block_size).unwrap();
        let (theirs, ours) = (Sandbox::new(), Sandbox::new());
        let data = pattern(length);
        for sandbox in [&theirs, &ours] {
            sandbox.write("data", &data);
        }
        let hash = if self.shared_at.is_some() { "data" } else { "hash" };
        let format = format!("format data {hash} {}", self.options);
        let our_root = root_of(&ours.verity(&format));
        let run = theirs.veritysetup(&format);
        if self.data_blocks == 1 && run.stderr.contains("Error during update of verity header") {
            // It cannot write a superblock at an offset unless a tree comes behind it.
            theirs.write(hash, &ours.read(hash));
        } else {
            assert_eq!(our_root, root_of(&run));
            assert!(same(&ours.read(hash), &theirs.read(hash), self.data_blocks), "the files differ");
        }

        for backend in backends() {
            let forced = |arguments: &str| {
                Run::of(ours.verity_command(arguments).env(BACKEND_VARIABLE, backend.name()))
            };
            let before = ours.read(hash);
            assert_eq!(root_of(&forced(&format)), our_root, "{backend}");
            assert!(ours.read(hash) == before, "the files of {backend} differ");
            forced(&format!("verify data {hash} {our_root} {}", self.parameters())).is(0, "", "");
        }

        // Each reads what the other wrote; with a superblock only that is needed.
        let parameters = self.parameters();
        let verify = format!("verify data {hash} {our_root} {parameters}");
        theirs.verity(&verify).is(0, "", "");
        ours.veritysetup(&verify).is(0, "", "");

        // And both see damage: one bit, anywhere in what is covered.
        let mut numbers = Numbers::new(u64::try_from(length).unwrap());
        let bit = numbers.below(u64::try_from(length).unwrap() * 8);
        for sandbox in [&theirs, &ours] {
            sandbox.flip("data", usize::try_from(bit / 8).unwrap(), 1 << (bit % 8));
        }
        // A tree of one block cannot be told from one of another root hash.
        let code = if self.data_blocks == 1 { 1 } else { 2 };
        assert_eq!(theirs.verity(&verify).code, Some(code));
        assert_eq!(ours.veritysetup(&verify).code, Some(code));
    }

    fn parameters(&self) -> String {
        let words: Vec<_> = self.options.split_whitespace().collect();
        let wanted = |option: &str| match (self.superblock, option) {
            (true, _) => option == "--hash-offset",
            (false, _) => option != "--uuid",
        };
        let flag = if self.superblock { "" } else { "--no-superblock" };
        let pairs = words.chunks(2).filter(|pair| pair.len() == 2 && wanted(pair[0]));
        pairs.map(|pair| pair.join(" ")).collect::<Vec<_>>().join(" ") + " " + flag
    }
}

/// Whether two files are the same. Where there is no tree, 2.6 pads the superblock to 4096 bytes only.
fn same(ours: &[u8], theirs: &[u8], data_blocks: u64) -> bool {
    let padding = ours.len().saturating_sub(theirs.len());
    let (head, tail) = ours.split_at(ours.len() - padding);
    head == theirs && (padding == 0 || data_blocks == 1 && tail.iter().all(|&byte| byte == 0))
}

/// Numbers of blocks at the edges of levels, and some between.
fn data_blocks(numbers: &mut Numbers, block_size: u64, fan_out: u64) -> u64 {
    let most = (MOST_BYTES / block_size).max(1);
    let edges =
        [1, 2, fan_out - 1, fan_out, fan_out + 1, 2 * fan_out, fan_out * fan_out, fan_out * fan_out + 1];
    let blocks = match numbers.below(2) {
        0 => numbers.choose(&edges),
        _ => 1 + numbers.below(4 * fan_out),
    };
    blocks.clamp(1, most)
}

/// 0 to 256 bytes, often one of the usual sizes.
fn salt(numbers: &mut Numbers) -> String {
    let size = numbers.choose(&[0, 1, 8, 32, 32, 32, 64, 255, 256, 1000]);
    let size = if size == 1000 { numbers.below(257) } else { size };
    if size == 0 {
        return "-".to_owned();
    }
    (0..size).map(|_| format!("{:02x}", numbers.below(256))).collect()
}

#[track_caller]
fn root_of(run: &Run) -> String {
    assert_eq!(run.code, Some(0), "{run:?}");
    let root = run.stdout.lines().find_map(|line| line.strip_prefix("Root hash:"));
    root.unwrap_or_else(|| panic!("no root hash: {run:?}")).trim().to_owned()
}
