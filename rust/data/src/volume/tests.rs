// SPDX-License-Identifier: Apache-2.0
//! The engine against a model: a plain array of bytes.

use std::sync::atomic::Ordering;
use std::thread;

use super::*;
use crate::testing::{Random, SEGMENT_OFFSET, XorTransform, volume, volume_with};

const SIZE: u64 = 3 * 1024 * 1024;

fn workspace() -> Workspace {
    Workspace::new().unwrap()
}

fn read(volume: &Volume, offset: u64, length: usize) -> Result<Vec<u8>> {
    let mut data = vec![0xEE; length];
    volume.read(&mut workspace(), offset, &mut data)?;
    Ok(data)
}

fn write(volume: &Volume, offset: u64, data: &[u8]) -> Result<()> {
    volume.write(&mut workspace(), offset, &mut data.to_vec())
}

#[test]
fn random_requests_match_the_model() {
    for sector_bytes in [512, 1024, 2048, 4096] {
        let (backing, volume) = volume(sector_bytes, SIZE);
        let mut random = Random(u64::from(sector_bytes));
        let mut model = read(&volume, 0, clamp(SIZE)).unwrap();
        for _ in 0..600 {
            let offset = random.below(SIZE);
            let longest = if random.below(20) == 0 { 2 << 20 } else { 9000 };
            let length = random.below((SIZE - offset).min(longest) + 1);
            let range = clamp(offset)..clamp(offset + length);
            match random.below(8) {
                0..=3 => {
                    let data = random.bytes(clamp(length));
                    write(&volume, offset, &data).unwrap();
                    model[range].copy_from_slice(&data);
                }
                4..=5 => assert_eq!(read(&volume, offset, clamp(length)).unwrap(), model[range]),
                6 => {
                    let mut own = workspace();
                    volume.zero(&mut own, offset, length, &|| true).unwrap();
                    model[range].fill(0);
                }
                _ => {
                    volume.trim(offset, length).unwrap();
                    // Trimmed bytes are undefined: take over what is there now.
                    let now = read(&volume, offset, clamp(length)).unwrap();
                    model[range].copy_from_slice(&now);
                }
            }
        }
        assert_eq!(read(&volume, 0, clamp(SIZE)).unwrap(), model);
        // Nothing was written before the segment.
        let before = &backing.contents()[..clamp(SEGMENT_OFFSET)];
        assert!(before.iter().all(|byte| *byte == 0xA5));
    }
}

#[test]
fn sectors_are_numbered_from_the_tweak() {
    let (backing, volume) = volume(4096, 64 * 1024);
    write(&volume, 8192, &[0; 4096]).unwrap();
    let stored = &backing.contents()[clamp(SEGMENT_OFFSET) + 8192..][..4096];
    let number: u64 = 7 + 8192 / 512;
    let key = number.wrapping_mul(167).to_le_bytes()[0];
    assert_eq!((stored[0], stored[1]), (key, key ^ 1));
}

#[test]
fn batches_of_neighbours_strangers_and_misfits_come_out_right() {
    let (_backing, volume) = volume(4096, SIZE);
    let mut random = Random(1);
    let border = locks::STRIPE_BYTES;
    let places = [
        (0, 4096),
        (4096, 8192),
        (12288, 4096),
        (40960, 512),
        (border - 8192, 4096),
        (border - 4096, 4096),
        (border, 4096),
        (border + 4097, 4095),
        (20480, 0),
        (24576, 4096),
    ];
    let plain: Vec<_> = places.iter().map(|(_, size)| random.bytes(*size)).collect();
    let mut buffers = plain.clone();
    let mut extents: Vec<_> = buffers
        .iter_mut()
        .zip(places)
        .map(|(data, (offset, _))| Extent::new(offset, data))
        .collect();
    volume.write_extents(&mut workspace(), &mut extents);
    assert!(extents.iter().all(|extent| extent.result.is_ok()));
    for extent in &mut extents {
        extent.data.fill(0xEE);
    }
    volume.read_extents(&mut workspace(), &mut extents);
    assert!(extents.iter().all(|extent| extent.result.is_ok()));
    assert_eq!(buffers, plain);
}

#[test]
fn one_bad_sector_fails_its_own_request_only() {
    let (backing, volume) = volume(512, 64 * 1024);
    backing
        .bad_position
        .store(SEGMENT_OFFSET + 1024, Ordering::Relaxed);
    let mut buffers = [[0; 512]; 4];
    let mut extents: Vec<_> = buffers
        .iter_mut()
        .zip([0, 512, 1024, 1536])
        .map(|(data, offset)| Extent::new(offset, data))
        .collect();
    volume.read_extents(&mut workspace(), &mut extents);
    let results: Vec<_> = extents.iter().map(|extent| extent.result).collect();
    assert_eq!(results, [Ok(()), Ok(()), Err(IoError::Disk(5)), Ok(())]);
}

#[test]
fn the_disks_errno_is_kept_for_writes_on_and_off_the_grid() {
    let (backing, volume) = volume(4096, SIZE);
    for (offset, length) in [(0, 4096), (100, 10), (4000, 9000)] {
        backing.fail_writes_after(0, 28);
        let result = write(&volume, offset, &vec![1; length]);
        assert_eq!(result, Err(IoError::Disk(28)), "{offset}+{length}");
        backing.mend_writes();
        write(&volume, offset, &vec![1; length]).unwrap();
    }
    backing.fail_writes_after(2, 5);
    let mut own = workspace();
    assert_eq!(
        volume.zero(&mut own, 0, SIZE, &|| true),
        Err(IoError::Disk(5))
    );
    let beyond = write(&volume, SIZE, &[1]);
    assert_eq!(beyond, Err(IoError::BeyondEnd));
    let totals = volume.totals();
    assert_eq!((totals.errors, totals.failed_writes), (5, 4));
}

#[test]
fn a_shrunken_image_is_an_error_not_a_panic() {
    let (backing, volume) = volume(512, 64 * 1024);
    backing.shrink(2048);
    assert_eq!(read(&volume, 4096, 512), Err(IoError::Truncated));
    assert_eq!(read(&volume, 4097, 5), Err(IoError::Truncated));
}

#[test]
fn a_store_that_was_cut_short_takes_nothing_and_is_never_flushed() {
    let (backing, volume) = volume(512, 8192);
    write(&volume, 0, &[1; 8192]).unwrap();
    let whole = backing.contents();
    backing.shrink(clamp(SEGMENT_OFFSET) + 4096);
    assert_eq!(write(&volume, 4096, &[2; 512]), Err(IoError::Truncated));
    assert_eq!(write(&volume, 8000, &[2; 100]), Err(IoError::Truncated));
    assert_eq!(write(&volume, 0, &[2; 512]), Err(IoError::Truncated));
    assert_eq!(read(&volume, 4096, 512), Err(IoError::Truncated));
    assert_eq!(read(&volume, 0, 4096).unwrap(), [1; 4096]);
    assert_eq!(
        backing.contents()[..],
        whole[..clamp(SEGMENT_OFFSET) + 4096]
    );
    assert_eq!(volume.flush(), Err(IoError::Truncated));
    backing.grow(whole.len());
    assert_eq!(volume.flush(), Err(IoError::FlushFailed));
}

#[test]
fn a_failed_flush_is_never_forgotten() {
    let (backing, volume) = volume(512, 64 * 1024);
    volume.flush().unwrap();
    backing.fail_flush.store(true, Ordering::Relaxed);
    assert_eq!(volume.flush(), Err(IoError::Disk(5)));
    backing.fail_flush.store(false, Ordering::Relaxed);
    for _ in 0..3 {
        assert_eq!(volume.flush(), Err(IoError::FlushFailed));
    }
    assert_eq!(backing.flushes.load(Ordering::Relaxed), 2);
}

#[test]
fn bounds_and_read_only_are_kept() {
    let (_backing, volume) = volume(512, 4096);
    assert_eq!(read(&volume, 4096, 1), Err(IoError::OutOfBounds));
    assert_eq!(write(&volume, 4095, &[0; 2]), Err(IoError::BeyondEnd));
    assert_eq!(volume.trim(u64::MAX, 2), Err(IoError::OutOfBounds));
    let mut own = workspace();
    let zero = volume.zero(&mut own, 1, u64::MAX, &|| true);
    assert_eq!(zero, Err(IoError::BeyondEnd));

    let (backing, volume) = volume_with(512, 4096, |geometry| geometry.read_only = true);
    let before = backing.contents();
    assert_eq!(write(&volume, 0, &[0; 512]), Err(IoError::ReadOnly));
    assert_eq!(write(&volume, 3, &[0; 5]), Err(IoError::ReadOnly));
    assert_eq!(volume.trim(0, 512), Err(IoError::ReadOnly));
    let zero = volume.zero(&mut own, 0, 512, &|| true);
    assert_eq!(zero, Err(IoError::ReadOnly));
    assert!(read(&volume, 0, 512).is_ok());
    assert_eq!(backing.contents(), before);
}

#[test]
fn trims_reach_the_store_as_whole_sectors_and_only_with_discard() {
    let (backing, volume) = volume(4096, 64 * 1024);
    volume.trim(100, 12288).unwrap();
    volume.trim(1, 4095).unwrap();
    volume.trim(4096, 4096).unwrap();
    let expected = [(SEGMENT_OFFSET + 4096, 8192), (SEGMENT_OFFSET + 4096, 4096)];
    assert_eq!(*backing.holes.lock().unwrap(), expected);

    let (backing, volume) = volume_with(4096, 64 * 1024, |geometry| geometry.discard = false);
    volume.trim(0, 64 * 1024).unwrap();
    assert!(backing.holes.lock().unwrap().is_empty());
    assert_eq!(volume.totals().trims, 1);
}

#[test]
fn zeroes_are_broken_off_when_told_and_are_stored_encrypted() {
    let (backing, volume) = volume(4096, SIZE);
    let mut own = workspace();
    let asked = std::cell::Cell::new(0);
    let proceed = || asked.replace(asked.get() + 1) < 2;
    assert_eq!(
        volume.zero(&mut own, 0, SIZE, &proceed),
        Err(IoError::ShutDown)
    );
    assert_eq!(asked.get(), 3);
    assert_eq!(read(&volume, 0, 524_288).unwrap(), vec![0; 524_288]);
    let stored = &backing.contents()[clamp(SEGMENT_OFFSET)..][..4096];
    assert!(stored.iter().any(|byte| *byte != 0));
}

#[test]
fn a_closed_volume_answers_shutdown_to_everything() {
    let (backing, volume) = volume(512, 4096);
    volume.close();
    volume.close();
    assert_eq!(read(&volume, 0, 512), Err(IoError::ShutDown));
    assert_eq!(write(&volume, 1, &[0; 5]), Err(IoError::ShutDown));
    assert_eq!(volume.trim(0, 512), Err(IoError::ShutDown));
    assert_eq!(volume.flush(), Err(IoError::ShutDown));
    assert_eq!(volume.prefetch(0, 512), Err(IoError::ShutDown));
    assert_eq!(Arc::strong_count(&backing), 1, "the store is released");
}

#[test]
fn writers_of_different_bytes_of_one_sector_lose_nothing() {
    let (_backing, volume) = volume(4096, 8192);
    write(&volume, 0, &[0; 8192]).unwrap();
    thread::scope(|scope| {
        for writer in 0..4_u8 {
            let volume = &volume;
            scope.spawn(move || {
                let mut own = workspace();
                for round in 1..=500_u16 {
                    for place in (0..64_u64).map(|index| 4000 + index * 4 + u64::from(writer)) {
                        let value = round.to_le_bytes()[0] ^ writer;
                        volume.write(&mut own, place, &mut [value]).unwrap();
                    }
                }
            });
        }
        // Meanwhile a whole sector next door is rewritten, which no change may carry off.
        scope.spawn(|| {
            for _ in 0..500 {
                write(&volume, 4096 + 512, &[9; 100]).unwrap();
            }
        });
    });
    let last = 500_u16.to_le_bytes()[0];
    let data = read(&volume, 4000, 256).unwrap();
    for (place, byte) in data.iter().enumerate() {
        let writer = u8::try_from(place % 4).unwrap();
        assert_eq!(*byte, last ^ writer, "byte {place}");
    }
    assert_eq!(read(&volume, 4096 + 512, 100).unwrap(), vec![9; 100]);
}

#[test]
fn totals_count_what_was_done() {
    let (_backing, volume) = volume(512, 8192);
    write(&volume, 0, &[1; 1000]).unwrap();
    read(&volume, 0, 10).unwrap();
    volume.flush().unwrap();
    let _ = read(&volume, 8192, 1);
    let totals = volume.totals();
    assert_eq!((totals.writes, totals.written_bytes), (1, 1000));
    assert_eq!((totals.reads, totals.read_bytes), (1, 10));
    assert_eq!((totals.flushes, totals.errors, totals.zeroes), (1, 1, 0));
}

#[test]
fn a_store_that_is_too_small_is_refused() {
    let backing = crate::testing::MemoryBacking::new(4096);
    let geometry = crate::testing::geometry(4096, 8192);
    assert!(Volume::new(backing, Box::new(XorTransform), geometry).is_err());
}
