//! Every digest and every block size, through the kernel.

use anyhow::{Context as _, bail, ensure};
use verity_core::algorithm::Algorithm;
use verity_core::block::{BlockSize, Salt};
use verity_core::device::{Activation, Error, Refusal, TableOptions, Verdict, activate, query};
use verity_core::params::{HashType, Params};

use crate::case::{Body, Case, Skip};
use crate::guest::{Context, flip, pattern};

use super::image::{self, Image, expect_eio, expect_refusal, expect_verdict, remove};

pub(super) fn cases() -> Vec<Case> {
    let each: [(Algorithm, Body); Algorithm::ALL.len()] = [
        (Algorithm::Sha256, |context| digest(context, Algorithm::Sha256)),
        (Algorithm::Sha224, |context| digest(context, Algorithm::Sha224)),
        (Algorithm::Sha384, |context| digest(context, Algorithm::Sha384)),
        (Algorithm::Sha512, |context| digest(context, Algorithm::Sha512)),
        (Algorithm::Sha3_224, |context| digest(context, Algorithm::Sha3_224)),
        (Algorithm::Sha3_256, |context| digest(context, Algorithm::Sha3_256)),
        (Algorithm::Sha3_384, |context| digest(context, Algorithm::Sha3_384)),
        (Algorithm::Sha3_512, |context| digest(context, Algorithm::Sha3_512)),
        (Algorithm::Blake2b512, |context| digest(context, Algorithm::Blake2b512)),
        (Algorithm::Blake2s256, |context| digest(context, Algorithm::Blake2s256)),
        (Algorithm::Sm3, |context| digest(context, Algorithm::Sm3)),
        (Algorithm::Whirlpool, |context| digest(context, Algorithm::Whirlpool)),
        (Algorithm::Ripemd160, |context| digest(context, Algorithm::Ripemd160)),
        (Algorithm::Sha1, |context| digest(context, Algorithm::Sha1)),
        (Algorithm::Md5, |context| digest(context, Algorithm::Md5)),
    ];
    let digests = each.into_iter().map(|(algorithm, body)| {
        let or_refused = if OPTIONAL.contains(&algorithm) { ", or refused by name" } else { "" };
        Case::new(
            format!("algorithms/{algorithm}"),
            format!("trees of {algorithm}, of both types, are read back by the kernel{or_refused}"),
            body,
        )
    });
    let sizes = [
        Case::new(
            "algorithms/block-sizes",
            "data and hash blocks of 512 to 4096 bytes work in every combination",
            block_sizes,
        ),
        Case::new(
            "algorithms/large-hash-blocks",
            "hash blocks of 8192 to 524288 bytes work",
            large_hash_blocks,
        ),
        Case::new(
            "algorithms/data-block-above-page",
            "a data block larger than the machine's page is refused, both sizes named",
            data_block_above_page,
        ),
        Case::new("algorithms/salts", "salts of 0 to 256 bytes are the same to the kernel", salts),
    ];
    digests.chain(sizes).collect()
}

/// Digests that Debian's kernels lack, one or all of them. Where there is any other that a kernel lacks, its case is
/// skipped, which is not taken for a pass where all must run.
const OPTIONAL: &[Algorithm] = &[Algorithm::Blake2b512, Algorithm::Blake2s256, Algorithm::Sm3];

/// Activates an image, reads it, finds a flipped bit in it.
fn expect_protected(image: &Image, activation: &Activation) -> anyhow::Result<()> {
    let name = activation.name.to_string();
    let active = activate(activation)?;
    image.expect_whole(&active)?;
    expect_verdict(&name, Verdict::Verified)?;
    let table = query(&activation.name)?.mapping.context("no table")?.table;
    ensure!(*table.params() == image.params && *table.root_hash() == image.root, "the tree became {table}");
    let bad = image.geometry.data_blocks() / 2;
    flip(&image.data, bad * image.params.data_block_size.as_u64(), 5)?;
    expect_eio(image.read_block(&active, bad), "a bad block")?;
    flip(&image.data, bad * image.params.data_block_size.as_u64(), 5)?;
    remove(&name)
}

fn digest(context: &mut Context, algorithm: Algorithm) -> anyhow::Result<()> {
    for hash_type in [HashType::Normal, HashType::ChromeOs] {
        // Hash blocks that hold few digests: there are two levels at least, and no slot size is hidden by the first.
        let params = Params { algorithm, hash_type, ..image::block_sizes(4096, 1024)? };
        let image = Image::new(context, params, 70)?;
        ensure!(image.geometry.levels().len() >= 2, "not enough levels");
        let activation = image.activation("digest")?;
        match activate(&activation) {
            Ok(_) => remove("digest")?,
            Err(Error::Refused { refusal: Refusal::Algorithm(name), .. }) => {
                return lacking(context, &activation, algorithm, name);
            }
            Err(error) => return Err(error).context(format!("type {hash_type}")),
        }
        expect_protected(&image, &activation).with_context(|| format!("type {hash_type}"))?;
    }
    Ok(())
}

/// A kernel without the digest must be told from any other failure.
fn lacking(
    context: &Context,
    activation: &Activation,
    algorithm: Algorithm,
    named: &str,
) -> anyhow::Result<()> {
    let text = expect_refusal(activation)?.to_string();
    ensure!(named == algorithm.kernel_name() && text.contains(named), "{algorithm} is not named: {text}");
    if !OPTIONAL.contains(&algorithm) {
        return Err(Skip(format!("this kernel has no {named}")).into());
    }
    context.say(format!("this kernel has no {named}"))
}

fn block_sizes(context: &mut Context) -> anyhow::Result<()> {
    for data in [512, 1024, 2048, 4096] {
        for hash in [512, 1024, 2048, 4096] {
            let what = || format!("data blocks of {data}, hash blocks of {hash} bytes");
            // Several levels where hash blocks are small.
            let image = Image::new(context, image::block_sizes(data, hash)?, 300).with_context(what)?;
            expect_protected(&image, &image.activation("sizes")?).with_context(what)?;
        }
    }
    Ok(())
}

fn large_hash_blocks(context: &mut Context) -> anyhow::Result<()> {
    for bits in 13..=19 {
        let params = image::block_sizes(4096, 1 << bits)?;
        let what = || format!("hash blocks of {} bytes", params.hash_block_size);
        // Two leaf blocks of the smallest.
        let image = Image::new(context, params.clone(), 300).with_context(what)?;
        expect_protected(&image, &image.activation("large")?).with_context(what)?;
    }
    Ok(())
}

fn data_block_above_page(context: &mut Context) -> anyhow::Result<()> {
    for size in [8192, BlockSize::MAX.get()] {
        let image = Image::new(context, image::block_sizes(size, 4096)?, 2)?;
        let error = expect_refusal(&image.activation("above-page")?)?;
        let text = error.to_string();
        match error {
            Error::Refused { refusal: Refusal::BlockAbovePage { block, page: 4096 }, .. }
                if block == size => {}
            other => bail!("expected the data block size to be refused, got: {other}"),
        }
        ensure!(text.contains(&size.to_string()) && text.contains("4096"), "the sizes are not named: {text}");
    }
    Ok(())
}

fn salts(context: &mut Context) -> anyhow::Result<()> {
    for hash_type in [HashType::Normal, HashType::ChromeOs] {
        for len in [0, 1, 64, 255, 256] {
            let what = || format!("a salt of {len} bytes, type {hash_type}");
            let params = Params { hash_type, salt: Salt::new(&pattern(len, 8))?, ..Params::default() };
            let image = Image::new(context, params, 130).with_context(what)?;
            let active = image.activate("salted", TableOptions::default()).with_context(what)?;
            image.expect_whole(&active).with_context(what)?;
            remove("salted")?;
        }
    }
    Ok(())
}
