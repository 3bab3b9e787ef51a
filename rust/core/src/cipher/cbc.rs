// SPDX-License-Identifier: Apache-2.0
//! AES-CBC with ESSIV, for reading old volumes and keyslots.

use strongroom_sys::aes::{self, BLOCK_BYTES, Direction, Schedule};

use super::{BATCH_SECTORS, Scratch, SectorSize, Sectors, fill_plain64, sector_number};
use crate::error::Result;

/// Decrypts all runs, each a whole number of sectors.
///
/// The IV of a sector is its number, encrypted with `iv_key`, the SHA-256 of `key`.
pub(super) fn decrypt<S: Sectors>(
    key: &[u8],
    iv_key: &[u8],
    scratch: &mut Scratch,
    runs: &mut [S],
    sector_size: SectorSize,
) -> Result<()> {
    let backend = scratch.backend;
    let parts = scratch.parts();
    let mut data = Schedule::expand(backend, Direction::Decrypt, key, parts.data_schedule)?;
    let mut iv = Schedule::expand(backend, Direction::Encrypt, iv_key, parts.iv_schedule)?;
    let ciphertext = &mut parts.ciphertext[..sector_size.bytes()];
    for run in runs {
        let run = run.in_place();
        let mut index = 0;
        while index * sector_size.bytes() < run.data.len() {
            let first = sector_number(run.first_sector_512, index, sector_size);
            let rest = &mut run.data[index * sector_size.bytes()..];
            let count = BATCH_SECTORS.min(rest.len() / sector_size.bytes());
            let ivs = &mut parts.ivs[..count * BLOCK_BYTES];
            fill_plain64(ivs, first, sector_size);
            iv.ecb(ivs)?;
            let sectors = rest.chunks_exact_mut(sector_size.bytes());
            for (sector, iv) in sectors.zip(ivs.chunks_exact(BLOCK_BYTES)) {
                decrypt_sector(&mut data, sector, iv, ciphertext)?;
            }
            aes::wipe(ivs);
            index += count;
        }
    }
    Ok(())
}

/// Decrypts one sector in place; `ciphertext` is room for as many bytes.
pub(super) fn decrypt_sector(
    schedule: &mut Schedule<'_>,
    sector: &mut [u8],
    iv: &[u8],
    ciphertext: &mut [u8],
) -> Result<()> {
    ciphertext.copy_from_slice(sector);
    schedule.ecb(sector)?;
    let previous = iv.iter().chain(ciphertext.iter());
    for (byte, previous) in sector.iter_mut().zip(previous) {
        *byte ^= previous;
    }
    Ok(())
}
