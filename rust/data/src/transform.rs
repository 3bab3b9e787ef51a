// SPDX-License-Identifier: Apache-2.0
//! What turns plaintext sectors into ciphertext sectors and back, apart from how they are moved.

pub(crate) use strongroom_core::cipher::{Run, Scratch, SectorSize, Transfer};

use strongroom_core::cipher::SectorCipher;

use crate::error::{IoError, Result};

/// A length-preserving transform of whole sectors, keyed by the sector's number.
pub trait SectorTransform: Send + Sync {
    /// Encrypts runs of sectors in place.
    ///
    /// # Errors
    /// [`crate::IoError::Cipher`] when a run is not whole sectors, or the cipher can only be read.
    fn encrypt(
        &self,
        scratch: &mut Scratch,
        runs: &mut [Run<'_>],
        sector_size: SectorSize,
    ) -> Result<()>;

    /// Encrypts sectors from one place to another.
    ///
    /// # Errors
    /// As [`SectorTransform::encrypt`], or a target is not as long as its source.
    fn encrypt_to(
        &self,
        scratch: &mut Scratch,
        transfers: &mut [Transfer<'_>],
        sector_size: SectorSize,
    ) -> Result<()>;

    /// Decrypts sectors from one place to another.
    ///
    /// # Errors
    /// As [`SectorTransform::encrypt_to`].
    fn decrypt_to(
        &self,
        scratch: &mut Scratch,
        transfers: &mut [Transfer<'_>],
        sector_size: SectorSize,
    ) -> Result<()>;

    /// Decrypts runs of sectors in place.
    ///
    /// # Errors
    /// As [`SectorTransform::encrypt`].
    fn decrypt(
        &self,
        scratch: &mut Scratch,
        runs: &mut [Run<'_>],
        sector_size: SectorSize,
    ) -> Result<()>;
}

impl SectorTransform for SectorCipher {
    fn encrypt(
        &self,
        scratch: &mut Scratch,
        runs: &mut [Run<'_>],
        sector_size: SectorSize,
    ) -> Result<()> {
        Self::encrypt(self, scratch, runs, sector_size).map_err(|_| IoError::Cipher)
    }

    fn encrypt_to(
        &self,
        scratch: &mut Scratch,
        transfers: &mut [Transfer<'_>],
        sector_size: SectorSize,
    ) -> Result<()> {
        Self::encrypt_to(self, scratch, transfers, sector_size).map_err(|_| IoError::Cipher)
    }

    fn decrypt_to(
        &self,
        scratch: &mut Scratch,
        transfers: &mut [Transfer<'_>],
        sector_size: SectorSize,
    ) -> Result<()> {
        Self::decrypt_to(self, scratch, transfers, sector_size).map_err(|_| IoError::Cipher)
    }

    fn decrypt(
        &self,
        scratch: &mut Scratch,
        runs: &mut [Run<'_>],
        sector_size: SectorSize,
    ) -> Result<()> {
        Self::decrypt(self, scratch, runs, sector_size).map_err(|_| IoError::Cipher)
    }
}
