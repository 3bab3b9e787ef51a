// SPDX-License-Identifier: Apache-2.0
//! Small requests that have arrived together: one cipher call, one reply message.

use std::io::{self, IoSlice};
use std::mem;
use std::ops::Range;

use super::inbound::Inbound;
use super::protocol::{Last, Negotiated, ReplyHeader, Request, command_flag};
use super::transmission::{Connection, wire};
use crate::buffer::Buffer;
use crate::counters::Operation;
use crate::error::Result;
use crate::recycle::emptied;
use crate::volume::{Extent, Volume, Workspace};

/// Reads longer than this are worth both hands and a reply of their own.
pub(crate) const SMALL_READ_BYTES: usize = 32 * 1024;

/// Writes longer than this are: with shorter ones, the hands wait for each other at the file.
pub(crate) const SMALL_WRITE_BYTES: usize = 128 * 1024;

/// All reads of a batch together.
const BATCH_BYTES: usize = 512 * 1024;

/// Reads and writes of a batch together: two parts of a message each, of which 1024 may be sent.
const MAX_REQUESTS: usize = 512;

/// Requests that have been checked and wait for execution.
///
/// Nothing orders requests that are in flight together, so writes go first, then reads.
pub(crate) struct Batch {
    writes: Vec<Pending>,
    reads: Vec<Pending>,
    read_bytes: usize,
    /// Where reads are read to.
    data: Buffer,
    memory: Memory,
}

/// A request and where its bytes are: of a write in the inbound buffer, of a read in `data`.
struct Pending {
    request: Request,
    place: Range<usize>,
    result: Result<()>,
}

/// Memory that batches pass on to each other, so that none allocates.
#[derive(Default)]
struct Memory {
    extents: Vec<Extent<'static>>,
    headers: Vec<ReplyHeader>,
    parts: Vec<IoSlice<'static>>,
}

impl Batch {
    pub(crate) fn new() -> Self {
        Self {
            writes: Vec::new(),
            reads: Vec::new(),
            read_bytes: 0,
            data: Buffer::new(BATCH_BYTES),
            memory: Memory::default(),
        }
    }

    /// Whether another small request fits.
    pub(crate) fn has_room(&self) -> bool {
        self.read_bytes + SMALL_READ_BYTES <= BATCH_BYTES
            && self.reads.len() + self.writes.len() < MAX_REQUESTS
    }

    pub(crate) fn add_read(&mut self, request: Request) {
        let start = self.read_bytes;
        self.read_bytes += request.size();
        let place = start..self.read_bytes;
        self.reads.push(Pending::new(request, place));
    }

    pub(crate) fn add_write(&mut self, request: Request, place: Range<usize>) {
        self.writes.push(Pending::new(request, place));
    }

    /// Executes and answers what is pending.
    pub(crate) fn execute(
        &mut self,
        connection: &Connection<'_>,
        workspace: &mut Workspace,
        inbound: &mut Inbound,
    ) -> io::Result<()> {
        if self.reads.is_empty() && self.writes.is_empty() {
            return Ok(());
        }
        if !self.writes.is_empty() {
            self.run_writes(connection.volume, workspace, inbound.as_mut_slice());
        }
        if !self.reads.is_empty() {
            self.run_reads(connection.volume, workspace);
        }
        let sent = self.answer(connection);
        self.writes.clear();
        self.reads.clear();
        self.read_bytes = 0;
        sent
    }

    fn run_reads(&mut self, volume: &Volume, workspace: &mut Workspace) {
        let memory = mem::take(&mut self.memory.extents);
        let mut extents = extents(memory, &self.reads, self.data.as_mut_slice());
        volume.read_extents(workspace, &mut extents);
        for (pending, extent) in self.reads.iter_mut().zip(&extents) {
            pending.result = extent.result;
            pending.count(volume, Operation::Read);
        }
        self.memory.extents = emptied(extents);
    }

    fn run_writes(&mut self, volume: &Volume, workspace: &mut Workspace, received: &mut [u8]) {
        let memory = mem::take(&mut self.memory.extents);
        let mut extents = extents(memory, &self.writes, received);
        volume.write_extents(workspace, &mut extents);
        let synced = if self.writes.iter().any(Pending::must_last) {
            volume.sync()
        } else {
            Ok(())
        };
        for (pending, extent) in self.writes.iter_mut().zip(&extents) {
            pending.result = extent.result;
            if pending.must_last() {
                pending.result = pending.result.and(synced);
            }
            pending.count(volume, Operation::Write);
        }
        self.memory.extents = emptied(extents);
    }

    /// Sends all replies in one message.
    fn answer(&mut self, connection: &Connection<'_>) -> io::Result<()> {
        let data = self.data.as_slice();
        let headers = &mut self.memory.headers;
        headers.clear();
        headers.extend(self.writes.iter().map(Pending::write_header));
        let read_header = |pending: &Pending| {
            read_header(&pending.request, pending.result, connection.negotiated)
        };
        headers.extend(self.reads.iter().map(read_header));
        let (of_writes, of_reads) = headers.split_at(self.writes.len());
        let mut parts = emptied(mem::take(&mut self.memory.parts));
        parts.extend(of_writes.iter().map(|head| IoSlice::new(head.as_slice())));
        for (head, pending) in of_reads.iter().zip(&self.reads) {
            parts.push(IoSlice::new(head.as_slice()));
            if pending.result.is_ok() {
                parts.push(IoSlice::new(&data[pending.place.clone()]));
            }
        }
        let sent = connection.send(&mut parts);
        self.memory.parts = emptied(parts);
        sent
    }
}

impl Pending {
    fn new(request: Request, place: Range<usize>) -> Self {
        Self {
            request,
            place,
            result: Ok(()),
        }
    }

    /// Whether it is done only when it is durable.
    fn must_last(&self) -> bool {
        self.request.has(command_flag::FUA)
    }

    fn count(&self, volume: &Volume, operation: Operation) {
        let length = self.place.len() as u64;
        volume.counters().record(operation, length, self.result);
    }

    fn write_header(&self) -> ReplyHeader {
        ReplyHeader::simple(self.request.cookie, wire(self.result))
    }
}

/// The head of the reply to a read of at least one byte.
pub(crate) fn read_header(
    request: &Request,
    result: Result<()>,
    negotiated: Negotiated,
) -> ReplyHeader {
    match result {
        Ok(()) if negotiated.structured => {
            ReplyHeader::data(request.cookie, request.offset, request.length, Last::Yes)
        }
        Err(error) if negotiated.structured => {
            ReplyHeader::error(request.cookie, error.nbd_errno())
        }
        result => ReplyHeader::simple(request.cookie, wire(result)),
    }
}

/// Cuts the pending places, which ascend and do not overlap, out of one buffer.
fn extents<'a>(
    memory: Vec<Extent<'_>>,
    pending: &[Pending],
    mut data: &'a mut [u8],
) -> Vec<Extent<'a>> {
    let mut position = 0;
    let mut extents = emptied(memory);
    for Pending { request, place, .. } in pending {
        let (_, rest) = mem::take(&mut data).split_at_mut(place.start - position);
        let (own, rest) = rest.split_at_mut(place.len());
        extents.push(Extent::new(request.offset, own));
        data = rest;
        position = place.end;
    }
    extents
}
