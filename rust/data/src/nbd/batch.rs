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
use crate::volume::{Extent, Volume, Workspace};

/// Requests longer than this are worth a reply of their own.
pub(crate) const SMALL_BYTES: usize = 128 * 1024;

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
}

/// A request and where its bytes are: of a write in the inbound buffer, of a read in `data`.
struct Pending {
    request: Request,
    place: Range<usize>,
}

impl Batch {
    pub(crate) fn new() -> Self {
        Self {
            writes: Vec::new(),
            reads: Vec::new(),
            read_bytes: 0,
            data: Buffer::new(BATCH_BYTES),
        }
    }

    /// Whether another request of up to [`SMALL_BYTES`] fits.
    pub(crate) fn has_room(&self) -> bool {
        self.read_bytes + SMALL_BYTES <= BATCH_BYTES
            && self.reads.len() + self.writes.len() < MAX_REQUESTS
    }

    pub(crate) fn add_read(&mut self, request: Request) {
        let start = self.read_bytes;
        self.read_bytes += request.size();
        let place = start..self.read_bytes;
        self.reads.push(Pending { request, place });
    }

    pub(crate) fn add_write(&mut self, request: Request, place: Range<usize>) {
        self.writes.push(Pending { request, place });
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
        let (volume, negotiated) = (connection.volume, connection.negotiated);
        let writes = run_writes(volume, workspace, &self.writes, inbound.as_mut_slice());
        let reads = run_reads(volume, workspace, &self.reads, self.data.as_mut_slice());
        let mut headers = Vec::with_capacity(writes.len() + reads.len());
        for (pending, result) in self.writes.iter().zip(writes) {
            headers.push(ReplyHeader::simple(pending.request.cookie, wire(result)));
        }
        let first_read = headers.len();
        for (pending, result) in self.reads.iter().zip(&reads) {
            headers.push(read_header(&pending.request, *result, negotiated));
        }
        let data = self.data.as_slice();
        let mut parts = Vec::with_capacity(headers.len() * 2);
        let (write_headers, read_headers) = headers.split_at(first_read);
        parts.extend(
            write_headers
                .iter()
                .map(|head| IoSlice::new(head.as_slice())),
        );
        for ((head, pending), result) in read_headers.iter().zip(&self.reads).zip(&reads) {
            parts.push(IoSlice::new(head.as_slice()));
            if result.is_ok() {
                parts.push(IoSlice::new(&data[pending.place.clone()]));
            }
        }
        self.writes.clear();
        self.reads.clear();
        self.read_bytes = 0;
        connection.send(&mut parts)
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

fn run_reads(
    volume: &Volume,
    workspace: &mut Workspace,
    pending: &[Pending],
    data: &mut [u8],
) -> Vec<Result<()>> {
    let mut extents = extents(pending, data);
    volume.read_extents(workspace, &mut extents);
    for extent in &extents {
        let length = extent.data.len() as u64;
        volume
            .counters()
            .record(Operation::Read, length, extent.result);
    }
    extents.iter().map(|extent| extent.result).collect()
}

fn run_writes(
    volume: &Volume,
    workspace: &mut Workspace,
    pending: &[Pending],
    data: &mut [u8],
) -> Vec<Result<()>> {
    let mut extents = extents(pending, data);
    volume.write_extents(workspace, &mut extents);
    let durable = |pending: &Pending| pending.request.has(command_flag::FUA);
    let synced = if pending.iter().any(durable) {
        volume.sync()
    } else {
        Ok(())
    };
    let mut results = Vec::with_capacity(pending.len());
    for (pending, extent) in pending.iter().zip(&extents) {
        let result = if durable(pending) {
            extent.result.and(synced)
        } else {
            extent.result
        };
        let length = extent.data.len() as u64;
        volume.counters().record(Operation::Write, length, result);
        results.push(result);
    }
    results
}

/// Cuts the pending places, which ascend and do not overlap, out of one buffer.
fn extents<'a>(pending: &[Pending], mut data: &'a mut [u8]) -> Vec<Extent<'a>> {
    let mut position = 0;
    let mut extents = Vec::with_capacity(pending.len());
    for Pending { request, place } in pending {
        let (_, rest) = mem::take(&mut data).split_at_mut(place.start - position);
        let (own, rest) = rest.split_at_mut(place.len());
        extents.push(Extent::new(request.offset, own));
        data = rest;
        position = place.end;
    }
    extents
}
