// SPDX-License-Identifier: Apache-2.0
//! AES whose round keys stay in memory that the caller chose, normally secret memory.
//!
//! A core dump holds every register of every thread. So the instruction kernels of this module use
//! round keys as memory operands only, and the key expansion moves them in words of 32 bits: no
//! register ever holds more of a round key than one word. What the registers do hold is the cipher
//! state, whose first value is `input ^ round key 0`: who catches that instant and knows the input
//! learns the key. Being ordinary memory to a debugger on the same CPU, that is as good as software
//! can be.
//!
//! [`Backend::Portable`] promises less: the `aes` crate handles its keys as the compiler likes, on
//! the stack and in registers. Callers run it on a stack in secret memory.
//!
//! A [`Schedule`] is one expanded key for one direction. It is wiped when dropped.

mod portable;
#[cfg(target_arch = "x86_64")]
mod x86;

use std::fmt;
use std::sync::OnceLock;

use portable::PortableKey;

/// Bytes of memory that one [`Schedule`] needs.
///
/// ```text
/// 0     round keys, 64 bytes apart, each repeated to fill a register of the backend's width
/// 960   work area: the packed round keys during expansion, then tweaks (AES-NI)
/// 1216  unused
/// ```
pub const SCHEDULE_BYTES: usize = 1280;

/// [`Schedule`] memory starts at a multiple of this.
pub const SCHEDULE_ALIGNMENT: usize = 64;

/// AES block length in bytes.
pub const BLOCK_BYTES: usize = 16;

/// [`Schedule::xts`] works on multiples of this.
pub const XTS_UNIT_BYTES: usize = 512;

/// A way to compute AES.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    /// 32 blocks in flight in 512-bit registers.
    VaesAvx512,
    /// 16 blocks in flight in 256-bit registers.
    VaesAvx2,
    /// 8 blocks in flight in 128-bit registers.
    AesNi,
    /// The `aes` crate; round keys may be seen in registers and on the stack.
    Portable,
}

impl Backend {
    /// Every backend, the best first.
    pub const ALL: [Self; 4] = [
        Self::VaesAvx512,
        Self::VaesAvx2,
        Self::AesNi,
        Self::Portable,
    ];

    /// The best backend of this CPU. Detected once.
    #[must_use]
    pub fn best() -> Self {
        static BEST: OnceLock<Backend> = OnceLock::new();
        *BEST.get_or_init(|| {
            Self::ALL
                .into_iter()
                .find(|backend| backend.is_available())
                .unwrap_or(Self::Portable)
        })
    }

    /// Whether this CPU can run it.
    #[must_use]
    pub fn is_available(self) -> bool {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::VaesAvx512 => x86::has_vaes_avx512(),
            #[cfg(target_arch = "x86_64")]
            Self::VaesAvx2 => x86::has_vaes_avx2(),
            #[cfg(target_arch = "x86_64")]
            Self::AesNi => x86::has_aes_ni(),
            #[cfg(not(target_arch = "x86_64"))]
            Self::VaesAvx512 | Self::VaesAvx2 | Self::AesNi => false,
            Self::Portable => true,
        }
    }

    /// The name that `status` prints.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::VaesAvx512 => "vaes-avx512",
            Self::VaesAvx2 => "vaes-avx2",
            Self::AesNi => "aes-ni",
            Self::Portable => "portable",
        }
    }
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What a [`Schedule`] is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Plaintext to ciphertext.
    Encrypt,
    /// Ciphertext to plaintext.
    Decrypt,
}

/// The caller broke a rule of this module; the text says which.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Misuse(pub &'static str);

impl fmt::Display for Misuse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for Misuse {}

/// An expanded key in the caller's memory, for one direction.
pub struct Schedule<'a> {
    memory: &'a mut [u8],
    engine: Engine,
}

/// What [`Schedule::memory`] holds.
enum Engine {
    #[cfg(target_arch = "x86_64")]
    X86(x86::Kernels),
    Portable(PortableKey),
}

impl<'a> Schedule<'a> {
    /// Expands `key` (16, 24 or 32 bytes) into the first [`SCHEDULE_BYTES`] of `memory`.
    ///
    /// # Errors
    /// The key has another length, the memory is too small or not aligned to
    /// [`SCHEDULE_ALIGNMENT`], or this CPU cannot run `backend`.
    pub fn expand(
        backend: Backend,
        direction: Direction,
        key: &[u8],
        memory: &'a mut [u8],
    ) -> Result<Self, Misuse> {
        if !matches!(key.len(), 16 | 24 | 32) {
            return Err(Misuse("an AES key has 16, 24 or 32 bytes"));
        }
        if !backend.is_available() {
            return Err(Misuse("this CPU cannot run the AES backend"));
        }
        if !memory.as_ptr().addr().is_multiple_of(SCHEDULE_ALIGNMENT) {
            return Err(Misuse("the memory for an AES schedule is not aligned"));
        }
        let memory = memory
            .get_mut(..SCHEDULE_BYTES)
            .ok_or(Misuse("the memory for an AES schedule is too small"))?;
        let engine = match backend {
            #[cfg(target_arch = "x86_64")]
            Backend::VaesAvx512 | Backend::VaesAvx2 | Backend::AesNi => {
                Engine::X86(x86::Kernels::expand(backend, direction, key, memory))
            }
            _ => Engine::Portable(PortableKey::expand(direction, key, memory)),
        };
        Ok(Self { memory, engine })
    }

    /// Transforms each block by itself, in place.
    ///
    /// # Errors
    /// The length is not a multiple of [`BLOCK_BYTES`].
    pub fn ecb(&mut self, blocks: &mut [u8]) -> Result<(), Misuse> {
        if !blocks.len().is_multiple_of(BLOCK_BYTES) {
            return Err(Misuse("not a whole number of AES blocks"));
        }
        match &self.engine {
            #[cfg(target_arch = "x86_64")]
            Engine::X86(kernels) => kernels.ecb(self.memory, blocks),
            Engine::Portable(key) => key.ecb(self.memory, blocks),
        }
        Ok(())
    }

    /// Transforms sectors in place with XTS, given each sector's encrypted tweak.
    ///
    /// `tweaks` holds [`BLOCK_BYTES`] for each sector of `data`. A sector is one data unit.
    ///
    /// # Errors
    /// `sector_bytes` is not a positive multiple of [`XTS_UNIT_BYTES`], or the lengths do not fit
    /// together.
    ///
    /// Spec: IEEE 1619-2018, 5.3 and 5.4.
    pub fn xts(
        &mut self,
        data: &mut [u8],
        tweaks: &[u8],
        sector_bytes: usize,
    ) -> Result<(), Misuse> {
        check_xts(data.len(), tweaks, sector_bytes)?;
        match &self.engine {
            #[cfg(target_arch = "x86_64")]
            Engine::X86(kernels) => kernels.xts(self.memory, data, tweaks, sector_bytes),
            Engine::Portable(key) => key.xts(self.memory, data, tweaks, sector_bytes),
        }
        Ok(())
    }

    /// Transforms sectors from `source` to `target`, otherwise as [`Schedule::xts`].
    ///
    /// Each byte of the source is read once.
    ///
    /// # Errors
    /// As [`Schedule::xts`], or the source is not as long as the target.
    pub fn xts_to(
        &mut self,
        target: &mut [u8],
        source: &[u8],
        tweaks: &[u8],
        sector_bytes: usize,
    ) -> Result<(), Misuse> {
        if source.len() != target.len() {
            return Err(Misuse("XTS keeps the length of what it transforms"));
        }
        check_xts(source.len(), tweaks, sector_bytes)?;
        match &self.engine {
            #[cfg(target_arch = "x86_64")]
            Engine::X86(kernels) => {
                kernels.xts_to(self.memory, target, source, tweaks, sector_bytes);
            }
            Engine::Portable(key) => {
                target.copy_from_slice(source);
                key.xts(self.memory, target, tweaks, sector_bytes);
            }
        }
        Ok(())
    }
}

/// Whether `len` bytes of data are whole sectors with a tweak each.
fn check_xts(len: usize, tweaks: &[u8], sector_bytes: usize) -> Result<(), Misuse> {
    if sector_bytes == 0 || !sector_bytes.is_multiple_of(XTS_UNIT_BYTES) {
        return Err(Misuse("a sector is not a multiple of 512 bytes"));
    }
    let sectors = len / sector_bytes;
    if !len.is_multiple_of(sector_bytes) || tweaks.len() != sectors * BLOCK_BYTES {
        return Err(Misuse("XTS needs one tweak for each whole sector"));
    }
    Ok(())
}

impl Drop for Schedule<'_> {
    fn drop(&mut self) {
        wipe(self.memory);
    }
}

impl fmt::Debug for Schedule<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Schedule(<redacted>)")
    }
}

/// Overwrites `bytes` with zeros in a way that the compiler does not remove.
pub fn wipe(bytes: &mut [u8]) {
    bytes.fill(0);
    // Not `zeroize`: its byte-wise volatile writes take longer than encrypting a small request.
    // SAFETY: no instructions. The compiler must assume that they read what the pointer reaches.
    #[expect(unsafe_code, reason = "an empty asm block keeps the stores alive")]
    unsafe {
        std::arch::asm!("/* {} */", in(reg) bytes.as_mut_ptr(), options(nostack, preserves_flags));
    }
}

/// Copies key bytes without leaving them in vector registers, where `memcpy` would.
///
/// # Panics
/// The lengths differ.
pub fn copy_key(target: &mut [u8], source: &[u8]) {
    assert_eq!(target.len(), source.len(), "a key copy changes no length");
    #[cfg(target_arch = "x86_64")]
    x86::copy_key(target, source);
    #[cfg(not(target_arch = "x86_64"))]
    target.copy_from_slice(source);
}

#[cfg(test)]
mod tests;
