// SPDX-License-Identifier: Apache-2.0
//! The instruction kernels of x86-64, and the choice between them.
//!
//! Every kernel keeps the System V calling convention, touches no stack but to read a seventh
//! argument, reads round keys as memory operands only, and zeroes the vector registers it used.

mod aes_ni;
mod expand;
mod vaes_avx2;
mod vaes_avx512;

use std::arch::asm;

use super::{BLOCK_BYTES, Backend, Direction, XTS_UNIT_BYTES};

/// `expand(key, memory, words, last)`: from a key of `words` words.
type Expand = unsafe extern "sysv64" fn(*const u8, *mut u8, usize, usize);

/// `ecb(data, blocks, keys, last)`: `last` is the distance of the last round key in bytes.
type Ecb = unsafe extern "sysv64" fn(*mut u8, usize, *const u8, usize);

/// `xts(source, tweaks, sectors, units_per_sector, keys, last, target)`: each byte of the source is
/// read once, and the target may be the source.
type Xts = unsafe extern "sysv64" fn(*const u8, *const u8, usize, usize, *mut u8, usize, *mut u8);

/// Distance of neighbouring round keys in a schedule, in bytes.
const ROUND_KEY_STRIDE: usize = 64;

/// The kernels of a backend for one direction.
struct KernelSet {
    expand: Expand,
    ecb: Ecb,
    xts: Xts,
}

impl KernelSet {
    fn of(backend: Backend, direction: Direction) -> Self {
        use Direction::{Decrypt, Encrypt};
        let (expand, ecb, xts): (Expand, Ecb, Xts) = match (backend, direction) {
            (Backend::VaesAvx512, Encrypt) => (
                expand::encrypt_512,
                vaes_avx512::ecb_encrypt,
                vaes_avx512::xts_encrypt,
            ),
            (Backend::VaesAvx512, Decrypt) => (
                expand::decrypt_512,
                vaes_avx512::ecb_decrypt,
                vaes_avx512::xts_decrypt,
            ),
            (Backend::VaesAvx2, Encrypt) => (
                expand::encrypt_256,
                vaes_avx2::ecb_encrypt,
                vaes_avx2::xts_encrypt,
            ),
            (Backend::VaesAvx2, Decrypt) => (
                expand::decrypt_256,
                vaes_avx2::ecb_decrypt,
                vaes_avx2::xts_decrypt,
            ),
            (_, Encrypt) => (
                expand::encrypt_128,
                aes_ni::ecb_encrypt,
                aes_ni::xts_encrypt,
            ),
            (_, Decrypt) => (
                expand::decrypt_128,
                aes_ni::ecb_decrypt,
                aes_ni::xts_decrypt,
            ),
        };
        Self { expand, ecb, xts }
    }
}

/// The kernels that fit a schedule.
pub(super) struct Kernels {
    ecb: Ecb,
    xts: Xts,
    last: usize,
}

impl Kernels {
    /// Expands `key`, whose length is 16, 24 or 32, into `memory`, which is a schedule's.
    ///
    /// The CPU must have `backend`, which is not [`Backend::Portable`].
    pub(super) fn expand(
        backend: Backend,
        direction: Direction,
        key: &[u8],
        memory: &mut [u8],
    ) -> Self {
        let words = key.len() / 4;
        let last = (words + 6) * ROUND_KEY_STRIDE;
        assert!(matches!(words, 4 | 6 | 8) && memory.len() >= super::SCHEDULE_BYTES);
        let KernelSet { expand, ecb, xts } = KernelSet::of(backend, direction);
        // SAFETY: `key` has `words` words and `memory` room for a schedule, as asserted; the CPU
        // has the instructions of the backend, which the caller has checked.
        #[expect(unsafe_code, reason = "calling a kernel")]
        unsafe {
            expand(key.as_ptr(), memory.as_mut_ptr(), words, last);
        }
        Self { ecb, xts, last }
    }

    /// `memory` is what [`Kernels::expand`] filled; `blocks` is a whole number of them.
    pub(super) fn ecb(&self, memory: &[u8], blocks: &mut [u8]) {
        assert!(memory.len() >= super::SCHEDULE_BYTES);
        let count = blocks.len() / BLOCK_BYTES;
        // SAFETY: the kernel touches `count` blocks at `blocks` and the schedule at `memory`.
        #[expect(unsafe_code, reason = "calling a kernel")]
        unsafe {
            (self.ecb)(blocks.as_mut_ptr(), count, memory.as_ptr(), self.last);
        }
    }

    /// In place; `memory` is what [`Kernels::expand`] filled; the lengths fit together.
    pub(super) fn xts(
        &self,
        memory: &mut [u8],
        data: &mut [u8],
        tweaks: &[u8],
        sector_bytes: usize,
    ) {
        let start = data.as_mut_ptr();
        // SAFETY: `data` is the caller's alone, to read and to write.
        #[expect(unsafe_code, reason = "passing pointers on")]
        unsafe {
            self.xts_between(memory, start, start, data.len(), tweaks, sector_bytes);
        }
    }

    /// From `source` to `target`, which is as long; otherwise as [`Kernels::xts`].
    pub(super) fn xts_to(
        &self,
        memory: &mut [u8],
        target: &mut [u8],
        source: &[u8],
        tweaks: &[u8],
        sector_bytes: usize,
    ) {
        assert_eq!(source.len(), target.len(), "a sector keeps its length");
        let (from, to) = (source.as_ptr(), target.as_mut_ptr());
        // SAFETY: as many bytes as `source` has may be read there, and written to `target`.
        #[expect(unsafe_code, reason = "passing pointers on")]
        unsafe {
            self.xts_between(memory, from, to, source.len(), tweaks, sector_bytes);
        }
    }

    /// # Safety
    /// `len` bytes may be read at `source` and written at `target`, which may be the same.
    #[expect(unsafe_code, reason = "works on pointers, which may be equal")]
    unsafe fn xts_between(
        &self,
        memory: &mut [u8],
        source: *const u8,
        target: *mut u8,
        len: usize,
        tweaks: &[u8],
        sector_bytes: usize,
    ) {
        assert!(memory.len() >= super::SCHEDULE_BYTES);
        let units_per_sector = sector_bytes / XTS_UNIT_BYTES;
        let sectors = len / sector_bytes;
        assert!(tweaks.len() >= sectors * BLOCK_BYTES && units_per_sector > 0);
        if sectors == 0 {
            return;
        }
        // SAFETY: the kernel touches `sectors * units_per_sector * 512` bytes, at most `len`, at
        // `source` and `target`, one block for each sector at `tweaks`, and the schedule at
        // `memory`; neither count is zero.
        unsafe {
            (self.xts)(
                source,
                tweaks.as_ptr(),
                sectors,
                units_per_sector,
                memory.as_mut_ptr(),
                self.last,
                target,
            );
        }
    }
}

pub(super) fn has_aes_ni() -> bool {
    is_x86_feature_detected!("aes") && is_x86_feature_detected!("ssse3")
}

pub(super) fn has_vaes_avx2() -> bool {
    has_aes_ni()
        && is_x86_feature_detected!("avx2")
        && is_x86_feature_detected!("vaes")
        && is_x86_feature_detected!("vpclmulqdq")
}

pub(super) fn has_vaes_avx512() -> bool {
    has_aes_ni()
        && is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("bmi2")
        && is_x86_feature_detected!("vaes")
        && is_x86_feature_detected!("vpclmulqdq")
}

/// Copies inside the memory system: `rep movsb` passes no architectural register.
///
/// The lengths are equal.
pub(super) fn copy_key(target: &mut [u8], source: &[u8]) {
    // SAFETY: both slices have `target.len()` bytes and cannot overlap; the direction flag is
    // clear by the calling convention.
    #[expect(unsafe_code, reason = "one instruction")]
    unsafe {
        asm!(
            "rep movsb",
            inout("rcx") target.len() => _,
            inout("rdi") target.as_mut_ptr() => _,
            inout("rsi") source.as_ptr() => _,
            options(nostack, preserves_flags),
        );
    }
}

#[cfg(test)]
mod tests;
