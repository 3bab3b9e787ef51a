// SPDX-License-Identifier: Apache-2.0
//! Landlock with nothing allowed.
//!
//! Raw system calls, as there is so little to say: the most that the running kernel knows is
//! forbidden, and there is no exception. The `landlock` crate is about rules, of which there are
//! none, and compatibility, which here is one table.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use rustix::fs::{Mode, OFlags, open};
use rustix::io::Errno;

use super::{failure, require_single_thread};

/// `landlock_create_ruleset(2)`: tell the version instead of making a ruleset.
const CREATE_RULESET_VERSION: u32 = 1;

/// `struct landlock_ruleset_attr`. Older kernels accept the longer form with zeros at the end.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[repr(C)]
struct Forbidden {
    file_system: u64,
    network: u64,
    scopes: u64,
}

impl Forbidden {
    /// All that a kernel of this ABI version can forbid. Spec: landlock(7), "Landlock ABI versions".
    fn all_of(abi: u32) -> Self {
        let file_system_rights = match abi {
            0 => 0,
            1 => 13,
            2 => 14,     // + rename and link between directories
            3 | 4 => 15, // + truncate
            _ => 16,     // + ioctl on devices
        };
        Self {
            file_system: (1 << file_system_rights) - 1,
            network: if abi >= 4 { 0b11 } else { 0 }, // bind and connect TCP
            scopes: if abi >= 6 { 0b11 } else { 0 },  // abstract UNIX sockets, signals
        }
    }

    fn describe(self, abi: u32) -> String {
        let mut parts = vec!["no path"];
        if self.network != 0 {
            parts.push("no port");
        }
        if self.scopes != 0 {
            parts.extend(["no abstract socket", "no signal"]);
        }
        format!("landlock abi {abi}: {}", parts.join(", "))
    }
}

/// Forbids all that the kernel's Landlock can forbid.
pub(super) fn restrict() -> Result<String, String> {
    let abi = abi_version().map_err(|error| match error.raw_os_error() {
        Some(libc::ENOSYS) => "the kernel has no Landlock".to_owned(),
        Some(libc::EOPNOTSUPP) => "Landlock is disabled at boot".to_owned(),
        _ => failure("landlock_create_ruleset", error),
    })?;
    let forbidden = Forbidden::all_of(abi);
    let ruleset =
        create_ruleset(forbidden).map_err(|error| failure("landlock_create_ruleset", error))?;
    restrict_self(&ruleset).map_err(|error| failure("landlock_restrict_self", error))?;
    // The kernel does not tell a thread's domain, so ask for what must be refused now.
    match open("/", OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()) {
        Err(Errno::ACCESS) => require_single_thread().map(|()| forbidden.describe(abi)),
        Ok(_) => Err("in place, yet the root directory could be opened".to_owned()),
        Err(error) => Err(failure("could not be verified", error)),
    }
}

fn abi_version() -> io::Result<u32> {
    // SAFETY: with this flag and no attributes the call reads no memory.
    #[expect(unsafe_code, reason = "landlock has no wrapper")]
    let result = unsafe {
        libc::syscall(
            libc::SYS_landlock_create_ruleset,
            std::ptr::null::<Forbidden>(),
            0usize,
            CREATE_RULESET_VERSION,
        )
    };
    u32::try_from(result).map_err(|_| io::Error::last_os_error())
}

fn create_ruleset(forbidden: Forbidden) -> io::Result<OwnedFd> {
    // SAFETY: `forbidden` is a live `landlock_ruleset_attr` of the size given.
    #[expect(unsafe_code, reason = "landlock has no wrapper")]
    let result = unsafe {
        libc::syscall(
            libc::SYS_landlock_create_ruleset,
            &raw const forbidden,
            size_of::<Forbidden>(),
            0u32,
        )
    };
    let fd = RawFd::try_from(result)
        .ok()
        .filter(|fd| *fd >= 0)
        .ok_or_else(io::Error::last_os_error)?;
    // SAFETY: the kernel has just made this descriptor, and nobody else knows it.
    #[expect(unsafe_code, reason = "takes ownership of a raw descriptor")]
    let ruleset = unsafe { OwnedFd::from_raw_fd(fd) };
    Ok(ruleset)
}

fn restrict_self(ruleset: &OwnedFd) -> io::Result<()> {
    // SAFETY: the call takes a descriptor and flags, and touches no memory of this process.
    #[expect(unsafe_code, reason = "landlock has no wrapper")]
    let result =
        unsafe { libc::syscall(libc::SYS_landlock_restrict_self, ruleset.as_raw_fd(), 0u32) };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_abi_forbids_all_it_knows_and_nothing_it_does_not() {
        let rights = |abi| {
            let forbidden = Forbidden::all_of(abi);
            (forbidden.file_system, forbidden.network, forbidden.scopes)
        };
        assert_eq!(rights(1), (0x1fff, 0, 0));
        assert_eq!(rights(2), (0x3fff, 0, 0));
        assert_eq!(rights(3), (0x7fff, 0, 0));
        assert_eq!(rights(4), (0x7fff, 3, 0));
        assert_eq!(rights(5), (0xffff, 3, 0));
        assert_eq!(rights(6), (0xffff, 3, 3));
        assert_eq!(rights(99), rights(6));
    }

    #[test]
    fn the_description_claims_no_more_than_the_abi_gives() {
        let describe = |abi| Forbidden::all_of(abi).describe(abi);
        assert_eq!(describe(3), "landlock abi 3: no path");
        assert_eq!(describe(4), "landlock abi 4: no path, no port");
        assert_eq!(
            describe(7),
            "landlock abi 7: no path, no port, no abstract socket, no signal"
        );
    }
}
