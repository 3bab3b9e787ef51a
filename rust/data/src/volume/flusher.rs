// SPDX-License-Identifier: Apache-2.0
//! Flushes, one at a time, that never forget a failure.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::backing::Backing;
use crate::error::{IoError, Result};

/// Runs one flush of the store at a time.
///
/// Two at once would be wrong: the kernel hands a write error to one of them only, and the other
/// would report success for data that is lost. Callers that wait meanwhile share the next flush.
#[derive(Default)]
pub(crate) struct Flusher {
    arrivals: AtomicU64,
    /// Acknowledged writes may be lost: no flush succeeds any more.
    failed: AtomicBool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The last arrival that a successful flush began after.
    covered: u64,
}

impl Flusher {
    /// Lets every later flush fail: the store is known to have lost something.
    pub(crate) fn fail(&self) {
        self.failed.store(true, Ordering::SeqCst);
    }

    /// Makes durable what was written before the call.
    pub(crate) fn flush(&self, backing: &dyn Backing) -> Result<()> {
        let arrival = self.arrivals.fetch_add(1, Ordering::SeqCst) + 1;
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if self.failed.load(Ordering::SeqCst) {
            return Err(IoError::FlushFailed);
        }
        if state.covered >= arrival {
            return Ok(());
        }
        let covers = self.arrivals.load(Ordering::SeqCst);
        if let Err(error) = backing.flush() {
            self.fail();
            return Err(error.into());
        }
        state.covered = covers;
        Ok(())
    }
}
