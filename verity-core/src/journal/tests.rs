use super::format::{HEADER_SIZE, entry_digest, mark, sector_digest};
use super::*;
use crate::io::MemoryDevice;
use sha2::{Digest, Sha256};
use std::sync::Barrier;
use std::thread;

fn device() -> MemoryDevice {
    MemoryDevice::new((0..4096u32).map(|at| at.to_le_bytes()[0]).collect())
}

#[test]
fn changes_are_seen_before_they_are_made() {
    let (device, log) = (device(), MemoryDevice::default());
    let before = device.contents();
    let journal = Journal::begin(&device, &log, BlockSize::MIN, 7).unwrap();
    journal.write_all_at(&[7; 700], 400).unwrap();
    journal.write_all_at(&[8; 2], 511).unwrap();
    let mut seen = vec![0; 4096];
    journal.read_exact_at(&mut seen, 0).unwrap();
    let mut part = vec![0; 1500];
    journal.read_exact_at(&mut part, 300).unwrap();
    assert!(part == seen[300..1800]);
    let mut expected = before.clone();
    expected[400..1100].fill(7);
    expected[511..513].fill(8);
    assert!(seen == expected);
    assert!(device.contents() == before, "nothing has happened yet");
    journal.commit().unwrap();
    assert!(device.contents() == expected);
    assert!(matches!(recover(&log, &device, 8), Err(JournalError::OtherDevice)));
    // A second time, as after a cut.
    assert_eq!(recover(&log, &device, 7).unwrap(), Recovery::Finished { blocks: 3 });
    assert!(device.contents() == expected);
}

/// As with the digests of a hash block: each job writes its own slots.
#[test]
fn threads_write_to_parts_of_the_same_blocks() {
    const THREADS: u8 = 8;
    for round in 0..50 {
        let (device, log) = (device(), MemoryDevice::default());
        let journal = Journal::begin(&device, &log, BlockSize::MIN, 7).unwrap();
        let barrier = Barrier::new(THREADS.into());
        thread::scope(|scope| {
            for thread in 0..THREADS {
                let (journal, barrier) = (&journal, &barrier);
                scope.spawn(move || {
                    barrier.wait();
                    for block in 0..8 {
                        journal.write_all_at(&[thread; 64], block * 512 + u64::from(thread) * 64).unwrap();
                    }
                });
            }
        });
        journal.commit().unwrap();
        let expected: Vec<u8> = (0..THREADS).flat_map(|thread| [thread; 64]).collect();
        assert!(device.contents() == expected.repeat(8), "round {round}");
    }
}

/// Cut the log anywhere: either nothing was begun, or all is finished, or the damage is named. Never half.
#[test]
fn a_journal_that_is_cut_off_changes_nothing() {
    let (changed, log) = (device(), MemoryDevice::default());
    let journal = Journal::begin(&changed, &log, BlockSize::MIN, 7).unwrap();
    journal.write_all_at(&[7; 700], 400).unwrap();
    journal.commit().unwrap();
    let whole = log.into_bytes();
    for length in 0..whole.len() {
        let target = device();
        let result = recover(&whole[..length].to_vec(), &target, 7);
        match result {
            Ok(Recovery::NeverBegun) => assert_eq!(length, 0),
            Err(JournalError::Damaged(_)) => assert_ne!(length, 0),
            other => panic!("{length}: {other:?}"),
        }
        assert!(target.contents() == device().contents());
    }
    let mut without_header = whole.clone();
    without_header[..HEADER_SIZE].copy_from_slice(&mark());
    assert_eq!(recover(&without_header, &device(), 7).unwrap(), Recovery::NeverBegun);
    // What begins with zeros is an image, say.
    without_header[..HEADER_SIZE].fill(0);
    assert!(matches!(recover(&without_header, &device(), 7), Err(JournalError::Damaged(_))));
}

/// Whoever writes a journal can compute digests: what it says must still be possible before any of it is done.
#[test]
fn a_journal_with_an_impossible_block_changes_nothing() {
    let header = |digest, lengths| Header { block_size: 512, count: 2, digest, identity: 7, lengths };
    for block in [u64::MAX, u64::MAX / 512, 1 << 54, 8] {
        let log = MemoryDevice::default();
        for (index, number) in [0, block].into_iter().enumerate() {
            let entry =
                [&number.to_le_bytes()[..], &sector_digest(&device().contents()[..512]), &[7; 512]].concat();
            log.write_all_at(&entry, FIRST_ENTRY + index as u64 * 552).unwrap();
        }
        let digests = log.contents()[512..].chunks(552).flat_map(entry_digest).collect::<Vec<_>>();
        let digest = Sha256::digest(digests).into();
        log.write_all_at(&header(digest, 4096..=4096).encode(), 0).unwrap();
        let target = device();
        assert!(matches!(recover(&log, &target, 7), Err(JournalError::Damaged(_))), "{block}");
        assert!(target.contents() == device().contents());
        // With a length at which it is possible, it is made for another device.
        log.write_all_at(&header(digest, 9 * 512..=u64::MAX).encode(), 0).unwrap();
        assert!(matches!(recover(&log, &target, 7), Err(JournalError::OtherDevice)), "{block}");
        assert!(target.contents() == device().contents());
    }
}

/// A device that grows is recovered from each length on the way, and one of any other length is not touched.
#[test]
fn a_device_of_another_length_is_another_device() {
    let (changed, log) = (device(), MemoryDevice::default());
    let journal = Journal::begin(&changed, &log, BlockSize::MIN, 7).unwrap();
    journal.write_all_at(&[7; 700], 4000).unwrap();
    journal.commit().unwrap();
    assert_eq!(changed.size(), 5120);
    for length in [4096, 4100, 4608, 5120] {
        let target = MemoryDevice::new(changed.contents()[..length].to_vec());
        assert_eq!(recover(&log, &target, 7).unwrap(), Recovery::Finished { blocks: 3 });
        assert!(target.contents() == changed.contents(), "{length}");
    }
    for length in [0, 512, 4095, 5121, 8192] {
        let target = MemoryDevice::new(vec![1; length]);
        assert!(matches!(recover(&log, &target, 7), Err(JournalError::OtherDevice)), "{length}");
        assert!(target.into_bytes() == vec![1; length]);
    }
}

/// Entries are counted by their bytes, never by what the header says of them.
#[test]
fn a_journal_with_an_absurd_count_is_damaged() {
    let log = MemoryDevice::new(vec![0; 4096]);
    let header =
        Header { block_size: 512, count: u64::MAX, digest: [0; 32], identity: 7, lengths: 4096..=4096 };
    log.write_all_at(&header.encode(), 0).unwrap();
    assert!(matches!(recover(&log, &device(), 7), Err(JournalError::Damaged(_))));
}

#[test]
fn a_journal_that_cannot_be_read_back_says_whether_the_device_was_touched() {
    /// Fails after so many reads.
    struct Failing<'a>(&'a MemoryDevice, std::sync::atomic::AtomicU32);
    impl ReadAt for Failing<'_> {
        fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
            use std::sync::atomic::Ordering::Relaxed;
            match self.1.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1)) {
                Ok(_) => self.0.read_at(buffer, offset),
                Err(_) => Err(io::ErrorKind::Other.into()),
            }
        }
    }
    let (changed, log) = (device(), MemoryDevice::default());
    let journal = Journal::begin(&changed, &log, BlockSize::MIN, 7).unwrap();
    journal.write_all_at(&[7; 700], 400).unwrap();
    journal.commit().unwrap();
    // The header, three entries to check, three to apply.
    for reads in 0..7 {
        let target = device();
        let result = recover(&Failing(&log, reads.into()), &target, 7);
        let untouched = target.contents() == device().contents();
        match result {
            Err(JournalError::Log(_)) => assert!(reads < 4 && untouched),
            Err(JournalError::Unfinished(_)) => assert!(reads >= 4 && untouched == (reads == 4)),
            other => panic!("{reads}: {other:?}"),
        }
    }
}

#[test]
fn no_flipped_bit_of_a_journal_reaches_the_device() {
    let (changed, log) = (device(), MemoryDevice::default());
    let journal = Journal::begin(&changed, &log, BlockSize::MIN, 7).unwrap();
    journal.write_all_at(&[7; 3], 400).unwrap();
    journal.commit().unwrap();
    let whole = log.into_bytes();
    for byte in (0..HEADER_SIZE).chain(512..whole.len()) {
        let mut damaged = whole.clone();
        damaged[byte] ^= 0x10;
        let target = device();
        assert!(matches!(recover(&damaged, &target, 7), Err(JournalError::Damaged(_))), "byte {byte}");
        assert!(target.contents() == device().contents());
    }
}

/// A device that the journal was not made for, or that was written to since, with the same identity and length.
#[test]
fn a_device_that_holds_something_else_is_not_touched() {
    let (changed, log) = (device(), MemoryDevice::default());
    let journal = Journal::begin(&changed, &log, BlockSize::new(1024).unwrap(), 7).unwrap();
    journal.write_all_at(&[7; 1024], 1024).unwrap();
    journal.write_all_at(&[8; 1], 3072).unwrap();
    journal.commit().unwrap();
    for (at, offset) in [(1024, 1024), (2047, 1024), (3072, 3072), (3500, 3072), (4095, 3072)] {
        for before in [device(), MemoryDevice::new(changed.contents())] {
            let mut other = before.contents();
            other[at] ^= 0x40;
            let target = MemoryDevice::new(other.clone());
            let result = recover(&log, &target, 7);
            assert!(
                matches!(result, Err(JournalError::OtherContent { offset: found }) if found == offset),
                "{at}: {result:?}"
            );
            assert!(target.into_bytes() == other, "{at}");
        }
    }
    // What the journal does not speak of may be anything.
    let mut elsewhere = device().contents();
    elsewhere[0] ^= 1;
    let target = MemoryDevice::new(elsewhere);
    assert_eq!(recover(&log, &target, 7).unwrap(), Recovery::Finished { blocks: 2 });
}

/// A power cut leaves some sectors of a block old and others new.
#[test]
fn a_torn_block_is_finished() {
    let (changed, log) = (device(), MemoryDevice::default());
    let journal = Journal::begin(&changed, &log, BlockSize::new(2048).unwrap(), 7).unwrap();
    journal.write_all_at(&[7; 2048], 2048).unwrap();
    journal.commit().unwrap();
    let (old, new) = (device().contents(), changed.contents());
    for written in 0..16u32 {
        let mut torn = old.clone();
        for sector in (0..4).filter(|sector| written & 1 << sector != 0) {
            let bytes = 2048 + sector * 512..2048 + (sector + 1) * 512;
            torn[bytes.clone()].copy_from_slice(&new[bytes]);
        }
        let target = MemoryDevice::new(torn);
        assert_eq!(recover(&log, &target, 7).unwrap(), Recovery::Finished { blocks: 1 });
        assert!(target.contents() == new, "{written:b}");
    }
}

/// What cannot be read can be written anew: the journal knows it as unreadable.
#[test]
fn a_sector_that_cannot_be_read_is_an_old_one() {
    /// Answers no read of the bytes 1536 to 2047 until they were written.
    struct Bad(MemoryDevice, std::sync::atomic::AtomicBool);
    impl ReadAt for Bad {
        fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
            let end = offset + buffer.len() as u64;
            if offset < 2048 && end > 1536 && !self.1.load(std::sync::atomic::Ordering::Relaxed) {
                return Err(io::ErrorKind::Other.into());
            }
            self.0.read_at(buffer, offset)
        }
    }
    impl WriteAt for Bad {
        fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
            self.1.store(true, std::sync::atomic::Ordering::Relaxed);
            self.0.write_all_at(bytes, offset)
        }
    }
    impl Durable for Bad {
        fn sync(&self) -> io::Result<()> {
            Ok(())
        }
        fn length(&self) -> io::Result<u64> {
            self.0.length()
        }
        fn reserve(&self, _: std::ops::Range<u64>) -> io::Result<()> {
            Ok(())
        }
    }
    let bad = || Bad(device(), false.into());
    let (changed, log) = (bad(), MemoryDevice::default());
    let journal = Journal::begin(&changed, &log, BlockSize::new(1024).unwrap(), 7).unwrap();
    assert!(journal.write_all_at(&[7; 3], 1025).is_err(), "the rest of the block is not known");
    journal.write_all_at(&[7; 1024], 1024).unwrap();
    journal.commit().unwrap();
    let target = bad();
    assert_eq!(recover(&log, &target, 7).unwrap(), Recovery::Finished { blocks: 1 });
    assert!(target.0.contents() == changed.0.contents());
    // Readable, and neither what was meant nor what could not be read.
    assert!(matches!(recover(&log, &device(), 7), Err(JournalError::OtherContent { offset: 1024 })));

    // Readable before, and torn by the cut.
    let (changed, log) = (device(), MemoryDevice::default());
    let journal = Journal::begin(&changed, &log, BlockSize::new(1024).unwrap(), 7).unwrap();
    journal.write_all_at(&[7; 1024], 1024).unwrap();
    journal.commit().unwrap();
    let target = bad();
    assert_eq!(recover(&log, &target, 7).unwrap(), Recovery::Finished { blocks: 1 });
    assert!(target.0.contents() == changed.contents());
}

/// A file system may have put anything behind the old end when it was cut.
#[test]
fn what_lies_behind_the_old_end_does_not_count() {
    let (changed, log) = (device(), MemoryDevice::default());
    let journal = Journal::begin(&changed, &log, BlockSize::MIN, 7).unwrap();
    journal.write_all_at(&[7; 512], 4096).unwrap();
    journal.commit().unwrap();
    let target = device();
    target.write_all_at(&[9; 512], 4096).unwrap();
    assert_eq!(recover(&log, &target, 7).unwrap(), Recovery::Finished { blocks: 1 });
    assert!(target.contents() == changed.contents());
}

#[test]
fn what_did_not_reach_the_log_is_not_committed() {
    /// Fails once, at the second write.
    struct Once(MemoryDevice, std::sync::atomic::AtomicU32);
    impl ReadAt for Once {
        fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
            self.0.read_at(buffer, offset)
        }
    }
    impl WriteAt for Once {
        fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
            if self.1.fetch_add(1, Ordering::Relaxed) == 1 {
                return Err(io::ErrorKind::StorageFull.into());
            }
            self.0.write_all_at(bytes, offset)
        }
    }
    impl Durable for Once {
        fn sync(&self) -> io::Result<()> {
            Ok(())
        }
        fn length(&self) -> io::Result<u64> {
            self.0.length()
        }
        fn reserve(&self, _: std::ops::Range<u64>) -> io::Result<()> {
            Ok(())
        }
    }
    let (device, log) = (device(), Once(MemoryDevice::default(), 0.into()));
    let before = device.contents();
    let journal = Journal::begin(&device, &log, BlockSize::MIN, 7).unwrap();
    assert!(journal.write_all_at(&[7; 512], 1024).is_err());
    journal.write_all_at(&[7; 512], 1024).unwrap();
    journal.write_all_at(&[8; 512], 2048).unwrap();
    assert!(matches!(journal.commit(), Err(JournalError::Log(_))));
    assert!(device.contents() == before);
    assert_eq!(recover(&log, &device, 7).unwrap(), Recovery::NeverBegun);
}

/// Nothing lies beyond what any file can have.
#[test]
fn a_block_beyond_every_device_is_refused_before_anything_is_written() {
    let (device, log) = (device(), MemoryDevice::default());
    let journal = Journal::begin(&device, &log, BlockSize::MIN, 7).unwrap();
    journal.write_all_at(&[7; 512], (1 << 63) + 512).unwrap();
    assert!(matches!(journal.commit(), Err(JournalError::Room { .. })));
}

/// A device that cannot hold the changes is known before the journal is one.
#[test]
fn without_room_there_is_no_journal() {
    struct Small(MemoryDevice);
    impl ReadAt for Small {
        fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
            self.0.read_at(buffer, offset)
        }
    }
    impl WriteAt for Small {
        fn write_all_at(&self, _: &[u8], _: u64) -> io::Result<()> {
            panic!("it has no room")
        }
    }
    impl Durable for Small {
        fn sync(&self) -> io::Result<()> {
            Ok(())
        }
        fn length(&self) -> io::Result<u64> {
            self.0.length()
        }
        fn reserve(&self, bytes: std::ops::Range<u64>) -> io::Result<()> {
            if bytes.end <= 4096 { Ok(()) } else { Err(io::ErrorKind::StorageFull.into()) }
        }
    }
    let (small, log) = (Small(device()), MemoryDevice::default());
    let journal = Journal::begin(&small, &log, BlockSize::MIN, 7).unwrap();
    journal.write_all_at(&[7; 512], 0).unwrap();
    journal.write_all_at(&[7; 700], 4000).unwrap();
    let error = journal.commit().unwrap_err();
    assert!(matches!(error, JournalError::Room { bytes: 5120, .. }) && error.device_untouched(), "{error}");
    assert_eq!(recover(&log, &small, 7).unwrap(), Recovery::NeverBegun);
}

#[test]
fn room_in_a_file_is_reserved_without_a_change() {
    let file = tempfile::tempfile().unwrap();
    file.write_all_at(&[7; 100], 0).unwrap();
    Durable::reserve(&file, 0..8192).unwrap();
    let error = Durable::reserve(&file, 4096..1 << 62).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::FileTooLarge);
    assert_eq!(file.length().unwrap(), 100);
}
