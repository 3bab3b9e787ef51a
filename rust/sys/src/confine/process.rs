// SPDX-License-Identifier: Apache-2.0
//! Attributes of the process itself.

use std::io;

use rustix::process::{
    DumpableBehavior, Resource, Rlimit, Signal, dumpable_behavior, getpid, getrlimit,
    set_child_subreaper, set_dumpable_behavior, set_parent_process_death_signal, setrlimit,
};
use rustix::thread::{no_new_privs, set_no_new_privs};

use super::{failure, require_single_thread};

/// Asks the kernel to kill this process when the thread that started it ends.
///
/// Holds for the parent that the process has then, and for the one that adopts it later. It is
/// lost by `fork` and cannot notice a parent that has ended before: a child whose parent is about
/// to leave calls this once it has left.
///
/// # Errors
/// The kernel refused.
pub fn die_with_parent() -> io::Result<()> {
    Ok(set_parent_process_death_signal(Some(Signal::KILL))?)
}

/// Makes this process the reaper of its orphaned descendants, so that it can wait for them.
///
/// # Errors
/// The kernel refused.
pub fn adopt_orphans() -> io::Result<()> {
    Ok(set_child_subreaper(Some(getpid()))?)
}

/// Forbids core dumps of this process, and tracing and `/proc/PID/mem` for its own user.
///
/// For a process that is not an enclave and has a passphrase in it for a while. A program that it
/// executes can be traced again, and inherits the core limit.
///
/// # Errors
/// What the kernel refused.
pub fn forbid_reading() -> Result<(), String> {
    forbid_core_dumps()?;
    forbid_dumping().map(drop)
}

/// Undoes the part of [`forbid_reading`] that hides what this process has open, for one that turns
/// out to have no secret. The core limit stays.
///
/// # Errors
/// What the kernel refused.
pub fn allow_reading() -> Result<(), String> {
    set_dumpable_behavior(DumpableBehavior::Dumpable).map_err(|error| failure("prctl", error))
}

/// Sets the core limit to 0. Quirk: a limit of 0 does not stop dumps that are piped to a handler;
/// [`forbid_dumping`] does.
pub(super) fn forbid_core_dumps() -> Result<String, String> {
    let none = Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    setrlimit(Resource::Core, none).map_err(|error| failure("setrlimit", error))?;
    if getrlimit(Resource::Core) == none {
        Ok("0 bytes, soft and hard".to_owned())
    } else {
        Err("the kernel kept another limit".to_owned())
    }
}

/// Clears the dumpable flag.
pub(super) fn forbid_dumping() -> Result<String, String> {
    set_dumpable_behavior(DumpableBehavior::NotDumpable)
        .map_err(|error| failure("prctl", error))?;
    match dumpable_behavior() {
        Ok(DumpableBehavior::NotDumpable) => {
            Ok("no core dump; no tracing and no /proc/PID/mem, but for root".to_owned())
        }
        Ok(_) => Err("the kernel kept the flag".to_owned()),
        Err(error) => Err(failure("prctl", error)),
    }
}

/// Sets the flag that `execve` gives no privileges.
pub(super) fn forbid_new_privileges() -> Result<String, String> {
    set_no_new_privs(true).map_err(|error| failure("prctl", error))?;
    match no_new_privs() {
        Ok(true) => require_single_thread()
            .map(|()| "set-user-ID and file capabilities are void".to_owned()),
        Ok(false) => Err("the kernel dropped the flag".to_owned()),
        Err(error) => Err(failure("prctl", error)),
    }
}
