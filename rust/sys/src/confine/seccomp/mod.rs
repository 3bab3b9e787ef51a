// SPDX-License-Identifier: Apache-2.0
//! The system call filter: a list of what remains possible, with a reason for each.
//!
//! * [`policy`] is the list;
//! * [`program`] turns it into the BPF that the kernel runs.
//!
//! Assembled here rather than by a crate, for three answers are needed in one program (refused,
//! `ENOSYS`, killed), the x32 calls among them, and the assembler is shorter than its use.

mod policy;
mod program;

use std::io;

use rustix::thread::{SecureComputingMode, secure_computing_mode};

use super::failure;

/// Installs the filter on every thread of the process.
pub(super) fn install() -> Result<String, String> {
    // Quirk: rustix reads the auxiliary vector when first asked, from where the filter ends it.
    let _page_size = rustix::param::page_size();
    clear_personality().map_err(|error| failure("personality", error))?;
    let policy = policy::policy(
        rustix::process::getpid()
            .as_raw_nonzero()
            .get()
            .cast_unsigned(),
    );
    let program = program::assemble(&policy).map_err(|error| failure("assembling", error))?;
    load(&program).map_err(|error| failure("seccomp", error))?;
    match secure_computing_mode() {
        Ok(SecureComputingMode::Filter) => {
            let (allowed, fatal) = policy::count(&policy);
            Ok(format!(
                "{allowed} system calls allowed, {fatal} kill, all others refused"
            ))
        }
        Ok(_) => Err("the kernel dropped the filter".to_owned()),
        Err(error) => Err(failure("prctl", error)),
    }
}

/// Back to the plain Linux personality: with `READ_IMPLIES_EXEC`, inherited from whoever started
/// the process, readable memory would be executable and the filter's check of that void.
fn clear_personality() -> io::Result<()> {
    // SAFETY: PER_LINUX changes no memory that is mapped already.
    #[expect(unsafe_code, reason = "personality has no wrapper")]
    let result = unsafe { libc::personality(0) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

fn load(program: &[libc::sock_filter]) -> io::Result<()> {
    let description = libc::sock_fprog {
        len: u16::try_from(program.len()).map_err(io::Error::other)?,
        // The kernel only reads; the type lacks the const.
        filter: program.as_ptr().cast_mut(),
    };
    // SAFETY: `description` and the instructions it points to live until the call returns.
    #[expect(unsafe_code, reason = "seccomp has no wrapper")]
    let result = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            libc::SECCOMP_FILTER_FLAG_TSYNC,
            &raw const description,
        )
    };
    match result {
        0 => Ok(()),
        // Quirk: a positive result is the thread that could not be brought under the filter.
        1.. => Err(io::Error::other(format!(
            "thread {result} cannot be filtered"
        ))),
        _ => Err(io::Error::last_os_error()),
    }
}
