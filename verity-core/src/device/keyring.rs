//! The kernel's keys: a signature as one of them, for as long as a table is loaded.
//!
//! A table names a signature by the description of a key, which the kernel looks for in the keyrings of the thread
//! that loads the table. Here that is always a thread of its own: its keyring holds the one key, nobody else sees
//! it, and both go with the thread, however that ends.

use std::ffi::{CStr, CString};
use std::io;
use std::marker::PhantomData;
use std::panic::resume_unwind;
use std::thread;

use nix::libc;

use super::options::KeyDescription;

/// The thread keyring of whoever calls (`linux/keyctl.h`).
const THREAD_KEYRING: libc::c_long = -1;
const KEYCTL_UNLINK: libc::c_long = 9;

/// The type of keys whose payload is any bytes.
const USER: &CStr = c"user";

/// Does `work` in a thread whose keyring holds `payload` as the key `description`.
///
/// # Errors
/// What the system answered if the thread or the key could not be made; `work` is not done then.
pub(super) fn with_key<T: Send>(
    description: &KeyDescription,
    payload: &[u8],
    work: impl FnOnce() -> T + Send,
) -> io::Result<T> {
    thread::scope(|scope| {
        let thread = thread::Builder::new().name("verity-key".to_owned()).spawn_scoped(scope, || {
            let key = ThreadKey::add(description, payload)?;
            let result = work();
            drop(key);
            Ok(result)
        })?;
        thread.join().unwrap_or_else(|panic| resume_unwind(panic))
    })
}

/// A key in the keyring of the thread that made it. Nothing else refers to it, so it goes when this is dropped; were
/// that not to happen, it goes with the thread.
struct ThreadKey {
    serial: libc::c_long,
    /// Another thread has another keyring.
    _not_send: PhantomData<*const ()>,
}

impl ThreadKey {
    fn add(description: &KeyDescription, payload: &[u8]) -> io::Result<Self> {
        let description = CString::new(description.as_str())?;
        // SAFETY: add_key(2) reads a type and a description, which end in NUL, and `payload.len()` bytes of payload,
        // all of which outlive the call; it writes nothing to them. The keyring is one that always exists for the
        // calling thread, or is made by the call.
        let serial = unsafe {
            libc::syscall(
                libc::SYS_add_key,
                USER.as_ptr(),
                description.as_ptr(),
                payload.as_ptr(),
                payload.len(),
                THREAD_KEYRING,
            )
        };
        if serial < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(Self { serial, _not_send: PhantomData })
    }
}

impl Drop for ThreadKey {
    fn drop(&mut self) {
        // Should it fail, the key still goes with its thread.
        // SAFETY: KEYCTL_UNLINK takes two serial numbers and touches no memory of this process.
        unsafe { libc::syscall(libc::SYS_keyctl, KEYCTL_UNLINK, self.serial, THREAD_KEYRING) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// KEYCTL_SEARCH in this thread's keyring.
    fn search(description: &str) -> io::Result<()> {
        const KEYCTL_SEARCH: libc::c_long = 10;
        let description = CString::new(description)?;
        // SAFETY: KEYCTL_SEARCH reads a type and a description that end in NUL and outlive the call.
        let serial = unsafe {
            libc::syscall(
                libc::SYS_keyctl,
                KEYCTL_SEARCH,
                THREAD_KEYRING,
                USER.as_ptr(),
                description.as_ptr(),
                libc::c_long::from(0),
            )
        };
        if serial < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    /// Some containers have no use of the keyrings. Nothing then was done, which is what these tests check there;
    /// that keys work and go, the kernel tests check.
    fn denied(error: &io::Error) -> bool {
        matches!(error.raw_os_error(), Some(libc::EPERM | libc::EACCES | libc::ENOSYS))
    }

    #[test]
    fn the_key_is_there_for_the_work_and_for_nobody_else() {
        let description: KeyDescription = "verity-unit-test".parse().unwrap();
        let find = || search("verity-unit-test");
        match with_key(&description, b"payload", find) {
            Err(error) if denied(&error) => return,
            found => found.unwrap().unwrap(),
        }
        assert!(find().is_err(), "this thread's keyring has it");
    }

    #[test]
    fn a_key_that_cannot_be_made_is_an_error_before_the_work() {
        let description: KeyDescription = "verity-unit-test".parse().unwrap();
        let work = || panic!("done without its key");
        // A key of type `user` holds at most 32767 bytes, and at least one.
        for payload in [&[][..], &[0; 32_768]] {
            assert!(with_key::<()>(&description, payload, work).is_err());
        }
    }

    #[test]
    fn a_panic_of_the_work_comes_through() {
        let description: KeyDescription = "verity-unit-test".parse().unwrap();
        let work = || with_key::<()>(&description, b"payload", || panic!("the test's"));
        match std::panic::catch_unwind(work) {
            Ok(result) => assert!(denied(&result.unwrap_err())),
            Err(panic) => assert_eq!(panic.downcast_ref::<&str>(), Some(&"the test's")),
        }
    }
}
