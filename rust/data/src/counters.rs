// SPDX-License-Identifier: Apache-2.0
//! Running totals of a volume.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::Result;

/// What a request did, for the totals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    Flush,
    Other,
    Read,
    Trim,
    Write,
    Zero,
}

/// Totals since opening. Relaxed: a reader sees each number exactly, but not all at one instant.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    read_bytes: AtomicU64,
    written_bytes: AtomicU64,
    reads: AtomicU64,
    writes: AtomicU64,
    flushes: AtomicU64,
    trims: AtomicU64,
    zeroes: AtomicU64,
    errors: AtomicU64,
    connections: AtomicU64,
    refused_connections: AtomicU64,
    failed_flushes: AtomicU64,
    failed_writes: AtomicU64,
}

/// One reading of a volume's running totals.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Bytes of plaintext read.
    pub read_bytes: u64,
    /// Bytes of plaintext written, zeroes not included.
    pub written_bytes: u64,
    /// Read requests that succeeded.
    pub reads: u64,
    /// Write requests that succeeded.
    pub writes: u64,
    /// Flush requests that succeeded.
    pub flushes: u64,
    /// Trim requests that succeeded, ignored ones included.
    pub trims: u64,
    /// Write-zeroes requests that succeeded.
    pub zeroes: u64,
    /// Requests that were answered with an error.
    pub errors: u64,
    /// Connections that are open now.
    pub connections: u64,
    /// Connections that were closed because there were too many.
    pub refused_connections: u64,
    /// Flushes that failed. After the first one, what was written may be lost and all others fail.
    pub failed_flushes: u64,
    /// Writes and write-zeroes requests that failed though nothing was wrong with them: what they carried is
    /// lost, unless it was written again.
    pub failed_writes: u64,
}

impl Counters {
    /// Counts one request of `length` bytes.
    pub(crate) fn record(&self, operation: Operation, length: u64, result: Result<()>) {
        if let Err(error) = result {
            self.errors.fetch_add(1, Ordering::Relaxed);
            if matches!(operation, Operation::Write | Operation::Zero) && !error.is_the_clients() {
                self.failed_writes.fetch_add(1, Ordering::Relaxed);
            }
            return;
        }
        let (count, bytes) = match operation {
            Operation::Flush => (&self.flushes, None),
            Operation::Other => return,
            Operation::Read => (&self.reads, Some(&self.read_bytes)),
            Operation::Trim => (&self.trims, None),
            Operation::Write => (&self.writes, Some(&self.written_bytes)),
            Operation::Zero => (&self.zeroes, None),
        };
        count.fetch_add(1, Ordering::Relaxed);
        if let Some(bytes) = bytes {
            bytes.fetch_add(length, Ordering::Relaxed);
        }
    }

    /// Counts a connection for as long as the guard lives.
    pub(crate) fn connection(&self) -> ConnectionGuard<'_> {
        self.connections.fetch_add(1, Ordering::Relaxed);
        ConnectionGuard(self)
    }

    /// Counts a connection for which there was no room.
    pub(crate) fn refuse_connection(&self) {
        self.refused_connections.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a flush that failed, whichever request needed it.
    pub(crate) fn fail_flush(&self) {
        self.failed_flushes.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn totals(&self) -> Totals {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Totals {
            read_bytes: of(&self.read_bytes),
            written_bytes: of(&self.written_bytes),
            reads: of(&self.reads),
            writes: of(&self.writes),
            flushes: of(&self.flushes),
            trims: of(&self.trims),
            zeroes: of(&self.zeroes),
            errors: of(&self.errors),
            connections: of(&self.connections),
            refused_connections: of(&self.refused_connections),
            failed_flushes: of(&self.failed_flushes),
            failed_writes: of(&self.failed_writes),
        }
    }
}

/// Keeps a connection counted.
pub(crate) struct ConnectionGuard<'a>(&'a Counters);

impl Drop for ConnectionGuard<'_> {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::Relaxed);
    }
}
