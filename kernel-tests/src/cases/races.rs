//! Many at once.

use anyhow::ensure;

use crate::case::Case;
use crate::guest::{Context, Output, Program, Started, loop_devices};

use super::image::expect_absent;
use super::tools::{Image, Tool, expect_silence};

/// So many processes on the guest's two processors.
const MANY: usize = 6;

/// How often a race is run.
const ROUNDS: usize = 4;

pub(super) fn cases() -> Vec<Case> {
    vec![
        Case::new("races/one-name", "of many that open one name at once exactly one gets it", one_name),
        Case::new("races/one-close", "of many that close one device at once exactly one does", one_close),
        Case::new(
            "races/many-names",
            "many devices are opened and closed at once without a failure",
            many_names,
        ),
        Case::new(
            "races/open-close",
            "opening and closing one name at once ends in a clear yes or no",
            open_close,
        ),
    ]
}

/// Starts all, then waits for all.
fn together(programs: Vec<Program>) -> anyhow::Result<Vec<Output>> {
    let started: Vec<_> = programs.into_iter().map(Program::start).collect::<anyhow::Result<_>>()?;
    started.into_iter().map(Started::wait).collect()
}

/// Fails unless one exits with 0 and the others with `code`, saying `text`.
fn expect_one_winner(outputs: Vec<Output>, code: i32, text: &str) -> anyhow::Result<()> {
    let winners = outputs.iter().filter(|output| output.code == Some(0)).count();
    for loser in outputs.into_iter().filter(|output| output.code != Some(0)) {
        loser.expect_code(code)?.expect_error(text)?;
    }
    ensure!(winners == 1, "expected one winner, got {winners}");
    Ok(())
}

fn one_name(context: &mut Context) -> anyhow::Result<()> {
    let image = Image::new(context)?;
    for _ in 0..ROUNDS {
        let outputs = together((0..MANY).map(|_| image.open(Tool::Verity, "one")).collect())?;
        expect_one_winner(outputs, 5, "one exists already")?;
        image.expect_whole("one")?;
        let loops = loop_devices()?;
        ensure!(loops.len() == 2, "expected the winner's two loop devices alone, found {loops:?}");
        expect_silence(Tool::Verity.run("close one"))?;
        expect_absent("one")?;
    }
    Ok(())
}

fn one_close(context: &mut Context) -> anyhow::Result<()> {
    let image = Image::new(context)?;
    for _ in 0..ROUNDS {
        expect_silence(image.open(Tool::Verity, "one"))?;
        let outputs = together((0..MANY).map(|_| Tool::Verity.run("close one")).collect())?;
        expect_one_winner(outputs, 4, "one is not active")?;
        expect_absent("one")?;
    }
    Ok(())
}

fn many_names(context: &mut Context) -> anyhow::Result<()> {
    let image = Image::new(context)?;
    let names: Vec<_> = (0..MANY).map(|index| format!("many{index}")).collect();
    for _ in 0..ROUNDS {
        for output in together(names.iter().map(|name| image.open(Tool::Verity, name)).collect())? {
            output.expect_code(0)?;
        }
        for name in &names {
            image.expect_whole(name)?;
        }
        let close = |name: &String| Tool::Verity.run("close").arg(name);
        for output in together(names.iter().map(close).collect())? {
            output.expect_code(0)?;
        }
        let left = loop_devices()?;
        ensure!(left.is_empty(), "these outlive their devices: {left:?}");
    }
    Ok(())
}

fn open_close(context: &mut Context) -> anyhow::Result<()> {
    let image = Image::new(context)?;
    for _ in 0..ROUNDS {
        let programs = (0..MANY).map(|index| match index % 2 {
            0 => image.open(Tool::Verity, "one"),
            _ => Tool::Verity.run("close one"),
        });
        for output in together(programs.collect())? {
            // Done; or not active, which an open can find of its own new device; or taken, or in use by the check at
            // the end of another's open.
            ensure!(matches!(output.code, Some(0 | 4 | 5)), "unexpected end of {output}");
        }
        let last = Tool::Verity.run("close one").run()?;
        ensure!(matches!(last.code, Some(0 | 4)), "unexpected end of {last}");
        expect_absent("one")?;
    }
    Ok(())
}
