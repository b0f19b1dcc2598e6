//! Random trees: every one reads back, and fsck.erofs finds nothing wrong and unpacks the same.

use std::collections::BTreeMap;

use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use verity_core::block::BlockSize;
use verity_core::erofs::write::{Attributes, Options};

use crate::fsck;
use crate::model::{Step, image};
use crate::read::What;

/// Few names, so that they meet; among them such as come before `.` or are not UTF-8.
const NAMES: [&[u8]; 10] =
    [b"a", b"b", b"!", b"-x", b"..x", b"...", b"\xff\xfe", b"zz z", b"new\nline", &[b'n'; 255]];

fn path() -> impl Strategy<Value = Vec<u8>> {
    vec(0..NAMES.len(), 1..4)
        .prop_map(|names| names.iter().map(|&name| NAMES[name]).collect::<Vec<_>>().join(&b'/'))
}

fn xattrs() -> impl Strategy<Value = BTreeMap<Vec<u8>, Vec<u8>>> {
    let name = prop_oneof![
        Just(b"user.a".to_vec()),
        Just(b"user.b".to_vec()),
        Just(b"trusted.overlay.opaque".to_vec()),
        Just(b"security.capability".to_vec()),
        "[a-z]{1,40}".prop_map(|name| format!("user.{name}").into_bytes()),
    ];
    let value = prop_oneof![
        Just(b"y".to_vec()),
        vec(any::<u8>(), 0..40),
        (1000_usize..6000, any::<u8>()).prop_map(|(length, byte)| vec![byte; length]),
    ];
    prop_oneof![3 => Just(BTreeMap::new()), 1 => btree_map(name, value, 0..4)]
}

fn attributes() -> impl Strategy<Value = Attributes> {
    let id = || prop_oneof![Just(0), Just(1000), Just(65_535), Just(65_536), any::<u32>()];
    let time = prop_oneof![
        Just((1_700_000_000, 0)),
        Just((0, 0)),
        (any::<i32>().prop_map(i64::from), 0..1_000_000_000_u32)
    ];
    (0..=0o7777_u16, id(), id(), time, xattrs()).prop_map(|(mode, uid, gid, (mtime, mtime_nsec), xattrs)| {
        Attributes { mode, uid, gid, mtime, mtime_nsec, xattrs }
    })
}

/// Pieces that occur again and again, and zeros between them.
fn content() -> impl Strategy<Value = Vec<u8>> {
    let length = prop_oneof![
        Just(1_usize),
        Just(512),
        Just(2048),
        Just(2049),
        Just(4096),
        Just(65_536),
        Just(65_536 * 2),
        1..5000_usize
    ];
    vec((0..4_u8, length), 0..5).prop_map(|pieces| {
        let piece = |(seed, length): (u8, usize)| {
            (0..length).map(move |at| {
                if seed == 0 { 0 } else { seed.wrapping_mul(u8::try_from(at % 251).unwrap() + 1) }
            })
        };
        pieces.into_iter().flat_map(piece).collect()
    })
}

fn what() -> impl Strategy<Value = What> {
    prop_oneof![
        3 => Just(What::Directory),
        6 => content().prop_map(What::File),
        2 => vec(1..=255_u8, 1..300).prop_map(What::Symlink),
        1 => (1..4096_u32, 0..1_048_576_u32).prop_map(|(major, minor)| What::CharDevice(major, minor)),
        1 => (1..4096_u32, 0..1_048_576_u32).prop_map(|(major, minor)| What::BlockDevice(major, minor)),
        1 => Just(What::CharDevice(0, 0)),
        1 => Just(What::Fifo),
        1 => Just(What::Socket),
    ]
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        8 => (path(), attributes(), what()).prop_map(|(path, attributes, what)| Step::Add(path, attributes, what)),
        1 => attributes().prop_map(|attributes| Step::Add(Vec::new(), attributes, What::Directory)),
        2 => (path(), path()).prop_map(|(path, target)| Step::Link(path, target)),
    ];
    vec(step, 0..40)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn any_tree_reads_back(steps in steps()) {
        let (bytes, _, found) = image(Options::default(), &steps);
        fsck::check(&bytes, &found);
        prop_assert!(image(Options::default(), &steps).0 == bytes, "the same again");
    }

    #[test]
    fn any_tree_reads_back_from_other_blocks(steps in steps(), bits in prop_oneof![Just(9), Just(10), Just(11), Just(13), Just(16)]) {
        let block_size = BlockSize::new(1 << bits).unwrap();
        let mut options = Options::default();
        options.block_size = block_size;
        let (bytes, _, found) = image(options, &steps);
        fsck::check(&bytes, &found);
    }
}
