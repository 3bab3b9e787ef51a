// SPDX-License-Identifier: Apache-2.0
//! Large requests, which a hand does after it has passed its turn on.
//!
//! A large write is encrypted piece by piece where it was received, as it arrives; a large read is
//! sent piece by piece. So the data stay in the cache, and no request needs memory of its own size.

use std::io::{self, IoSlice};
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::batch::read_header;
use super::protocol::{Last, ReplyHeader, Request, command_flag};
use super::transmission::{Connection, Hand};
use crate::buffer::Buffer;
use crate::counters::Operation;
use crate::error::Result;
use crate::volume::piece_at;

/// A read that may not be fragmented is held in memory up to this size, so that its error can be
/// told before its data. A longer one is read twice: once to find errors, once to send it.
const MAX_WHOLE_BYTES: usize = 4 * 1024 * 1024;

/// Up to this size, a hand keeps the memory for the next read.
const KEPT_BYTES: usize = 1024 * 1024;

/// What is done out of turn.
pub(crate) enum Job {
    /// A read that has been checked.
    Read(Request),
    /// A piece of a write: the next one may be in the other hand already.
    WritePiece(Piece),
}

/// Bytes of a write in a hand's own buffer.
pub(crate) struct Piece {
    pub(crate) write: Arc<Write>,
    pub(crate) offset: u64,
    pub(crate) place: Range<usize>,
}

/// A write whose pieces arrive one after the other, and are written in any order.
pub(crate) struct Write {
    request: Request,
    /// The first error. After it nothing more is written, but everything is received, so that
    /// the stream stays in step.
    result: Mutex<Result<()>>,
    unfinished_bytes: AtomicUsize,
}

impl Write {
    /// `checked` says whether the request may be executed at all.
    pub(crate) fn new(request: Request, checked: Result<()>) -> Self {
        Self {
            request,
            result: Mutex::new(checked),
            unfinished_bytes: AtomicUsize::new(request.size()),
        }
    }

    pub(crate) fn result(&self) -> Result<()> {
        *self.result.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fail(&self, result: Result<()>) {
        let mut first = self.result.lock().unwrap_or_else(PoisonError::into_inner);
        *first = first.and(result);
    }

    /// Tells whether these were the last bytes; who hears that answers.
    fn finish(&self, bytes: usize) -> bool {
        self.unfinished_bytes.fetch_sub(bytes, Ordering::AcqRel) == bytes
    }
}

impl Job {
    /// Does it and answers.
    ///
    /// # Errors
    /// The connection broke.
    pub(crate) fn run(self, connection: &Connection<'_>, hand: &mut Hand) -> io::Result<()> {
        match self {
            Self::WritePiece(piece) => write_piece(connection, hand, piece),
            Self::Read(request) => {
                if connection.negotiated.structured && !request.has(command_flag::DF) {
                    read_in_chunks(connection, hand, &request)
                } else if request.size() > MAX_WHOLE_BYTES {
                    read_twice(connection, hand, &request)
                } else {
                    read_whole(connection, hand, &request)
                }
            }
        }
    }
}

fn write_piece(connection: &Connection<'_>, hand: &mut Hand, piece: Piece) -> io::Result<()> {
    let Piece {
        write,
        offset,
        place,
    } = piece;
    let size = place.len();
    if write.result().is_ok() {
        let data = &mut hand.received.as_mut_slice()[place];
        let volume = connection.volume;
        write.fail(volume.write_piece(&mut hand.workspace, offset, data));
    }
    if !write.finish(size) {
        return Ok(());
    }
    let request = &write.request;
    let result = connection.made_durable(request, write.result());
    connection.count(Operation::Write, request, result);
    connection.answer(request, result)
}

/// Sends a read as it comes; an error is a chunk like any other.
fn read_in_chunks(
    connection: &Connection<'_>,
    hand: &mut Hand,
    request: &Request,
) -> io::Result<()> {
    let mut left = request.size();
    let result = each_piece(connection, hand, request, |offset, data| {
        left -= data.len();
        let last = if left == 0 { Last::Yes } else { Last::No };
        let length = u32::try_from(data.len()).unwrap_or(u32::MAX);
        let head = ReplyHeader::data(request.cookie, offset, length, last);
        connection.send(&mut [IoSlice::new(head.as_slice()), IoSlice::new(data)])
    })?;
    connection.count(Operation::Read, request, result);
    match result {
        Ok(()) => Ok(()),
        failed => connection.answer(request, failed),
    }
}

/// Answers in one piece, whose head says that there is no error.
fn read_whole(connection: &Connection<'_>, hand: &mut Hand, request: &Request) -> io::Result<()> {
    let Hand {
        workspace, data, ..
    } = hand;
    let mut own = (request.size() > KEPT_BYTES).then(|| Buffer::new(request.size()));
    let buffer = own.as_mut().unwrap_or(data);
    buffer.grow(request.size());
    let data = &mut buffer.as_mut_slice()[..request.size()];
    let volume = connection.volume;
    let result = volume.read_in_pieces(workspace, request.offset, data);
    connection.count(Operation::Read, request, result);
    let head = read_header(request, result, connection.negotiated);
    let payload = if result.is_ok() { &*data } else { &[] };
    connection.send(&mut [IoSlice::new(head.as_slice()), IoSlice::new(payload)])
}

/// Reads everything to find errors, then again to send it.
fn read_twice(connection: &Connection<'_>, hand: &mut Hand, request: &Request) -> io::Result<()> {
    let result = each_piece(connection, hand, request, |_, _| Ok(()))?;
    connection.count(Operation::Read, request, result);
    if result.is_err() {
        return connection.answer(request, result);
    }
    // An error may still turn up, so this chunk may not be the last.
    let head = if connection.negotiated.structured {
        ReplyHeader::data(request.cookie, request.offset, request.length, Last::No)
    } else {
        ReplyHeader::simple(request.cookie, 0)
    };
    let _whole = connection.sending();
    let socket = connection.socket;
    socket.send(&mut [IoSlice::new(head.as_slice())])?;
    let sent = each_piece(connection, hand, request, |_, data| {
        socket.send(&mut [IoSlice::new(data)])
    })?;
    // Too late to say so: the specification asks for a disconnect.
    sent.map_err(io::Error::other)?;
    if connection.negotiated.structured {
        socket.send(&mut [IoSlice::new(ReplyHeader::none(request.cookie).as_slice())])?;
    }
    Ok(())
}

/// Reads piece by piece and has something done with each, up to the first that cannot be read.
fn each_piece(
    connection: &Connection<'_>,
    hand: &mut Hand,
    request: &Request,
    mut work: impl FnMut(u64, &[u8]) -> io::Result<()>,
) -> io::Result<Result<()>> {
    let (mut offset, mut left) = (request.offset, request.size());
    while left > 0 {
        let size = piece_at(offset, left);
        let data = &mut hand.data.as_mut_slice()[..size];
        let volume = connection.volume;
        let result = volume.read_next_piece(&mut hand.workspace, offset, data, left);
        if result.is_err() {
            return Ok(result);
        }
        work(offset, data)?;
        offset += size as u64;
        left -= size;
    }
    Ok(Ok(()))
}
