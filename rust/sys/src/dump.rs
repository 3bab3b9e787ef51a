// SPDX-License-Identifier: Apache-2.0
//! Work areas of ordinary memory, kept out of core dumps and wiped after use.
//!
//! For Argon2, whose gigabyte does not fit into secret memory. What lies in it is neither the
//! passphrase nor a key, but who copies it while Argon2 runs can finish the computation.

use std::ffi::c_void;
use std::io;
use std::ptr::{self, NonNull};
use std::slice;

use argon2::Block;

use crate::secret;

// The area is mapped in bytes and used in blocks.
const _: () = assert!(size_of::<Block>() == Block::SIZE && align_of::<Block>() <= 4096);

/// Argon2's memory: zero at first, wiped and unmapped when dropped.
///
/// In huge pages where the kernel has them, and locked as far as the limit allows.
pub struct WorkArea {
    base: NonNull<Block>,
    blocks: usize,
}

impl WorkArea {
    /// Maps `blocks` blocks of 1024 bytes.
    ///
    /// # Errors
    /// There is not enough memory, or `blocks` is zero.
    pub fn new(blocks: usize) -> io::Result<Self> {
        let bytes = blocks
            .checked_mul(Block::SIZE)
            .filter(|&bytes| isize::try_from(bytes).is_ok())
            .ok_or_else(|| io::Error::from_raw_os_error(libc::ENOMEM))?;
        let access = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        // SAFETY: a new mapping at an address of the kernel's choice; no existing memory is touched.
        #[expect(unsafe_code, reason = "mmap is an unsafe call")]
        let address = unsafe { libc::mmap(ptr::null_mut(), bytes, access, flags, -1, 0) };
        if address == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let base = NonNull::new(address.cast::<Block>())
            .ok_or_else(|| io::Error::from_raw_os_error(libc::ENOMEM))?;
        let area = Self { base, blocks };
        if secret::kind() != secret::Kind::Ordinary {
            advise(address, bytes, libc::MADV_DONTDUMP)?;
            advise(address, bytes, libc::MADV_DONTFORK)?;
        }
        // Huge pages and locking are for speed and against swapping; neither is promised.
        let _ = advise(address, bytes, libc::MADV_HUGEPAGE);
        // SAFETY: locking changes no contents, and the area is ours.
        #[expect(unsafe_code, reason = "mlock is an unsafe call")]
        let _ = unsafe { libc::mlock2(address, bytes, libc::MLOCK_ONFAULT) };
        Ok(area)
    }

    /// The blocks, for writing.
    #[must_use]
    pub fn as_mut_slice(&mut self) -> &mut [Block] {
        // SAFETY: the mapping holds `blocks` blocks, page-aligned; a block is an array of `u64`, for
        // which every bit pattern is valid; `&mut self` makes the access exclusive.
        #[expect(unsafe_code, reason = "a view of memory that this value owns")]
        unsafe {
            slice::from_raw_parts_mut(self.base.as_ptr(), self.blocks)
        }
    }
}

impl Drop for WorkArea {
    fn drop(&mut self) {
        // SAFETY: the mapping holds `blocks` blocks and is ours alone; all zeros is a valid block.
        #[expect(unsafe_code, reason = "overwriting our own mapping")]
        unsafe {
            self.base.as_ptr().write_bytes(0, self.blocks);
        }
        // The address escapes to a call that the compiler cannot look into, so it must carry out
        // the stores above.
        // SAFETY: exactly the range that `new` mapped, and nobody uses it any more.
        #[expect(unsafe_code, reason = "unmapping our own mapping")]
        unsafe {
            libc::munmap(self.base.as_ptr().cast(), self.blocks * Block::SIZE);
        }
    }
}

fn advise(base: *mut c_void, len: usize, advice: i32) -> io::Result<()> {
    // SAFETY: the callers pass advice that changes no contents.
    #[expect(unsafe_code, reason = "madvise is an unsafe call")]
    let result = unsafe { libc::madvise(base, len, advice) };
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
    fn is_zero_and_writable() {
        let mut area = WorkArea::new(64).unwrap();
        assert_eq!(area.as_mut_slice().len(), 64);
        for block in area.as_mut_slice() {
            assert!(block.as_ref().iter().all(|&word| word == 0));
            block.as_mut().fill(u64::MAX);
        }
    }

    #[test]
    fn impossible_sizes_are_errors() {
        assert!(WorkArea::new(0).is_err());
        assert!(WorkArea::new(usize::MAX).is_err());
        assert!(WorkArea::new(usize::MAX / 2048).is_err());
    }
}
