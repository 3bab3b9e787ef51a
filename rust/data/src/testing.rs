// SPDX-License-Identifier: Apache-2.0
//! A store in memory that fails on demand, and a toy cipher that shows misplaced sectors.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use crate::backing::Backing;
use crate::error::{IoError, Result};
use crate::geometry::Geometry;
use crate::transform::{Run, Scratch, SectorSize, SectorTransform, Transfer};
use crate::volume::Volume;

/// Where the segment of a test volume starts.
pub(crate) const SEGMENT_OFFSET: u64 = 1024;

pub(crate) struct MemoryBacking {
    bytes: Mutex<Vec<u8>>,
    /// Number of writes until one fails, and its `errno`.
    write_fault: Mutex<Option<(u64, i32)>>,
    pub(crate) bad_position: AtomicU64,
    pub(crate) fail_flush: AtomicBool,
    pub(crate) flushes: AtomicU64,
    pub(crate) holes: Mutex<Vec<(u64, u64)>>,
    pub(crate) begun: Mutex<Vec<(u64, u64)>>,
}

impl MemoryBacking {
    pub(crate) fn new(size: u64) -> Arc<Self> {
        Arc::new(Self {
            bytes: Mutex::new(vec![0xA5; usize::try_from(size).unwrap()]),
            write_fault: Mutex::new(None),
            bad_position: AtomicU64::new(u64::MAX),
            fail_flush: AtomicBool::new(false),
            flushes: AtomicU64::new(0),
            holes: Mutex::new(Vec::new()),
            begun: Mutex::new(Vec::new()),
        })
    }

    /// Makes the `n`th write from now fail, counted from zero, and all after it.
    pub(crate) fn fail_writes_after(&self, n: u64, errno: i32) {
        *self.write_fault.lock().unwrap() = Some((n, errno));
    }

    pub(crate) fn mend_writes(&self) {
        *self.write_fault.lock().unwrap() = None;
    }

    pub(crate) fn shrink(&self, size: usize) {
        self.bytes.lock().unwrap().truncate(size);
    }

    pub(crate) fn grow(&self, size: usize) {
        self.bytes.lock().unwrap().resize(size, 0);
    }

    pub(crate) fn contents(&self) -> Vec<u8> {
        self.bytes.lock().unwrap().clone()
    }
}

impl Backing for MemoryBacking {
    fn size(&self) -> io::Result<u64> {
        Ok(self.bytes.lock().unwrap().len() as u64)
    }

    fn reaches(&self, end: u64) -> io::Result<bool> {
        Ok(self.size()? >= end)
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let bad = self.bad_position.load(Ordering::Relaxed);
        if (offset..offset + buffer.len() as u64).contains(&bad) {
            return Err(io::Error::from_raw_os_error(5));
        }
        let bytes = self.bytes.lock().unwrap();
        let start = usize::try_from(offset).unwrap();
        match bytes.get(start..start + buffer.len()) {
            Some(source) => buffer.copy_from_slice(source),
            None => return Err(io::ErrorKind::UnexpectedEof.into()),
        }
        Ok(())
    }

    fn write_at(&self, buffer: &[u8], offset: u64) -> io::Result<()> {
        if let Some((left, errno)) = self.write_fault.lock().unwrap().as_mut() {
            if *left == 0 {
                return Err(io::Error::from_raw_os_error(*errno));
            }
            *left -= 1;
        }
        let start = usize::try_from(offset).unwrap();
        self.bytes.lock().unwrap()[start..start + buffer.len()].copy_from_slice(buffer);
        Ok(())
    }

    fn flush(&self) -> io::Result<()> {
        self.flushes.fetch_add(1, Ordering::Relaxed);
        if self.fail_flush.load(Ordering::Relaxed) {
            return Err(io::Error::from_raw_os_error(5));
        }
        Ok(())
    }

    fn begin_writeback(&self, offset: u64, length: u64) {
        self.begun.lock().unwrap().push((offset, length));
    }

    fn punch_hole(&self, offset: u64, length: u64) -> io::Result<()> {
        self.holes.lock().unwrap().push((offset, length));
        let start = usize::try_from(offset).unwrap();
        let end = start + usize::try_from(length).unwrap();
        self.bytes.lock().unwrap()[start..end].fill(0);
        Ok(())
    }

    fn prefetch(&self, _offset: u64, _length: u64) -> io::Result<()> {
        Ok(())
    }
}

/// XOR with bytes that depend on the sector's number and the place in it.
pub(crate) struct XorTransform;

impl XorTransform {
    fn apply(runs: &mut [Run<'_>], sector_size: SectorSize) -> Result<()> {
        for run in runs {
            if !run.data.len().is_multiple_of(sector_size.bytes()) {
                return Err(IoError::Cipher);
            }
            let step = sector_size.bytes() as u64 / 512;
            for (index, sector) in run.data.chunks_mut(sector_size.bytes()).enumerate() {
                let number = run.first_sector_512 + index as u64 * step;
                for (place, byte) in sector.iter_mut().enumerate() {
                    *byte ^= number.wrapping_mul(167).to_le_bytes()[0] ^ place.to_le_bytes()[0];
                }
            }
        }
        Ok(())
    }
}

impl XorTransform {
    fn apply_to(transfers: &mut [Transfer<'_>], sector_size: SectorSize) -> Result<()> {
        for transfer in transfers {
            transfer.target.copy_from_slice(transfer.source);
            let mut run = [Run {
                data: transfer.target,
                first_sector_512: transfer.first_sector_512,
            }];
            Self::apply(&mut run, sector_size)?;
        }
        Ok(())
    }
}

impl SectorTransform for XorTransform {
    fn encrypt(&self, _: &mut Scratch, runs: &mut [Run<'_>], size: SectorSize) -> Result<()> {
        Self::apply(runs, size)
    }

    fn decrypt(&self, _: &mut Scratch, runs: &mut [Run<'_>], size: SectorSize) -> Result<()> {
        Self::apply(runs, size)
    }

    fn encrypt_to(&self, _: &mut Scratch, to: &mut [Transfer<'_>], size: SectorSize) -> Result<()> {
        Self::apply_to(to, size)
    }

    fn decrypt_to(&self, _: &mut Scratch, to: &mut [Transfer<'_>], size: SectorSize) -> Result<()> {
        Self::apply_to(to, size)
    }
}

/// A segment of `size` bytes at the start of its store.
pub(crate) fn geometry(sector_bytes: u32, size: u64) -> Geometry {
    Geometry {
        segment_offset_bytes: 0,
        size_bytes: size,
        sector_size: sector_size(sector_bytes),
        iv_tweak: 0,
        read_only: false,
        discard: true,
    }
}

pub(crate) fn sector_size(bytes: u32) -> SectorSize {
    SectorSize::new(bytes).unwrap()
}

/// A volume of `size` bytes behind [`SEGMENT_OFFSET`], after `change` had its way.
pub(crate) fn volume_with(
    sector_bytes: u32,
    size: u64,
    change: impl FnOnce(&mut Geometry),
) -> (Arc<MemoryBacking>, Arc<Volume>) {
    let backing = MemoryBacking::new(SEGMENT_OFFSET + size);
    let mut geometry = Geometry {
        segment_offset_bytes: SEGMENT_OFFSET,
        iv_tweak: 7,
        ..geometry(sector_bytes, size)
    };
    change(&mut geometry);
    let volume = Volume::new(backing.clone(), Box::new(XorTransform), geometry).unwrap();
    (backing, Arc::new(volume))
}

pub(crate) fn volume(sector_bytes: u32, size: u64) -> (Arc<MemoryBacking>, Arc<Volume>) {
    volume_with(sector_bytes, size, |_| {})
}

/// A small generator of test inputs: `SplitMix64`.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    pub(crate) fn bytes(&mut self, length: usize) -> Vec<u8> {
        (0..length).map(|_| self.next().to_le_bytes()[0]).collect()
    }
}
