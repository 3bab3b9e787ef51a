// SPDX-License-Identifier: Apache-2.0
//! The block engine: plaintext requests at any byte offset over an encrypted segment.

mod direct;
mod extents;
mod flusher;
mod loading;
mod pieces;

use std::sync::{Arc, PoisonError, RwLock};

use direct::Window;
pub(crate) use extents::Extent;
use flusher::Flusher;
pub(crate) use pieces::{PIECE_BYTES, piece_at};

use crate::backing::Backing;
use crate::buffer::Buffer;
use crate::counters::{Counters, Operation, Totals};
use crate::error::{IoError, OpenError, Result};
use crate::geometry::Geometry;
use crate::locks::{self, RangeLocks};
use crate::transform::{Run, Scratch, SectorTransform};

/// Zeroes are written in pieces of this size, so that a request for 4 GiB of them needs no memory
/// and can be broken off.
const ZERO_CHUNK_BYTES: u64 = 256 * 1024;

/// The largest sector there is.
pub(crate) const MAX_SECTOR_BYTES: usize = 4096;

/// An unlocked data segment, shared by all connections.
///
/// Concurrent requests are safe. As on any disk, the outcome of requests that overlap in bytes and
/// in time is one of them, byte by byte; requests that share a sector but no byte do not disturb
/// each other.
pub struct Volume {
    geometry: Geometry,
    // The key is held apart from the store, so that erasing it never waits for a hanging disk.
    transform: RwLock<Option<Box<dyn SectorTransform>>>,
    backing: RwLock<Option<Arc<dyn Backing>>>,
    locks: RangeLocks,
    flusher: Flusher,
    counters: Counters,
}

/// What one thread needs to run requests: the cipher's scratch space and room for one sector.
pub struct Workspace {
    scratch: Scratch,
    sector: Buffer,
    /// Memory for what is passed to the cipher.
    runs: Vec<Run<'static>>,
    /// Made when it is first needed.
    window: Option<Window>,
}

impl Workspace {
    /// Allocates; keep it for the life of a thread.
    ///
    /// # Errors
    /// [`IoError::NoMemory`]: there is no secret memory left.
    pub fn new() -> Result<Self> {
        Ok(Self {
            scratch: Scratch::new().map_err(|_| IoError::NoMemory)?,
            sector: Buffer::new(MAX_SECTOR_BYTES),
            runs: Vec::new(),
            window: None,
        })
    }
}

impl Volume {
    /// Joins a cipher and a store.
    ///
    /// # Errors
    /// The geometry does not fit the store, or the store has no size.
    pub fn new(
        backing: Arc<dyn Backing>,
        transform: Box<dyn SectorTransform>,
        geometry: Geometry,
    ) -> std::result::Result<Self, OpenError> {
        let size = backing
            .size()
            .map_err(|error| OpenError::Backing(IoError::from(error).errno()))?;
        geometry.check(size)?;
        Ok(Self {
            geometry,
            transform: RwLock::new(Some(transform)),
            backing: RwLock::new(Some(backing)),
            locks: RangeLocks::new(),
            flusher: Flusher::default(),
            counters: Counters::default(),
        })
    }

    /// Where the volume lies and what is allowed on it.
    #[must_use]
    pub fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    /// The running totals.
    #[must_use]
    pub fn totals(&self) -> Totals {
        self.counters.totals()
    }

    pub(crate) fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Reads plaintext. On failure `data` is of no use, and may hold ciphertext.
    ///
    /// # Errors
    /// Out of bounds, closed, or the disk's.
    pub fn read(&self, workspace: &mut Workspace, offset: u64, data: &mut [u8]) -> Result<()> {
        let length = data.len() as u64;
        let result = self.read_piece(workspace, offset, data);
        self.counters.record(Operation::Read, length, result);
        result
    }

    /// Writes plaintext, which may be encrypted in place: `data` is of no use afterwards.
    ///
    /// # Errors
    /// Read-only, beyond the end, closed, or the disk's; part of it may have been written.
    /// [`IoError::Truncated`] where the store was cut short, wherever the write is.
    pub fn write(&self, workspace: &mut Workspace, offset: u64, data: &mut [u8]) -> Result<()> {
        let length = data.len() as u64;
        let result = self.write_piece(workspace, offset, data);
        self.counters.record(Operation::Write, length, result);
        result
    }

    /// Writes encrypted zeroes: volumes are plain LUKS2, where a hole does not read as zeroes.
    ///
    /// `proceed` is asked before each piece; once it says no, the rest is left undone.
    ///
    /// # Errors
    /// As [`Volume::write`], and [`IoError::ShutDown`] when broken off.
    pub fn zero(
        &self,
        workspace: &mut Workspace,
        offset: u64,
        length: u64,
        proceed: &dyn Fn() -> bool,
    ) -> Result<()> {
        let result = self.zero_pieces(workspace, offset, length, proceed);
        self.counters.record(Operation::Zero, length, result);
        result
    }

    /// Gives up the storage behind the whole sectors of a range, which read as anything afterwards.
    ///
    /// It is a hint: without `discard`, and for parts of sectors, it does nothing. No lock is taken:
    /// until it is written again, a trimmed sector may read as anything, so a read-modify-write
    /// that puts old bytes back does no harm.
    ///
    /// # Errors
    /// Read-only, out of bounds, closed, or the disk's.
    pub fn trim(&self, offset: u64, length: u64) -> Result<()> {
        let result = self.punch(offset, length);
        self.counters.record(Operation::Trim, length, result);
        result
    }

    /// Makes every acknowledged write durable.
    ///
    /// # Errors
    /// Closed, the disk's, [`IoError::Truncated`], or [`IoError::FlushFailed`] for ever after one failure: the kernel
    /// reports lost pages once only, so a later success would prove nothing.
    pub fn flush(&self) -> Result<()> {
        let result = self.sync();
        self.counters.record(Operation::Flush, 0, result);
        result
    }

    /// As [`Volume::flush`], on behalf of another request, which is counted instead.
    pub(crate) fn sync(&self) -> Result<()> {
        let backing = self.whole_backing()?;
        let result = self.flusher.flush(backing.as_ref());
        if result.is_err() {
            self.counters.fail_flush();
        }
        result
    }

    /// Hints that a range was written for good, so that a later flush finds less to do.
    pub(crate) fn begin_writeback(&self, offset: u64, length: u64) {
        if let Ok(backing) = self.backing()
            && self.geometry.check_range(offset, length).is_ok()
        {
            backing.begin_writeback(self.geometry.position(offset), length);
        }
    }

    /// Hints that a range will be read soon.
    ///
    /// # Errors
    /// Out of bounds, closed, or the disk's.
    pub fn prefetch(&self, offset: u64, length: u64) -> Result<()> {
        let result = self
            .geometry
            .check_range(offset, length)
            .and_then(|()| self.backing())
            .and_then(|backing| Ok(backing.prefetch(self.geometry.position(offset), length)?));
        self.counters.record(Operation::Other, length, result);
        result
    }

    /// Erases the key; later reads and writes fail with [`IoError::ShutDown`], and
    /// [`Volume::flush`] still works.
    ///
    /// Does not wait for the disk. Doing it twice is allowed.
    pub fn erase(&self) {
        let transform = self
            .transform
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        drop(transform);
    }

    /// Erases the key and releases the store; later requests fail with [`IoError::ShutDown`].
    ///
    /// The key is gone before anything waits. The store is released when the last transfer that is
    /// under way ends, and some disks are waited for then. It does not flush: the caller decides
    /// what a failed flush means. Doing it twice is allowed.
    pub fn close(&self) {
        self.erase();
        let backing = self
            .backing
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        drop(backing);
    }

    fn backing(&self) -> Result<Arc<dyn Backing>> {
        let backing = self.backing.read().unwrap_or_else(PoisonError::into_inner);
        backing.clone().ok_or(IoError::ShutDown)
    }

    /// Returns the store, if it still has all of the volume.
    ///
    /// One that was cut short has lost data that was acknowledged, so that no flush succeeds after.
    fn whole_backing(&self) -> Result<Arc<dyn Backing>> {
        let backing = self.backing()?;
        if !backing.reaches(self.geometry.position(self.geometry.size_bytes))? {
            self.flusher.fail();
            return Err(IoError::Truncated);
        }
        Ok(backing)
    }

    fn zero_pieces(
        &self,
        workspace: &mut Workspace,
        offset: u64,
        length: u64,
        proceed: &dyn Fn() -> bool,
    ) -> Result<()> {
        self.geometry
            .check_change(offset, length)
            .map_err(beyond_end)?;
        let mut zeroes = Buffer::new(clamp(length.min(ZERO_CHUNK_BYTES)));
        let mut done = 0;
        while done < length {
            if !proceed() {
                return Err(IoError::ShutDown);
            }
            let at = offset + done;
            let size = (ZERO_CHUNK_BYTES - at % ZERO_CHUNK_BYTES).min(length - done);
            let piece = &mut zeroes.as_mut_slice()[..clamp(size)];
            piece.fill(0);
            self.write_piece(workspace, at, piece)?;
            done += size;
        }
        Ok(())
    }

    fn punch(&self, offset: u64, length: u64) -> Result<()> {
        self.geometry.check_change(offset, length)?;
        let backing = self.backing()?;
        let sector_bytes = self.geometry.sector_bytes() as u64;
        let start = offset.next_multiple_of(sector_bytes);
        let end = (offset + length) / sector_bytes * sector_bytes;
        if self.geometry.discard && start < end {
            backing.punch_hole(self.geometry.position(start), end - start)?;
        }
        Ok(())
    }
}

/// A write out of bounds lacks space, says the NBD specification.
fn beyond_end(error: IoError) -> IoError {
    match error {
        IoError::OutOfBounds => IoError::BeyondEnd,
        other => other,
    }
}

/// A size that is known to be small.
fn clamp(size: u64) -> usize {
    usize::try_from(size).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests;
