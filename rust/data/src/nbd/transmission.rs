// SPDX-License-Identifier: Apache-2.0
//! The loop that serves one connection after its handshake.
//!
//! Every complete request that has arrived is taken; small reads and writes are gathered into a
//! [`Batch`], anything else first executes the batch and then runs alone. A large write is
//! encrypted in the inbound buffer piece by piece as it arrives, a large read is sent piece by
//! piece, so that the data stay in the cache and no request needs memory of its own size.

use std::io::{self, IoSlice};
use std::sync::atomic::{AtomicBool, Ordering};

use super::batch::{BATCH_BYTES, Batch, SMALL_BYTES, read_header, wire};
use super::inbound::Inbound;
use super::protocol::{
    Command, Last, MAX_PAYLOAD_BYTES, Negotiated, ReplyHeader, Request, command_flag,
};
use super::socket::Socket;
use crate::buffer::Buffer;
use crate::counters::Operation;
use crate::error::{IoError, Result};
use crate::volume::{Volume, Workspace};

/// Large transfers are cut into pieces of this size: they fit the second-level cache.
const PIECE_BYTES: usize = 256 * 1024;

/// A read that may not be fragmented is held in memory up to this size, so that its error can be
/// told before its data. A longer one is read twice: once to find errors, once to send it.
const MAX_WHOLE_BYTES: usize = 4 * 1024 * 1024;

/// The payload of a write that is too long is skipped up to this length; beyond, the client is cut
/// off.
const MAX_SKIPPED_BYTES: u32 = 2 * MAX_PAYLOAD_BYTES;

/// Everything is reported as allocated data. A hole in the image does not read as zeroes but as
/// decrypted zeroes, and telling holes would show clients what the disk chose to claim.
const STATUS_DATA: u32 = 0;

/// Serves requests until the client leaves.
///
/// `abort` makes a long request break off; see [`crate::nbd::Server::stop`].
///
/// # Errors
/// The client broke the protocol, or the connection broke.
pub(crate) fn transmit(
    socket: Socket<'_>,
    volume: &Volume,
    negotiated: Negotiated,
    abort: &AtomicBool,
) -> io::Result<()> {
    let mut session = Session {
        socket,
        volume,
        negotiated,
        abort,
        workspace: Workspace::new().map_err(io::Error::other)?,
        inbound: Inbound::new(),
        batch: Batch::new(),
    };
    loop {
        if let Flow::Disconnect = session.take_requests()? {
            return Ok(());
        }
        session.execute_batch()?;
        if session.inbound.fill(socket)? == 0 {
            return Ok(());
        }
    }
}

struct Session<'a> {
    socket: Socket<'a>,
    volume: &'a Volume,
    negotiated: Negotiated,
    abort: &'a AtomicBool,
    workspace: Workspace,
    inbound: Inbound,
    batch: Batch,
}

enum Flow {
    /// All that is complete has been taken.
    NeedMore,
    Continue,
    Disconnect,
}

impl Session<'_> {
    fn take_requests(&mut self) -> io::Result<Flow> {
        while let Some(request) = self.inbound.peek()? {
            let flow = match request.command {
                Command::Read => self.take_read(request)?,
                Command::Write => self.take_write(request)?,
                Command::Disconnect => {
                    self.execute_batch()?;
                    Flow::Disconnect
                }
                _ => self.take_other(request)?,
            };
            match flow {
                Flow::Continue => {}
                stop => return Ok(stop),
            }
        }
        Ok(Flow::NeedMore)
    }

    fn execute_batch(&mut self) -> io::Result<()> {
        self.batch.execute(
            self.volume,
            &mut self.workspace,
            &mut self.inbound,
            self.socket,
            self.negotiated,
        )
    }

    /// Checks flags, length and range.
    fn check(&self, request: &Request) -> Result<()> {
        let Request {
            command, length, ..
        } = *request;
        let geometry = self.volume.geometry();
        if request.flags & !command.allowed_flags(self.negotiated) != 0 {
            return Err(IoError::Invalid);
        }
        if command.changes() && geometry.read_only {
            return Err(IoError::ReadOnly);
        }
        match command {
            Command::Unknown | Command::Disconnect => Err(IoError::Invalid),
            Command::Flush if request.offset != 0 || length != 0 => Err(IoError::Invalid),
            Command::Read | Command::Write if length > MAX_PAYLOAD_BYTES => Err(IoError::Invalid),
            // A reply must describe at least one byte.
            Command::BlockStatus if length == 0 || !self.negotiated.block_status => {
                Err(IoError::Invalid)
            }
            Command::WriteZeroes if request.has(command_flag::FAST_ZERO) => {
                Err(IoError::NotSupported)
            }
            _ => Ok(()),
        }?;
        let in_range = geometry.check_range(request.offset, u64::from(length));
        match command {
            Command::Write | Command::WriteZeroes => in_range.map_err(|_| IoError::BeyondEnd),
            _ => in_range,
        }
    }

    fn take_read(&mut self, request: Request) -> io::Result<Flow> {
        self.inbound.take(Request::BYTES);
        let checked = self.check(&request);
        if checked.is_ok() && (1..=SMALL_BYTES).contains(&request.size()) {
            if !self.batch.has_room() {
                self.execute_batch()?;
            }
            self.batch.add_read(request);
            return Ok(Flow::Continue);
        }
        self.execute_batch()?;
        if checked.is_err() || request.length == 0 {
            self.count(Operation::Read, &request, checked);
            self.answer(&request, checked)?;
        } else if self.negotiated.structured && !request.has(command_flag::DF) {
            self.read_in_chunks(&request)?;
        } else {
            self.read_unfragmented(&request)?;
        }
        Ok(Flow::Continue)
    }

    fn take_write(&mut self, request: Request) -> io::Result<Flow> {
        let checked = self.check(&request);
        if checked.is_ok() && request.size() <= SMALL_BYTES {
            if self.inbound.len() < Request::BYTES + request.size() {
                return Ok(Flow::NeedMore);
            }
            if !self.batch.has_room() {
                self.execute_batch()?;
            }
            self.inbound.take(Request::BYTES);
            let place = self.inbound.take(request.size());
            self.batch.add_write(request, place);
            return Ok(Flow::Continue);
        }
        if request.length > MAX_SKIPPED_BYTES {
            return Err(io::ErrorKind::InvalidData.into());
        }
        self.execute_batch()?;
        self.inbound.take(Request::BYTES);
        let result = self.write_in_pieces(&request, checked)?;
        let result = self.made_durable(&request, result);
        self.count(Operation::Write, &request, result);
        self.answer(&request, result)?;
        Ok(Flow::Continue)
    }

    fn take_other(&mut self, request: Request) -> io::Result<Flow> {
        // A flush covers the writes before it.
        self.execute_batch()?;
        self.inbound.take(Request::BYTES);
        let Request { offset, length, .. } = request;
        let length = u64::from(length);
        let result = match self.check(&request) {
            Ok(()) => match request.command {
                Command::Flush => self.volume.flush(),
                Command::Trim => self.volume.trim(offset, length),
                Command::Cache => self.volume.prefetch(offset, length),
                Command::WriteZeroes => {
                    let proceed = || !self.abort.load(Ordering::Relaxed);
                    self.volume
                        .zero(&mut self.workspace, offset, length, &proceed)
                }
                _ => Ok(()),
            },
            refused => {
                self.count(Operation::Other, &request, refused);
                refused
            }
        };
        let result = match request.command {
            Command::Trim | Command::WriteZeroes => self.made_durable(&request, result),
            _ => result,
        };
        self.answer(&request, result)?;
        Ok(Flow::Continue)
    }

    /// Receives a write's payload and writes it, or drops it if the request is refused already.
    ///
    /// After a failure the rest is dropped, so that the stream stays in step.
    fn write_in_pieces(
        &mut self,
        request: &Request,
        checked: Result<()>,
    ) -> io::Result<Result<()>> {
        let mut result = checked;
        let (mut offset, mut left) = (request.offset, request.size());
        while left > 0 {
            let wanted = left.min(PIECE_BYTES);
            while self.inbound.len() < wanted {
                if self.inbound.fill(self.socket)? == 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
            }
            let mut size = self.inbound.len().min(left);
            if size < left && result.is_ok() {
                // End on the sector grid; what is over waits for the next piece.
                size -= self.volume.geometry().within_sector(offset + size as u64);
            }
            let place = self.inbound.take(size);
            if result.is_ok() {
                let piece = &mut self.inbound.as_mut_slice()[place];
                result = self.volume.write_piece(&mut self.workspace, offset, piece);
            }
            offset = offset.wrapping_add(size as u64);
            left -= size;
        }
        Ok(result)
    }

    /// Sends a large read as it comes; an error is a chunk like any other.
    fn read_in_chunks(&mut self, request: &Request) -> io::Result<()> {
        let (mut offset, mut left) = (request.offset, request.size());
        while left > 0 {
            let size = piece_at(offset, left);
            let data = &mut self.batch.data.as_mut_slice()[..size];
            let result = self.volume.read_piece(&mut self.workspace, offset, data);
            if result.is_err() {
                self.count(Operation::Read, request, result);
                return self.answer(request, result);
            }
            left -= size;
            let last = if left == 0 { Last::Yes } else { Last::No };
            let length = u32::try_from(size).unwrap_or(u32::MAX);
            let head = ReplyHeader::data(request.cookie, offset, length, last);
            let mut parts = [IoSlice::new(head.as_slice()), IoSlice::new(data)];
            self.socket.send(&mut parts)?;
            offset += size as u64;
        }
        self.count(Operation::Read, request, Ok(()));
        Ok(())
    }

    /// Answers a large read in one piece, whose head says that there is no error.
    fn read_unfragmented(&mut self, request: &Request) -> io::Result<()> {
        if request.size() > MAX_WHOLE_BYTES {
            return self.read_twice(request);
        }
        let mut own = (request.size() > BATCH_BYTES).then(|| Buffer::new(request.size()));
        let buffer = own.as_mut().unwrap_or(&mut self.batch.data);
        let data = &mut buffer.as_mut_slice()[..request.size()];
        let (mut offset, mut rest) = (request.offset, &mut *data);
        let mut result = Ok(());
        while !rest.is_empty() && result.is_ok() {
            let (piece, others) = rest.split_at_mut(piece_at(offset, rest.len()));
            result = self.volume.read_piece(&mut self.workspace, offset, piece);
            offset += piece.len() as u64;
            rest = others;
        }
        self.volume
            .counters()
            .record(Operation::Read, u64::from(request.length), result);
        let head = read_header(request, result, self.negotiated);
        let payload = if result.is_ok() { &*data } else { &[] };
        let mut parts = [IoSlice::new(head.as_slice()), IoSlice::new(payload)];
        self.socket.send(&mut parts)
    }

    /// Reads everything to find errors, then again to send it.
    fn read_twice(&mut self, request: &Request) -> io::Result<()> {
        let result = self.each_piece(request, |_| Ok(()))?;
        self.count(Operation::Read, request, result);
        if result.is_err() {
            return self.answer(request, result);
        }
        // An error may still turn up, so this chunk may not be the last.
        let head = if self.negotiated.structured {
            ReplyHeader::data(request.cookie, request.offset, request.length, Last::No)
        } else {
            ReplyHeader::simple(request.cookie, 0)
        };
        let socket = self.socket;
        socket.send(&mut [IoSlice::new(head.as_slice())])?;
        let sent = self.each_piece(request, |piece| socket.send(&mut [IoSlice::new(piece)]))?;
        // Too late to say so: the specification asks for a disconnect.
        sent.map_err(io::Error::other)?;
        if self.negotiated.structured {
            socket.send(&mut [IoSlice::new(ReplyHeader::none(request.cookie).as_slice())])?;
        }
        Ok(())
    }

    fn each_piece(
        &mut self,
        request: &Request,
        mut work: impl FnMut(&[u8]) -> io::Result<()>,
    ) -> io::Result<Result<()>> {
        let (mut offset, mut left) = (request.offset, request.size());
        while left > 0 {
            let size = piece_at(offset, left);
            let data = &mut self.batch.data.as_mut_slice()[..size];
            let result = self.volume.read_piece(&mut self.workspace, offset, data);
            if result.is_err() {
                return Ok(result);
            }
            work(data)?;
            offset += size as u64;
            left -= size;
        }
        Ok(Ok(()))
    }

    /// A change with `FUA` is done when it is durable.
    fn made_durable(&self, request: &Request, result: Result<()>) -> Result<()> {
        if request.has(command_flag::FUA) {
            result.and_then(|()| self.volume.sync())
        } else {
            result
        }
    }

    fn count(&self, operation: Operation, request: &Request, result: Result<()>) {
        let length = u64::from(request.length);
        self.volume.counters().record(operation, length, result);
    }

    /// Answers anything but a read with data.
    fn answer(&self, request: &Request, result: Result<()>) -> io::Result<()> {
        let head = match (request.command, result) {
            (Command::BlockStatus, Ok(())) => {
                ReplyHeader::block_status(request.cookie, request.length, STATUS_DATA)
            }
            (Command::Read, Ok(())) if self.negotiated.structured => {
                ReplyHeader::none(request.cookie)
            }
            (Command::Read | Command::BlockStatus, Err(error)) if self.negotiated.structured => {
                ReplyHeader::error(request.cookie, error.nbd_errno())
            }
            _ => ReplyHeader::simple(request.cookie, wire(result)),
        };
        self.socket.send(&mut [IoSlice::new(head.as_slice())])
    }
}

/// How much of `left` bytes to read at `offset`: up to the next border of a piece.
fn piece_at(offset: u64, left: usize) -> usize {
    let into = usize::try_from(offset % PIECE_BYTES as u64).unwrap_or(0);
    left.min(PIECE_BYTES - into)
}
