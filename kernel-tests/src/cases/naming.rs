//! What a device can be called.

use anyhow::ensure;

use crate::case::Case;
use crate::guest::Context;

use super::image::expect_absent;
use super::tools::{Image, Tool, expect_refused, expect_silence};

/// What the kernel has room for.
const LONGEST: usize = 127;

pub(super) fn cases() -> Vec<Case> {
    vec![
        Case::new("naming/limit", "a name of 127 bytes works, one of 128 is refused", limit),
        Case::new(
            "naming/odd",
            "a name with a space, a backslash or an umlaut is the same to both tools",
            odd,
        ),
        Case::new("naming/refused", "what can be no name is refused before anything is opened", refused),
    ]
}

fn limit(context: &mut Context) -> anyhow::Result<()> {
    let image = Image::new(context)?;
    let longest = "n".repeat(LONGEST);
    expect_silence(image.open(Tool::Verity, &longest))?;
    image.expect_whole(&longest)?;
    // Its UUID does not fit and is cut; the name that is closed must still be this one.
    for tool in Tool::ALL {
        tool.run("status").arg(&longest).succeed()?;
    }
    expect_silence(Tool::Verity.run("close").arg(&longest))?;
    expect_absent(&longest)?;
    for name in ["n".repeat(LONGEST + 1), "n".repeat(5000), " ".repeat(LONGEST / 4 + 1)] {
        expect_refused(image.open(Tool::Verity, &name), 1, "at most 127")?;
    }
    Ok(())
}

fn odd(context: &mut Context) -> anyhow::Result<()> {
    let image = Image::new(context)?;
    for name in ["my layer", "größe", r"back\slash", "-a+b=c@d#e.f:g", "'quoted' \"$(x)\""] {
        for tool in Tool::ALL {
            let open = tool.run("open").arg(&image.data);
            // What starts with a dash is an option, unless options are over.
            open.words("--").arg(name).arg(&image.hash).arg(&image.root).succeed()?;
            for reader in Tool::ALL {
                let status = reader.run("status --").arg(name).succeed()?;
                ensure!(status.field("status:")? == "verified", "not verified: {status}");
            }
            tool.other().run("close --").arg(name).succeed()?;
            expect_absent(name)?;
        }
    }
    Ok(())
}

fn refused(context: &mut Context) -> anyhow::Result<()> {
    let image = Image::new(context)?;
    for name in ["", ".", "..", "control", "a/b", "../layer", "/dev/mapper/layer"] {
        expect_refused(image.open(Tool::Verity, name), 1, "device name")?;
    }
    Ok(())
}
