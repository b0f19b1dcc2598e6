//! The system calls that no crate wraps safely. All of this module's functions are safe; with `keyring` it is the only
//! unsafe code in `device`.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use devicemapper::DM;
use nix::libc;

/// A buffer for device-mapper's ioctls: `struct dm_ioctl` of `linux/dm-ioctl.h`, then what the command takes or
/// answers.
///
/// The crate `devicemapper` makes these calls too, but waits for udev without a limit where they raise an event;
/// see [`udev`](super::udev).
#[derive(Debug)]
pub(super) struct DmBuffer(Vec<u8>);

/// The commands that are called from here.
#[derive(Clone, Copy, Debug)]
pub(super) enum DmCommand {
    ListDevices,
    Remove,
    /// `DM_DEV_SUSPEND`, which resumes unless a flag says otherwise.
    Resume,
    GetTargetVersion,
}

const DM_IOCTL: u8 = 0xfd;
const DM_HEADER_SIZE: usize = 312;
const DM_DATA_START: u32 = 312;
const DM_VERSION: [u32; 3] = [4, 0, 0];

nix::ioctl_readwrite_bad!(dm_list_devices, nix::request_code_readwrite!(DM_IOCTL, 2, DM_HEADER_SIZE), u8);
nix::ioctl_readwrite_bad!(dm_dev_remove, nix::request_code_readwrite!(DM_IOCTL, 4, DM_HEADER_SIZE), u8);
nix::ioctl_readwrite_bad!(dm_dev_suspend, nix::request_code_readwrite!(DM_IOCTL, 6, DM_HEADER_SIZE), u8);
nix::ioctl_readwrite_bad!(
    dm_get_target_version,
    nix::request_code_readwrite!(DM_IOCTL, 17, DM_HEADER_SIZE),
    u8
);

impl DmBuffer {
    const DATA_SIZE: usize = 12;
    const DATA_START: usize = 16;
    const FLAGS: usize = 28;
    const EVENT_NR: usize = 32;
    const NAME: usize = 48;
    const NAME_SIZE: usize = 128;

    /// A buffer of `size` bytes (at least the header's).
    pub(super) fn new(size: usize) -> Self {
        Self(vec![0; size.max(DM_HEADER_SIZE)])
    }

    /// Names the device, or the target, that the command is about. At most 127 bytes of `name` are taken: none that
    /// comes here is longer.
    pub(super) fn set_name(&mut self, name: &str) {
        let name = &name.as_bytes()[..name.len().min(Self::NAME_SIZE - 1)];
        self.0[Self::NAME..Self::NAME + name.len()].copy_from_slice(name);
    }

    pub(super) fn set_flags(&mut self, flags: u32) {
        self.set(Self::FLAGS, flags);
    }

    /// The cookie that the event carries which the command raises.
    pub(super) fn set_cookie(&mut self, cookie: u32) {
        self.set(Self::EVENT_NR, cookie);
    }

    pub(super) fn flags(&self) -> u32 {
        self.get(Self::FLAGS)
    }

    /// What the command answered, behind the header; empty if its bounds make no sense.
    pub(super) fn payload(&self) -> &[u8] {
        let bound = |offset| usize::try_from(self.get(offset)).ok();
        let range = bound(Self::DATA_START).zip(bound(Self::DATA_SIZE));
        range.and_then(|(start, end)| self.0.get(start..end)).unwrap_or_default()
    }

    fn set(&mut self, offset: usize, value: u32) {
        self.0[offset..offset + 4].copy_from_slice(&value.to_ne_bytes());
    }

    fn get(&self, offset: usize) -> u32 {
        let bytes = self.0[offset..].first_chunk().copied().unwrap_or_default();
        u32::from_ne_bytes(bytes)
    }

    /// Calls device-mapper. A command whose answer did not fit says so in the buffer's flags.
    pub(super) fn call(&mut self, control: &DM, command: DmCommand) -> nix::Result<()> {
        for (index, part) in DM_VERSION.into_iter().enumerate() {
            self.set(4 * index, part);
        }
        let size = u32::try_from(self.0.len()).map_err(|_| nix::Error::EMSGSIZE)?;
        self.set(Self::DATA_SIZE, size);
        self.set(Self::DATA_START, DM_DATA_START);
        let (fd, buffer) = (control.as_raw_fd(), self.0.as_mut_ptr());
        // SAFETY: `fd` is device-mapper's control node for as long as `control` lives, so the number means this
        // command. It reads and writes the memory at `buffer`, never more than the size that the buffer's header
        // carries, which was just set to the allocation's; bytes of any value may be written there. The kernel
        // copies, so the memory needs no alignment.
        let result = unsafe {
            match command {
                DmCommand::ListDevices => dm_list_devices(fd, buffer),
                DmCommand::Remove => dm_dev_remove(fd, buffer),
                DmCommand::Resume => dm_dev_suspend(fd, buffer),
                DmCommand::GetTargetVersion => dm_get_target_version(fd, buffer),
            }
        };
        result.map(drop)
    }
}

/// `struct loop_info64` of `linux/loop.h`.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct LoopInfo {
    device: u64,
    inode: u64,
    rdevice: u64,
    pub(super) offset: u64,
    pub(super) size_limit: u64,
    number: u32,
    encrypt_type: u32,
    encrypt_key_size: u32,
    pub(super) flags: u32,
    /// The backing file's path, cut off at 63 bytes.
    pub(super) file_name: [u8; 64],
    crypt_name: [u8; 64],
    encrypt_key: [u8; 32],
    init: [u64; 2],
}

/// `struct loop_config` of `linux/loop.h`.
#[repr(C)]
struct LoopConfig {
    fd: u32,
    block_size: u32,
    info: LoopInfo,
    reserved: [u64; 8],
}

const _: () = assert!(size_of::<LoopInfo>() == 232 && size_of::<LoopConfig>() == 304);

impl LoopInfo {
    pub(super) const fn zeroed() -> Self {
        Self {
            device: 0,
            inode: 0,
            rdevice: 0,
            offset: 0,
            size_limit: 0,
            number: 0,
            encrypt_type: 0,
            encrypt_key_size: 0,
            flags: 0,
            file_name: [0; 64],
            crypt_name: [0; 64],
            encrypt_key: [0; 32],
            init: [0; 2],
        }
    }
}

nix::ioctl_none_bad!(loop_ctl_get_free, 0x4C82);
nix::ioctl_write_ptr_bad!(ioctl_loop_configure, 0x4C0A, LoopConfig);
nix::ioctl_read_bad!(loop_get_status64, 0x4C05, LoopInfo);

/// The number of a loop device that is free right now; another process may take it first.
pub(super) fn loop_get_free(control: &File) -> nix::Result<u32> {
    // SAFETY: the call takes no argument; on anything but the loop driver's control node it fails.
    let number = unsafe { loop_ctl_get_free(control.as_raw_fd()) }?;
    u32::try_from(number).map_err(|_| nix::Error::ENODEV)
}

/// Attaches `backing` to the free loop device `device`.
pub(super) fn loop_configure(
    device: &File,
    backing: BorrowedFd<'_>,
    block_size: u32,
    info: LoopInfo,
) -> nix::Result<()> {
    let fd = u32::try_from(backing.as_raw_fd()).map_err(|_| nix::Error::EBADF)?;
    let config = LoopConfig { fd, block_size, info, reserved: [0; 8] };
    // SAFETY: `config` is a whole `struct loop_config`, which the call only reads and which outlives it. Both
    // descriptors are open: their owners are borrowed. On anything but a loop device the call fails.
    unsafe { ioctl_loop_configure(device.as_raw_fd(), &raw const config) }.map(drop)
}

/// What is attached to a loop device; `ENXIO` if nothing is.
pub(super) fn loop_status(device: &File) -> nix::Result<LoopInfo> {
    let mut info = LoopInfo::zeroed();
    // SAFETY: `info` is a whole `struct loop_info64` that may be written, and every value of its bytes is valid. On
    // anything but a loop device the call fails.
    unsafe { loop_get_status64(device.as_raw_fd(), &raw mut info) }?;
    Ok(info)
}

/// `union semun` of semctl(2). Passed as a number, its value would lie in the wrong half where the most significant byte comes first.
#[repr(C)]
union SemaphoreValue {
    value: libc::c_int,
    _buffer: *mut libc::c_void,
}

/// A System V semaphore that counts down to zero; removed when dropped.
#[derive(Debug)]
pub(super) struct Semaphore(libc::c_int);

impl Semaphore {
    /// Makes the semaphore `key`, which must not exist, with the value `value`.
    pub(super) fn create(key: i32, value: libc::c_int) -> io::Result<Self> {
        const MODE: libc::c_int = 0o600;
        // SAFETY: the call takes numbers only.
        let id = unsafe { libc::semget(key, 1, MODE | libc::IPC_CREAT | libc::IPC_EXCL) };
        if id < 0 {
            return Err(io::Error::last_os_error());
        }
        let semaphore = Self(id);
        // SAFETY: SETVAL takes one more argument, a whole `union semun` whose member `val` is set.
        if unsafe { libc::semctl(id, 0, libc::SETVAL, SemaphoreValue { value }) } < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(semaphore)
    }

    /// Whether the value is zero now.
    pub(super) fn is_zero(&self) -> io::Result<bool> {
        // IPC_NOWAIT is 0x800.
        #[allow(clippy::cast_possible_truncation)]
        let mut wait_for_zero =
            libc::sembuf { sem_num: 0, sem_op: 0, sem_flg: libc::IPC_NOWAIT as libc::c_short };
        // SAFETY: the pointer is to one whole `struct sembuf`, and one is announced; the call only reads it.
        if unsafe { libc::semop(self.0, &raw mut wait_for_zero, 1) } == 0 {
            return Ok(true);
        }
        let error = io::Error::last_os_error();
        match error.raw_os_error() {
            Some(libc::EAGAIN | libc::EINTR) => Ok(false),
            _ => Err(error),
        }
    }
}

impl Drop for Semaphore {
    fn drop(&mut self) {
        // The result does not matter: the worst is a semaphore that someone else has removed already.
        // SAFETY: IPC_RMID takes no further argument.
        unsafe { libc::semctl(self.0, 0, libc::IPC_RMID) };
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn a_semaphore_counts_and_goes_away() {
        let key = 0x5645_0000 | i32::try_from(std::process::id() & 0xffff).unwrap();
        let semaphore = Semaphore::create(key, 1).unwrap();
        assert!(!semaphore.is_zero().unwrap());
        assert_eq!(Semaphore::create(key, 1).unwrap_err().raw_os_error(), Some(libc::EEXIST));
        drop(semaphore);
        assert!(Semaphore::create(key, 0).unwrap().is_zero().unwrap());
    }

    #[test]
    fn the_loop_calls_fail_cleanly_on_a_file() {
        let file = tempfile::tempfile().unwrap();
        assert!(loop_get_free(&file).is_err());
        assert!(loop_status(&file).is_err());
        assert!(loop_configure(&file, file.as_fd(), 0, LoopInfo::zeroed()).is_err());
    }

    #[test]
    fn an_answer_with_bounds_beyond_the_buffer_is_empty() {
        let mut buffer = DmBuffer::new(400);
        for (start, end) in [(312, 401), (400, 399), (u32::MAX, u32::MAX)] {
            buffer.set(DmBuffer::DATA_START, start);
            buffer.set(DmBuffer::DATA_SIZE, end);
            assert!(buffer.payload().is_empty());
        }
    }
}
