// SPDX-License-Identifier: Apache-2.0
//! The bytes a client has sent and nobody has taken yet.

use std::io;
use std::mem;
use std::ops::Range;

use super::protocol::Request;
use super::socket::Socket;
use crate::buffer::Buffer;

/// Enough for many small requests, and for a piece of a large write beside what came before it.
pub(crate) const INBOUND_BYTES: usize = 512 * 1024;

/// Where the head of a request is put, so that the payload behind it starts on a cache line.
const HEAD_START: usize = 64 - Request::BYTES;

/// A buffer that is filled by the socket and emptied from the front.
pub(crate) struct Inbound {
    buffer: Buffer,
    start: usize,
    end: usize,
}

impl Inbound {
    pub(crate) fn new() -> Self {
        Self {
            buffer: Buffer::new(INBOUND_BYTES),
            start: HEAD_START,
            end: HEAD_START,
        }
    }

    /// How many bytes wait.
    pub(crate) fn len(&self) -> usize {
        self.end - self.start
    }

    /// The next request's head, if all of it is there.
    ///
    /// # Errors
    /// The magic number is wrong: the stream cannot be followed any more.
    pub(crate) fn peek(&self) -> io::Result<Option<Request>> {
        let waiting = &self.buffer.as_slice()[self.start..self.end];
        match waiting.first_chunk() {
            None => Ok(None),
            Some(bytes) => Request::parse(bytes)
                .map(Some)
                .ok_or_else(|| io::ErrorKind::InvalidData.into()),
        }
    }

    /// Takes bytes off the front and says where they are; they stay there until [`Inbound::fill`].
    pub(crate) fn take(&mut self, length: usize) -> Range<usize> {
        let end = (self.start + length).min(self.end);
        let taken = self.start..end;
        self.start = end;
        taken
    }

    /// The whole buffer, for ranges that were taken.
    pub(crate) fn as_mut_slice(&mut self) -> &mut [u8] {
        self.buffer.as_mut_slice()
    }

    /// Gives the buffer away, with what was taken from it, for another of the same size.
    pub(crate) fn exchange(&mut self, other: &mut Buffer) {
        let waiting = self.start..self.end;
        mem::swap(&mut self.buffer, other);
        (self.start, self.end) = (0, waiting.len());
        let target = &mut self.buffer.as_mut_slice()[..waiting.len()];
        target.copy_from_slice(&other.as_slice()[waiting]);
    }

    /// Receives more; zero means that the client is gone. What was taken is gone too.
    pub(crate) fn fill(&mut self, socket: Socket<'_>) -> io::Result<usize> {
        self.make_room(HEAD_START);
        self.receive(socket, INBOUND_BYTES)
    }

    /// Receives more of a payload, until there are `limit` bytes: the head behind it stays outside,
    /// so that nothing has to be moved for it.
    pub(crate) fn fill_up_to(&mut self, socket: Socket<'_>, limit: usize) -> io::Result<usize> {
        self.make_room(0);
        self.receive(socket, limit)
    }

    fn make_room(&mut self, empty_start: usize) {
        if self.start == self.end {
            (self.start, self.end) = (empty_start, empty_start);
        } else if self.start > 0 {
            // What remains is the cut end of a message: little, except after a lull.
            let waiting = self.start..self.end;
            (self.start, self.end) = (0, waiting.len());
            self.buffer.as_mut_slice().copy_within(waiting, 0);
        }
    }

    fn receive(&mut self, socket: Socket<'_>, limit: usize) -> io::Result<usize> {
        let most = INBOUND_BYTES.min(self.start.saturating_add(limit));
        let count = socket.receive(&mut self.buffer.as_mut_slice()[self.end..most])?;
        self.end += count;
        Ok(count)
    }
}
