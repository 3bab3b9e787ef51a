// SPDX-License-Identifier: Apache-2.0
//! System calls as an attacker makes them, and processes.

use std::io;

use libc::c_long;
use strongroom_sys::confine::Namespace;

/// Any system call. Pointers are to live memory of the size that the call expects; the caller
/// sees to that, in this program only.
pub(crate) fn call(number: c_long, arguments: [usize; 6]) -> io::Result<usize> {
    let [first, second, third, fourth, fifth, sixth] = arguments;
    // SAFETY: callers pass pointers to live memory, or calls that take none.
    #[expect(unsafe_code, reason = "an attacker calls the kernel directly")]
    let result = unsafe { libc::syscall(number, first, second, third, fourth, fifth, sixth) };
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}

/// `None` in the child. This program has one thread whenever it forks.
pub(crate) fn fork() -> io::Result<Option<u32>> {
    // SAFETY: with one thread, the child is as whole as the parent.
    #[expect(unsafe_code, reason = "fork is unsafe with threads")]
    let pid = unsafe { libc::fork() };
    match u32::try_from(pid) {
        Err(_) => Err(io::Error::last_os_error()),
        Ok(0) => Ok(None),
        Ok(pid) => Ok(Some(pid)),
    }
}

/// Ends the process at once.
pub(crate) fn leave(code: i32) -> ! {
    // SAFETY: ends the process; nothing of it is used after.
    #[expect(unsafe_code, reason = "no exit handlers in a forked child")]
    unsafe {
        libc::_exit(code)
    }
}

/// How a process ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Ended {
    Exited(i32),
    Killed { signal: i32, core: bool },
}

/// The launcher tells by its own exit code how its child ended: bit 7 for a signal, bit 6 for
/// a core.
impl Ended {
    pub(crate) fn encode(self) -> i32 {
        match self {
            Self::Exited(code) => code & 0x3f,
            Self::Killed { signal, core } => 0x80 | (i32::from(core) << 6) | (signal & 0x3f),
        }
    }

    pub(crate) fn decode(outer: Self) -> Self {
        match outer {
            Self::Exited(code) if code & 0x80 != 0 => Self::Killed {
                signal: code & 0x3f,
                core: code & 0x40 != 0,
            },
            other => other,
        }
    }
}

pub(crate) fn wait(pid: u32) -> io::Result<Ended> {
    let mut status = 0;
    // SAFETY: `status` is live for the call.
    #[expect(unsafe_code, reason = "waitpid writes through a pointer")]
    let result = unsafe { libc::waitpid(pid.cast_signed(), &raw mut status, 0) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    if libc::WIFSIGNALED(status) {
        return Ok(Ended::Killed {
            signal: libc::WTERMSIG(status),
            core: libc::WCOREDUMP(status),
        });
    }
    Ok(Ended::Exited(libc::WEXITSTATUS(status)))
}

/// Moves to throw-away mount, UTS and IPC namespaces if the user may.
pub(crate) fn isolate() {
    for namespace in [Namespace::Mount, Namespace::Uts, Namespace::Ipc] {
        let _best_effort = namespace.enter();
    }
}
