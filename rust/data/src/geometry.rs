// SPDX-License-Identifier: Apache-2.0
//! Where a volume lies in its backing store, and how its sectors are numbered.

use crate::error::{IoError, OpenError, Result};
use crate::transform::SectorSize;

/// Initialisation vectors count sectors of this size, whatever the volume's sector size is.
///
/// Spec: LUKS2 3.3, `iv_tweak`; dm-crypt without `iv_large_sectors`.
pub(crate) const IV_SECTOR_BYTES: u64 = 512;

/// The data segment of a volume.
#[derive(Clone, Copy, Debug)]
pub struct Geometry {
    /// Start of the segment in the backing store, in bytes; a multiple of 512.
    pub segment_offset_bytes: u64,
    /// Size of the segment in bytes; a multiple of the sector size, not zero.
    pub size_bytes: u64,
    /// The unit of encryption.
    pub sector_size: SectorSize,
    /// Added to the number of each sector, in sectors of 512 bytes.
    pub iv_tweak: u64,
    /// Refuse everything that changes data.
    pub read_only: bool,
    /// Pass trims on to the backing store, which shows it what is unused.
    pub discard: bool,
}

impl Geometry {
    /// Checks that the segment lies on the grid and inside `backing_bytes`.
    pub(crate) fn check(&self, backing_bytes: u64) -> std::result::Result<(), OpenError> {
        let sector_bytes = self.sector_size.bytes() as u64;
        if self.size_bytes == 0 || !self.size_bytes.is_multiple_of(sector_bytes) {
            return Err(OpenError::Geometry(
                "the segment's size is not a whole number of sectors",
            ));
        }
        if !self.segment_offset_bytes.is_multiple_of(IV_SECTOR_BYTES) {
            return Err(OpenError::Geometry(
                "the segment does not start on a multiple of 512 bytes",
            ));
        }
        let sectors = self.size_bytes / IV_SECTOR_BYTES;
        if self.iv_tweak.checked_add(sectors).is_none() {
            return Err(OpenError::Geometry("the sector numbers overflow"));
        }
        let end = self.segment_offset_bytes.checked_add(self.size_bytes);
        // File offsets are signed.
        if end.is_none_or(|end| end > backing_bytes.min(i64::MAX.cast_unsigned())) {
            return Err(OpenError::Geometry(
                "the segment reaches beyond the end of the image",
            ));
        }
        Ok(())
    }

    /// Checks a range of the volume.
    pub(crate) fn check_range(&self, offset: u64, length: u64) -> Result<()> {
        match offset.checked_add(length) {
            Some(end) if end <= self.size_bytes => Ok(()),
            _ => Err(IoError::OutOfBounds),
        }
    }

    /// Checks a range of the volume that is to be changed.
    pub(crate) fn check_change(&self, offset: u64, length: u64) -> Result<()> {
        if self.read_only {
            return Err(IoError::ReadOnly);
        }
        self.check_range(offset, length)
    }

    pub(crate) fn sector_bytes(&self) -> usize {
        self.sector_size.bytes()
    }

    /// Whether a range consists of whole sectors.
    pub(crate) fn on_grid(&self, offset: u64, length: usize) -> bool {
        self.within_sector(offset) == 0 && length.is_multiple_of(self.sector_bytes())
    }

    /// Distance of `offset` from the start of its sector.
    pub(crate) fn within_sector(&self, offset: u64) -> usize {
        // The remainder is below the sector size, so it fits.
        usize::try_from(offset % self.sector_bytes() as u64).unwrap_or(0)
    }

    /// The number that goes into the initialisation vector of the sector at `offset`.
    pub(crate) fn iv_sector(&self, offset: u64) -> u64 {
        self.iv_tweak + offset / IV_SECTOR_BYTES
    }

    /// Position in the backing store of a checked `offset`.
    pub(crate) fn position(&self, offset: u64) -> u64 {
        self.segment_offset_bytes + offset
    }

    /// Cuts a range into its part of a first sector, whole sectors, and its part of a last sector.
    pub(crate) fn cut(&self, offset: u64, length: usize) -> Cut {
        let sector_bytes = self.sector_bytes();
        let head = match self.within_sector(offset) {
            0 => 0,
            within => length.min(sector_bytes - within),
        };
        let middle = (length - head) / sector_bytes * sector_bytes;
        Cut { head, middle }
    }
}

/// Lengths in bytes; the tail is what remains.
pub(crate) struct Cut {
    pub(crate) head: usize,
    pub(crate) middle: usize,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::geometry;

    #[test]
    fn segments_off_the_grid_or_outside_are_refused() {
        let good = geometry(4096, 8192);
        assert_eq!(good.check(8192), Ok(()));
        let bad = [
            Geometry {
                size_bytes: 0,
                ..good
            },
            Geometry {
                size_bytes: 8192 + 512,
                ..good
            },
            Geometry {
                segment_offset_bytes: 100,
                ..good
            },
            Geometry {
                segment_offset_bytes: 512,
                ..good
            },
            Geometry {
                segment_offset_bytes: u64::MAX - 511,
                ..good
            },
            Geometry {
                iv_tweak: u64::MAX - 15,
                ..good
            },
        ];
        for case in bad {
            assert!(case.check(8192).is_err(), "{case:?}");
        }
    }

    #[test]
    fn ranges_that_overflow_are_out_of_bounds() {
        let geometry = geometry(512, 4096);
        assert!(geometry.check_range(0, 4096).is_ok());
        assert!(geometry.check_range(4096, 0).is_ok());
        for (offset, length) in [(0, 4097), (4096, 1), (u64::MAX, 1), (1, u64::MAX)] {
            assert_eq!(
                geometry.check_range(offset, length),
                Err(IoError::OutOfBounds)
            );
        }
    }

    #[test]
    fn cuts_add_up() {
        let geometry = geometry(4096, 1 << 20);
        for (offset, length, head, middle) in [
            (0, 4096, 0, 4096),
            (1, 1, 1, 0),
            (1, 4095, 4095, 0),
            (4095, 2, 1, 0),
            (1, 8192, 4095, 4096),
            (4096, 100, 0, 0),
        ] {
            let cut = geometry.cut(offset, length);
            assert_eq!((cut.head, cut.middle), (head, middle), "{offset}+{length}");
        }
    }
}
