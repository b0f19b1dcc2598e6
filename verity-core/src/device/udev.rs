//! Waiting for udev, which makes and removes the nodes of device-mapper devices where it runs.
//!
//! The protocol is libdevmapper's: a System V semaphore stands for the event, its key (the cookie) goes through the
//! kernel to udev's rules, and the last of them, `95-dm-notify.rules`, counts the semaphore down. What differs is
//! that the wait here has an end. A container can see the host's `/run/udev` and share none of its semaphores, and
//! a host can run udev without device-mapper's rules: libdevmapper waits there for ever.

use std::hash::{BuildHasher, RandomState};
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::ioctl::Semaphore;
use super::number::DeviceNumber;

/// How long an event may take. Rules run `blkid` on a device, and a machine that boots has many of them.
const LIMIT: Duration = Duration::from_secs(30);

/// The cookie's upper half, flags aside, in the semaphore's key (`DM_COOKIE_MAGIC`).
const COOKIE_MAGIC: u32 = 0x0d4d << FLAGS_SHIFT;
const FLAGS_SHIFT: u32 = 16;
/// `DM_UDEV_DISABLE_LIBRARY_FALLBACK`: nodes are udev's alone. veritysetup sets it too.
const DISABLE_LIBRARY_FALLBACK: u32 = 0x20;
/// `DM_UDEV_PRIMARY_SOURCE_FLAG`: without it udev's rules take an event for one of `blkid`'s making.
const PRIMARY_SOURCE: u32 = 0x40;

/// Whether udev runs here with device-mapper's rules. `DM_DISABLE_UDEV` in the environment says no, as it does to
/// libdevmapper.
pub(super) fn is_in_charge() -> bool {
    const RULES: [&str; 5] = [
        "/etc/udev/rules.d",
        "/run/udev/rules.d",
        "/usr/local/lib/udev/rules.d",
        "/usr/lib/udev/rules.d",
        "/lib/udev/rules.d",
    ];
    std::env::var_os("DM_DISABLE_UDEV").is_none()
        && Path::new("/run/udev/control").exists()
        && RULES.iter().any(|directory| Path::new(directory).join("95-dm-notify.rules").exists())
}

/// Whether udev keeps the link `/dev/mapper/<node>` to the device, so that it will remove it too.
pub(super) fn owns_link(number: DeviceNumber, node: &str) -> bool {
    let link = format!("S:mapper/{node}");
    // udev's database escapes nothing that a node's name can hold.
    std::fs::read_to_string(format!("/run/udev/data/b{number}"))
        .is_ok_and(|entries| entries.lines().any(|entry| entry == link))
}

/// One event that udev is told of.
#[derive(Debug)]
pub(super) struct Event {
    cookie: u32,
    semaphore: Semaphore,
}

impl Event {
    /// Prepares for an event; `None` where udev is not in charge, or semaphores are not to be had.
    pub(super) fn begin() -> Option<Self> {
        if !is_in_charge() {
            return None;
        }
        // Sixteen bits tell events apart; that they are taken by chance only spares retries.
        for _ in 0..16 {
            let random = RandomState::new().hash_one(std::process::id());
            let base = u32::try_from(random & 0xffff).unwrap_or_default();
            let Ok(key) = i32::try_from(COOKIE_MAGIC | base) else { continue };
            if base == 0 {
                continue;
            }
            if let Ok(semaphore) = Semaphore::create(key, 1) {
                let flags = (PRIMARY_SOURCE | DISABLE_LIBRARY_FALLBACK) << FLAGS_SHIFT;
                return Some(Self { cookie: flags | base, semaphore });
            }
        }
        None
    }

    /// What the ioctl takes.
    pub(super) const fn cookie(&self) -> u32 {
        self.cookie
    }

    /// Waits until udev is done with the event, or until the limit: the caller looks at what there is then.
    pub(super) fn wait(self) {
        let end = Instant::now() + LIMIT;
        let mut pause = Duration::from_micros(500);
        while self.semaphore.is_zero().is_ok_and(|done| !done) && Instant::now() < end {
            sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(10));
        }
    }
}
