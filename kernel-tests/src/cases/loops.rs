//! Loop devices: the files of an activation as block devices that clean up after themselves.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use verity_core::device::{DeviceNumber, LoopDevice, LoopOptions, backing_file, node_of};

use crate::case::Case;
use crate::guest::Context;

pub(super) fn cases() -> Vec<Case> {
    vec![
        Case::new(
            "loops/read-only",
            "a loop device is read-only and detaches itself when it is dropped",
            read_only,
        ),
        Case::new("loops/open", "a loop device lives as long as something has it open", open),
        Case::new("loops/part", "a loop device can show a part of its file", part),
        Case::new("loops/threads", "many threads at once get a loop device each", threads),
        Case::new("loops/refused", "what cannot be attached is named", refused),
    ]
}

/// A file whose sectors hold their numbers.
fn sectors(context: &Context, name: &str, count: u8) -> anyhow::Result<std::path::PathBuf> {
    let path = context.path(name);
    fs::write(&path, (0..count).flat_map(|sector| [sector; 512]).collect::<Vec<_>>())?;
    Ok(path)
}

fn attach(path: &Path, options: &LoopOptions) -> anyhow::Result<LoopDevice> {
    LoopDevice::attach(&File::open(path)?, path, options)
        .with_context(|| format!("attaching {}", path.display()))
}

fn detaches(number: DeviceNumber, path: &Path) -> bool {
    // Something that looks at every new device, such as udev, may have it open for a moment.
    (0..100).any(|_| {
        thread::sleep(Duration::from_millis(10));
        backing_file(number).as_deref() != Some(path)
    })
}

fn read_only(context: &mut Context) -> anyhow::Result<()> {
    let path = sectors(context, "file", 9)?;
    let device = attach(&path, &LoopOptions::default())?;
    let (number, node) = (device.number(), device.node().to_owned());
    ensure!(backing_file(number).as_deref() == Some(path.as_path()), "another file is attached");
    ensure!(
        node_of(number).as_deref() == Some(node.as_path()),
        "the node of {number} is not {}",
        node.display()
    );
    ensure!(fs::read(&node)? == fs::read(&path)?, "the device does not hold what its file holds");
    // The driver lets it be opened for writing by root, and refuses the writing.
    let written = File::options().write(true).open(&node).and_then(|node| {
        node.write_all_at(&[7; 512], 0)?;
        node.sync_all()
    });
    ensure!(written.is_err(), "it can be written");
    drop(device);
    ensure!(detaches(number, &path), "it stays attached");
    Ok(())
}

fn open(context: &mut Context) -> anyhow::Result<()> {
    let path = sectors(context, "file", 8)?;
    let device = attach(&path, &LoopOptions::default())?;
    let number = device.number();
    let user = File::open(device.node())?;
    drop(device);
    let mut sector = [0; 512];
    user.read_exact_at(&mut sector, 7 * 512).context("reading while it is open")?;
    ensure!(sector == [7; 512], "the wrong sector");
    drop(user);
    ensure!(detaches(number, &path), "it stays attached");
    Ok(())
}

fn part(context: &mut Context) -> anyhow::Result<()> {
    let path = sectors(context, "file", 20)?;
    let options = LoopOptions { offset: 3 * 512, size_limit: Some(2 * 512), block_size: Some(512) };
    let device = attach(&path, &options)?;
    let number = device.number();
    ensure!(fs::read(device.node())? == [[3; 512], [4; 512]].concat(), "not the sectors 3 and 4");
    drop(device);
    ensure!(detaches(number, &path), "it stays attached");
    Ok(())
}

fn threads(context: &mut Context) -> anyhow::Result<()> {
    let path = sectors(context, "file", 8)?;
    let attached: Vec<anyhow::Result<LoopDevice>> = thread::scope(|scope| {
        let threads: Vec<_> =
            (0..16).map(|_| scope.spawn(|| attach(&path, &LoopOptions::default()))).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap_or_else(|_| Err(anyhow::anyhow!("a thread panicked"))))
            .collect()
    });
    let devices = attached.into_iter().collect::<anyhow::Result<Vec<_>>>()?;
    let mut numbers: Vec<DeviceNumber> = devices.iter().map(LoopDevice::number).collect();
    numbers.sort();
    numbers.dedup();
    ensure!(numbers.len() == 16, "16 threads got {} devices", numbers.len());
    drop(devices);
    ensure!(numbers.iter().all(|&number| detaches(number, &path)), "some stay attached");
    Ok(())
}

fn refused(_: &mut Context) -> anyhow::Result<()> {
    let pipe = File::from(std::os::fd::OwnedFd::from(io::pipe()?.0));
    match LoopDevice::attach(&pipe, Path::new("/a/pipe"), &LoopOptions::default()) {
        Ok(_) => anyhow::bail!("a pipe was attached"),
        Err(error) => {
            let text = error.to_string();
            ensure!(text.starts_with("attaching /a/pipe to loop device /dev/loop"), "{text}");
            Ok(())
        }
    }
}
