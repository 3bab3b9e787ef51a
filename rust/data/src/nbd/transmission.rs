// SPDX-License-Identifier: Apache-2.0
//! The loop that serves one connection after its handshake, with one hand or two.
//!
//! ```text
//!   hand 1   | receive A | encrypt, write A, answer | receive C | ...
//!   hand 2               | receive B | encrypt, write B, answer | ...
//! ```
//!
//! Only one hand has its turn at the socket: it takes what has arrived ([`Intake`]), executes all
//! that is small, and keeps its turn. When it meets something large ([`Job`]), it passes its turn
//! on before it does that. So one connection can use two processors, what a hand has received
//! stays in the cache of its own, and nothing is handed over but the turn. The second hand is
//! a thread that is started when the first job is met; most connections never have one.
//!
//! Replies of both hands share the socket: each goes out whole.

use std::io::{self, IoSlice};
use std::sync::atomic::AtomicBool;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::{self, Scope};

use super::intake::Intake;
use super::protocol::{Command, Negotiated, ReplyHeader, Request};
use super::socket::Socket;
use crate::buffer::Buffer;
use crate::counters::Operation;
use crate::error::{IoError, Result};
use crate::volume::{PIECE_BYTES, Volume, Workspace};

/// Everything is reported as allocated data. A hole in the image does not read as zeroes but as
/// decrypted zeroes, and telling holes would show clients what the disk chose to claim.
const STATUS_DATA: u32 = 0;

/// The second hand keeps its data on the heap, as the first does.
const STACK_BYTES: usize = 256 * 1024;

/// Serves requests until the client leaves.
///
/// `abort` makes a long request break off; see [`crate::nbd::Server::stop`]. The second hand, if
/// there is one, has ended when this returns.
///
/// # Errors
/// The client broke the protocol, or the connection broke.
pub(crate) fn transmit(
    socket: Socket<'_>,
    volume: &Volume,
    negotiated: Negotiated,
    abort: &AtomicBool,
) -> io::Result<()> {
    let connection = Connection {
        volume,
        negotiated,
        abort,
        socket,
        sending: Mutex::new(()),
        intake: Mutex::new(Intake::new()),
    };
    let mut hand = Hand::new()?;
    thread::scope(|scope| connection.work(&mut hand, Some(scope)))?;
    // The second hand may have met what the first did not see.
    connection.intake().outcome()
}

/// What both hands of a connection share.
pub(crate) struct Connection<'a> {
    pub(crate) volume: &'a Volume,
    pub(crate) negotiated: Negotiated,
    pub(crate) abort: &'a AtomicBool,
    pub(crate) socket: Socket<'a>,
    /// Held while a reply goes out.
    sending: Mutex<()>,
    /// Held by the hand whose turn it is.
    intake: Mutex<Intake>,
}

/// What each hand has for itself.
pub(crate) struct Hand {
    pub(crate) workspace: Workspace,
    /// Where large reads are read to.
    pub(crate) data: Buffer,
    /// What it received last, or room for what it receives next.
    pub(crate) received: Buffer,
}

impl Hand {
    fn new() -> io::Result<Self> {
        Ok(Self {
            workspace: Workspace::new().map_err(io::Error::other)?,
            data: Buffer::new(PIECE_BYTES),
            received: Buffer::new(super::inbound::INBOUND_BYTES),
        })
    }
}

impl Connection<'_> {
    /// What one hand does until the connection ends; with a scope, it may have a second one.
    fn work<'scope>(
        &'scope self,
        hand: &mut Hand,
        mut scope: Option<&'scope Scope<'scope, '_>>,
    ) -> io::Result<()> {
        loop {
            let taken = self.intake().next_job(self, hand);
            let done = match taken {
                Ok(None) => return Ok(()),
                Ok(Some(job)) => {
                    if let Some(scope) = scope.take() {
                        self.call_second_hand(scope);
                    }
                    job.run(self, hand)
                }
                Err(error) => Err(error),
            };
            if let Err(error) = done {
                // The other hand may be waiting for the client.
                self.socket.shut_down();
                self.intake().end(error);
                return Ok(());
            }
        }
    }

    /// Without a thread, the first hand does everything.
    fn call_second_hand<'scope>(&'scope self, scope: &'scope Scope<'scope, '_>) {
        let _ = thread::Builder::new()
            .name("nbd-second".to_owned())
            .stack_size(STACK_BYTES)
            .spawn_scoped(scope, || {
                // Without memory for a hand of its own, it leaves the work to the first.
                if let Ok(mut hand) = Hand::new() {
                    let _ = self.work(&mut hand, None);
                }
            });
    }

    fn intake(&self) -> MutexGuard<'_, Intake> {
        self.intake.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends one reply, or several, without another between their parts.
    pub(crate) fn send(&self, parts: &mut [IoSlice<'_>]) -> io::Result<()> {
        let _whole = self.sending.lock().unwrap_or_else(PoisonError::into_inner);
        self.socket.send(parts)
    }

    /// Keeps the replies of the other hand back, for a reply of many parts.
    pub(crate) fn sending(&self) -> MutexGuard<'_, ()> {
        self.sending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A change with `FUA` is done when it is durable.
    pub(crate) fn made_durable(&self, request: &Request, result: Result<()>) -> Result<()> {
        if request.has(super::protocol::command_flag::FUA) {
            result.and_then(|()| self.volume.sync())
        } else {
            result
        }
    }

    pub(crate) fn count(&self, operation: Operation, request: &Request, result: Result<()>) {
        let length = u64::from(request.length);
        self.volume.counters().record(operation, length, result);
    }

    /// Answers anything but a read with data.
    pub(crate) fn answer(&self, request: &Request, result: Result<()>) -> io::Result<()> {
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
        self.send(&mut [IoSlice::new(head.as_slice())])
    }
}

/// The error number of a result; zero for success.
pub(crate) fn wire(result: Result<()>) -> u32 {
    result.err().map_or(0, IoError::nbd_errno)
}
