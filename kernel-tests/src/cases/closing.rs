//! How a device ends, and who may end it.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};

use crate::case::Case;
use crate::guest::{Context, Program, device_mapper_devices, loop_devices};

use super::image::expect_absent;
use super::tools::{Image, Tool, drop_in, expect_refused, expect_silence, node};

/// The kernel removes a device whose removal was put off right after its last user is gone, not before.
const SETTLE: Duration = Duration::from_secs(20);

pub(super) fn cases() -> Vec<Case> {
    vec![
        Case::new("closing/busy", "a device in use is not closed, exit code 5", busy),
        Case::new("closing/deferred", "a deferred close happens when the last user is gone", deferred),
        Case::new("closing/cancel", "a deferred close that was cancelled does not happen", cancelled),
        Case::new("closing/inactive", "what is not active cannot be closed or shown, exit code 4", inactive),
        Case::new(
            "closing/exists",
            "a name that is taken is refused, exit code 5, its owner untouched",
            exists,
        ),
        Case::new("closing/foreign", "a device that is not dm-verity's is left alone", foreign),
        Case::new(
            "closing/drop-in",
            "under the C tool's name the same is said in the C tool's words",
            as_drop_in,
        ),
        Case::new("closing/loops", "a close leaves the loop devices of other devices alone", loops),
    ]
}

fn verity(words: &str) -> Program {
    Tool::Verity.run(words)
}

fn user(name: &str) -> anyhow::Result<File> {
    File::open(node(name)).with_context(|| format!("opening {name}"))
}

fn busy(context: &mut Context) -> anyhow::Result<()> {
    let image = Image::new(context)?;
    expect_silence(image.open(Tool::Verity, "busy"))?;
    let file = user("busy")?;
    expect_refused(verity("close busy"), 5, "in use")?;
    image.expect_whole("busy")?;
    // One that lets go while it is waited for is not busy.
    let close = verity("close busy").start()?;
    drop(file);
    close.wait()?.expect_code(0)?;
    expect_absent("busy")
}

/// Opens the image and puts off its end; the file keeps it alive.
fn put_off(image: &Image, name: &str) -> anyhow::Result<File> {
    expect_silence(image.open(Tool::Verity, name))?;
    let file = user(name)?;
    let closed = verity("close --deferred").arg(name).succeed()?;
    let expected = format!("Device {name} is still active and scheduled for deferred removal.\n");
    ensure!(closed.stdout == expected, "expected {expected:?} of {closed}");
    let status: serde_json::Value =
        serde_json::from_str(&verity("status --json").arg(name).succeed()?.stdout)
            .context("status --json")?;
    ensure!(status["deferred_remove"] == true, "its removal is not put off: {status}");
    Ok(file)
}

fn deferred(context: &mut Context) -> anyhow::Result<()> {
    let image = Image::new(context)?;
    let mut file = put_off(&image, "deferred")?;
    let mut block = [0; 4096];
    file.read_exact(&mut block).context("reading a device whose removal is put off")?;
    drop(file);
    let deadline = Instant::now() + SETTLE;
    while !(device_mapper_devices()?.is_empty() && loop_devices()?.is_empty()) {
        ensure!(Instant::now() < deadline, "the device or its loop devices outlive their last user");
        thread::sleep(Duration::from_millis(5));
    }
    expect_absent("deferred")?;
    // In use by nobody: then there is nothing to put off.
    expect_silence(image.open(Tool::Verity, "deferred"))?;
    expect_silence(verity("close --deferred deferred"))?;
    expect_absent("deferred")
}

fn cancelled(context: &mut Context) -> anyhow::Result<()> {
    let image = Image::new(context)?;
    let file = put_off(&image, "cancelled")?;
    expect_silence(verity("close --cancel-deferred cancelled"))?;
    drop(file);
    image.expect_whole("cancelled").context("after the last user is gone")?;
    expect_silence(verity("close cancelled"))?;
    expect_absent("cancelled")
}

fn inactive(_: &mut Context) -> anyhow::Result<()> {
    for action in ["close", "close --deferred", "close --cancel-deferred", "remove"] {
        expect_refused(verity(action).arg("nobody"), 4, "not active")?;
    }
    let status = verity("status nobody").run()?.expect_code(4)?;
    ensure!(status.stdout == "/dev/mapper/nobody is inactive.\n", "unexpected text of {status}");
    Ok(())
}

fn exists(context: &mut Context) -> anyhow::Result<()> {
    let image = Image::new(context)?;
    expect_silence(image.open(Tool::Verity, "taken"))?;
    let before = verity("status taken").succeed()?.stdout;
    expect_refused(image.open(Tool::Verity, "taken"), 5, "taken exists already")?;
    ensure!(verity("status taken").succeed()?.stdout == before, "a refused open changed its namesake");
    expect_silence(verity("close taken"))?;
    Program::new("dmsetup").words("create taken --table").arg("0 8 error").succeed()?;
    expect_refused(image.open(Tool::Verity, "taken"), 5, "taken exists already")?;
    Program::new("dmsetup").words("remove taken").succeed()?;
    Ok(())
}

fn foreign(_: &mut Context) -> anyhow::Result<()> {
    Program::new("dmsetup").words("create foreign --table").arg("0 8 error").succeed()?;
    for action in ["close", "close --deferred", "close --cancel-deferred", "status"] {
        expect_refused(verity(action).arg("foreign"), 1, "no verity device")?;
    }
    let list = verity("list").succeed()?;
    ensure!(!list.stdout.contains("foreign"), "listed as one of ours: {list}");
    Program::new("dmsetup").words("remove foreign").succeed()?;
    Ok(())
}

/// Of a device of another kind nothing is compared: the C tool closes whatever has the name.
fn as_drop_in(context: &mut Context) -> anyhow::Result<()> {
    let image = Image::new(context)?;
    let said = |words: &str, name: Option<&str>| -> anyhow::Result<()> {
        let mut seen = Vec::new();
        for tool in [Tool::Veritysetup.run(words), drop_in(context, words)?] {
            let tool = match name {
                Some(name) => image.open_with(tool, name, &image.root),
                None => tool,
            };
            let output = tool.run()?;
            seen.push((output.code, output.stdout, output.stderr));
        }
        ensure!(seen[0] == seen[1], "{words}: the C tool: {:?}, the drop-in: {:?}", seen[0], seen[1]);
        Ok(())
    };
    said("close absent", None)?;
    said("close --deferred absent", None)?;
    said("close --cancel-deferred absent", None)?;
    said("status absent", None)?;
    expect_silence(image.open(Tool::Verity, "present"))?;
    said("open", Some("present"))?;
    let file = user("present")?;
    // Not `close`, at which libdevmapper tries 25 times and says so each time.
    said("close --deferred present", None)?;
    said("close --cancel-deferred present", None)?;
    drop(file);
    expect_silence(verity("close present"))
}

fn loops(context: &mut Context) -> anyhow::Result<()> {
    let image = Image::new(context)?;
    let mine = Program::new("losetup").words("--find --show --read-only").arg(&image.data).succeed()?;
    let mine = Path::new(mine.stdout.trim());
    for name in ["one", "two"] {
        expect_silence(image.open(Tool::Verity, name))?;
    }
    expect_silence(verity("close one"))?;
    image.expect_whole("two")?;
    expect_silence(verity("close two"))?;
    let left = loop_devices()?;
    ensure!(
        left.len() == 1 && mine.ends_with(&left[0].0),
        "expected {} alone, found {left:?}",
        mine.display()
    );
    Program::new("losetup").arg("--detach").arg(mine).succeed()?;
    Ok(())
}
