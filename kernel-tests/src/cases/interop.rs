//! The command line under test and the C tool, each with what the other one made.

use anyhow::{Context as _, ensure};

use crate::case::Case;
use crate::guest::Context;

use super::tools::{Image, Layout, Tool, without_units};

pub(super) fn cases() -> Vec<Case> {
    vec![
        Case::new("interop/ours", "the C tool verifies and opens every kind of tree that verity makes", ours),
        Case::new(
            "interop/theirs",
            "verity verifies and opens every kind of tree that the C tool makes",
            theirs,
        ),
        Case::new("interop/dump", "both tools read the same out of a superblock", dump),
        Case::new("interop/close", "each tool closes what the other one opened", close),
    ]
}

fn ours(context: &mut Context) -> anyhow::Result<()> {
    every_layout(context, Tool::Verity)
}

fn theirs(context: &mut Context) -> anyhow::Result<()> {
    every_layout(context, Tool::Veritysetup)
}

fn every_layout(context: &Context, maker: Tool) -> anyhow::Result<()> {
    let user = maker.other();
    for layout in Layout::all() {
        let check = || -> anyhow::Result<()> {
            let image = Image::make(context, maker, layout)?;
            image.verify(user).succeed()?;
            image.open(user, "interop").succeed()?;
            image.expect_whole("interop")?;
            maker.run("close interop").succeed()?;
            Ok(())
        };
        check().with_context(|| format!("{layout:?}"))?;
    }
    Ok(())
}

fn dump(context: &mut Context) -> anyhow::Result<()> {
    for maker in Tool::ALL {
        for hash_type in [0, 1] {
            let image = Image::make(context, maker, Layout { hash_type, ..Layout::default() })?;
            let [ours, theirs] = Tool::ALL.map(|tool| tool.run("dump").arg(&image.hash).succeed());
            let (ours, theirs) = (ours?, theirs?);
            ensure!(
                without_units(&ours.stdout) == without_units(&theirs.stdout),
                "{ours}\ndiffers from {theirs}"
            );
        }
    }
    Ok(())
}

fn close(context: &mut Context) -> anyhow::Result<()> {
    let image = Image::new(context)?;
    for tool in Tool::ALL {
        image.open(tool, "closed").succeed()?;
        image.expect_whole("closed")?;
        tool.other().run("close closed").succeed()?;
        super::image::expect_absent("closed")?;
    }
    Ok(())
}
