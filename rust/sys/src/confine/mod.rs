// SPDX-License-Identifier: Apache-2.0
//! Confinement of the enclave process: what it can no longer do, once it holds secrets.
//!
//! Two stages, because loading a program needs files and serving a volume does not:
//!
//! 1. [`enter_namespaces`], before anything is loaded; the PID namespace holds the next child, so
//!    the caller forks and leaves;
//! 2. [`confine`], in that child, once everything is loaded and before the first secret. It makes
//!    the mount namespace too.
//!
//! Every step is best effort and reported as a [`Measure`], never silently skipped: what the
//! kernel refuses is inactive, with the reason. Whether something was granted is read back from
//! the kernel where it tells. Nothing here can be undone.
//!
//! Confinement limits what a taken-over enclave reaches. It does not protect the enclave from root
//! outside, who can trace it and replace it at any time.

mod capabilities;
mod landlock;
mod namespaces;
mod process;
mod root;
mod seccomp;

use std::io;

use rustix::io::Errno;
use rustix::thread::UnshareFlags;

pub use namespaces::{Namespace, enter_namespaces};
pub use process::{adopt_orphans, allow_reading, die_with_parent, forbid_reading};

/// One measure of confinement, and whether the kernel granted it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Measure {
    /// Such as `seccomp` or `network namespace`.
    pub name: &'static str,
    /// Whether it is in force, as read back from the kernel where that is possible.
    pub active: bool,
    /// What exactly is in force, or why it is not.
    pub detail: String,
}

impl Measure {
    /// `Ok` says what is in force, `Err` why nothing is.
    fn from_result(name: &'static str, result: Result<String, String>) -> Self {
        let active = result.is_ok();
        let (Ok(detail) | Err(detail)) = result;
        Self {
            name,
            active,
            detail,
        }
    }
}

/// A step of [`confine`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Step {
    /// No core dumps: `RLIMIT_CORE` 0, soft and hard.
    CoreLimit,
    /// `execve` gives no privileges, which Landlock and seccomp demand first.
    NoNewPrivileges,
    /// `/` is an empty, read-only directory. Needs [`Namespace::Mount`].
    EmptyRoot,
    /// No capability in any set, and no way back.
    Capabilities,
    /// No core dump, no ptrace, `/proc/PID` belongs to root.
    NotDumpable,
    /// No path, port, abstract socket or signal outside.
    Landlock,
    /// A list of the system calls that remain.
    Seccomp,
}

impl Step {
    /// All steps, in the order in which they must be taken.
    ///
    /// Mounting needs capabilities; dropping those may reset the dumpable flag; Landlock forbids
    /// mounting; the system call filter forbids all of this.
    pub const ALL: [Self; 7] = [
        Self::CoreLimit,
        Self::NoNewPrivileges,
        Self::EmptyRoot,
        Self::Capabilities,
        Self::NotDumpable,
        Self::Landlock,
        Self::Seccomp,
    ];

    /// The name of its measure.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::CoreLimit => "core limit",
            Self::NoNewPrivileges => "no new privileges",
            Self::EmptyRoot => "empty root",
            Self::Capabilities => "capabilities",
            Self::NotDumpable => "not dumpable",
            Self::Landlock => "landlock",
            Self::Seccomp => "seccomp",
        }
    }

    /// Takes this one step.
    ///
    /// For tests that attack one measure at a time; programs use [`confine`].
    #[must_use]
    pub fn take(self) -> Measure {
        let result = match self {
            Self::CoreLimit => process::forbid_core_dumps(),
            Self::NoNewPrivileges => process::forbid_new_privileges(),
            Self::EmptyRoot => root::empty(),
            Self::Capabilities => capabilities::drop_all(),
            Self::NotDumpable => process::forbid_dumping(),
            Self::Landlock => landlock::restrict(),
            Self::Seccomp => seccomp::install(),
        };
        Measure::from_result(self.name(), result)
    }
}

/// Confines the process for good: by a mount namespace, then by every [`Step`] in order.
///
/// The mount namespace comes as late as this because it begins as a copy of all mounts. What is
/// opened through the copy keeps every file system of the machine in use, after the root was
/// emptied too; so its root is emptied at once. Where that cannot be done, no copy is made.
///
/// Call it while the process has one thread: the kernel ties capabilities and Landlock to
/// threads. With more threads, those measures are applied to the caller and reported as inactive.
#[must_use]
pub fn confine() -> Vec<Measure> {
    let mounts = match root::rehearse() {
        Ok(()) => Namespace::Mount.enter(),
        Err(reason) => Measure::from_result(Namespace::Mount.name(), Err(reason)),
    };
    std::iter::once(mounts)
        .chain(Step::ALL.into_iter().map(Step::take))
        .collect()
}

/// Tells whether what is set for the calling thread is set for the process.
///
/// Quirk: unsharing a thread group changes nothing and succeeds for a single thread only; unlike
/// `/proc`, it is always there.
fn require_single_thread() -> Result<(), String> {
    unshare(UnshareFlags::from_bits_retain(
        libc::CLONE_THREAD.cast_unsigned(),
    ))
    .map_err(|_| "covers the calling thread only: the process has others".to_owned())
}

/// `unshare(2)`, for flags that leave memory and descriptors shared.
fn unshare(flags: UnshareFlags) -> Result<(), Errno> {
    // SAFETY: the danger of unsharing is a file descriptor table that other threads do not share;
    // no caller passes CLONE_FILES.
    #[expect(unsafe_code, reason = "unshare can split descriptor tables")]
    unsafe {
        rustix::thread::unshare_unsafe(flags)
    }
}

/// Says what failed and the kernel's reason.
fn failure(what: &str, error: impl Into<io::Error>) -> String {
    format!("{what}: {}", error.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_become_measures() {
        let granted = Measure::from_result("seccomp", Ok("all of it".to_owned()));
        assert!(granted.active);
        let refused = Measure::from_result("seccomp", Err("no".to_owned()));
        assert_eq!((refused.active, refused.detail.as_str()), (false, "no"));
    }

    #[test]
    fn a_process_with_threads_is_not_taken_for_one_without() {
        let (stop, stopped) = std::sync::mpsc::channel::<()>();
        let other = std::thread::spawn(move || stopped.recv());
        assert!(require_single_thread().is_err());
        drop(stop);
        assert!(other.join().is_ok());
    }
}
