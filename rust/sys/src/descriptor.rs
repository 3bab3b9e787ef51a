// SPDX-License-Identifier: Apache-2.0
//! From a descriptor's number, as other languages hold it, to an owned descriptor.

use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

/// Duplicates the descriptor with this number, close-on-exec.
///
/// Whatever the number is, the result is a descriptor of our own or an error: nothing is assumed
/// about who else uses the number.
///
/// # Errors
/// `EBADF` if the number names no open descriptor; `EMFILE` if there is no room for another.
pub fn duplicate(number: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: fcntl with F_DUPFD_CLOEXEC takes any integer and touches no memory.
    #[expect(unsafe_code, reason = "a raw number has no safe type")]
    let copy = unsafe { libc::fcntl(number, libc::F_DUPFD_CLOEXEC, 0) };
    if copy < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made `copy` for us, and nobody else knows it.
    #[expect(unsafe_code, reason = "taking ownership of a fresh descriptor")]
    Ok(unsafe { OwnedFd::from_raw_fd(copy) })
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::fd::AsRawFd;

    use super::*;

    #[test]
    fn a_copy_is_another_number_of_the_same_file() {
        let file = File::open("/dev/null").unwrap();
        let copy = duplicate(file.as_raw_fd()).unwrap();
        assert_ne!(copy.as_raw_fd(), file.as_raw_fd());
    }

    #[test]
    fn numbers_that_name_nothing_are_refused() {
        for number in [-1, i32::MAX, i32::MIN] {
            assert_eq!(
                duplicate(number).unwrap_err().raw_os_error(),
                Some(libc::EBADF)
            );
        }
    }
}
