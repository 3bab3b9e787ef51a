// SPDX-License-Identifier: Apache-2.0
//! Where the ciphertext lives.

mod direct;

use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut};
use std::num::NonZeroU64;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

pub use direct::DirectBacking;
use rustix::fs::{Advice, FallocateFlags, FileType, SeekFrom, fadvise, fallocate, fstat, seek};
use rustix::io::{Errno, ReadWriteFlags, preadv, preadv2, pwritev};
use strongroom_sys::writeback;

/// A store of bytes with random access, shared by all connections.
///
/// Reads and writes are whole: they move every byte or fail. Offsets are in bytes from the start of
/// the store. What the store returns is hostile, and only ever decrypted.
pub trait Backing: Send + Sync {
    /// The size in bytes.
    ///
    /// # Errors
    /// The store cannot tell.
    fn size(&self) -> io::Result<u64>;

    /// Says whether the store still has its first `end` bytes: files can be cut short while they are
    /// open, and a write behind the cut would make one longer again, with a gap that reads as zeroes.
    ///
    /// # Errors
    /// The store's.
    fn reaches(&self, _end: u64) -> io::Result<bool> {
        Ok(true)
    }

    /// Fills `buffer`.
    ///
    /// # Errors
    /// The store's, or [`io::ErrorKind::UnexpectedEof`]; `buffer` may be partly filled.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()>;

    /// Writes all of `buffer`.
    ///
    /// # Errors
    /// The store's; part of `buffer` may have been written.
    fn write_at(&self, buffer: &[u8], offset: u64) -> io::Result<()>;

    /// Fills several buffers from one range.
    ///
    /// # Errors
    /// As [`Backing::read_at`].
    fn read_vectored_at(&self, buffers: &mut [IoSliceMut<'_>], mut offset: u64) -> io::Result<()> {
        for buffer in buffers {
            self.read_at(buffer, offset)?;
            offset += buffer.len() as u64;
        }
        Ok(())
    }

    /// Fills several buffers from one range, if that needs no wait for a disk.
    ///
    /// Unless all of it was there, the buffers may be partly filled. Errors are left to
    /// [`Backing::read_vectored_at`].
    fn read_cached_at(&self, _buffers: &mut [IoSliceMut<'_>], _offset: u64) -> Cached {
        Cached::Unknown
    }

    /// Writes several buffers to one range.
    ///
    /// # Errors
    /// As [`Backing::write_at`].
    fn write_vectored_at(&self, buffers: &[IoSlice<'_>], mut offset: u64) -> io::Result<()> {
        for buffer in buffers {
            self.write_at(buffer, offset)?;
            offset += buffer.len() as u64;
        }
        Ok(())
    }

    /// The open file, if transfers go past the page cache.
    ///
    /// They are then of whole sectors only, and between the file and aligned memory.
    fn direct(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    /// Makes every completed write durable.
    ///
    /// # Errors
    /// The store's. The kernel reports a lost write once only, so the caller must remember it.
    fn flush(&self) -> io::Result<()>;

    /// Hints that a range was written for good: the disk may have it now, which nobody waits for.
    ///
    /// Takes no note of errors: [`Backing::flush`] still reports them. A store that cannot do this
    /// does nothing.
    fn begin_writeback(&self, offset: u64, length: u64);

    /// Gives up the storage behind a range, which reads as anything afterwards.
    ///
    /// # Errors
    /// The store's. A store that cannot do this does nothing and succeeds.
    fn punch_hole(&self, offset: u64, length: u64) -> io::Result<()>;

    /// Hints that a range will be read soon.
    ///
    /// # Errors
    /// The store's.
    fn prefetch(&self, offset: u64, length: u64) -> io::Result<()>;
}

/// Returns the store in an open file or block device: the flags with which it was opened say which.
///
/// # Errors
/// The system's.
pub fn of_descriptor(fd: OwnedFd) -> io::Result<Arc<dyn Backing>> {
    Ok(if DirectBacking::is_direct(&fd)? {
        Arc::new(DirectBacking::new(fd))
    } else {
        Arc::new(FileBacking::new(fd))
    })
}

/// How much of a range could be read without a wait for a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cached {
    /// Every byte, and it was read.
    Whole,
    /// Some bytes are missing, or something is wrong with them.
    Lacking,
    /// The store cannot tell, now or ever.
    Unknown,
}

/// A file or block device.
#[derive(Debug)]
pub struct FileBacking {
    file: File,
    /// A file can be cut short and grows when it is written to; a device cannot and does not.
    is_file: bool,
    /// Cleared once the file system has said that it cannot read without waiting.
    tells_cached: AtomicBool,
    /// Cleared once the file system or device has said that it cannot punch holes.
    punches_holes: AtomicBool,
}

impl FileBacking {
    /// Takes an open descriptor; its file position is not used.
    #[must_use]
    pub fn new(fd: OwnedFd) -> Self {
        let is_file = fstat(&fd)
            .is_ok_and(|info| FileType::from_raw_mode(info.st_mode) == FileType::RegularFile);
        Self {
            file: File::from(fd),
            is_file,
            tells_cached: AtomicBool::new(true),
            punches_holes: AtomicBool::new(true),
        }
    }
}

impl Backing for FileBacking {
    fn size(&self) -> io::Result<u64> {
        // Seeking works on block devices too, where the metadata say zero.
        Ok(seek(&self.file, SeekFrom::End(0))?)
    }

    fn reaches(&self, end: u64) -> io::Result<bool> {
        // Not by seeking, for which threads would wait for each other.
        Ok(!self.is_file || fstat(&self.file)?.st_size.cast_unsigned() >= end)
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.file.read_exact_at(buffer, offset)
    }

    fn write_at(&self, buffer: &[u8], offset: u64) -> io::Result<()> {
        self.file.write_all_at(buffer, offset)
    }

    fn read_vectored_at(&self, buffers: &mut [IoSliceMut<'_>], offset: u64) -> io::Result<()> {
        let mut done = completed(preadv(&self.file, buffers, offset))?;
        let mut position = offset;
        for buffer in buffers {
            let skip = done.min(buffer.len());
            done -= skip;
            self.read_at(&mut buffer[skip..], position + skip as u64)?;
            position += buffer.len() as u64;
        }
        Ok(())
    }

    fn read_cached_at(&self, buffers: &mut [IoSliceMut<'_>], offset: u64) -> Cached {
        if !self.tells_cached.load(Ordering::Relaxed) {
            return Cached::Unknown;
        }
        let wanted: usize = buffers.iter().map(|buffer| buffer.len()).sum();
        match preadv2(&self.file, buffers, offset, ReadWriteFlags::NOWAIT) {
            Ok(count) if count == wanted => Cached::Whole,
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => {
                self.tells_cached.store(false, Ordering::Relaxed);
                Cached::Unknown
            }
            Ok(_) | Err(_) => Cached::Lacking,
        }
    }

    fn write_vectored_at(&self, buffers: &[IoSlice<'_>], offset: u64) -> io::Result<()> {
        let mut done = completed(pwritev(&self.file, buffers, offset))?;
        let mut position = offset;
        for buffer in buffers {
            let skip = done.min(buffer.len());
            done -= skip;
            self.write_at(&buffer[skip..], position + skip as u64)?;
            position += buffer.len() as u64;
        }
        Ok(())
    }

    fn flush(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn begin_writeback(&self, offset: u64, length: u64) {
        // What could not begin is done by the next flush.
        let _ = writeback::begin(&self.file, offset, length);
    }

    fn punch_hole(&self, offset: u64, length: u64) -> io::Result<()> {
        if !self.punches_holes.load(Ordering::Relaxed) {
            return Ok(());
        }
        let mode = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        loop {
            match fallocate(&self.file, mode, offset, length) {
                Ok(()) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(Errno::OPNOTSUPP | Errno::NOSYS) => {
                    self.punches_holes.store(false, Ordering::Relaxed);
                    return Ok(());
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn prefetch(&self, offset: u64, length: u64) -> io::Result<()> {
        // A length of zero would mean "to the end of the file".
        let Some(length) = NonZeroU64::new(length) else {
            return Ok(());
        };
        match fadvise(&self.file, offset, Some(length), Advice::WillNeed) {
            Ok(()) | Err(Errno::NOSYS) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

/// Returns how much of a vectored transfer is done; the rest goes one buffer at a time.
///
/// None is, where a signal came in between, or a kernel has no such call.
fn completed(result: Result<usize, Errno>) -> io::Result<usize> {
    match result {
        Ok(count) => Ok(count),
        Err(Errno::INTR | Errno::NOSYS) => Ok(0),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{MemfdFlags, memfd_create};

    fn backing(size: u64) -> FileBacking {
        let fd = memfd_create("backing", MemfdFlags::CLOEXEC).unwrap();
        rustix::fs::ftruncate(&fd, size).unwrap();
        FileBacking::new(fd)
    }

    #[test]
    fn vectored_transfers_are_whole() {
        let store = backing(64);
        let parts = [b"abc".as_slice(), b"", b"defgh"].map(IoSlice::new);
        store.write_vectored_at(&parts, 10).unwrap();
        let (mut first, mut second) = ([0; 6], [0; 2]);
        let mut into = [IoSliceMut::new(&mut first), IoSliceMut::new(&mut second)];
        store.read_vectored_at(&mut into, 10).unwrap();
        assert_eq!((&first, &second), (b"abcdef", b"gh"));
    }

    #[test]
    fn reading_beyond_the_end_is_an_error_even_after_a_short_read() {
        let store = backing(8);
        let (mut first, mut second) = ([0; 6], [0; 6]);
        let mut into = [IoSliceMut::new(&mut first), IoSliceMut::new(&mut second)];
        let error = store.read_vectored_at(&mut into, 0).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
        assert_eq!(store.size().unwrap(), 8);
    }

    #[test]
    fn what_is_in_memory_is_told_from_what_is_not() {
        let path = std::env::temp_dir().join(format!("strongroom-cached-{}", std::process::id()));
        let file = File::options()
            .read(true)
            .write(true)
            .create_new(true)
            .open(&path)
            .unwrap();
        std::fs::remove_file(&path).unwrap();
        file.write_all_at(&vec![7; 65536], 0).unwrap();
        file.sync_all().unwrap();
        let store = FileBacking::new(OwnedFd::from(file));
        let mut bytes = [0; 4096];
        let mut try_at = |offset| store.read_cached_at(&mut [IoSliceMut::new(&mut bytes)], offset);
        if try_at(0) == Cached::Unknown {
            return; // Some file systems cannot tell.
        }
        assert_eq!(try_at(61440), Cached::Whole);
        assert_eq!(try_at(61441), Cached::Lacking, "beyond the end");
        fadvise(&store.file, 0, None, Advice::DontNeed).unwrap();
        assert_ne!(try_at(0), Cached::Unknown);
        store.read_at(&mut bytes, 0).unwrap();
        assert_eq!(bytes, [7; 4096]);
    }

    #[test]
    fn a_store_that_cannot_tell_is_asked_once() {
        let store = backing(4096);
        store.tells_cached.store(false, Ordering::Relaxed);
        let mut bytes = [0; 4096];
        let mut into = [IoSliceMut::new(&mut bytes)];
        assert_eq!(store.read_cached_at(&mut into, 0), Cached::Unknown);
    }

    #[test]
    fn a_file_that_was_cut_short_is_told_from_a_whole_one() {
        let store = backing(8192);
        assert!(store.reaches(8192).unwrap());
        store.file.set_len(8191).unwrap();
        assert!(!store.reaches(8192).unwrap());
        let (pipe, _other_end) = rustix::pipe::pipe().unwrap();
        assert!(FileBacking::new(pipe).reaches(8192).unwrap(), "no file");
    }

    #[test]
    fn a_hole_keeps_the_size() {
        let store = backing(16384);
        store.write_at(&[7; 16384], 0).unwrap();
        store.punch_hole(4096, 8192).unwrap();
        let mut byte = [1];
        store.read_at(&mut byte, 5000).unwrap();
        assert_eq!((byte, store.size().unwrap()), ([0], 16384));
    }

    #[test]
    fn a_store_without_holes_ignores_them_from_then_on() {
        let (pipe, _other_end) = rustix::pipe::pipe().unwrap();
        let store = FileBacking::new(pipe);
        store.punches_holes.store(false, Ordering::Relaxed);
        assert!(store.punch_hole(0, 4096).is_ok());
    }
}
