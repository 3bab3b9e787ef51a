// SPDX-License-Identifier: Apache-2.0
//! Having the kernel write dirty pages to the disk without waiting for it.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

/// Begins to write a range of a file, without its metadata, and promises nothing.
///
/// Unlike a wait for the end of such a write, it takes no note of errors: a later `fsync` on the
/// file still reports each.
///
/// # Errors
/// The range is no file range, the file is no regular file or block device, or the call is not
/// there. A file system without a disk behind it succeeds.
pub fn begin(file: impl AsFd, offset: u64, length: u64) -> io::Result<()> {
    let position = |value: u64| {
        libc::off64_t::try_from(value).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))
    };
    let (offset, length) = (position(offset)?, position(length)?);
    let fd = file.as_fd().as_raw_fd();
    // SAFETY: the descriptor is borrowed for the call, which takes integers and touches no memory.
    #[expect(unsafe_code, reason = "no safe interface to sync_file_range")]
    let result = unsafe { libc::sync_file_range(fd, offset, length, libc::SYNC_FILE_RANGE_WRITE) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;

    #[test]
    fn files_are_taken_and_nonsense_is_refused() {
        let file = File::open(std::env::current_exe().unwrap()).unwrap();
        assert!(begin(&file, 0, 4096).is_ok());
        assert!(begin(&file, u64::MAX, 1).is_err());
        assert!(begin(&file, 0, u64::MAX).is_err());
        let (pipe, _other) = std::io::pipe().unwrap();
        assert!(begin(&pipe, 0, 4096).is_err());
    }
}
