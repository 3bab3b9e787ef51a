// SPDX-License-Identifier: Apache-2.0
//! The cipher over sectors: AES-XTS, and AES-CBC with ESSIV for reading.
//!
//! A [`SectorCipher`] holds the raw key only. Each call expands it into the caller's [`Scratch`],
//! works through any number of [`Run`]s, and wipes what it expanded: round keys exist for one batch.
//! IVs of many sectors, across runs, are encrypted together, so small requests gain from sharing a
//! call.
//!
//! Nothing here authenticates: a changed ciphertext decrypts to something else.
//!
//! Spec: IEEE 1619-2018 (XTS); dm-crypt's `plain64` and `essiv:sha256` (IV generation).

mod cbc;
mod run;
mod xts;

use std::fmt;
use std::str::FromStr;

use sha2::{Digest, Sha256};
use strongroom_sys::aes::{
    self, BLOCK_BYTES, Backend, Direction, Misuse, SCHEDULE_BYTES, Schedule,
};
use strongroom_sys::secret::SecretBytes;
use strongroom_sys::stack::on_secret_stack;

use crate::error::{Error, Result};

use run::Sectors;
pub use run::{Run, Transfer};

/// A cipher with its mode and IV generator, named as dm-crypt names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CipherKind {
    /// `aes-xts-plain64`, key of 32 or 64 bytes.
    XtsPlain64,
    /// `aes-cbc-essiv:sha256`, key of 16, 24 or 32 bytes, for reading only.
    CbcEssivSha256,
}

impl CipherKind {
    /// The name in LUKS2 metadata.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::XtsPlain64 => "aes-xts-plain64",
            Self::CbcEssivSha256 => "aes-cbc-essiv:sha256",
        }
    }

    /// Whether a key of `len` bytes fits.
    #[must_use]
    pub fn accepts_key_bytes(self, len: usize) -> bool {
        match self {
            Self::XtsPlain64 => matches!(len, 32 | 64),
            Self::CbcEssivSha256 => matches!(len, 16 | 24 | 32),
        }
    }
}

impl FromStr for CipherKind {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        [Self::XtsPlain64, Self::CbcEssivSha256]
            .into_iter()
            .find(|kind| kind.name() == name)
            .ok_or_else(|| Error::Unsupported {
                what: "cipher",
                name: name.to_owned(),
            })
    }
}

impl fmt::Display for CipherKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Bytes of one encryption sector: 512, 1024, 2048 or 4096.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SectorSize(usize);

impl SectorSize {
    /// The smallest, and the unit in which IVs count.
    pub const MIN: Self = Self(512);
    /// The largest.
    pub const MAX: Self = Self(4096);

    /// Checks a size in bytes.
    ///
    /// # Errors
    /// [`Error::Bounds`] for any other size.
    pub fn new(bytes: u32) -> Result<Self> {
        match bytes {
            512 | 1024 | 2048 | 4096 => Ok(Self(bytes as usize)),
            _ => Err(Error::Bounds("a sector has 512, 1024, 2048 or 4096 bytes")),
        }
    }

    /// The size in bytes.
    #[must_use]
    pub fn bytes(self) -> usize {
        self.0
    }

    /// By how much the IV of a sector exceeds that of the one before.
    fn iv_step(self) -> u64 {
        (self.0 / Self::MIN.0) as u64
    }
}

/// A key and what it is for. Only the raw key is kept, in secret memory.
pub struct SectorCipher {
    kind: CipherKind,
    key: SecretBytes,
    /// SHA-256 of the key, for ESSIV.
    iv_key: Option<SecretBytes>,
}

impl SectorCipher {
    /// Takes a copy of `key`.
    ///
    /// XTS keys whose halves are equal are accepted, as cryptsetup accepts them.
    ///
    /// # Errors
    /// [`Error::Format`] if the key's length does not fit, [`Error::Platform`] without memory.
    pub fn new(kind: CipherKind, key: &SecretBytes) -> Result<Self> {
        if !kind.accepts_key_bytes(key.len()) {
            return Err(Error::Format("the key's length does not fit the cipher"));
        }
        let iv_key = match kind {
            CipherKind::XtsPlain64 => None,
            CipherKind::CbcEssivSha256 => Some(sha256(key)?),
        };
        let mut copy = SecretBytes::new(key.len()).map_err(Error::secret_memory)?;
        aes::copy_key(copy.as_mut_slice(), key.as_slice());
        Ok(Self {
            kind,
            key: copy,
            iv_key,
        })
    }

    /// What the key is for.
    #[must_use]
    pub fn kind(&self) -> CipherKind {
        self.kind
    }

    /// Encrypts all runs in place.
    ///
    /// # Errors
    /// [`Error::Bounds`] if a run is not a whole number of sectors, and then no run has changed;
    /// [`Error::Unsupported`] for a cipher that is for reading only.
    pub fn encrypt(
        &self,
        scratch: &mut Scratch,
        runs: &mut [Run<'_>],
        sector_size: SectorSize,
    ) -> Result<()> {
        self.check_writable()?;
        self.transform(scratch, Direction::Encrypt, runs, sector_size)
    }

    /// Encrypts from one place to another.
    ///
    /// # Errors
    /// As [`SectorCipher::encrypt`], or a target is not as long as its source.
    pub fn encrypt_to(
        &self,
        scratch: &mut Scratch,
        transfers: &mut [Transfer<'_>],
        sector_size: SectorSize,
    ) -> Result<()> {
        self.check_writable()?;
        self.transform(scratch, Direction::Encrypt, transfers, sector_size)
    }

    /// Decrypts all runs in place.
    ///
    /// # Errors
    /// [`Error::Bounds`] if a run is not a whole number of sectors, and then no run has changed.
    pub fn decrypt(
        &self,
        scratch: &mut Scratch,
        runs: &mut [Run<'_>],
        sector_size: SectorSize,
    ) -> Result<()> {
        self.transform(scratch, Direction::Decrypt, runs, sector_size)
    }

    /// Decrypts from one place to another.
    ///
    /// # Errors
    /// As [`SectorCipher::decrypt`], or a target is not as long as its source.
    pub fn decrypt_to(
        &self,
        scratch: &mut Scratch,
        transfers: &mut [Transfer<'_>],
        sector_size: SectorSize,
    ) -> Result<()> {
        self.transform(scratch, Direction::Decrypt, transfers, sector_size)
    }

    fn check_writable(&self) -> Result<()> {
        match self.kind {
            CipherKind::XtsPlain64 => Ok(()),
            CipherKind::CbcEssivSha256 => Err(Error::Unsupported {
                what: "cipher for writing",
                name: self.kind.name().to_owned(),
            }),
        }
    }

    fn transform<S: Sectors>(
        &self,
        scratch: &mut Scratch,
        direction: Direction,
        runs: &mut [S],
        sector_size: SectorSize,
    ) -> Result<()> {
        if runs.iter().any(|run| run.len().is_none()) {
            return Err(Error::Bounds("a target is not as long as its source"));
        }
        let whole = |run: &S| {
            run.len()
                .is_some_and(|len| len.is_multiple_of(sector_size.bytes()))
        };
        if !runs.iter().all(whole) {
            return Err(Error::Bounds("a run is not a whole number of sectors"));
        }
        let key = self.key.as_slice();
        scratch.on_fitting_stack(|scratch| match &self.iv_key {
            None => xts::transform(key, scratch, direction, runs, sector_size),
            Some(iv_key) => cbc::decrypt(key, iv_key.as_slice(), scratch, runs, sector_size),
        })
    }
}

impl fmt::Debug for SectorCipher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SectorCipher({}, <redacted>)", self.kind)
    }
}

/// Working memory for one thread: a page of secret memory, and room for one sector of ciphertext.
pub struct Scratch {
    backend: Backend,
    secret: SecretBytes,
    ciphertext: Box<[u8]>,
}

impl Scratch {
    /// Allocates for this CPU's best backend.
    ///
    /// # Errors
    /// [`Error::Platform`] without memory.
    pub fn new() -> Result<Self> {
        Self::with_backend(Backend::best())
    }

    /// Allocates for a backend of the caller's choice: for tests, self tests and benchmarks.
    ///
    /// # Errors
    /// [`Error::Internal`] if this CPU cannot run it, [`Error::Platform`] without memory.
    pub fn with_backend(backend: Backend) -> Result<Self> {
        if !backend.is_available() {
            return Err(Error::Internal("this CPU cannot run the AES backend"));
        }
        Ok(Self {
            backend,
            secret: SecretBytes::new(SECRET_BYTES).map_err(Error::secret_memory)?,
            ciphertext: vec![0; SectorSize::MAX.bytes()].into(),
        })
    }

    /// How AES is computed.
    #[must_use]
    pub fn backend(&self) -> Backend {
        self.backend
    }

    /// Runs `work`; the portable backend, which spills round keys, on a stack in secret memory.
    fn on_fitting_stack<R>(&mut self, work: impl FnOnce(&mut Self) -> R) -> R {
        match self.backend {
            Backend::Portable => on_secret_stack(|| work(self)),
            Backend::VaesAvx512 | Backend::VaesAvx2 | Backend::AesNi => work(self),
        }
    }

    fn parts(&mut self) -> Parts<'_> {
        let secret = self.secret.as_mut_slice();
        let (data_schedule, rest) = secret.split_at_mut(SCHEDULE_BYTES);
        let (iv_schedule, ivs) = rest.split_at_mut(SCHEDULE_BYTES);
        Parts {
            data_schedule,
            iv_schedule,
            ivs,
            ciphertext: &mut self.ciphertext,
        }
    }
}

impl fmt::Debug for Scratch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Scratch({})", self.backend)
    }
}

/// A [`Scratch`], cut up.
struct Parts<'a> {
    data_schedule: &'a mut [u8],
    iv_schedule: &'a mut [u8],
    /// One block for each of [`BATCH_SECTORS`].
    ivs: &'a mut [u8],
    ciphertext: &'a mut [u8],
}

/// Most sectors whose IVs are encrypted together.
const BATCH_SECTORS: usize = 96;

/// Two schedules and a batch of IVs: one page.
const SECRET_BYTES: usize = 2 * SCHEDULE_BYTES + BATCH_SECTORS * BLOCK_BYTES;
const _: () = assert!(SECRET_BYTES == 4096);

/// The name of the backend that [`Scratch::new`] picks: `vaes-avx512`, `vaes-avx2`, `aes-ni` or `portable`.
#[must_use]
pub fn cipher_backend() -> &'static str {
    Backend::best().name()
}

/// Encrypts whole blocks in place, each by itself: for known-answer tests.
///
/// # Errors
/// [`Error::Internal`] if the key has not 16, 24 or 32 bytes, or a block is not whole.
pub fn aes_ecb_encrypt(scratch: &mut Scratch, key: &[u8], blocks: &mut [u8]) -> Result<()> {
    aes_ecb(scratch, Direction::Encrypt, key, blocks)
}

/// Decrypts whole blocks in place, each by itself: for known-answer tests.
///
/// # Errors
/// As [`aes_ecb_encrypt`].
pub fn aes_ecb_decrypt(scratch: &mut Scratch, key: &[u8], blocks: &mut [u8]) -> Result<()> {
    aes_ecb(scratch, Direction::Decrypt, key, blocks)
}

fn aes_ecb(
    scratch: &mut Scratch,
    direction: Direction,
    key: &[u8],
    blocks: &mut [u8],
) -> Result<()> {
    let backend = scratch.backend;
    scratch.on_fitting_stack(|scratch| {
        let memory = scratch.parts().data_schedule;
        let mut schedule = Schedule::expand(backend, direction, key, memory)?;
        Ok(schedule.ecb(blocks)?)
    })
}

/// Writes the unencrypted IV of each sector from `first_sector_512` on.
fn fill_plain64(ivs: &mut [u8], first_sector_512: u64, sector_size: SectorSize) {
    let mut sector = first_sector_512;
    for iv in ivs.as_chunks_mut::<BLOCK_BYTES>().0 {
        *iv = u128::from(sector).to_le_bytes();
        sector = sector.wrapping_add(sector_size.iv_step());
    }
}

/// The IV of the sector that is `index` sectors behind the one whose IV is `first_sector_512`.
fn sector_number(first_sector_512: u64, index: usize, sector_size: SectorSize) -> u64 {
    let distance = (index as u64).wrapping_mul(sector_size.iv_step());
    first_sector_512.wrapping_add(distance)
}

fn sha256(key: &SecretBytes) -> Result<SecretBytes> {
    let mut digest = SecretBytes::new(32).map_err(Error::secret_memory)?;
    on_secret_stack(|| {
        let mut hash = Sha256::new();
        hash.update(key.as_slice());
        digest
            .as_mut_slice()
            .copy_from_slice(hash.finalize().as_slice());
    });
    Ok(digest)
}

impl From<Misuse> for Error {
    fn from(misuse: Misuse) -> Self {
        Self::Internal(misuse.0)
    }
}

#[cfg(test)]
mod tests;
