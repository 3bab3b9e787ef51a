// SPDX-License-Identifier: Apache-2.0
//! Accepting connections, a thread for each, and stopping them all.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::net::{Shutdown, SocketFlags, accept_with, shutdown};
use strongroom_sys::signals;

use super::handshake::{Export, Offer, negotiate};
use super::socket::Socket;
use super::transmission::transmit;
use crate::volume::Volume;

/// More connections than this are closed as soon as they are accepted. Clients open 4 to 16.
pub const MAX_CONNECTIONS: usize = 64;

/// How long requests that have arrived may take to finish when the server stops.
const GRACE: Duration = Duration::from_secs(5);

/// How long threads may take to end after their sockets have been shut down.
const LAST_GRACE: Duration = Duration::from_secs(5);

/// How long to wait when the process has run out of descriptors or memory.
const RETRY_DELAY: Duration = Duration::from_millis(100);

/// Connection threads keep their data on the heap; this leaves ample room.
const STACK_BYTES: usize = 256 * 1024;

/// A running NBD server; dropping it stops it.
pub struct Server {
    shared: Arc<Shared>,
    listener: Arc<OwnedFd>,
    acceptor: Option<JoinHandle<()>>,
}

struct Shared {
    volume: Arc<Volume>,
    offer: Offer,
    /// Tells requests that take long to break off.
    abort: AtomicBool,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    stopping: bool,
    next_id: u64,
    connections: HashMap<u64, Arc<OwnedFd>>,
    threads: HashMap<u64, JoinHandle<()>>,
}

impl Server {
    /// Serves `volume` to everybody who connects to `listener`, until [`Server::stop`].
    ///
    /// `listener` is a listening stream socket that this server alone accepts from. All signals are
    /// blocked in the threads: no handler's frame ever holds their registers.
    ///
    /// # Errors
    /// No thread could be started.
    pub fn start(volume: Arc<Volume>, listener: OwnedFd, offer: Offer) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            volume,
            offer,
            abort: AtomicBool::new(false),
            state: Mutex::default(),
            changed: Condvar::new(),
        });
        let listener = Arc::new(listener);
        let (own_shared, own_listener) = (Arc::clone(&shared), Arc::clone(&listener));
        // The threads of the connections inherit the mask from this one.
        let acceptor = signals::with_all_blocked(|| {
            thread::Builder::new()
                .name("nbd-accept".to_owned())
                .stack_size(STACK_BYTES)
                .spawn(move || accept_all(&own_shared, &own_listener))
        })?;
        Ok(Self {
            shared,
            listener,
            acceptor: Some(acceptor),
        })
    }

    /// Stops accepting, lets requests that have arrived finish, closes all connections and joins
    /// the threads.
    ///
    /// The listening socket is shut down: further clients are refused. It takes 10 seconds at
    /// most. Returns the number of threads that were left behind because the disk hangs: they end
    /// when it answers.
    #[must_use]
    pub fn stop(mut self) -> usize {
        self.shut_down()
    }

    fn shut_down(&mut self) -> usize {
        self.shared.lock().stopping = true;
        self.shared.changed.notify_all();
        let _ = shutdown(&*self.listener, Shutdown::Both);
        if let Some(acceptor) = self.acceptor.take() {
            // It only fails if the thread has panicked; the connections are stopped all the same.
            let _ = acceptor.join();
        }
        // What has been sent stays readable; then the client seems to be gone.
        self.shared.shut_connections(Shutdown::Read);
        if !self.shared.wait_until_idle(GRACE) {
            self.shared.abort.store(true, Ordering::Relaxed);
            self.shared.shut_connections(Shutdown::Both);
            self.shared.wait_until_idle(LAST_GRACE);
        }
        self.shared.join_ended();
        self.shared.lock().threads.len()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shut_down();
    }
}

/// Serves one connected stream socket on the calling thread, until the client leaves.
///
/// # Errors
/// The client broke the protocol or the connection broke; the volume is not harmed by either.
pub fn serve_connection(volume: &Volume, connection: OwnedFd, offer: &Offer) -> io::Result<()> {
    let result = serve(volume, &connection, offer, &AtomicBool::new(false));
    // Others may hold the same socket open; the client must not wait for them.
    let _ = shutdown(&connection, Shutdown::Both);
    drop(connection);
    result
}

fn serve(
    volume: &Volume,
    connection: &OwnedFd,
    offer: &Offer,
    abort: &AtomicBool,
) -> io::Result<()> {
    let _counted = volume.counters().connection();
    let socket = Socket::new(connection.as_fd());
    socket.tune();
    let export = Export { offer, volume };
    match negotiate(socket, &export)? {
        Some(negotiated) => transmit(socket, volume, negotiated, abort),
        None => Ok(()),
    }
}

fn accept_all(shared: &Arc<Shared>, listener: &OwnedFd) {
    loop {
        match accept_with(listener, SocketFlags::CLOEXEC) {
            Ok(connection) => shared.admit(connection),
            Err(Errno::INTR | Errno::CONNABORTED | Errno::PROTO) => {}
            Err(Errno::AGAIN) => {
                let mut entry = [PollFd::new(listener, PollFlags::IN)];
                let _ = poll(&mut entry, None);
            }
            Err(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM) => shared.pause(),
            // It has been shut down, or was never a listening socket.
            Err(_) => return,
        }
        shared.join_ended();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts a thread for a connection, or closes it.
    fn admit(self: &Arc<Self>, connection: OwnedFd) {
        let connection = Arc::new(connection);
        let Some(listed) = self.list(&connection) else {
            self.volume.counters().refuse_connection();
            return;
        };
        let id = listed.id;
        let spawned = thread::Builder::new()
            .name(format!("nbd-{id}"))
            .stack_size(STACK_BYTES)
            .spawn(move || {
                let shared = &listed.shared;
                // Whose fault it was is counted in the volume; the client knows, or is gone.
                let _ = serve(&shared.volume, &connection, &shared.offer, &shared.abort);
                // The list holds the socket too: the client must not wait for it to be tidied.
                let _ = shutdown(&*connection, Shutdown::Both);
            });
        // Without a thread, dropping the closure has closed the connection.
        if let Ok(thread) = spawned {
            self.lock().threads.insert(id, thread);
        }
    }

    /// Puts a connection on the list, unless the server stops or has too many.
    fn list(self: &Arc<Self>, connection: &Arc<OwnedFd>) -> Option<Listed> {
        let mut state = self.lock();
        if state.stopping || state.connections.len() >= MAX_CONNECTIONS {
            return None;
        }
        let id = state.next_id;
        state.next_id += 1;
        state.connections.insert(id, Arc::clone(connection));
        let shared = Arc::clone(self);
        Some(Listed { shared, id })
    }

    /// Waits a little for descriptors or memory to be released.
    fn pause(&self) {
        let waited = self
            .changed
            .wait_timeout_while(self.lock(), RETRY_DELAY, |state| !state.stopping);
        drop(waited);
    }

    fn shut_connections(&self, how: Shutdown) {
        for connection in self.lock().connections.values() {
            let _ = shutdown(&**connection, how);
        }
    }

    /// Waits until no connection is served any more, and tells whether that happened in time.
    fn wait_until_idle(&self, timeout: Duration) -> bool {
        let (_state, waited) = self
            .changed
            .wait_timeout_while(self.lock(), timeout, |state| !state.connections.is_empty())
            .unwrap_or_else(PoisonError::into_inner);
        !waited.timed_out()
    }

    /// Joins the threads whose connections have ended; they are past all waiting.
    fn join_ended(&self) {
        let ended: Vec<_> = {
            let state = &mut *self.lock();
            let connections = &state.connections;
            state
                .threads
                .extract_if(|id, _| !connections.contains_key(id))
                .collect()
        };
        for (_, thread) in ended {
            let _ = thread.join();
        }
    }
}

/// Takes a connection off the list when its thread ends, even by a panic.
struct Listed {
    shared: Arc<Shared>,
    id: u64,
}

impl Drop for Listed {
    fn drop(&mut self) {
        self.shared.lock().connections.remove(&self.id);
        self.shared.changed.notify_all();
    }
}
