//! Images that no mkfs.erofs makes: blocks of 512 bytes, content in a packed inode, and what an attacker would write.

// One range is what is expected.
#![allow(clippy::single_range_in_vec_init)]

use std::io::Read;
use std::path::PathBuf;

use verity_core::block::BlockSize;
use verity_core::erofs::{Budget, Error, FileKind, Image};
use verity_core::geometry::{Geometry, HashArea};
use verity_core::io::ReadAt;
use verity_core::locate::{Area, Files, Map, Owner, Part, State, files};
use verity_core::params::Params;
use verity_core::progress::Observer;
use verity_core::tree::Report;

const BLOCKS: u64 = 16;
const ROOT: u64 = 36;
const FILE: u64 = 37;
const FOLDER: u64 = 38;
const PACKED: u64 = 39;
const FRAGMENT: u64 = 40;
const DIRECTORY_MODE: u16 = 0o040_755;
const FILE_MODE: u16 = 0o100_644;

/// An image, laid out by hand.
struct Sample(Vec<u8>);

impl Sample {
    /// Superblock and inodes in block 2 and the next; `/file` in blocks 7 and 8, `/folder` in 9, which holds `fragment`, whose
    /// content is bytes 50 to 149 of the packed inode in block 10; the rest is unused.
    fn new() -> Self {
        let mut sample = Self(vec![0; usize::try_from(BLOCKS).unwrap() * 512]);
        sample.put(1024, &0xe0f5_e1e2_u32.to_le_bytes());
        sample.put(1024 + 12, &[9]);
        sample.put(1024 + 14, &ROOT.to_le_bytes()[..2]);
        sample.put(1024 + 80, &[0x20]);
        sample.put(1024 + 96, &PACKED.to_le_bytes());
        sample.inode(ROOT, 0, DIRECTORY_MODE, 512, 6);
        sample.inode(FILE, 0, FILE_MODE, 600, 7);
        sample.inode(FOLDER, 0, DIRECTORY_MODE, 512, 9);
        sample.inode(PACKED, 0, FILE_MODE, 512, 10);
        sample.inode(FRAGMENT, 3, FILE_MODE, 100, 0);
        sample.put(FRAGMENT * 32 + 32, &(1_u64 << 63 | 50).to_le_bytes());
        sample.names(6, &[(b".", ROOT, 2), (b"..", ROOT, 2), (b"file", FILE, 1), (b"folder", FOLDER, 2)]);
        sample.names(9, &[(b".", FOLDER, 2), (b"..", ROOT, 2), (b"fragment", FRAGMENT, 1)]);
        sample
    }

    fn put(&mut self, at: u64, bytes: &[u8]) {
        let at = usize::try_from(at).unwrap();
        self.0[at..at + bytes.len()].copy_from_slice(bytes);
    }

    fn inode(&mut self, nid: u64, layout: u16, mode: u16, size: u32, payload: u32) {
        let at = nid * 32;
        self.put(at, &(layout << 1).to_le_bytes());
        self.put(at + 4, &mode.to_le_bytes());
        self.put(at + 6, &1_u16.to_le_bytes());
        self.put(at + 8, &size.to_le_bytes());
        self.put(at + 16, &payload.to_le_bytes());
    }

    fn names(&mut self, block: u64, names: &[(&[u8], u64, u8)]) {
        let mut offset = names.len() * 12;
        self.put(block * 512, &[0; 512]);
        for (entry, (name, nid, kind)) in (0_u64..).zip(names) {
            let at = block * 512 + entry * 12;
            self.put(at, &nid.to_le_bytes());
            self.put(at + 8, &u16::try_from(offset).unwrap().to_le_bytes());
            self.put(at + 10, &[*kind]);
            self.put(block * 512 + offset as u64, name);
            offset += name.len();
        }
    }

    fn files(&self, bad: &[u64]) -> Files {
        locate(&self.0, bad, 100, &()).unwrap()
    }
}

/// Refuses bad blocks, as a verifying reader does.
struct Intact<'a>(&'a [u8], &'a [u64]);

impl ReadAt for Intact<'_> {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> std::io::Result<usize> {
        let blocks = offset / 512..(offset + buffer.len() as u64).div_ceil(512);
        if self.1.iter().any(|block| blocks.contains(block)) {
            return Err(std::io::Error::other("bad"));
        }
        self.0.read_at(buffer, offset)
    }
}

fn locate(image: &[u8], bad: &[u64], limit: usize, observer: &dyn Observer) -> Result<Files, Error> {
    let params = Params { data_block_size: BlockSize::MIN, ..Params::default() };
    let geometry = Geometry::new(&params, image.len() as u64 / 512, HashArea::bare(0)).unwrap();
    let mut map = Map::new(&params, &geometry, &Report::default());
    for &block in bad {
        map.mark(Area::Data, block..block + 1, State::Damaged);
    }
    files(&Intact(image, bad), &map, limit, observer)
}

/// Paths, parts and bad bytes of content of what is affected.
fn told(files: &Files) -> Vec<(PathBuf, Vec<Part>, Vec<std::ops::Range<u64>>)> {
    let told = files.affected.iter().map(|affected| {
        let path = match &affected.owner {
            Owner::Inode { paths, .. } => paths[0].clone(),
            other => PathBuf::from(format!("{other:?}")),
        };
        (path, affected.parts.iter().copied().collect(), affected.content.listed.clone())
    });
    told.collect()
}

#[test]
fn each_block_belongs_to_what_lies_there() {
    let sample = Sample::new();
    let content = vec![Part::Content];
    assert_eq!(told(&sample.files(&[7])), [("/file".into(), content.clone(), vec![0..512])]);
    // The second block's rest is behind the end.
    assert_eq!(told(&sample.files(&[7, 8])), [("/file".into(), content.clone(), vec![0..600])]);
    assert_eq!(told(&sample.files(&[9])), [("/folder".into(), content.clone(), vec![0..512])]);
    assert_eq!(told(&sample.files(&[6])), [("/".into(), content.clone(), vec![0..512])]);
    assert_eq!(
        told(&sample.files(&[10])),
        [
            ("PackedInode".into(), content.clone(), vec![0..512]),
            ("/folder/fragment".into(), content, vec![0..100])
        ]
    );
    for unused in [0, 1, 3, 5, 11, 15] {
        assert_eq!(told(&sample.files(&[unused])), [("Unused".into(), vec![], vec![])], "{unused}");
    }
    // Superblock and inodes share a block.
    let files = sample.files(&[2, 7]);
    assert_eq!(
        told(&files),
        [("Superblock".into(), vec![], vec![]), ("Unknown".into(), vec![], vec![])],
        "without a superblock no block is known to be unused"
    );
    assert!(!files.complete);
    // An inode in a bad block has a path, and what it would have had is not called unused.
    let mut apart = Sample::new();
    let nid = 12 * 512 / 32;
    apart.inode(nid, 0, FILE_MODE, 600, 13);
    apart.names(9, &[(b".", FOLDER, 2), (b"..", ROOT, 2), (b"other", nid, 1)]);
    assert_eq!(told(&apart.files(&[13])), [("/folder/other".into(), vec![Part::Content], vec![0..512])]);
    let files = apart.files(&[12, 13]);
    assert_eq!(
        told(&files),
        [("/folder/other".into(), vec![Part::Inode], vec![]), ("Unknown".into(), vec![], vec![])]
    );
    assert!(!files.complete && files.gaps.is_empty());
}

#[test]
fn all_is_well_where_nothing_is_bad() {
    // Not even looked at.
    let files = locate(&[0; 512], &[], 100, &()).unwrap();
    assert!(files.complete && files.affected.is_empty());
}

#[test]
fn other_data_is_no_image() {
    assert!(matches!(locate(&[0; 4096], &[7], 100, &()), Err(Error::Magic)));
    assert!(matches!(locate(&[0; 512], &[0], 100, &()), Err(Error::Magic)));
    let mut sample = Sample::new();
    sample.put(1024 + 81, &[1]);
    assert!(matches!(locate(&sample.0, &[7], 100, &()), Err(Error::Features(0x100))));
    for bits in [0, 8, 17, 255] {
        let mut sample = Sample::new();
        sample.put(1024 + 12, &[bits]);
        assert!(matches!(locate(&sample.0, &[7], 100, &()), Err(Error::Invalid { .. })), "{bits}");
    }
}

#[test]
fn a_directory_in_itself_is_cut() {
    let mut sample = Sample::new();
    sample.names(9, &[(b".", FOLDER, 2), (b"..", ROOT, 2), (b"again", ROOT, 2), (b"self", FOLDER, 2)]);
    let files = sample.files(&[7]);
    let gaps: Vec<_> = files.gaps.iter().map(|gap| gap.path.clone()).collect();
    assert_eq!(gaps, [PathBuf::from("/folder/again"), PathBuf::from("/folder/self")]);
    assert_eq!(told(&files)[0].0, PathBuf::from("/file"));
    assert!(!files.complete);
}

#[test]
fn hard_links_are_names_of_one_file() {
    let mut sample = Sample::new();
    sample.put(FILE * 32 + 6, &2_u16.to_le_bytes());
    sample.names(9, &[(b".", FOLDER, 2), (b"..", ROOT, 2), (b"also", FILE, 1)]);
    let files = sample.files(&[7]);
    assert_eq!(files.affected.len(), 1);
    let Owner::Inode { kind, paths, unlisted_paths, size } = &files.affected[0].owner else {
        panic!("{files:?}")
    };
    assert_eq!((*kind, *unlisted_paths, *size), (FileKind::File, 0, Some(600)));
    assert_eq!(*paths, [PathBuf::from("/file"), PathBuf::from("/folder/also")]);
}

#[test]
fn lists_are_bounded() {
    let mut sample = Sample::new();
    let files = locate(&sample.0, &[6, 7, 9, 10, 11], 1, &()).unwrap();
    assert_eq!((files.affected.len(), files.unlisted > 0), (1, true));
    sample.inode(FILE, 0, FILE_MODE, u32::MAX, u32::MAX - 1);
    assert!(sample.files(&[7]).complete, "content behind the end of the image is nowhere");
    // A directory of which only the beginning is in the image.
    sample.inode(FOLDER, 0, DIRECTORY_MODE, u32::MAX, 9);
    let files = sample.files(&[7]);
    assert_eq!((files.gaps.len(), files.unlisted_gaps), (1, 0), "{files:?}");
    sample.inode(FOLDER, 0, DIRECTORY_MODE, 512, 9);
    // An index with more entries than the image has bytes.
    sample.inode(FILE, 4, FILE_MODE, u32::MAX, 0);
    let files = sample.files(&[7]);
    assert_eq!(files.gaps[0].to_string(), "\"/file\": the number of entries of an inode's index is 8388608");
}

/// What a directory says, and what it costs at most.
fn listed(sample: &Sample) -> Result<usize, Error> {
    let image = Image::open(&sample.0, sample.0.len() as u64)?;
    let names = image.list(&image.inode(FOLDER)?, &Budget::new(10_000))?;
    Ok(names.len())
}

#[test]
fn names_of_a_directory_are_in_order() {
    let mut sample = Sample::new();
    sample
        .names(9, &[(b"!", FILE, 1), (b".", FOLDER, 2), (b"..", ROOT, 2), (b"a", FILE, 1), (b"ab", FILE, 1)]);
    assert_eq!(listed(&sample).unwrap(), 3);
    for names in [[&b"."[..], b"..", b"b", b"a"], [b".", b"..", b"a", b"a"], [b".", b"..", b"!", b"a"]] {
        let names = names.map(|name| (name, FILE, 1));
        sample.names(9, &names);
        let error = listed(&sample).unwrap_err();
        assert_eq!(error.to_string(), "the inode of a name that is not behind the one before it is 37");
    }
    // Across blocks, too: chunks that all are the one block.
    sample.names(9, &[(b".", FOLDER, 2), (b"..", ROOT, 2), (b"fragment", FRAGMENT, 1)]);
    sample.inode(FOLDER, 4, DIRECTORY_MODE, 1024, 0);
    sample.put(FOLDER * 32 + 32, &[9_u32.to_le_bytes(), 9_u32.to_le_bytes()].concat());
    let error = listed(&sample).unwrap_err();
    assert_eq!(error.to_string(), "the inode of a name that is not behind the one before it is 38");
}

#[test]
fn pieces_of_content_are_paid_for() {
    let mut sample = Sample::new();
    // 256 chunks, all of them block 7, which is apart from itself each time.
    sample.inode(FILE, 4, FILE_MODE, 256 * 512, 0);
    sample.put(FILE * 32 + 32, &7_u32.to_le_bytes().repeat(256));
    let image = Image::open(&sample.0, sample.0.len() as u64).unwrap();
    let inode = image.inode(FILE).unwrap();
    let content = image.content(&inode, &Budget::new(256 * 5)).unwrap();
    assert_eq!(content.data().len(), 256);
    assert!(matches!(image.content(&inode, &Budget::new(256 * 5 - 1)), Err(Error::Budget)));
    // What lies together is one piece.
    let indexes: Vec<u8> = (7..263_u32).flat_map(u32::to_le_bytes).collect();
    sample.put(FILE * 32 + 32, &indexes);
    let image = Image::open(&sample.0, sample.0.len() as u64).unwrap();
    assert_eq!(image.content(&inode, &Budget::new(256 + 4)).unwrap().data().len(), 1);
}

#[test]
fn an_inline_tail_stays_in_its_block() {
    let mut sample = Sample::new();
    // Behind the inode are 320 bytes of the block.
    sample.inode(FILE, 2, FILE_MODE, 320, 0);
    assert!(sample.files(&[7]).complete);
    for size in [321, 512, 512 + 321] {
        sample.inode(FILE, 2, FILE_MODE, size, 7);
        let files = sample.files(&[7]);
        let told = files.gaps.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(
            told,
            ["\"/file\": the position of an inode whose inline content crosses a block is 1184"],
            "{size}"
        );
    }
}

#[test]
fn a_cancelled_observer_stops_the_search() {
    struct Stop;
    impl Observer for Stop {
        fn cancelled(&self) -> bool {
            true
        }
    }
    assert!(matches!(locate(&Sample::new().0, &[7], 100, &Stop), Err(Error::Cancelled)));
}

/// Numbers below what is asked for, the same ones each time.
fn random() -> impl FnMut(u64) -> u64 {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    move |end| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % end
    }
}

/// Any bytes of the metadata may be anything.
#[test]
fn changed_metadata_does_no_harm() {
    let mut random = random();
    for layout in 0..5 {
        for _ in 0..3000 {
            let mut sample = Sample::new();
            sample.inode(FILE, layout, FILE_MODE, 1 << random(32), u32::try_from(random(64)).unwrap());
            for _ in 0..=random(6) {
                // Superblock, inodes, or names.
                let area = [1024..1400, 3072..3200, 4608..4700][usize::try_from(random(3)).unwrap()].clone();
                let at = area.start + random(area.end - area.start);
                sample.put(at, &[u8::try_from(random(256)).unwrap()]);
            }
            let bad = [random(BLOCKS), random(BLOCKS), 7];
            if let Ok(files) = locate(&sample.0, &bad, 10, &()) {
                assert!(files.affected.iter().all(|affected| affected.state != State::Good));
                assert!(
                    !files.affected.is_empty() || files.unlisted > 0,
                    "block 7 belongs to something, or to nothing"
                );
            }
        }
    }
}

/// The file that is cut into units.
const UNITS: u64 = 44;
/// Its size, and where its second unit begins.
const UNITS_SIZE: u64 = 1124;
const SECOND: usize = 1000;

impl Sample {
    /// Adds a file of two units: one that is compressed, in block 11, and one that is not, in block 12.
    fn with_units(padded: bool, interlaced: bool) -> Self {
        let mut sample = Self::new();
        sample.put(1024 + 80, &[if padded { 0x21 } else { 0x20 }]);
        sample.inode(UNITS, 1, FILE_MODE, u32::try_from(UNITS_SIZE).unwrap(), 0);
        let header = UNITS * 32 + 32;
        sample.put(header + 4, &[if interlaced { 0x10 } else { 0 }, 0, 0x40, 0]);
        for (entry, (kind, offset, block)) in (0..).zip([(1, 0, 11), (0, 488, 12), (2, 0, 0)]) {
            let at = header + 16 + entry * 8;
            sample.put(at, &[kind, 0]);
            sample.put(at + 2, &u16::to_le_bytes(offset));
            sample.put(at + 4, &u32::to_le_bytes(block));
        }
        // Three bytes, and a match of 997 of them at a distance of 3.
        let block = [0x3f, b'a', b'b', b'c', 3, 0, 0xff, 0xff, 0xff, 0xd5];
        sample.put(if padded { 12 * 512 - 10 } else { 11 * 512 }, &block);
        let plain: Vec<u8> = (0..124).collect();
        if interlaced {
            sample.put(12 * 512 + 488, &plain[..24]);
            sample.put(12 * 512, &plain[24..]);
        } else {
            sample.put(12 * 512, &plain);
        }
        sample
    }

    fn content(&self, nid: u64) -> Result<Vec<u8>, Error> {
        let image = Image::open(&self.0, self.0.len() as u64)?;
        let mut bytes = Vec::new();
        let mut content = image.content(&image.inode(nid)?, &Budget::default())?;
        content.read_to_end(&mut bytes).map_err(|source| Error::Unreadable {
            offset: 0,
            length: 0,
            source,
        })?;
        Ok(bytes)
    }
}

#[test]
fn content_is_put_together() {
    let mut sample = Sample::new();
    sample.put(10 * 512, &[7; 49]);
    sample.put(10 * 512 + 50, &(0..100).collect::<Vec<u8>>());
    assert_eq!(sample.content(FRAGMENT).unwrap(), (0..100).collect::<Vec<u8>>());

    let expected: Vec<u8> = b"abc".iter().copied().cycle().take(SECOND).chain(0..124).collect();
    for (padded, interlaced) in [(false, false), (true, false), (false, true), (true, true)] {
        let sample = Sample::with_units(padded, interlaced);
        assert_eq!(sample.content(UNITS).unwrap(), expected, "{padded} {interlaced}");
    }
    // Fragments of a packed inode that is itself compressed: across the end of a unit.
    let mut sample = Sample::with_units(true, false);
    sample.put(1024 + 96, &UNITS.to_le_bytes());
    sample.put(FRAGMENT * 32 + 32, &(1_u64 << 63 | 950).to_le_bytes());
    assert_eq!(sample.content(FRAGMENT).unwrap(), expected[950..1050]);
}

#[test]
fn content_that_cannot_be_is_refused() {
    let index = UNITS * 32 + 48;
    type Change<'c> = &'c dyn Fn(&mut Sample);
    let changes: [(Change<'_>, u64, &str); 10] = [
        (&|sample| sample.put(11 * 512 + 4, &[4]), UNITS, "its compressed data are not sound"),
        (&|sample| sample.put(index + 4, &[200]), UNITS, "the image ends before the content"),
        (&|sample| sample.put(UNITS * 32 + 38, &[1]), UNITS, "compressed by LZMA, which is not read here"),
        // The second unit is of the second algorithm.
        (&|sample| sample.put(index + 8, &[3]), UNITS, "compressed by an unknown algorithm, which is not"),
        // The first one is stored as it is, and longer than its block.
        (&|sample| sample.put(index, &[0]), UNITS, "the content of an uncompressed unit is 1000"),
        // Nothing before the second one.
        (&|sample| sample.put(index, &[2]), UNITS, "the byte of content that lies in no unit is 0"),
        (
            &|sample| sample.put(FRAGMENT * 32 + 32, &(1_u64 << 63 | 413).to_le_bytes()),
            FRAGMENT,
            "where in the packed inode content begins is 413",
        ),
        (
            &|sample| sample.put(FRAGMENT * 32 + 32, &(u64::MAX - 5).to_le_bytes()),
            FRAGMENT,
            "where in the packed inode content begins is",
        ),
        (&|sample| sample.put(1024 + 96, &FRAGMENT.to_le_bytes()), FRAGMENT, "packed into itself"),
        (&|sample| sample.put(1024 + 96, &[0xff; 8]), FRAGMENT, "an inode number is"),
    ];
    for (change, nid, said) in changes {
        let mut sample = Sample::with_units(false, false);
        assert!(sample.content(nid).is_ok());
        change(&mut sample);
        let error = sample.content(nid).unwrap_err().to_string();
        assert!(error.contains(said), "{said}: {error}");
    }
}

/// By what crates compress that are not those which EROFS has.
#[cfg(feature = "layer")]
#[test]
fn deflate_and_zstandard_are_read() {
    use std::io::Write;

    let expected: Vec<u8> = b"abc".iter().copied().cycle().take(SECOND).chain(0..124).collect();
    // More than the unit has, as where files share it.
    let content = expected[..SECOND].repeat(2);
    let mut deflate = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::best());
    deflate.write_all(&content).unwrap();
    for (algorithm, unit) in [(2, deflate.finish().unwrap()), (3, zstd::encode_all(&content[..], 3).unwrap())]
    {
        let mut sample = Sample::with_units(true, false);
        sample.put(UNITS * 32 + 38, &[algorithm]);
        let start = 12 * 512 - unit.len() as u64;
        sample.put(11 * 512, &[0; 512]);
        sample.put(start, &unit);
        assert_eq!(sample.content(UNITS).unwrap(), expected, "{algorithm}");
        // Cut at its beginning, and where it is empty.
        for (at, bytes) in [(start, &unit[1..2]), (11 * 512, &[0; 512])] {
            sample.put(at, bytes);
            let error = sample.content(UNITS).unwrap_err().to_string();
            assert!(error.contains("its compressed data are not sound"), "{algorithm}: {error}");
        }
    }
}

/// Any bytes of an index, a unit or a header may be anything: what is read has the length that the inode says.
#[test]
fn changed_content_does_no_harm() {
    let mut random = random();
    let mut read = 0;
    for round in 0..20_000 {
        let mut sample = Sample::with_units(round % 2 == 0, round % 4 < 2);
        sample.put(1024 + 96, &UNITS.to_le_bytes());
        sample.inode(UNITS, if round % 8 < 4 { 1 } else { 3 }, FILE_MODE, 1124, 0);
        for _ in 0..=random(4) {
            let header = UNITS * 32 + 32;
            let area = [header..header + 40, 11 * 512..11 * 512 + 10, 12 * 512 - 10..12 * 512 + 20];
            let area = area[usize::try_from(random(3)).unwrap()].clone();
            let at = area.start + random(area.end - area.start);
            sample.put(at, &[u8::try_from(random(256)).unwrap()]);
        }
        for (nid, length) in [(UNITS, 1124), (FRAGMENT, 100)] {
            if let Ok(content) = sample.content(nid) {
                assert_eq!(content.len(), length);
                read += 1;
            }
        }
    }
    assert!(read > 1000, "{read}");
}
