// SPDX-License-Identifier: Apache-2.0
//! A thread for each descriptor, and their end.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use strongroom_sys::signals;

use super::session::{Served, Session};
use crate::volume::Volume;

/// How long requests that have arrived may take to finish when the server stops.
const GRACE: Duration = Duration::from_secs(5);

/// The threads keep their data on the heap; this leaves ample room.
const STACK_BYTES: usize = 256 * 1024;

/// A running FUSE server; dropping it stops it.
pub struct Server(Arc<Shared>);

struct Shared {
    volume: Arc<Volume>,
    file_name: String,
    stopping: AtomicBool,
    /// Requests that are being done now.
    running: AtomicUsize,
    idle: Condvar,
    waiting: Mutex<()>,
}

impl Server {
    /// Serves `volume` as the file `file_name`, until [`Server::stop`] or the file system's end.
    ///
    /// `devices` are descriptors of `/dev/fuse`: one that is mounted, and clones of it. Each has a
    /// thread, which ends with the mount. The mount ends with the last of the descriptors, if
    /// nobody else holds one. All signals are blocked in the threads: no handler's frame ever holds
    /// their registers.
    ///
    /// # Errors
    /// A thread could not be started, or there is no secret memory for it.
    pub fn start(
        volume: Arc<Volume>,
        devices: Vec<OwnedFd>,
        file_name: String,
    ) -> io::Result<Self> {
        let server = Self(Arc::new(Shared {
            volume,
            file_name,
            stopping: AtomicBool::new(false),
            running: AtomicUsize::new(0),
            idle: Condvar::new(),
            waiting: Mutex::new(()),
        }));
        for (number, device) in devices.into_iter().enumerate() {
            let shared = Arc::clone(&server.0);
            let session = Session::new(&shared.volume).map_err(io::Error::other)?;
            signals::with_all_blocked(|| {
                thread::Builder::new()
                    .name(format!("fuse-{number}"))
                    .stack_size(STACK_BYTES)
                    .spawn(move || shared.serve(session, &device))
            })?;
        }
        Ok(server)
    }

    /// Refuses what comes from now on, and waits for the requests that have arrived.
    ///
    /// It takes 5 seconds at most. Returns how many requests were left behind because the disk
    /// hangs. A thread that waits for a request is not waited for: it ends with the mount, which is
    /// the host's, and does nothing for anybody until then.
    #[must_use]
    pub fn stop(self) -> usize {
        self.0.stop()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if !self.0.stopping.load(Ordering::SeqCst) {
            self.0.stop();
        }
    }
}

impl Shared {
    fn serve(&self, mut session: Session, device: &OwnedFd) {
        let _counted = self.volume.counters().connection();
        let device = device.as_fd();
        let served = Served {
            volume: &self.volume,
            file_name: &self.file_name,
            stopping: &self.stopping,
        };
        while let Ok(Some(length)) = session.receive(device) {
            let _running = Running::new(self);
            if session.answer(device, length, served).is_err() {
                return;
            }
        }
    }

    fn stop(&self) -> usize {
        // Sequentially consistent, as is the count: a request is either seen here or sees this.
        self.stopping.store(true, Ordering::SeqCst);
        self.wait_until_idle(GRACE);
        self.running.load(Ordering::SeqCst)
    }

    /// Waits until no request is being done any more, or the time is over.
    fn wait_until_idle(&self, timeout: Duration) {
        let guard = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let _waited = self
            .idle
            .wait_timeout_while(guard, timeout, |()| self.running.load(Ordering::SeqCst) > 0);
    }
}

/// Counts a request for as long as it lives.
struct Running<'a>(&'a Shared);

impl<'a> Running<'a> {
    fn new(shared: &'a Shared) -> Self {
        shared.running.fetch_add(1, Ordering::SeqCst);
        Self(shared)
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        let before = self.0.running.fetch_sub(1, Ordering::SeqCst);
        if before == 1 && self.0.stopping.load(Ordering::SeqCst) {
            let _guard = self
                .0
                .waiting
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            self.0.idle.notify_all();
        }
    }
}
