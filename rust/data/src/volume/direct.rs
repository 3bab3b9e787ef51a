// SPDX-License-Identifier: Apache-2.0
//! Transfers past the page cache: memory that the disk can reach, and many of them under way.
//!
//! A disk wants aligned memory, and a client's bytes lie anywhere. So ciphertext passes through a
//! window of aligned memory, and the cipher, which has to touch every byte, moves them between there
//! and where they belong. Nobody reads ahead for a file without a page cache, or writes behind: the
//! transfers of a window are under way together, and of a large read a window is filled at once.

mod ahead;

use std::hint;
use std::mem;
use std::ops::Range;
use std::os::fd::BorrowedFd;

use strongroom_sys::aio::{Direction, Queue, Transfer};

use super::extents::{Extent, fail_all};
use super::{Result, Volume, Workspace};
use crate::backing::Backing;
use crate::buffer::Buffer;
use crate::error::IoError;
use crate::transform;

/// How much ciphertext is moved at once.
const WINDOW_BYTES: usize = 1024 * 1024;

/// An extent is cut into pieces of this size, a multiple of every sector's.
const PIECE_BYTES: usize = 128 * 1024;

/// What a thread needs for direct transfers.
pub(super) struct Window {
    memory: Buffer,
    aio: Aio,
    /// Of which range of the volume the memory has the ciphertext, for what is left of a request.
    ahead: Option<Range<u64>>,
}

enum Aio {
    Untried,
    Ready(Queue),
    /// This kernel has none, or no more: transfers block, one after the other.
    Missing,
}

impl Window {
    pub(super) fn new() -> Self {
        Self {
            memory: Buffer::new(WINDOW_BYTES),
            aio: Aio::Untried,
            ahead: None,
        }
    }
}

impl Workspace {
    /// Takes all the memory that transfers of this volume need besides, so that none is asked for
    /// while the machine waits for one of them to get some.
    pub(crate) fn prepare(&mut self, volume: &Volume) {
        let direct = volume.backing().is_ok_and(|it| it.direct().is_some());
        if direct {
            let window = self.window.get_or_insert_with(Window::new);
            // The kernel gives memory away when it is written to, not before.
            hint::black_box(window.memory.as_mut_slice()).fill(0);
        }
    }
}

impl Aio {
    fn run(&mut self, fd: BorrowedFd<'_>, direction: Direction, transfers: &mut [Transfer<'_>]) {
        if matches!(self, Self::Untried) {
            *self = Queue::new().map_or(Self::Missing, Self::Ready);
        }
        if let Self::Ready(queue) = self {
            queue.run(fd, direction, transfers);
        }
    }
}

/// A part of an extent that fits a window.
struct Piece<'a> {
    /// Which one it is a part of.
    extent: usize,
    offset: u64,
    data: &'a mut [u8],
    result: Result<()>,
}

impl Piece<'_> {
    fn end(&self) -> u64 {
        self.offset + self.data.len() as u64
    }

    fn joins(&self, next: &Self) -> bool {
        self.end() == next.offset
    }
}

/// Where whole sectors go past the page cache, and how.
#[derive(Clone, Copy)]
struct Route<'a> {
    backing: &'a dyn Backing,
    fd: BorrowedFd<'a>,
    direction: Direction,
}

impl Volume {
    /// Reads and decrypts all pending extents.
    pub(super) fn read_direct(
        &self,
        workspace: &mut Workspace,
        backing: &dyn Backing,
        fd: BorrowedFd<'_>,
        extents: &mut [Extent<'_>],
    ) {
        let direction = Direction::Read;
        let route = Route {
            backing,
            fd,
            direction,
        };
        self.through_windows(workspace, extents, |own, window, pieces| {
            self.transfer(route, window, pieces);
            self.between(own, window, pieces, direction)
        });
    }

    /// Encrypts and writes all pending extents; their bytes stay as they are.
    pub(super) fn write_direct(
        &self,
        workspace: &mut Workspace,
        backing: &dyn Backing,
        fd: BorrowedFd<'_>,
        extents: &mut [Extent<'_>],
    ) {
        let direction = Direction::Write;
        let route = Route {
            backing,
            fd,
            direction,
        };
        self.through_windows(workspace, extents, |own, window, pieces| {
            self.between(own, window, pieces, direction)?;
            self.transfer(route, window, pieces);
            Ok(())
        });
    }

    fn through_windows(
        &self,
        workspace: &mut Workspace,
        extents: &mut [Extent<'_>],
        mut work: impl FnMut(&mut Workspace, &mut Window, &mut [Piece<'_>]) -> Result<()>,
    ) {
        let mut window = workspace.window.take().unwrap_or_else(Window::new);
        window.ahead = None;
        let mut pieces = self.pieces(extents);
        let mut rest = pieces.as_mut_slice();
        while !rest.is_empty() {
            let count = fitting(rest);
            let (some, others) = mem::take(&mut rest).split_at_mut(count);
            rest = others;
            if let Err(error) = work(workspace, &mut window, some) {
                for piece in some {
                    piece.result = piece.result.and(Err(error));
                }
            }
        }
        let failed: Vec<_> = pieces
            .iter()
            .filter_map(|piece| Some((piece.extent, piece.result.err()?)))
            .collect();
        drop(pieces);
        for (extent, error) in failed {
            fail_all(&mut extents[extent..=extent], error);
        }
        workspace.window = Some(window);
    }

    fn pieces<'a>(&self, extents: &'a mut [Extent<'_>]) -> Vec<Piece<'a>> {
        let mut pieces = Vec::with_capacity(extents.len());
        for (number, extent) in extents.iter_mut().enumerate() {
            if !self.is_pending(extent) {
                continue;
            }
            let mut offset = extent.offset;
            for data in extent.data.chunks_mut(PIECE_BYTES) {
                let length = data.len() as u64;
                pieces.push(Piece {
                    extent: number,
                    offset,
                    data,
                    result: Ok(()),
                });
                offset += length;
            }
        }
        pieces
    }

    /// Moves ciphertext between the store and the window, and leaves each piece's outcome in it.
    fn transfer(&self, route: Route<'_>, window: &mut Window, pieces: &mut [Piece<'_>]) {
        let ranges = pieces.iter().map(|piece| (piece.offset, piece.data.len()));
        let _guards = self.locks.shared_all(ranges);
        let mut transfers = self.transfers(&mut window.memory, pieces);
        // A single one would not be faster, but two calls.
        if transfers.len() > 1 {
            window.aio.run(route.fd, route.direction, &mut transfers);
        }
        let groups = pieces.chunk_by_mut(Piece::joins);
        for (group, transfer) in groups.zip(&mut transfers) {
            if transfer.moved < transfer.data.len() {
                route.complete(group, transfer);
            }
        }
    }

    /// Lays the pieces into memory, one after the other; neighbours make one transfer.
    fn transfers<'a>(&self, memory: &'a mut Buffer, pieces: &[Piece<'_>]) -> Vec<Transfer<'a>> {
        let mut rest = memory.as_mut_slice();
        let mut transfers = Vec::with_capacity(pieces.len());
        for group in pieces.chunk_by(Piece::joins) {
            let length = group.iter().map(|piece| piece.data.len()).sum();
            let (own, others) = mem::take(&mut rest).split_at_mut(length);
            rest = others;
            transfers.push(Transfer::new(self.geometry.position(group[0].offset), own));
        }
        transfers
    }

    /// Encrypts the pieces into the window, or decrypts those that were read out of it.
    fn between(
        &self,
        workspace: &mut Workspace,
        window: &mut Window,
        pieces: &mut [Piece<'_>],
        direction: Direction,
    ) -> Result<()> {
        let mut rest = window.memory.as_mut_slice();
        let mut moves = Vec::with_capacity(pieces.len());
        for piece in pieces {
            let (own, others) = mem::take(&mut rest).split_at_mut(piece.data.len());
            rest = others;
            if piece.result.is_err() {
                continue;
            }
            let (source, target): (&[u8], _) = match direction {
                Direction::Read => (own, &mut *piece.data),
                Direction::Write => (piece.data, own),
            };
            moves.push(transform::Transfer {
                source,
                target,
                first_sector_512: self.geometry.iv_sector(piece.offset),
            });
        }
        let (scratch, size) = (&mut workspace.scratch, self.geometry.sector_size);
        self.with_transform(|transform| match direction {
            Direction::Read => transform.decrypt_to(scratch, &mut moves, size),
            Direction::Write => transform.encrypt_to(scratch, &mut moves, size),
        })
    }
}

impl Route<'_> {
    /// Does what is not done, or finds out which of the neighbours cannot be.
    fn complete(self, group: &mut [Piece<'_>], transfer: &mut Transfer<'_>) {
        if group.len() > 1 && self.call(transfer.data, transfer.offset).is_ok() {
            return;
        }
        let (mut data, mut offset) = (&mut *transfer.data, transfer.offset);
        for piece in group {
            let (own, rest) = mem::take(&mut data).split_at_mut(piece.data.len());
            data = rest;
            piece.result = self.call(own, offset);
            offset += own.len() as u64;
        }
    }

    fn call(self, data: &mut [u8], offset: u64) -> Result<()> {
        let done = match self.direction {
            Direction::Read => self.backing.read_at(data, offset),
            Direction::Write => self.backing.write_at(data, offset),
        };
        done.map_err(IoError::from)
    }
}

/// How many pieces fit a window; at least one.
fn fitting(pieces: &[Piece<'_>]) -> usize {
    let mut room = WINDOW_BYTES;
    let fits = |piece: &&Piece<'_>| {
        let left = room.checked_sub(piece.data.len());
        room = left.unwrap_or(0);
        left.is_some()
    };
    pieces.iter().take_while(fits).count()
}

#[cfg(test)]
mod tests;
