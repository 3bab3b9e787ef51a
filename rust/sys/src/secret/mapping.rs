// SPDX-License-Identifier: Apache-2.0
//! Guarded mappings of secret memory, and the choice of what they are made of.

use std::ffi::c_void;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::ptr::{self, NonNull};
use std::sync::OnceLock;

/// What secrets are kept in, strongest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `memfd_secret(2)`: unmapped from the kernel itself, never swapped or dumped, out of reach
    /// of `/proc/PID/mem` and `ptrace` even for root.
    MemfdSecret,
    /// Ordinary pages, locked against swapping and left out of core dumps. Root can read them.
    Locked,
    /// Ordinary pages, left out of core dumps. They may be swapped out, and root can read them.
    Unlocked,
    /// Ordinary pages of a kernel that leaves nothing out of core dumps, such as the one inside a
    /// TEE. A forked child inherits them, and cannot use them either.
    Ordinary,
}

/// The most that a process sets aside: stacks for Argon2's threads, and the arena.
///
/// A lower `RLIMIT_MEMLOCK` would let a process begin with one kind of memory and end for lack of
/// it. Such limits are common: 64 KiB was the kernel's default before Linux 5.16.
const WORKING_BYTES: usize = 3584 * 1024;

/// Returns what secrets are kept in; decided at the first call, and the same ever after.
///
/// A kind is taken only if the process may have as much of it as it needs. Never falls back later:
/// once decided, memory that cannot be had in this kind is an error.
pub fn kind() -> Kind {
    static KIND: OnceLock<Kind> = OnceLock::new();
    *KIND.get_or_init(|| {
        for kind in [Kind::MemfdSecret, Kind::Locked, Kind::Unlocked] {
            if Mapping::of_kind(kind, 1).is_ok() && Mapping::is_allowed(kind, WORKING_BYTES) {
                return kind;
            }
        }
        Kind::Ordinary
    })
}

/// Tells whether `RLIMIT_MEMLOCK` is why secrets are in weaker memory than the kernel has; returns
/// the limit in bytes and what is needed.
#[must_use]
pub fn limit_in_the_way() -> Option<(u64, usize)> {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Memlock).current?;
    let weaker = matches!(kind(), Kind::Unlocked);
    (weaker && limit < WORKING_BYTES as u64).then_some((limit, WORKING_BYTES))
}

/// Zeroed secret memory between two pages that cannot be touched.
///
/// Not inherited by a forked child, never part of a core dump, but for [`Kind::Ordinary`]. Unmapped
/// on drop; wiping is the owner's business.
pub(crate) struct Mapping {
    /// Start of the reservation: the lower guard page.
    reservation: NonNull<u8>,
    /// Usable bytes, a multiple of the page size.
    len: usize,
}

#[expect(
    unsafe_code,
    reason = "a raw pointer to memory that only this value owns"
)]
// SAFETY: a `Mapping` owns its address range alone, and has no interior access of its own.
unsafe impl Send for Mapping {}

impl Mapping {
    /// Maps at least `len` bytes in the process-wide [`kind`].
    pub(crate) fn new(len: usize) -> io::Result<Self> {
        Self::of_kind(kind(), len)
    }

    fn of_kind(kind: Kind, len: usize) -> io::Result<Self> {
        let page = page_size();
        let out_of_memory = || io::Error::from_raw_os_error(libc::ENOMEM);
        let len = len
            .max(1)
            .checked_next_multiple_of(page)
            .ok_or_else(out_of_memory)?;
        let reserved = len.checked_add(2 * page).ok_or_else(out_of_memory)?;
        if isize::try_from(reserved).is_err() {
            return Err(out_of_memory());
        }
        // From here on `mapping` unmaps the whole reservation, whatever fails.
        let mapping = Self {
            reservation: map_reservation(reserved)?,
            len,
        };
        mapping.populate(kind)?;
        Ok(mapping)
    }

    /// Whether the kernel lets this process have `len` bytes of a kind; takes none of them.
    fn is_allowed(kind: Kind, len: usize) -> bool {
        let Ok(reservation) = map_reservation(len + 2 * page_size()) else {
            return false;
        };
        let mapping = Self { reservation, len };
        let base = mapping.base().as_ptr().cast::<c_void>();
        let result = match kind {
            Kind::MemfdSecret => {
                memfd_secret(len).and_then(|memory| map_shared_over(base, len, &memory))
            }
            Kind::Locked => {
                make_accessible(base, len).and_then(|()| lock(base, len, libc::MLOCK_ONFAULT))
            }
            Kind::Unlocked | Kind::Ordinary => Ok(()),
        };
        result.is_ok()
    }

    /// First usable byte, aligned to a page.
    pub(crate) fn base(&self) -> NonNull<u8> {
        // SAFETY: the reservation is two pages longer than `len`, so this stays inside it.
        #[expect(unsafe_code, reason = "address arithmetic inside one mapping")]
        unsafe {
            self.reservation.add(page_size())
        }
    }

    /// Usable bytes, a multiple of the page size.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    fn populate(&self, kind: Kind) -> io::Result<()> {
        let base = self.base().as_ptr().cast::<c_void>();
        match kind {
            Kind::MemfdSecret => {
                let memory = memfd_secret(self.len)?;
                map_shared_over(base, self.len, &memory)?;
                // The descriptor closes here: nothing is left to pass on or to reopen.
            }
            Kind::Locked | Kind::Unlocked | Kind::Ordinary => make_accessible(base, self.len)?,
        }
        if kind != Kind::Ordinary {
            advise(base, self.len, libc::MADV_DONTDUMP)?;
            advise(base, self.len, libc::MADV_DONTFORK)?;
        }
        if kind == Kind::Locked {
            lock(base, self.len, 0)?;
        }
        for offset in (0..self.len).step_by(page_size()) {
            // Faulting now turns a later lack of memory, which would be a signal, into one here,
            // at a moment when nothing is at stake yet.
            // SAFETY: `offset < len`, so the address lies in the usable range.
            #[expect(unsafe_code, reason = "address arithmetic inside one mapping")]
            let address = unsafe { self.base().add(offset) };
            // SAFETY: the range was just mapped readable and writable, and nobody else knows it.
            #[expect(unsafe_code, reason = "touching a page of our own mapping")]
            unsafe {
                address.write_volatile(0);
            }
        }
        Ok(())
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        let reserved = self.len + 2 * page_size();
        // SAFETY: exactly the range that `map_reservation` returned, and `self` owned it alone.
        #[expect(unsafe_code, reason = "unmapping our own mapping")]
        unsafe {
            libc::munmap(self.reservation.as_ptr().cast(), reserved);
        }
    }
}

/// The kernel's page size in bytes.
pub(crate) fn page_size() -> usize {
    rustix::param::page_size()
}

fn map_reservation(len: usize) -> io::Result<NonNull<u8>> {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
    // SAFETY: a new mapping at an address of the kernel's choice; no existing memory is touched.
    #[expect(unsafe_code, reason = "mmap is an unsafe call")]
    let address = unsafe { libc::mmap(ptr::null_mut(), len, libc::PROT_NONE, flags, -1, 0) };
    if address == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    NonNull::new(address.cast()).ok_or_else(|| io::Error::from_raw_os_error(libc::ENOMEM))
}

fn memfd_secret(len: usize) -> io::Result<OwnedFd> {
    // The kernel has no flag name for it in libc: FD_CLOEXEC is given as O_CLOEXEC.
    // SAFETY: takes one integer and touches no memory of ours.
    #[expect(unsafe_code, reason = "memfd_secret has no wrapper")]
    let fd = unsafe { libc::syscall(libc::SYS_memfd_secret, libc::O_CLOEXEC) };
    let fd = i32::try_from(fd).map_err(io::Error::other)?;
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel just returned this descriptor, so nobody else owns it.
    #[expect(unsafe_code, reason = "adopting a fresh descriptor")]
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    rustix::fs::ftruncate(&fd, len as u64)?;
    Ok(fd)
}

/// Replaces the part of our reservation at `base` by the memory of `fd`.
fn map_shared_over(base: *mut c_void, len: usize, fd: &OwnedFd) -> io::Result<()> {
    let access = libc::PROT_READ | libc::PROT_WRITE;
    let flags = libc::MAP_SHARED | libc::MAP_FIXED;
    // SAFETY: `base..base + len` lies inside a reservation that the caller owns and nobody uses.
    #[expect(unsafe_code, reason = "mmap is an unsafe call")]
    let address = unsafe { libc::mmap(base, len, access, flags, fd.as_raw_fd(), 0) };
    if address == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

fn make_accessible(base: *mut c_void, len: usize) -> io::Result<()> {
    // SAFETY: opens part of a reservation that the caller owns.
    #[expect(unsafe_code, reason = "mprotect is an unsafe call")]
    let result = unsafe { libc::mprotect(base, len, libc::PROT_READ | libc::PROT_WRITE) };
    check(result)
}

fn lock(base: *mut c_void, len: usize, flags: u32) -> io::Result<()> {
    // SAFETY: locking changes no contents, and the caller owns the range.
    #[expect(unsafe_code, reason = "mlock2 is an unsafe call")]
    let result = unsafe { libc::mlock2(base, len, flags as _) };
    check(result)
}

fn advise(base: *mut c_void, len: usize, advice: i32) -> io::Result<()> {
    // SAFETY: the callers only pass DONTDUMP and DONTFORK, which change no contents.
    #[expect(unsafe_code, reason = "madvise is an unsafe call")]
    let result = unsafe { libc::madvise(base, len, advice) };
    check(result)
}

fn check(result: i32) -> io::Result<()> {
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
    fn every_kind_can_be_mapped_and_written() {
        for kind in [
            Kind::MemfdSecret,
            Kind::Locked,
            Kind::Unlocked,
            Kind::Ordinary,
        ] {
            if kind == Kind::MemfdSecret && super::kind() != Kind::MemfdSecret {
                continue; // a kernel without it
            }
            let mapping = Mapping::of_kind(kind, 3 * page_size() + 1).unwrap();
            assert_eq!(mapping.len(), 4 * page_size(), "{kind:?}");
        }
    }

    #[test]
    fn absurd_sizes_are_refused() {
        assert!(Mapping::new(usize::MAX).is_err());
        assert!(Mapping::new(usize::MAX / 2).is_err());
    }
}
