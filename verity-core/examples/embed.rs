//! Embeds the library: makes a tree for an image, then checks the image against the root hash.
//!
//! `cargo run -p verity-core --no-default-features --example embed -- layer.img layer.hash`
use std::fs::File;

use verity_core::geometry::{Geometry, HashArea};
use verity_core::io::WriteAt;
use verity_core::{params::Params, superblock::Superblock, tree};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let [_, image, hash] =
        std::env::args().collect::<Vec<_>>().try_into().map_err(|_| "usage: embed IMAGE HASH")?;
    let data = File::open(image)?;
    let hash = File::options().read(true).write(true).create_new(true).open(hash)?;

    let params = Params { salt: "00ff00ff".parse()?, ..Params::default() };
    let data_blocks = data.metadata()?.len() / params.data_block_size.as_u64();
    let geometry = Geometry::new(&params, data_blocks, HashArea::with_superblock(0)?)?;
    let root = tree::build(&data, &hash, &params, &geometry, &tree::Options::default())?;
    // The superblock comes last: a file that bears one has a whole tree.
    hash.write_all_at(
        &Superblock { uuid: *b"an example's own", params: params.clone(), data_blocks }.encode(),
        0,
    )?;
    hash.sync_all()?;
    println!("root hash {root}");

    let report = tree::verify(&data, &hash, &params, &geometry, &root, &tree::Options::default())?;
    report.findings.iter().for_each(|finding| println!("{finding}"));
    println!("intact: {}", report.is_intact());
    Ok(())
}
