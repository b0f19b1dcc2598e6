//! What the kernel says.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;

use anyhow::Context as _;
use nix::libc::O_NONBLOCK;

/// The messages of the kernel's log that contain `text`, oldest first.
pub(crate) fn kernel_log(text: &str) -> anyhow::Result<Vec<String>> {
    let log = OpenOptions::new().read(true).custom_flags(O_NONBLOCK).open("/dev/kmsg");
    let mut log = log.context("/dev/kmsg")?;
    let mut found = Vec::new();
    // One record a read; the kernel's own limit of a record.
    let mut record = vec![0; 8192];
    loop {
        match log.read(&mut record) {
            Ok(len) => {
                let record = String::from_utf8_lossy(&record[..len]);
                // `priority,number,time,flags;message`, then lines with further facts.
                let message =
                    record.split_once(';').map_or("", |(_, rest)| rest.lines().next().unwrap_or(""));
                if message.contains(text) {
                    found.push(message.to_owned());
                }
            }
            // The end, for now.
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(found),
            // Records were overwritten before they could be read; the next read goes on behind them.
            Err(error) if error.kind() == ErrorKind::BrokenPipe => {}
            Err(error) => return Err(error).context("/dev/kmsg"),
        }
    }
}
