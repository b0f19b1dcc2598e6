//! Tables: round trips, and what strictness refuses.

use proptest::prelude::*;

use super::*;
use crate::device::number::DeviceNumber;
use crate::geometry::HashArea;

const ROOT: &str = "4392712ba01368efdf14b05c76f9e4df0d53664630b5d48632ed17a137f39076";

fn line(tail: &str) -> String {
    format!("1 7:1 7:0 4096 4096 10 1 sha256 {ROOT} -{tail}")
}

fn refused(line: &str) -> TableError {
    line.parse::<Table>().expect_err(line)
}

#[test]
fn a_geometry_of_other_parameters_makes_no_table() {
    let params = Params::default();
    let geometry = Geometry::new(&params, 10, HashArea::bare(0)).unwrap();
    let other = Params { data_block_size: BlockSize::MIN, ..params };
    let root = RootHash::new(Algorithm::Sha256, &[7; 32]).unwrap();
    let number = DeviceNumber::new(7, 0).unwrap();
    let error = Table::new(&other, &geometry, root, number.into(), number.into()).unwrap_err();
    assert!(matches!(error, TableError::Geometry(GeometryError::OtherParams)), "{error}");
}

fn device() -> impl Strategy<Value = DeviceRef> {
    prop_oneof![
        (0..=DeviceNumber::MAX_MAJOR, 0..=DeviceNumber::MAX_MINOR)
            .prop_map(|(major, minor)| DeviceNumber::new(major, minor).unwrap().into()),
        "/[!-\\[\\]-~]{1,100}".prop_map(|path| path.parse().unwrap()),
    ]
}

fn params() -> impl Strategy<Value = Params> {
    let block_size = || (9..=19u32).prop_map(|bits| BlockSize::new(1 << bits).unwrap());
    (
        prop_oneof![Just(HashType::ChromeOs), Just(HashType::Normal)],
        proptest::sample::select(Algorithm::ALL.to_vec()),
        block_size(),
        block_size(),
        proptest::collection::vec(any::<u8>(), 0..=256),
    )
        .prop_map(|(hash_type, algorithm, data_block_size, hash_block_size, salt)| Params {
            hash_type,
            algorithm,
            data_block_size,
            hash_block_size,
            salt: Salt::new(&salt).unwrap(),
        })
}

fn options() -> impl Strategy<Value = TableOptions> {
    (
        proptest::sample::select(vec![
            Corruption::Fail,
            Corruption::Ignore,
            Corruption::Restart,
            Corruption::Panic,
        ]),
        proptest::sample::select(vec![OnError::Fail, OnError::Restart, OnError::Panic]),
        any::<[bool; 3]>(),
        proptest::option::of("[!-\\[\\]-~]{1,255}"),
    )
        .prop_map(|(corruption, on_error, flags, key)| TableOptions {
            corruption,
            on_error,
            ignore_zero_blocks: flags[0],
            check_at_most_once: flags[1],
            try_verify_in_tasklet: flags[2],
            signature_key: key.map(|key| key.parse().unwrap()),
        })
}

fn fec() -> impl Strategy<Value = Option<Fec<DeviceRef>>> {
    let blocks = 0..1u64 << 44;
    proptest::option::of((device(), blocks.clone(), blocks, 2..=24u64).prop_map(
        |(device, start_block, blocks, roots)| Fec {
            device,
            start_block,
            blocks,
            roots: Roots::new(roots).unwrap(),
        },
    ))
}

fn table() -> impl Strategy<Value = Table> {
    (params(), 1..1u64 << 43, 0..1u64 << 40, device(), device(), options(), fec(), any::<[u8; 64]>())
        .prop_map(|(params, data_blocks, hash_block, data, hash, options, fec, digest)| {
            let area = HashArea::bare(hash_block * params.hash_block_size.as_u64());
            let geometry = Geometry::new(&params, data_blocks, area).unwrap();
            let root = RootHash::new(params.algorithm, &digest[..params.algorithm.digest_size()]).unwrap();
            let table = Table::new(&params, &geometry, root, data, hash).unwrap().with_options(options);
            match fec {
                Some(fec) => table.with_fec(fec).unwrap(),
                None => table,
            }
        })
}

proptest! {
    #[test]
    fn every_table_is_read_back(table in table()) {
        let line = table.to_string();
        prop_assert!(line.len() <= MAX_LENGTH);
        prop_assert_eq!(line.parse::<Table>().unwrap(), table);
    }

    #[test]
    fn no_table_survives_a_lost_or_a_doubled_word(table in table(), at in any::<proptest::sample::Index>()) {
        let line = table.to_string();
        let words: Vec<&str> = line.split(' ').collect();
        let at = at.index(words.len());
        let mut lost = words.clone();
        lost.remove(at);
        // A line whose only missing word is the last one may be another table: one without options.
        if let Ok(other) = lost.join(" ").parse::<Table>() {
            prop_assert_ne!(other, table.clone());
        }
        let mut doubled = words.clone();
        doubled.insert(at, words[at]);
        prop_assert!(doubled.join(" ").parse::<Table>().is_err());
    }

    #[test]
    fn arbitrary_text_never_panics_and_means_one_thing(text in ".{0,300}", tail in "( [0-9a-z_:/-]{0,12}){0,12}") {
        for text in [text, line(&tail)] {
            if let Ok(table) = text.parse::<Table>() {
                prop_assert_eq!(table.to_string().parse::<Table>().unwrap(), table);
            }
        }
    }
}

#[test]
fn the_kernels_own_lines_are_read_back() {
    for tail in [
        "",
        " 1 ignore_corruption",
        " 1 restart_on_corruption",
        " 3 panic_on_corruption restart_on_error ignore_zero_blocks",
        " 4 panic_on_error ignore_zero_blocks check_at_most_once try_verify_in_tasklet",
        " 8 use_fec_from_device 7:2 fec_blocks 11 fec_start 12 fec_roots 2",
        " 2 root_hash_sig_key_desc verity:root",
    ] {
        assert_eq!(line(tail).parse::<Table>().unwrap().to_string(), line(tail));
    }
}

#[test]
fn algorithms_are_printed_under_the_kernels_names() {
    let root = "0".repeat(40);
    let table: Table = format!("1 7:1 7:0 4096 4096 10 1 ripemd160 {root} -").parse().unwrap();
    assert_eq!(table.to_string(), format!("1 7:1 7:0 4096 4096 10 1 rmd160 {root} -"));
}

#[test]
fn options_may_come_in_any_order_but_once_each() {
    let table: Table = line(" 3 check_at_most_once ignore_zero_blocks ignore_corruption").parse().unwrap();
    assert_eq!(table.options().corruption, Corruption::Ignore);
    assert!(table.options().check_at_most_once && table.options().ignore_zero_blocks);

    for tail in [
        " 2 ignore_corruption ignore_corruption",
        " 2 ignore_corruption panic_on_corruption",
        " 2 restart_on_error panic_on_error",
        " 2 ignore_zero_blocks ignore_zero_blocks",
        " 4 root_hash_sig_key_desc a root_hash_sig_key_desc b",
        " 4 fec_roots 2 fec_roots 2",
    ] {
        assert!(matches!(refused(&line(tail)), TableError::Duplicate(_)), "{tail}");
    }
}

#[test]
fn the_number_of_option_words_is_exact() {
    for (tail, expected, found) in [
        (" 1", 1, 0),
        (" 0 ignore_corruption", 0, 1),
        (" 2 ignore_corruption", 2, 1),
        (" 1 ignore_corruption ignore_zero_blocks", 1, 2),
        (" 1 ignore_corruption ", 1, 2),
        (" 18446744073709551615 ignore_corruption", usize::MAX, 1),
    ] {
        let error = refused(&line(tail));
        assert!(
            matches!(error, TableError::OptionWords { expected: e, found: f } if (e, f) == (expected, found)),
            "{tail}: {error}"
        );
    }
    assert!(line(" 0").parse::<Table>().is_ok());
    assert!(matches!(refused(&line(" -1 ignore_corruption")), TableError::Field { .. }));
    assert!(matches!(refused(&line(" ")), TableError::Field { .. }));
}

#[test]
fn unknown_options_and_missing_values_are_refused() {
    assert!(matches!(refused(&line(" 1 ignore_everything")), TableError::UnknownOption(_)));
    assert!(matches!(refused(&line(" 1 IGNORE_CORRUPTION")), TableError::UnknownOption(_)));
    assert!(matches!(refused(&line(" 1 root_hash_sig_key_desc")), TableError::Missing(SIGNATURE_KEY)));
    assert!(matches!(refused(&line(" 2 fec_roots 2")), TableError::IncompleteFec(USE_FEC)));
    let without_roots = " 6 use_fec_from_device 7:2 fec_blocks 11 fec_start 12";
    assert!(matches!(refused(&line(without_roots)), TableError::IncompleteFec(FEC_ROOTS)));
}

#[test]
fn each_field_is_checked_and_named() {
    let good: Vec<String> = line("").split(' ').map(str::to_owned).collect();
    let cases = [
        (0, "2", "hash type"),
        (1, "loop1", "data device"),
        (2, "7:0:0", "hash device"),
        (3, "4095", "data block size"),
        (3, "1048576", "data block size"),
        (4, "256", "hash block size"),
        (5, "-1", "data blocks"),
        (5, "0", "data blocks"),
        (5, "4503599627370496", "data blocks"),
        (6, "18446744073709551616", "hash start block"),
        (6, "18446744073709551615", "hash start block"),
        (7, "sha0", "algorithm"),
        (8, "00", "root hash"),
        (9, "0", "salt"),
        (9, "xy", "salt"),
    ];
    for (field, text, name) in cases {
        let mut words = good.clone();
        text.clone_into(&mut words[field]);
        let message = refused(&words.join(" ")).to_string();
        assert!(message.contains(name), "{name}: {message}");
    }
    for count in 0..good.len() {
        assert!(matches!(refused(&good[..count].join(" ")), TableError::Missing(_)), "{count} words");
    }
}

#[test]
fn a_line_beyond_the_bound_is_refused_unread() {
    assert!(matches!(refused(&"x".repeat(MAX_LENGTH + 1)), TableError::TooLong(_)));
}

#[test]
fn a_root_hash_of_another_algorithm_makes_no_table() {
    let params = Params::default();
    let geometry = Geometry::new(&params, 1, HashArea::bare(0)).unwrap();
    let root = RootHash::new(Algorithm::Sha1, &[0; 20]).unwrap();
    let number = || DeviceNumber::new(7, 0).unwrap().into();
    let error = Table::new(&params, &geometry, root, number(), number()).unwrap_err();
    assert!(matches!(error, TableError::RootHashSize { found: 20, .. }));
}
