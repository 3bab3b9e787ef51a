// SPDX-License-Identifier: Apache-2.0
//! One thread's requests, on one descriptor: received, done, answered, one after the other.
//!
//! The thread has one buffer, which a message is read into so that a write's data begin at a page;
//! they are encrypted there and written from there. A read's data are put in the same place, and
//! leave in the same call as their header. All memory is taken before the first request: who
//! serves a block device must not wait for memory, which may wait for that very device.

use std::hint;
use std::io::{self, IoSlice};
use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::{Errno, read, writev};

use super::answers::{self, header};
use super::protocol::{self, Body, FILE, MAJOR, MAX_DATA_BYTES, OLDEST_MINOR, ROOT, Request};
use crate::buffer::Buffer;
use crate::counters::Operation;
use crate::error::{IoError, Result};
use crate::volume::{Volume, Workspace};

/// Where data begin in the buffer: at a page.
const DATA_START: usize = 4096;

/// Where a message begins, so that a write's data begin there.
const MESSAGE_START: usize = DATA_START - protocol::HEADER_BYTES - protocol::WRITE_BYTES;

/// Writes of this size or more go on to the disk at once. What comes from a loop device was held
/// back above already, in the cache of its file system: to hold it back again would only make the
/// next flush wait for the disk, which does nothing meanwhile.
const BULK_BYTES: u32 = 128 * 1024;

/// The part of `open`'s flags that says what for, and its value for reading.
const ACCESS_MODE: u32 = 3;
const READ_ONLY: u32 = 0;

/// What is served, and how much longer.
#[derive(Clone, Copy)]
pub(crate) struct Served<'a> {
    pub(crate) volume: &'a Volume,
    pub(crate) file_name: &'a str,
    /// Refuse what comes from now on.
    pub(crate) stopping: &'a AtomicBool,
}

/// What a thread works with.
pub(crate) struct Session {
    workspace: Workspace,
    buffer: Buffer,
}

/// What is said about a request.
#[derive(Clone, Copy)]
enum Answer {
    Nothing,
    Error(Errno),
    Body(answers::Body),
    /// So many bytes of the buffer.
    Data(usize),
}

impl From<Result<answers::Body>> for Answer {
    fn from(result: Result<answers::Body>) -> Self {
        result.map_or_else(|error| Self::Error(error.fuse_errno()), Self::Body)
    }
}

impl Session {
    /// Takes all the memory that requests on `volume` need.
    ///
    /// # Errors
    /// [`IoError::NoMemory`]: there is no secret memory left.
    pub(crate) fn new(volume: &Volume) -> Result<Self> {
        let mut buffer = Buffer::new(DATA_START + MAX_DATA_BYTES);
        // The kernel gives memory away when it is written to, not before.
        hint::black_box(buffer.as_mut_slice()).fill(0);
        let mut workspace = Workspace::new()?;
        workspace.prepare(volume);
        Ok(Self { workspace, buffer })
    }

    /// Receives a message and returns its length, which is nothing when there will be no more.
    ///
    /// # Errors
    /// It is not the descriptor of a mounted FUSE file system.
    pub(crate) fn receive(&mut self, device: BorrowedFd<'_>) -> io::Result<Option<usize>> {
        loop {
            match read(device, &mut self.buffer.as_mut_slice()[MESSAGE_START..]) {
                // Unmounted, or cut off. A read of nothing is the end of a socket, as in tests.
                Ok(0) | Err(Errno::NODEV | Errno::CONNABORTED) => return Ok(None),
                Ok(length) => return Ok(Some(length)),
                // ENOENT: a request was withdrawn while it was being handed over.
                Err(Errno::INTR | Errno::NOENT) => {}
                Err(Errno::AGAIN) => {
                    let mut entry = [PollFd::from_borrowed_fd(device, PollFlags::IN)];
                    let _ = poll(&mut entry, None);
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Does and answers the request that was received last.
    ///
    /// # Errors
    /// The file system is gone.
    pub(crate) fn answer(
        &mut self,
        device: BorrowedFd<'_>,
        length: usize,
        served: Served<'_>,
    ) -> io::Result<()> {
        let message = &self.buffer.as_slice()[MESSAGE_START..MESSAGE_START + length];
        // Without a header there is nobody to answer.
        let Some(request) = Request::parse(message) else {
            return Ok(());
        };
        let Request { unique, node, body } = request;
        let mut bulk = None;
        let answer = match body {
            Body::Read { .. } | Body::Write { .. } | Body::Fsync if node != FILE => {
                Answer::Error(Errno::BADF)
            }
            Body::Read { offset, size } => self.read(served, offset, size),
            Body::Write { offset, size } => {
                bulk = (size >= BULK_BYTES).then_some((offset, u64::from(size)));
                self.write(served, offset, size).into()
            }
            Body::Fsync => ready(served)
                .and_then(|()| served.volume.flush())
                .map(|()| answers::Body::EMPTY)
                .into(),
            body => about_names(served, node, body),
        };
        self.send(device, unique, answer)?;
        if let Some((offset, length)) = bulk {
            served.volume.begin_writeback(offset, length);
        }
        Ok(())
    }

    fn read(&mut self, served: Served<'_>, offset: u64, size: u32) -> Answer {
        let volume = served.volume;
        let checked = ready(served).and_then(|()| readable(volume, offset, size));
        let result = checked.and_then(|size| self.read_data(volume, offset, size));
        let length = u64::from(size);
        let outcome = result.map(|_| ());
        volume.counters().record(Operation::Read, length, outcome);
        match result {
            Ok(size) => Answer::Data(size),
            Err(error) => Answer::Error(error.fuse_errno()),
        }
    }

    fn read_data(&mut self, volume: &Volume, offset: u64, size: usize) -> Result<usize> {
        let data = &mut self.buffer.as_mut_slice()[DATA_START..DATA_START + size];
        volume.read_in_pieces(&mut self.workspace, offset, data)?;
        Ok(size)
    }

    fn write(&mut self, served: Served<'_>, offset: u64, size: u32) -> Result<answers::Body> {
        let volume = served.volume;
        let result = ready(served).and_then(|()| self.write_data(volume, offset, size));
        let length = u64::from(size);
        volume.counters().record(Operation::Write, length, result);
        result.map(|()| answers::written(size))
    }

    fn write_data(&mut self, volume: &Volume, offset: u64, size: u32) -> Result<()> {
        // All of it or none: a part would be written before the rest is found to be out of bounds.
        volume
            .geometry()
            .check_range(offset, u64::from(size))
            .map_err(|_| IoError::BeyondEnd)?;
        let size = usize::try_from(size).map_err(|_| IoError::Invalid)?;
        let data = &mut self.buffer.as_mut_slice()[DATA_START..DATA_START + size];
        volume.write_in_pieces(&mut self.workspace, offset, data)
    }

    fn send(&self, device: BorrowedFd<'_>, unique: u64, answer: Answer) -> io::Result<()> {
        let (error, body) = match &answer {
            Answer::Nothing => return Ok(()),
            Answer::Error(error) => (error.raw_os_error(), &[][..]),
            Answer::Body(body) => (0, body.as_slice()),
            Answer::Data(size) => {
                let data = &self.buffer.as_slice()[DATA_START..DATA_START + size];
                (0, data)
            }
        };
        let head = header(unique, error, body.len());
        loop {
            return match writev(device, &[IoSlice::new(&head), IoSlice::new(body)]) {
                Err(Errno::INTR) => continue,
                // ENOENT: whoever asked has given up. EINVAL, EFAULT: the kernel fails the request.
                Ok(_) | Err(Errno::NOENT | Errno::INVAL | Errno::FAULT) => Ok(()),
                Err(error) => Err(error.into()),
            };
        }
    }
}

/// Refuses data once the server stops.
fn ready(served: Served<'_>) -> Result<()> {
    if served.stopping.load(Ordering::SeqCst) {
        return Err(IoError::ShutDown);
    }
    Ok(())
}

/// How many bytes a read gives: a file ends at its end.
fn readable(volume: &Volume, offset: u64, size: u32) -> Result<usize> {
    let size = usize::try_from(size).unwrap_or(usize::MAX);
    if size > MAX_DATA_BYTES {
        return Err(IoError::Invalid);
    }
    let left = volume.geometry().size_bytes.saturating_sub(offset);
    Ok(size.min(usize::try_from(left).unwrap_or(usize::MAX)))
}

/// Answers what does not touch data: the names and attributes of one directory and one file.
fn about_names(served: Served<'_>, node: u64, body: Body<'_>) -> Answer {
    let geometry = served.volume.geometry();
    match body {
        Body::Init {
            major,
            minor,
            max_readahead,
            flags,
        } => {
            // A newer major version is told ours, and asks again.
            if major < MAJOR || (major == MAJOR && minor < OLDEST_MINOR) {
                return Answer::Error(Errno::PROTO);
            }
            Answer::Body(answers::init(max_readahead, flags))
        }
        Body::Lookup { name } if node == ROOT && name == served.file_name.as_bytes() => {
            Answer::Body(answers::entry(geometry))
        }
        Body::Lookup { .. } => Answer::Error(Errno::NOENT),
        Body::GetAttributes if matches!(node, ROOT | FILE) => {
            Answer::Body(answers::attributes_of(node, geometry))
        }
        Body::Open { .. } if node == ROOT => Answer::Error(Errno::ISDIR),
        Body::Open { flags } if node == FILE => {
            if geometry.read_only && flags & ACCESS_MODE != READ_ONLY {
                return Answer::Error(Errno::ROFS);
            }
            Answer::Body(answers::open())
        }
        Body::GetAttributes | Body::Open { .. } => Answer::Error(Errno::STALE),
        Body::Access | Body::Destroy | Body::Flush | Body::Release => {
            Answer::Body(answers::Body::EMPTY)
        }
        Body::Unanswered => Answer::Nothing,
        Body::Malformed => Answer::Error(Errno::INVAL),
        // StatFs too: without an answer the loop device neither discards nor zeroes by range. A file system's
        // discard and its request for zeroes look the same from here: a hole in the image would not
        // read as zeroes, and zeroes for every discard would fill a sparse image. So the kernel
        // knows from the start that there are no discards, and writes zeroes as data.
        _ => Answer::Error(Errno::NOSYS),
    }
}
