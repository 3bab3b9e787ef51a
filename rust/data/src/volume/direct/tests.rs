// SPDX-License-Identifier: Apache-2.0
//! Direct transfers of a real file against a model, and against the same file through the page cache.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::fs::OFlags;

use super::*;
use crate::backing::of_descriptor;
use crate::geometry::Geometry;
use crate::testing::{Random, XorTransform, geometry};

const SIZE: u64 = 3 * 1024 * 1024;
const SEGMENT_OFFSET: u64 = 16384;

/// One file, opened twice.
struct Pair {
    direct: Volume,
    buffered: Volume,
    file: File,
}

/// `None` where files cannot be opened with `O_DIRECT`, or not for sectors of this size.
fn pair(sector_bytes: u32) -> Option<Pair> {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let name = format!("strongroom-direct-{}-{number}", std::process::id());
    let path = std::env::temp_dir().join(name);
    let mut options = File::options();
    options.read(true).write(true);
    let file = options.clone().create_new(true).open(&path).unwrap();
    file.set_len(SEGMENT_OFFSET + SIZE).unwrap();
    let flags = OFlags::DIRECT.bits().cast_signed();
    let direct = options.custom_flags(flags).open(&path);
    std::fs::remove_file(&path).unwrap();
    let direct = direct
        .inspect_err(|error| eprintln!("skipped: no O_DIRECT in {}: {error}", path.display()))
        .ok()?;
    let pair = Pair {
        direct: volume(direct, sector_bytes),
        buffered: volume(file.try_clone().unwrap(), sector_bytes),
        file,
    };
    assert!(pair.direct.backing().unwrap().direct().is_some());
    assert!(pair.buffered.backing().unwrap().direct().is_none());
    let mut sector = vec![0; sector_bytes as usize];
    if pair.direct.read(&mut own(), 0, &mut sector) == Err(IoError::Disk(22)) {
        eprintln!("skipped: the disk has larger blocks than {sector_bytes} bytes");
        return None;
    }
    Some(pair)
}

fn volume(file: File, sector_bytes: u32) -> Volume {
    let backing = of_descriptor(OwnedFd::from(file)).unwrap();
    let geometry = Geometry {
        segment_offset_bytes: SEGMENT_OFFSET,
        iv_tweak: 7,
        ..geometry(sector_bytes, SIZE)
    };
    Volume::new(backing, Box::new(XorTransform), geometry).unwrap()
}

fn own() -> Workspace {
    Workspace::new().unwrap()
}

fn read(volume: &Volume, workspace: &mut Workspace, offset: u64, length: u64) -> Vec<u8> {
    let mut data = vec![0xEE; usize::try_from(length).unwrap()];
    volume.read(workspace, offset, &mut data).unwrap();
    data
}

fn random_requests_match_the_model(sector_bytes: u32, workspace: &mut Workspace) {
    let Some(pair) = pair(sector_bytes) else {
        return;
    };
    let mut random = Random(u64::from(sector_bytes));
    let mut model = read(&pair.buffered, workspace, 0, SIZE);
    for _ in 0..400 {
        let offset = random.below(SIZE);
        let longest = if random.below(10) == 0 { 2 << 20 } else { 9000 };
        let mut length = random.below((SIZE - offset).min(longest) + 1);
        let mut offset = offset;
        if random.below(2) == 0 {
            (offset, length) = (offset / 4096 * 4096, length / 4096 * 4096);
        }
        let start = usize::try_from(offset).unwrap();
        let range = start..start + usize::try_from(length).unwrap();
        let (one, other) = match random.below(4) {
            0 => (&pair.buffered, &pair.direct),
            _ => (&pair.direct, &pair.buffered),
        };
        if random.below(2) == 0 {
            let mut data = random.bytes(range.len());
            model[range.clone()].copy_from_slice(&data);
            one.write(workspace, offset, &mut data).unwrap();
            assert_eq!(read(other, workspace, offset, length), model[range]);
        } else {
            assert_eq!(read(one, workspace, offset, length), model[range]);
        }
    }
    assert_eq!(read(&pair.direct, workspace, 0, SIZE), model);
    assert_eq!(read(&pair.buffered, workspace, 0, SIZE), model);
    pair.direct.flush().unwrap();
}

#[test]
fn random_requests_match_for_every_sector_size() {
    for sector_bytes in [512, 1024, 2048, 4096] {
        random_requests_match_the_model(sector_bytes, &mut own());
    }
}

#[test]
fn a_kernel_without_aio_does_as_well() {
    let mut workspace = own();
    workspace.window = Some(Window {
        aio: Aio::Missing,
        ..Window::new()
    });
    random_requests_match_the_model(4096, &mut workspace);
    batches_match(&mut workspace);
}

/// Writes and reads more ranges in one batch than fit a window, or a queue.
fn batches_match(workspace: &mut Workspace) {
    let Some(pair) = pair(4096) else { return };
    let mut random = Random(3);
    // Strangers, and each third one the neighbour of the one before.
    let places: Vec<u64> = (0..150_u64)
        .map(|number| (number * 5 - u64::from(number % 3 == 2) * 4) % 768 * 4096)
        .collect();
    let plain: Vec<_> = places.iter().map(|_| random.bytes(4096)).collect();
    let mut buffers = plain.clone();
    let mut extents: Vec<_> = buffers
        .iter_mut()
        .zip(&places)
        .map(|(data, offset)| Extent::new(*offset, data))
        .collect();
    pair.direct.write_extents(workspace, &mut extents);
    assert!(extents.iter().all(|extent| extent.result.is_ok()));
    for (offset, data) in places.iter().zip(&plain) {
        assert_eq!(read(&pair.buffered, workspace, *offset, 4096), *data);
    }
    for extent in &mut extents {
        extent.data.fill(0xEE);
    }
    pair.direct.read_extents(workspace, &mut extents);
    assert!(extents.iter().all(|extent| extent.result.is_ok()));
    assert_eq!(buffers, plain);
}

#[test]
fn batches_of_any_size_come_out_right() {
    batches_match(&mut own());
}

/// Reads a request piece by piece, as a connection does; returns the first error.
fn read_in_pieces(
    volume: &Volume,
    own: &mut Workspace,
    offset: u64,
    data: &mut [u8],
) -> Result<()> {
    const GRID: u64 = 256 * 1024;
    let (mut offset, mut rest) = (offset, data);
    while !rest.is_empty() {
        let left = rest.len();
        let size = usize::try_from(GRID - offset % GRID).unwrap().min(left);
        let (piece, others) = rest.split_at_mut(size);
        volume.read_next_piece(own, offset, piece, left)?;
        offset += size as u64;
        rest = others;
    }
    Ok(())
}

#[test]
fn large_reads_come_in_pieces() {
    let Some(pair) = pair(4096) else { return };
    let mut own = own();
    let mut random = Random(9);
    let mut model = random.bytes(usize::try_from(SIZE).unwrap());
    let write = |data: &[u8], offset, own: &mut Workspace| {
        pair.direct.write(own, offset, &mut data.to_vec()).unwrap();
    };
    write(&model, 0, &mut own);
    for round in 0..60_u64 {
        let mut offset = random.below(SIZE);
        let mut length = random.below(SIZE - offset) + 1;
        if round % 3 > 0 {
            (offset, length) = (offset / 4096 * 4096, length.next_multiple_of(4096));
        }
        let start = usize::try_from(offset).unwrap();
        let end = (start + usize::try_from(length).unwrap()).min(model.len());
        let mut data = vec![0xEE; end - start];
        read_in_pieces(&pair.direct, &mut own, offset, &mut data).unwrap();
        assert_eq!(data, model[start..end]);
        // The next read sees what was written after this one, whatever the window had.
        let changed = random.bytes(4096);
        let place = (start + (end - start) / 2) / 4096 * 4096;
        if place + 4096 <= model.len() {
            model[place..place + 4096].copy_from_slice(&changed);
            let volume = if round % 2 == 0 {
                &pair.direct
            } else {
                &pair.buffered
            };
            let at = place as u64;
            volume.write(&mut own, at, &mut changed.clone()).unwrap();
        }
    }
}

#[test]
fn an_error_further_on_does_not_fail_the_first_piece() {
    let Some(pair) = pair(4096) else { return };
    pair.file.set_len(SEGMENT_OFFSET + (300 << 10)).unwrap();
    let mut own = own();
    let mut data = vec![0; 1 << 20];
    let (first, rest) = data.split_at_mut(256 << 10);
    let read = pair.direct.read_next_piece(&mut own, 0, first, 1 << 20);
    assert_eq!(read, Ok(()));
    let left = rest.len();
    let second = &mut rest[..256 << 10];
    let read = pair
        .direct
        .read_next_piece(&mut own, 256 << 10, second, left);
    assert_eq!(read, Err(IoError::Truncated));
    let read = pair
        .direct
        .read_next_piece(&mut own, SIZE - 4096, &mut data[..8192], 8192);
    assert_eq!(read, Err(IoError::OutOfBounds));
    let read = pair
        .direct
        .read_next_piece(&mut own, u64::MAX, &mut data[..8192], 1 << 20);
    assert_eq!(read, Err(IoError::OutOfBounds));
}

#[test]
fn the_end_of_a_shrunken_file_fails_those_only_that_reach_it() {
    let Some(pair) = pair(4096) else { return };
    for length in [SEGMENT_OFFSET + 65536, SEGMENT_OFFSET + 65536 + 100] {
        pair.file.set_len(length).unwrap();
        let mut buffers = [[0; 4096]; 4];
        let mut extents: Vec<_> = buffers
            .iter_mut()
            .zip([0, 61440, 65536, 1 << 20])
            .map(|(data, offset)| Extent::new(offset, data))
            .collect();
        pair.direct.read_extents(&mut own(), &mut extents);
        let results: Vec<_> = extents.iter().map(|extent| extent.result).collect();
        let short = Err(IoError::Truncated);
        assert_eq!(results, [Ok(()), Ok(()), short, short], "{length}");
    }
}

#[test]
fn a_closed_volume_answers_shutdown() {
    let Some(pair) = pair(4096) else { return };
    let backing = pair.direct.backing().unwrap();
    pair.direct.close();
    let mut data = [0; 4096];
    let mut extents = [Extent::new(0, &mut data)];
    // The key goes first: a transfer that is under way meanwhile has the store still.
    let fd = backing.direct().unwrap();
    for write in [true, false] {
        extents[0].result = Ok(());
        if write {
            (pair.direct).write_direct(&mut own(), backing.as_ref(), fd, &mut extents);
        } else {
            (pair.direct).read_direct(&mut own(), backing.as_ref(), fd, &mut extents);
        }
        assert_eq!(extents[0].result, Err(IoError::ShutDown));
    }
    assert_eq!(Arc::strong_count(&backing), 1);
}

#[test]
fn writers_of_parts_of_sectors_lose_nothing() {
    let Some(pair) = pair(4096) else { return };
    std::thread::scope(|scope| {
        for writer in 0..4_u8 {
            let volume = &pair.direct;
            scope.spawn(move || {
                let mut workspace = own();
                for place in (0..64_u64).map(|index| 4000 + index * 4 + u64::from(writer)) {
                    volume.write(&mut workspace, place, &mut [writer]).unwrap();
                }
                // Many stripes at once, in descending order.
                let mut data = vec![[writer; 512]; 3];
                let mut extents: Vec<_> = data
                    .iter_mut()
                    .zip([2_u64 << 20, 1 << 20, 8192])
                    .map(|(data, offset)| Extent::new(offset + u64::from(writer) * 512, data))
                    .collect();
                volume.write_extents(&mut workspace, &mut extents);
            });
        }
    });
    let data = read(&pair.buffered, &mut own(), 4000, 256);
    for (place, byte) in data.iter().enumerate() {
        assert_eq!(usize::from(*byte), place % 4, "byte {place}");
    }
}
