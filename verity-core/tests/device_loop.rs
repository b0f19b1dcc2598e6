//! Loop devices on the machine that runs the tests. They need root and the loop driver: `cargo test -- --ignored`.
#![cfg(feature = "device")]

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::thread;
use std::time::Duration;

use verity_core::device::{DeviceNumber, LoopDevice, LoopOptions, backing_file, node_of};

fn file(sectors: u8) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    for sector in 0..sectors {
        file.write_all(&[sector; 512]).unwrap();
    }
    file
}

fn attach(file: &tempfile::NamedTempFile, options: &LoopOptions) -> LoopDevice {
    LoopDevice::attach(&file.reopen().unwrap(), file.path(), options).unwrap()
}

fn detaches(number: DeviceNumber, path: &Path) -> bool {
    // Something that looks at every new device, such as udev, may have it open for a moment.
    (0..100).any(|_| {
        thread::sleep(Duration::from_millis(10));
        backing_file(number).as_deref() != Some(path)
    })
}

#[test]
#[ignore = "needs root and loop devices"]
fn needs_root_a_loop_device_is_read_only_and_detaches_itself() {
    let file = file(9);
    let device = attach(&file, &LoopOptions::default());
    let (number, node) = (device.number(), device.node().to_owned());
    assert_eq!(backing_file(number).as_deref(), Some(file.path()));
    assert_eq!(node_of(number).as_deref(), Some(node.as_path()));
    assert_eq!(fs::read(&node).unwrap(), fs::read(file.path()).unwrap());
    // The driver lets it be opened for writing by root, and refuses the writing.
    let written = File::options().write(true).open(&node).and_then(|node| {
        node.write_all_at(&[7; 512], 0)?;
        node.sync_all()
    });
    assert!(written.is_err());
    drop(device);
    assert!(detaches(number, file.path()));
}

#[test]
#[ignore = "needs root and loop devices"]
fn needs_root_a_loop_device_lives_as_long_as_it_is_open() {
    let file = file(8);
    let device = attach(&file, &LoopOptions::default());
    let number = device.number();
    let user = File::open(device.node()).unwrap();
    drop(device);
    let mut sector = [0; 512];
    user.read_exact_at(&mut sector, 7 * 512).unwrap();
    assert_eq!(sector, [7; 512]);
    drop(user);
    assert!(detaches(number, file.path()));
}

#[test]
#[ignore = "needs root and loop devices"]
fn needs_root_a_loop_device_can_show_a_part_of_its_file() {
    let file = file(20);
    let options = LoopOptions { offset: 3 * 512, size_limit: Some(2 * 512), block_size: Some(512) };
    let device = attach(&file, &options);
    let content = fs::read(device.node()).unwrap();
    assert_eq!(content, [[3; 512], [4; 512]].concat());
}

#[test]
#[ignore = "needs root and loop devices"]
fn needs_root_many_threads_get_a_loop_device_each() {
    let file = file(8);
    let devices: Vec<LoopDevice> = thread::scope(|scope| {
        let threads: Vec<_> =
            (0..16).map(|_| scope.spawn(|| attach(&file, &LoopOptions::default()))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let mut numbers: Vec<DeviceNumber> = devices.iter().map(LoopDevice::number).collect();
    drop(devices);
    assert!(numbers.iter().all(|&number| detaches(number, file.path())));
    numbers.sort();
    numbers.dedup();
    assert_eq!(numbers.len(), 16);
}

#[test]
#[ignore = "needs root and loop devices"]
fn needs_root_what_cannot_be_attached_is_named() {
    let pipe = io::pipe().unwrap().0;
    let pipe = File::from(std::os::fd::OwnedFd::from(pipe));
    let error = LoopDevice::attach(&pipe, Path::new("/a/pipe"), &LoopOptions::default()).unwrap_err();
    assert!(error.to_string().starts_with("attaching /a/pipe to loop device /dev/loop"), "{error}");
}
