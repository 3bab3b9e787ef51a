// SPDX-License-Identifier: Apache-2.0
//! What a cipher is given to transform.

use std::ops::Range;

use strongroom_sys::aes::{Misuse, Schedule};

/// Sectors that follow one another, to be transformed in place.
#[derive(Debug)]
pub struct Run<'a> {
    /// A whole number of sectors.
    pub data: &'a mut [u8],
    /// IV of the first sector, in units of 512 bytes whatever the sector size. Wraps at 2^64.
    pub first_sector_512: u64,
}

/// Sectors that follow one another, to be transformed from one place to another.
#[derive(Debug)]
pub struct Transfer<'a> {
    /// A whole number of sectors. Each byte is read once.
    pub source: &'a [u8],
    /// As long as the source. What it holds before does not matter.
    pub target: &'a mut [u8],
    /// As [`Run::first_sector_512`].
    pub first_sector_512: u64,
}

/// Sectors that follow one another, wherever the result goes.
pub(super) trait Sectors {
    /// Bytes to transform; `None` if source and target differ in length.
    fn len(&self) -> Option<usize>;

    /// As [`Run::first_sector_512`].
    fn first_sector_512(&self) -> u64;

    /// Transforms the sectors in `bytes` with XTS, given their encrypted tweaks.
    fn xts(
        &mut self,
        schedule: &mut Schedule<'_>,
        bytes: Range<usize>,
        tweaks: &[u8],
        sector_bytes: usize,
    ) -> Result<(), Misuse>;

    /// The place of the result, which now holds what is to be transformed.
    fn in_place(&mut self) -> Run<'_>;
}

impl Sectors for Run<'_> {
    fn len(&self) -> Option<usize> {
        Some(self.data.len())
    }

    fn first_sector_512(&self) -> u64 {
        self.first_sector_512
    }

    fn xts(
        &mut self,
        schedule: &mut Schedule<'_>,
        bytes: Range<usize>,
        tweaks: &[u8],
        sector_bytes: usize,
    ) -> Result<(), Misuse> {
        schedule.xts(&mut self.data[bytes], tweaks, sector_bytes)
    }

    fn in_place(&mut self) -> Run<'_> {
        Run {
            data: self.data,
            first_sector_512: self.first_sector_512,
        }
    }
}

impl Sectors for Transfer<'_> {
    fn len(&self) -> Option<usize> {
        (self.source.len() == self.target.len()).then_some(self.source.len())
    }

    fn first_sector_512(&self) -> u64 {
        self.first_sector_512
    }

    fn xts(
        &mut self,
        schedule: &mut Schedule<'_>,
        bytes: Range<usize>,
        tweaks: &[u8],
        sector_bytes: usize,
    ) -> Result<(), Misuse> {
        let target = &mut self.target[bytes.clone()];
        schedule.xts_to(target, &self.source[bytes], tweaks, sector_bytes)
    }

    fn in_place(&mut self) -> Run<'_> {
        self.target.copy_from_slice(self.source);
        Run {
            data: self.target,
            first_sector_512: self.first_sector_512,
        }
    }
}
