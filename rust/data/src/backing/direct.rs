// SPDX-License-Identifier: Apache-2.0
//! A file or block device whose transfers go past the page cache.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{OFlags, fcntl_getfl};
use rustix::io::{Errno, pread, pwrite};

use super::{Backing, FileBacking};
use crate::buffer::Buffer;
use crate::error::{IoError, Result};
use crate::volume::MAX_SECTOR_BYTES;

/// Ends of files lie on this grid at least, or behind the last transfer.
const GRID_BYTES: usize = 512;

/// A file or block device that was opened with `O_DIRECT`.
///
/// Every transfer is of whole encryption sectors, at a multiple of their size, to or from memory
/// that is aligned to them. Whether that is enough for the device was checked when it was opened;
/// where it is not, the transfer fails.
#[derive(Debug)]
pub struct DirectBacking(FileBacking);

impl DirectBacking {
    /// Takes an open descriptor; its file position is not used.
    #[must_use]
    pub fn new(fd: OwnedFd) -> Self {
        Self(FileBacking::new(fd))
    }

    /// Says whether a descriptor was opened with `O_DIRECT`.
    ///
    /// # Errors
    /// The system's.
    pub fn is_direct(fd: impl AsFd) -> io::Result<bool> {
        Ok(fcntl_getfl(fd)?.contains(OFlags::DIRECT))
    }

    /// Says whether a sector of `length` bytes at `offset` can be read: the device may have larger
    /// blocks.
    ///
    /// # Errors
    /// The length is larger than any sector's, or reading failed for another reason.
    pub fn takes(&self, offset: u64, length: usize) -> Result<bool> {
        let mut sector = Buffer::new(MAX_SECTOR_BYTES);
        let sector = sector.as_mut_slice().get_mut(..length);
        match self.read_at(sector.ok_or(IoError::Invalid)?, offset) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}

impl Backing for DirectBacking {
    fn size(&self) -> io::Result<u64> {
        self.0.size()
    }

    fn reaches(&self, end: u64) -> io::Result<bool> {
        self.0.reaches(end)
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let short = io::ErrorKind::UnexpectedEof;
        let mut done = 0;
        while done < buffer.len() {
            match pread(&self.0.file, &mut buffer[done..], offset + done as u64) {
                Ok(0) => return Err(short.into()),
                Ok(count) => done += count,
                Err(Errno::INTR) => {}
                // What is off the grid cannot be read on from.
                Err(_) if !done.is_multiple_of(GRID_BYTES) => return Err(short.into()),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn write_at(&self, buffer: &[u8], offset: u64) -> io::Result<()> {
        let mut done = 0;
        while done < buffer.len() {
            match pwrite(&self.0.file, &buffer[done..], offset + done as u64) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => done += count,
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn direct(&self) -> Option<BorrowedFd<'_>> {
        Some(self.0.file.as_fd())
    }

    fn flush(&self) -> io::Result<()> {
        // The device has its own cache, and the file system the file's extents.
        self.0.flush()
    }

    fn begin_writeback(&self, _offset: u64, _length: u64) {
        // It has been written.
    }

    fn punch_hole(&self, offset: u64, length: u64) -> io::Result<()> {
        self.0.punch_hole(offset, length)
    }

    fn prefetch(&self, _offset: u64, _length: u64) -> io::Result<()> {
        // There is no place to read ahead to.
        Ok(())
    }
}
