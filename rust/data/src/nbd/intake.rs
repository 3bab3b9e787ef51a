// SPDX-License-Identifier: Apache-2.0
//! What is done in turn: taking requests off the socket, and executing those that are small.
//!
//! Every complete request that has arrived is taken. Small reads and writes are gathered into a
//! [`Batch`]; anything else first executes the batch, and then runs alone.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::batch::{Batch, SMALL_READ_BYTES, SMALL_WRITE_BYTES};
use super::inbound::Inbound;
use super::job::{Job, Piece, Write};
use super::protocol::{Command, MAX_PAYLOAD_BYTES, Request, command_flag};
use super::transmission::{Connection, Hand};
use crate::counters::Operation;
use crate::error::{IoError, Result};
use crate::volume::PIECE_BYTES;

/// The payload of a write that is too long is skipped up to this length; beyond, the client is cut
/// off.
const MAX_SKIPPED_BYTES: u32 = 2 * MAX_PAYLOAD_BYTES;

/// The receiving side of a connection.
pub(crate) struct Intake {
    inbound: Inbound,
    batch: Batch,
    /// A large write of which more is to come.
    arriving: Option<Arriving>,
    /// How the connection ended.
    ended: Option<io::Result<()>>,
}

struct Arriving {
    write: Arc<Write>,
    offset: u64,
    left: usize,
}

enum Flow {
    /// All that is complete has been taken.
    NeedMore,
    Continue,
    Job(Job),
    Disconnect,
}

impl Intake {
    pub(crate) fn new() -> Self {
        Self {
            inbound: Inbound::new(),
            batch: Batch::new(),
            arriving: None,
            ended: None,
        }
    }

    /// Ends the connection: nothing more is taken. The first reason counts.
    pub(crate) fn end(&mut self, error: io::Error) {
        if !matches!(self.ended, Some(Err(_))) {
            self.ended = Some(Err(error));
        }
    }

    /// How the connection has ended; tells an error once.
    pub(crate) fn outcome(&mut self) -> io::Result<()> {
        self.ended.replace(Ok(())).unwrap_or(Ok(()))
    }

    /// Serves what is small until something large turns up; nothing once the client has left.
    ///
    /// # Errors
    /// The client broke the protocol, or the connection broke.
    pub(crate) fn next_job(
        &mut self,
        connection: &Connection<'_>,
        hand: &mut Hand,
    ) -> io::Result<Option<Job>> {
        while self.ended.is_none() {
            if let Some(arriving) = self.arriving.take() {
                return self.next_piece(connection, hand, arriving).map(Some);
            }
            match self.take_requests(connection, hand)? {
                Flow::Job(job) => return Ok(Some(job)),
                Flow::Disconnect => self.ended = Some(Ok(())),
                Flow::NeedMore | Flow::Continue => {
                    self.execute_batch(connection, hand)?;
                    if self.arriving.is_none() && self.inbound.fill(connection.socket)? == 0 {
                        self.ended = Some(Ok(()));
                    }
                }
            }
        }
        Ok(None)
    }

    /// Receives a piece of a large write, or as much of it as there is, into the hand's own buffer.
    fn next_piece(
        &mut self,
        connection: &Connection<'_>,
        hand: &mut Hand,
        mut arriving: Arriving,
    ) -> io::Result<Job> {
        let Arriving { offset, left, .. } = arriving;
        let wanted = left.min(PIECE_BYTES);
        while self.inbound.len() < wanted {
            if self.inbound.fill_up_to(connection.socket, left)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        let mut size = self.inbound.len().min(left);
        if size < left && arriving.write.result().is_ok() {
            // End on the sector grid; what is over waits for the next piece.
            let geometry = connection.volume.geometry();
            size -= geometry.within_sector(offset + size as u64);
        }
        let place = self.inbound.take(size);
        self.inbound.exchange(&mut hand.received);
        let write = Arc::clone(&arriving.write);
        arriving.offset = offset.wrapping_add(size as u64);
        arriving.left = left - size;
        if arriving.left > 0 {
            self.arriving = Some(arriving);
        }
        Ok(Job::WritePiece(Piece {
            write,
            offset,
            place,
        }))
    }

    fn take_requests(&mut self, connection: &Connection<'_>, hand: &mut Hand) -> io::Result<Flow> {
        while let Some(request) = self.inbound.peek()? {
            let flow = match request.command {
                Command::Read => self.take_read(connection, hand, request)?,
                Command::Write => self.take_write(connection, hand, request)?,
                Command::Disconnect => {
                    self.execute_batch(connection, hand)?;
                    Flow::Disconnect
                }
                _ => self.take_other(connection, hand, request)?,
            };
            if !matches!(flow, Flow::Continue) || self.arriving.is_some() {
                return Ok(flow);
            }
        }
        Ok(Flow::NeedMore)
    }

    fn execute_batch(&mut self, connection: &Connection<'_>, hand: &mut Hand) -> io::Result<()> {
        let Self { batch, inbound, .. } = self;
        batch.execute(connection, &mut hand.workspace, inbound)
    }

    fn take_read(
        &mut self,
        connection: &Connection<'_>,
        hand: &mut Hand,
        request: Request,
    ) -> io::Result<Flow> {
        self.inbound.take(Request::BYTES);
        let checked = check(connection, &request);
        if checked.is_ok() && (1..=SMALL_READ_BYTES).contains(&request.size()) {
            if !self.batch.has_room() {
                self.execute_batch(connection, hand)?;
            }
            self.batch.add_read(request);
            return Ok(Flow::Continue);
        }
        self.execute_batch(connection, hand)?;
        if checked.is_err() || request.length == 0 {
            connection.count(Operation::Read, &request, checked);
            connection.answer(&request, checked)?;
            return Ok(Flow::Continue);
        }
        Ok(Flow::Job(Job::Read(request)))
    }

    fn take_write(
        &mut self,
        connection: &Connection<'_>,
        hand: &mut Hand,
        request: Request,
    ) -> io::Result<Flow> {
        let checked = check(connection, &request);
        if checked.is_ok() && request.size() <= SMALL_WRITE_BYTES {
            if self.inbound.len() < Request::BYTES + request.size() {
                return Ok(Flow::NeedMore);
            }
            if !self.batch.has_room() {
                self.execute_batch(connection, hand)?;
            }
            self.inbound.take(Request::BYTES);
            let place = self.inbound.take(request.size());
            self.batch.add_write(request, place);
            return Ok(Flow::Continue);
        }
        if request.length > MAX_SKIPPED_BYTES {
            return Err(io::ErrorKind::InvalidData.into());
        }
        self.execute_batch(connection, hand)?;
        self.inbound.take(Request::BYTES);
        self.arriving = Some(Arriving {
            write: Arc::new(Write::new(request, checked)),
            offset: request.offset,
            left: request.size(),
        });
        Ok(Flow::Continue)
    }

    fn take_other(
        &mut self,
        connection: &Connection<'_>,
        hand: &mut Hand,
        request: Request,
    ) -> io::Result<Flow> {
        // A flush covers the writes before it that have been answered.
        self.execute_batch(connection, hand)?;
        self.inbound.take(Request::BYTES);
        let result = match check(connection, &request) {
            Ok(()) => execute(connection, hand, &request),
            refused => {
                connection.count(Operation::Other, &request, refused);
                refused
            }
        };
        let result = match request.command {
            Command::Trim | Command::WriteZeroes => connection.made_durable(&request, result),
            _ => result,
        };
        connection.answer(&request, result)?;
        Ok(Flow::Continue)
    }
}

/// Executes what is neither a read nor a write.
fn execute(connection: &Connection<'_>, hand: &mut Hand, request: &Request) -> Result<()> {
    let volume = connection.volume;
    let (offset, length) = (request.offset, u64::from(request.length));
    match request.command {
        Command::Flush => volume.flush(),
        Command::Trim => volume.trim(offset, length),
        Command::Cache => volume.prefetch(offset, length),
        Command::WriteZeroes => {
            let proceed = || !connection.abort.load(Ordering::Relaxed);
            volume.zero(&mut hand.workspace, offset, length, &proceed)
        }
        _ => Ok(()),
    }
}

/// Checks flags, length and range.
fn check(connection: &Connection<'_>, request: &Request) -> Result<()> {
    let Request {
        command, length, ..
    } = *request;
    let negotiated = connection.negotiated;
    let geometry = connection.volume.geometry();
    if request.flags & !command.allowed_flags(negotiated) != 0 {
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
        Command::BlockStatus if length == 0 || !negotiated.block_status => Err(IoError::Invalid),
        Command::WriteZeroes if request.has(command_flag::FAST_ZERO) => Err(IoError::NotSupported),
        _ => Ok(()),
    }?;
    let in_range = geometry.check_range(request.offset, u64::from(length));
    match command {
        Command::Write | Command::WriteZeroes => in_range.map_err(|_| IoError::BeyondEnd),
        _ => in_range,
    }
}
