// SPDX-License-Identifier: Apache-2.0
//! Signals that must not end or interrupt a process that holds keys.
//!
//! A signal handler runs on the interrupted thread's stack, below a frame to which the kernel has
//! spilled all registers. Threads that work on keys are therefore started with every signal
//! blocked; a thread inherits the mask of the one that starts it.

use std::io;
use std::mem::MaybeUninit;
use std::ptr;

/// What a terminal, a supervisor or another program sends to end a process, or to stop it.
///
/// Not the signals of a fault, such as `SIGSEGV`: after one of those, going on is worse.
const REQUESTS: [i32; 15] = [
    libc::SIGHUP,
    libc::SIGINT,
    libc::SIGQUIT,
    libc::SIGUSR1,
    libc::SIGUSR2,
    libc::SIGPIPE,
    libc::SIGALRM,
    libc::SIGTERM,
    libc::SIGTSTP,
    libc::SIGTTIN,
    libc::SIGTTOU,
    libc::SIGVTALRM,
    libc::SIGPROF,
    libc::SIGIO,
    libc::SIGPWR,
];

/// Has this process ignore every signal that asks it to end or to stop.
///
/// # Errors
/// The kernel refused one.
pub fn ignore_requests() -> io::Result<()> {
    for number in REQUESTS {
        // SAFETY: sets a disposition; no handler of ours is called.
        #[expect(unsafe_code, reason = "no safe interface to signal dispositions")]
        let before = unsafe { libc::signal(number, libc::SIG_IGN) };
        if before == libc::SIG_ERR {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

/// Runs `work` with every signal blocked on this thread, and restores its mask.
///
/// Signals that arrive meanwhile wait, or are taken by other threads. What cannot be blocked, such
/// as `SIGKILL`, is not.
pub fn with_all_blocked<R>(work: impl FnOnce() -> R) -> R {
    let _restore = Restore(block_all());
    work()
}

/// Puts the mask back, also when `work` panics.
struct Restore(libc::sigset_t);

impl Drop for Restore {
    fn drop(&mut self) {
        // SAFETY: the set is one that the kernel gave us, and no old set is asked for.
        #[expect(unsafe_code, reason = "no safe interface to signal masks")]
        unsafe {
            libc::pthread_sigmask(libc::SIG_SETMASK, &raw const self.0, ptr::null_mut());
        }
    }
}

fn block_all() -> libc::sigset_t {
    let mut all = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: `all` has room for a set, which the call fills.
    #[expect(unsafe_code, reason = "no safe interface to signal masks")]
    unsafe {
        libc::sigfillset(all.as_mut_ptr());
    }
    let mut before = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: `all` was filled, and `before` has room for a set.
    #[expect(unsafe_code, reason = "no safe interface to signal masks")]
    unsafe {
        libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), before.as_mut_ptr());
    }
    // SAFETY: the call fails only for an invalid first argument, so `before` was filled.
    #[expect(unsafe_code, reason = "the kernel has filled it")]
    unsafe {
        before.assume_init()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::thread;

    use super::*;

    fn blocked() -> u64 {
        let status = fs::read_to_string("/proc/thread-self/status").unwrap();
        let line = status.lines().find(|line| line.starts_with("SigBlk:"));
        u64::from_str_radix(line.unwrap()[7..].trim(), 16).unwrap()
    }

    #[test]
    fn a_thread_started_so_has_all_signals_blocked_and_its_parent_none() {
        let before = blocked();
        let child = with_all_blocked(|| thread::spawn(blocked)).join().unwrap();
        // All but SIGKILL (9), SIGSTOP (19) and the two (32, 33) that glibc keeps for itself.
        let unblockable = 1 << 8 | 1 << 18 | 1 << 31 | 1 << 32;
        assert_eq!(child | unblockable, u64::MAX);
        assert_eq!(blocked(), before);
    }
}
