//! Sources of an attacker's choice, which answer differently each time: what is read is the data, or an error.
#![no_main]

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};

use libfuzzer_sys::fuzz_target;
use verity_core::block::BlockSize;
use verity_core::fec::{self, Layout, Roots};
use verity_core::geometry::{Geometry, HashArea};
use verity_core::io::{FnReader, MemoryDevice, ReadAt};
use verity_core::params::{HashType, Params};
use verity_core::reader::VerityReader;
use verity_core::tree::{Options, Threads};

/// What a source does to one of its answers: which byte it changes, how, and how much it leaves out.
type Lie = (u16, u8, u8);

/// A source that lies in turn, as it is told.
fn lying<'a>(bytes: &'a [u8], lies: &'a [Lie]) -> impl ReadAt + 'a {
    let turn = AtomicUsize::new(0);
    FnReader::new(move |buffer: &mut [u8], offset| {
        let count = bytes.read_at(buffer, offset)?;
        let turn = turn.fetch_add(1, Ordering::Relaxed);
        let Some(&(at, bits, less)) = lies.get(turn % lies.len().max(1)) else { return Ok(count) };
        if less == 255 {
            return Err(io::Error::other("unreadable"));
        }
        if let Some(byte) = usize::from(at).checked_rem(count).and_then(|at| buffer.get_mut(at)) {
            *byte ^= bits;
        }
        // Some progress, or it would not end.
        Ok(count.saturating_sub(usize::from(less)).max(count.min(1)))
    })
}

fuzz_target!(|input: (u16, bool, bool, u16, [Vec<Lie>; 3], Vec<(u32, u16)>)| {
    let (blocks, packed, parity, cache, lies, reads) = input;
    let params = Params {
        hash_type: if packed { HashType::ChromeOs } else { HashType::Normal },
        data_block_size: BlockSize::MIN,
        hash_block_size: BlockSize::MIN,
        ..Params::default()
    };
    let Ok(threads) = Threads::new(1) else { return };
    let options = Options { threads, ..Options::default() };
    let Ok(geometry) = Geometry::new(&params, u64::from(blocks % 600) + 1, HashArea::bare(0)) else { return };
    let Ok(layout) = Layout::new(&params, &geometry, geometry.hash_blocks(), Roots::default(), 0) else {
        return;
    };
    let data: Vec<u8> = (0..geometry.data_bytes()).map(|at| (at / 100).to_le_bytes()[0]).collect();
    let (hash, correction) = (MemoryDevice::default(), MemoryDevice::default());
    let Ok(root) = fec::build(&data, &hash, &correction, &params, &geometry, &layout, &options) else {
        return;
    };
    let (hash, correction) = (hash.into_bytes(), correction.into_bytes());

    let [of_data, of_hash, of_parity] = &lies;
    let reader = VerityReader::new(lying(&data, of_data), lying(&hash, of_hash), params, geometry, root);
    let Ok(reader) = reader.map(|reader| reader.with_cache_bytes(cache.into())) else { return };
    let source = lying(&correction, of_parity);
    let reader = if parity { reader.with_parity(source, layout) } else { Ok(reader) };
    let Ok(reader) = reader else { return };

    for (offset, length) in reads.into_iter().take(64) {
        let offset = usize::try_from(offset).unwrap_or_default() % (data.len() + 10);
        let mut buffer = vec![0; length.into()];
        let expected = data.get(offset..).unwrap_or_default();
        let expected = &expected[..expected.len().min(buffer.len())];
        let count = match reader.read_at(&mut buffer, offset as u64) {
            Ok(count) => {
                assert!(count > 0 || expected.is_empty(), "a read that ends has an end or an error");
                count
            }
            Err(_) => 0,
        };
        assert_eq!(buffer[..count], expected[..count]);
        assert!(buffer[count..].iter().all(|&byte| byte == 0), "nothing unverified is left behind");
    }
});
