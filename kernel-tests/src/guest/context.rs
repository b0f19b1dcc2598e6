//! The process of one case: what the case is given, and how its end is told.

use std::any::Any;
use std::cell::RefCell;
use std::fs::{self, File};
use std::io::{self, BufReader, Read, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::panic::{self, AssertUnwindSafe};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use nix::errno::Errno;
use nix::libc::O_DIRECT;
use nix::mount::{MntFlags, MsFlags, mount, umount2};

use crate::case::Skip;
use crate::cases;
use crate::protocol::{self, Finished, FromGuest, ToGuest, Verdict};

use super::clean::SETTLE;

/// Where a case keeps its files: a tmpfs of its own, gone with it.
pub(super) const SCRATCH: &str = "/tmp/case";

thread_local! {
    /// Message and place of the last panic of this thread.
    static PANIC: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// What a case is given.
pub(crate) struct Context {
    scratch: PathBuf,
    answers: BufReader<io::Stdin>,
}

impl Context {
    /// A path in the case's own folder.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.scratch.join(name)
    }

    /// A file of `len` bytes, all holes.
    pub(crate) fn sparse(&self, name: &str, len: u64) -> anyhow::Result<PathBuf> {
        let path = self.path(name);
        let file = File::create(&path).with_context(|| format!("creating {name}"))?;
        file.set_len(len).with_context(|| format!("growing {name} to {len} bytes"))?;
        Ok(path)
    }

    /// A file of `len` bytes of which no two blocks are alike; the same for the same `seed`.
    pub(crate) fn pattern(&self, name: &str, len: usize, seed: u64) -> anyhow::Result<PathBuf> {
        let path = self.path(name);
        fs::write(&path, pattern(len, seed)).with_context(|| format!("writing {name}"))?;
        Ok(path)
    }

    /// Tells the harness that the kernel will now restart or panic. The answer is waited for: what is still on its
    /// way at a restart is lost.
    pub(crate) fn arm(&mut self) -> anyhow::Result<()> {
        self.ask(&FromGuest::Armed)
    }

    /// Says a line to whoever watches.
    pub(crate) fn say(&self, line: impl Into<String>) -> anyhow::Result<()> {
        tell(&FromGuest::Say { line: line.into() })
    }

    /// Has the harness flip one bit of a disk's image, as a thief with the disk in hand would.
    pub(crate) fn flip_on_disk(&mut self, disk: usize, offset: u64) -> anyhow::Result<()> {
        self.ask(&FromGuest::FlipByte { disk, offset })
    }

    fn ask(&mut self, question: &FromGuest) -> anyhow::Result<()> {
        tell(question)?;
        match protocol::receive(&mut self.answers)? {
            Some(ToGuest::Done) => Ok(()),
            other => bail!("expected the harness's answer to {question:?}, got {other:?}"),
        }
    }
}

/// `len` bytes from xorshift64*, the same for the same seed.
pub(crate) fn pattern(len: usize, seed: u64) -> Vec<u8> {
    let mut state = seed | 1;
    let mut bytes = Vec::with_capacity(len.next_multiple_of(8));
    while bytes.len() < len {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        bytes.extend_from_slice(&state.wrapping_mul(0x2545_f491_4f6c_dd1d).to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

/// Flips bit `bit` of the byte at `offset` of a file or device.
pub(crate) fn flip(path: &Path, offset: u64, bit: u8) -> anyhow::Result<()> {
    let flip = || -> io::Result<()> {
        let file = File::options().read(true).write(true).open(path)?;
        let mut byte = [0];
        file.read_exact_at(&mut byte, offset)?;
        byte[0] ^= 1 << bit;
        file.write_all_at(&byte, offset)?;
        file.sync_all()
    };
    flip().with_context(|| format!("flipping bit {bit} of byte {offset} of {}", path.display()))
}

/// Reads past the page cache, straight from the device. `offset` and `len` must be multiples of its block size.
pub(crate) fn read_direct(device: &Path, offset: u64, len: usize) -> io::Result<Vec<u8>> {
    // The largest logical block size that occurs here, and the page size.
    const ALIGN: usize = 4096;
    let file = File::options().read(true).custom_flags(O_DIRECT).open(device)?;
    let mut room = vec![0u8; len + ALIGN];
    let start = room.as_ptr().align_offset(ALIGN);
    file.read_exact_at(&mut room[start..start + len], offset)?;
    room.drain(..start);
    room.truncate(len);
    Ok(room)
}

/// Reads a whole device or file through the page cache.
pub(crate) fn read_all(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn tell(message: &FromGuest) -> anyhow::Result<()> {
    protocol::send(io::stdout().lock(), message).context("telling the harness")
}

/// Runs one case in this process and tells process 1 how it went.
pub(super) fn main(name: &str) -> ExitCode {
    let verdict = match run(name) {
        Ok(()) => Verdict::Passed,
        Err(error) => match error.downcast_ref::<Skip>() {
            Some(Skip(why)) => Verdict::Skipped(why.clone()),
            None => Verdict::Failed(format!("{error:#}")),
        },
    };
    let finished = Finished { case: name.to_owned(), verdict, millis: 0, leaks: Vec::new(), clean: true };
    match tell(&FromGuest::Finished(finished)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "{name}: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(name: &str) -> anyhow::Result<()> {
    let case = cases::find(name).with_context(|| format!("the guest knows no case {name:?}"))?;
    fs::create_dir_all(SCRATCH).context("creating the case's folder")?;
    mount(Some("tmpfs"), SCRATCH, Some("tmpfs"), MsFlags::empty(), None::<&str>)
        .context("mounting the case's folder")?;
    panic::set_hook(Box::new(|info| PANIC.with(|last| *last.borrow_mut() = Some(info.to_string()))));
    let mut context = Context { scratch: SCRATCH.into(), answers: BufReader::new(io::stdin()) };
    let result = panic::catch_unwind(AssertUnwindSafe(|| (case.body)(&mut context)))
        .unwrap_or_else(|payload| Err(anyhow::anyhow!("{}", panicked(payload.as_ref()))));
    match unmount_settled(SCRATCH.as_ref()) {
        Ok(()) => result,
        Err(error) => {
            // Something holds a file in it; detached, the next case can have its own. The loops and
            // devices that hold it are found by process 1.
            let detached = umount2(SCRATCH, MntFlags::MNT_DETACH);
            result.and(Err(error).context("the case's folder is still in use"))?;
            detached.context("detaching the case's folder")
        }
    }
}

/// A loop device lets go of its file a moment after its last user is gone; that moment is waited for.
pub(crate) fn unmount_settled(path: &Path) -> nix::Result<()> {
    let deadline = Instant::now() + SETTLE;
    loop {
        match umount2(path, MntFlags::empty()) {
            Err(Errno::EBUSY) if Instant::now() < deadline => thread::sleep(Duration::from_millis(5)),
            result => return result,
        }
    }
}

fn panicked(payload: &(dyn Any + Send)) -> String {
    if let Some(said) = PANIC.with(|last| last.borrow_mut().take()) {
        return said;
    }
    let text = payload.downcast_ref::<&str>().copied();
    let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    format!("panicked: {}", text.unwrap_or("without a message"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_depends_on_its_seed_alone() {
        assert_eq!(pattern(9001, 7), pattern(9001, 7));
        assert_ne!(pattern(64, 7), pattern(64, 9));
        let blocks = pattern(4096 * 16, 1);
        let mut blocks: Vec<_> = blocks.chunks(512).collect();
        blocks.sort_unstable();
        blocks.dedup();
        assert_eq!(blocks.len(), 128, "no two sectors alike");
    }

    #[test]
    fn a_bit_flipped_twice_is_as_it_was() {
        let file = std::env::temp_dir().join(format!("kernel-tests-flip-{}", std::process::id()));
        fs::write(&file, pattern(100, 3)).expect("a temporary file");
        flip(&file, 42, 5).expect("inside the file");
        let mut expected = pattern(100, 3);
        expected[42] ^= 0x20;
        assert_eq!(fs::read(&file).expect("written above"), expected);
        flip(&file, 42, 5).expect("inside the file");
        assert_eq!(fs::read(&file).expect("written above"), pattern(100, 3));
        assert!(flip(&file, 100, 0).is_err(), "past the end");
        fs::remove_file(&file).expect("written above");
    }
}
