// SPDX-License-Identifier: Apache-2.0
//! Whole sends and bounded receives on a stream socket that belongs to the client.

use std::io::{self, IoSlice};
use std::os::fd::BorrowedFd;
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{
    RecvFlags, SendAncillaryBuffer, SendFlags, Shutdown, recv, sendmsg, shutdown, sockopt,
};

/// What the kernel is asked to buffer in each direction; it may grant less.
const SOCKET_BUFFER_BYTES: usize = 4 * 1024 * 1024;

/// A connected stream socket, blocking or not.
#[derive(Clone, Copy)]
pub(crate) struct Socket<'a> {
    fd: BorrowedFd<'a>,
    /// After this instant every call that would wait fails instead.
    deadline: Option<Instant>,
}

impl<'a> Socket<'a> {
    pub(crate) fn new(fd: BorrowedFd<'a>) -> Self {
        Self { fd, deadline: None }
    }

    pub(crate) fn with_deadline(self, deadline: Instant) -> Self {
        Self {
            deadline: Some(deadline),
            ..self
        }
    }

    /// Asks for large buffers and no delay; what is refused only costs speed.
    pub(crate) fn tune(self) {
        let _ = sockopt::set_socket_send_buffer_size(self.fd, SOCKET_BUFFER_BYTES);
        let _ = sockopt::set_socket_recv_buffer_size(self.fd, SOCKET_BUFFER_BYTES);
        let _ = sockopt::set_tcp_nodelay(self.fd, true);
    }

    /// Receives what is there, waiting for the first byte; zero means the client is gone.
    pub(crate) fn receive(self, buffer: &mut [u8]) -> io::Result<usize> {
        let flags = match self.deadline {
            Some(_) => RecvFlags::DONTWAIT,
            None => RecvFlags::empty(),
        };
        loop {
            match recv(self.fd, &mut *buffer, flags) {
                Ok((_, count)) => return Ok(count),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => self.wait(PollFlags::IN)?,
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Fills `buffer`.
    pub(crate) fn receive_exact(self, mut buffer: &mut [u8]) -> io::Result<()> {
        while !buffer.is_empty() {
            match self.receive(buffer)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                count => buffer = &mut buffer[count..],
            }
        }
        Ok(())
    }

    /// Sends everything.
    pub(crate) fn send(self, mut parts: &mut [IoSlice<'_>]) -> io::Result<()> {
        let mut flags = SendFlags::NOSIGNAL;
        if self.deadline.is_some() {
            flags |= SendFlags::DONTWAIT;
        }
        IoSlice::advance_slices(&mut parts, 0);
        while !parts.is_empty() {
            let none = &mut SendAncillaryBuffer::default();
            match sendmsg(self.fd, parts, none, flags) {
                Ok(count) => IoSlice::advance_slices(&mut parts, count),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => self.wait(PollFlags::OUT)?,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Ends the connection in both directions: who waits for the peer waits no longer.
    pub(crate) fn shut_down(self) {
        // It fails only if the peer has ended it already.
        let _ = shutdown(self.fd, Shutdown::Both);
    }

    fn wait(self, event: PollFlags) -> io::Result<()> {
        let mut entry = [PollFd::from_borrowed_fd(self.fd, event)];
        let ready = match self.deadline {
            None => poll(&mut entry, None),
            Some(deadline) => {
                let left = deadline.saturating_duration_since(Instant::now());
                let left = Timespec::try_from(left).map_err(|_| io::ErrorKind::TimedOut)?;
                poll(&mut entry, Some(&left))
            }
        };
        match ready {
            Ok(0) => Err(io::ErrorKind::TimedOut.into()),
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}
