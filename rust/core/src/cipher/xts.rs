// SPDX-License-Identifier: Apache-2.0
//! AES-XTS over runs of sectors, in batches of sectors that may span runs.

use std::ops::Range;

use strongroom_sys::aes::{self, BLOCK_BYTES, Direction, Schedule};

use super::{BATCH_SECTORS, Scratch, SectorSize, Sectors, fill_plain64, sector_number};
use crate::error::Result;

/// Transforms all runs, each of equal lengths and a whole number of sectors; `key` has 32 or 64 bytes.
pub(super) fn transform<S: Sectors>(
    key: &[u8],
    scratch: &mut Scratch,
    direction: Direction,
    runs: &mut [S],
    sector_size: SectorSize,
) -> Result<()> {
    let backend = scratch.backend;
    let parts = scratch.parts();
    let (data_key, iv_key) = key.split_at(key.len() / 2);
    let mut data = Schedule::expand(backend, direction, data_key, parts.data_schedule)?;
    let mut iv = Schedule::expand(backend, Direction::Encrypt, iv_key, parts.iv_schedule)?;
    let mut start = Position::default();
    loop {
        let mut end = start;
        let mut used = 0;
        while let Some(piece) = end.advance(runs, BATCH_SECTORS - used, sector_size) {
            let first = runs[piece.run].first_sector_512();
            let first = sector_number(first, piece.sectors.start, sector_size);
            let count = piece.sectors.len();
            let ivs = &mut parts.ivs[used * BLOCK_BYTES..][..count * BLOCK_BYTES];
            fill_plain64(ivs, first, sector_size);
            used += count;
        }
        if used == 0 {
            break;
        }
        let mut tweaks = &mut parts.ivs[..used * BLOCK_BYTES];
        iv.ecb(tweaks)?;
        while let Some(piece) = start.advance(runs, tweaks.len() / BLOCK_BYTES, sector_size) {
            let (own, rest) = tweaks.split_at_mut(piece.sectors.len() * BLOCK_BYTES);
            let bytes = piece.bytes(sector_size);
            runs[piece.run].xts(&mut data, bytes, own, sector_size.bytes())?;
            aes::wipe(own);
            tweaks = rest;
        }
    }
    Ok(())
}

/// Neighbouring sectors of one run.
struct Piece {
    run: usize,
    sectors: Range<usize>,
}

impl Piece {
    fn bytes(&self, sector_size: SectorSize) -> Range<usize> {
        self.sectors.start * sector_size.bytes()..self.sectors.end * sector_size.bytes()
    }
}

/// A place in a list of runs.
#[derive(Clone, Copy, Default)]
struct Position {
    run: usize,
    sector: usize,
}

impl Position {
    /// Steps over the next piece of at most `room` sectors; `None` without room or at the end.
    fn advance<S: Sectors>(
        &mut self,
        runs: &[S],
        room: usize,
        sector_size: SectorSize,
    ) -> Option<Piece> {
        if room == 0 {
            return None;
        }
        loop {
            let sectors = runs.get(self.run)?.len()? / sector_size.bytes();
            if self.sector < sectors {
                let end = sectors.min(self.sector + room);
                let piece = Piece {
                    run: self.run,
                    sectors: self.sector..end,
                };
                self.sector = end;
                return Some(piece);
            }
            *self = Self {
                run: self.run + 1,
                sector: 0,
            };
        }
    }
}
