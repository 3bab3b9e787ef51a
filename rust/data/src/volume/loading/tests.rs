// SPDX-License-Identifier: Apache-2.0
//! Which calls a batch of reads makes, and in which order.

use std::io;
use std::ops::Range;
use std::sync::{Arc, Mutex};

use super::*;
use crate::testing::{MemoryBacking, XorTransform, geometry};
use crate::volume::{IoError, Workspace};

const SIZE: u64 = 4 * 1024 * 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Call {
    Cached(u64),
    Prefetch(u64, u64),
    Read(u64, usize),
}
use Call::{Cached as Tried, Prefetch, Read};

/// A store that notes how it is read, and says which part of it is in memory.
struct Recorder {
    store: Arc<MemoryBacking>,
    /// `None`: it cannot tell.
    in_memory: Option<Range<u64>>,
    calls: Mutex<Vec<Call>>,
}

impl Recorder {
    fn note(&self, call: Call) {
        self.calls.lock().unwrap().push(call);
    }
}

impl Backing for Recorder {
    fn size(&self) -> io::Result<u64> {
        self.store.size()
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.note(Read(offset, buffer.len()));
        self.store.read_at(buffer, offset)
    }

    fn write_at(&self, buffer: &[u8], offset: u64) -> io::Result<()> {
        self.store.write_at(buffer, offset)
    }

    fn read_vectored_at(&self, buffers: &mut [IoSliceMut<'_>], offset: u64) -> io::Result<()> {
        let length = buffers.iter().map(|buffer| buffer.len()).sum();
        self.note(Read(offset, length));
        self.store.read_vectored_at(buffers, offset)
    }

    fn read_cached_at(&self, buffers: &mut [IoSliceMut<'_>], offset: u64) -> Cached {
        let Some(in_memory) = &self.in_memory else {
            return Cached::Unknown;
        };
        self.note(Tried(offset));
        let length: usize = buffers.iter().map(|buffer| buffer.len()).sum();
        if in_memory.contains(&offset) && offset + length as u64 <= in_memory.end {
            self.store.read_vectored_at(buffers, offset).unwrap();
            return Cached::Whole;
        }
        // What a short read leaves behind must not be taken for data.
        for buffer in buffers {
            buffer.fill(0xEE);
        }
        Cached::Lacking
    }

    fn flush(&self) -> io::Result<()> {
        Ok(())
    }

    fn begin_writeback(&self, _offset: u64, _length: u64) {}

    fn punch_hole(&self, _offset: u64, _length: u64) -> io::Result<()> {
        Ok(())
    }

    fn prefetch(&self, offset: u64, length: u64) -> io::Result<()> {
        self.note(Prefetch(offset, length));
        // The read has to do without.
        Err(io::Error::from_raw_os_error(5))
    }
}

/// Reads `places` in one batch, and returns the calls that it made.
fn calls(in_memory: Option<Range<u64>>, places: &[(u64, usize)]) -> Vec<Call> {
    let recorder = Arc::new(Recorder {
        store: MemoryBacking::new(SIZE),
        in_memory,
        calls: Mutex::default(),
    });
    let volume = Volume::new(
        recorder.clone(),
        Box::new(XorTransform),
        geometry(4096, SIZE),
    )
    .unwrap();
    let mut own = Workspace::new().unwrap();
    let mut plain: Vec<u8> = (0..=250).cycle().take(4 << 20).collect();
    let expected = plain.clone();
    volume.write_piece(&mut own, 0, &mut plain).unwrap();

    let mut buffers: Vec<_> = places.iter().map(|(_, length)| vec![0; *length]).collect();
    let mut extents: Vec<_> = buffers
        .iter_mut()
        .zip(places)
        .map(|(data, (offset, _))| Extent::new(*offset, data))
        .collect();
    volume.read_extents(&mut own, &mut extents);
    for extent in &extents {
        assert_eq!(extent.result, Ok(()));
        let start = usize::try_from(extent.offset).unwrap();
        assert_eq!(*extent.data, expected[start..start + extent.data.len()]);
    }
    let calls = recorder.calls.lock().unwrap();
    calls.clone()
}

const SCATTERED: [(u64, usize); 4] = [
    (0, 4096),
    (65536, 4096),
    // Neighbours.
    (131_072, 4096),
    (135_168, 8192),
];

#[test]
fn what_is_in_memory_is_read_with_one_call_each() {
    let all = calls(Some(0..SIZE), &SCATTERED);
    assert_eq!(all, [Tried(0), Tried(65536), Tried(131_072)]);
}

#[test]
fn the_disk_is_told_of_everything_before_anything_is_waited_for() {
    let all = calls(Some(0..0), &SCATTERED);
    let expected = [
        Tried(0),
        Tried(65536),
        Tried(131_072),
        Prefetch(0, 4096),
        Prefetch(65536, 4096),
        Prefetch(131_072, 12288),
        Read(0, 4096),
        Read(65536, 4096),
        Read(131_072, 12288),
    ];
    assert_eq!(all, expected);
}

#[test]
fn only_what_is_missing_is_read_again() {
    let all = calls(Some(0..70000), &SCATTERED);
    let expected = [Tried(0), Tried(65536), Tried(131_072), Read(131_072, 12288)];
    assert_eq!(all, expected);
    let reversed: Vec<_> = SCATTERED.into_iter().rev().collect();
    let all = calls(Some(131_072..SIZE), &reversed);
    let tried = [Tried(135_168), Tried(131_072), Tried(65536), Tried(0)];
    let rest = [
        Prefetch(65536, 4096),
        Prefetch(0, 4096),
        Read(65536, 4096),
        Read(0, 4096),
    ];
    assert_eq!(all, [&tried[..], &rest].concat());
}

#[test]
fn one_range_is_waited_for_at_once() {
    assert_eq!(calls(Some(0..0), &[(8192, 4096)]), [Read(8192, 4096)]);
    let neighbours = [(8192, 4096), (12288, 4096)];
    assert_eq!(calls(Some(0..0), &neighbours), [Read(8192, 8192)]);
}

#[test]
fn a_store_that_cannot_tell_is_read_as_it_comes() {
    let expected = [Read(0, 4096), Read(65536, 4096), Read(131_072, 12288)];
    assert_eq!(calls(None, &SCATTERED), expected);
}

#[test]
fn a_range_over_a_border_of_stripes_is_tried_in_two_parts() {
    let border = locks::STRIPE_BYTES;
    let places = [(border - 4096, 8192), (0, 4096)];
    let all = calls(Some(0..border), &places);
    let expected = [
        Tried(border - 4096),
        Tried(border),
        Tried(0),
        Read(border - 4096, 4096),
        Read(border, 4096),
    ];
    assert_eq!(all, expected);
}

/// Reads 256 KiB, the first piece of `left` bytes at 0, and returns the calls that it made.
fn calls_of_a_piece(in_memory: Option<Range<u64>>, left: usize) -> Vec<Call> {
    let recorder = Arc::new(Recorder {
        store: MemoryBacking::new(SIZE),
        in_memory,
        calls: Mutex::default(),
    });
    let geometry = geometry(4096, SIZE);
    let volume = Volume::new(recorder.clone(), Box::new(XorTransform), geometry).unwrap();
    let mut own = Workspace::new().unwrap();
    let (mut expected, mut data) = (vec![0; PIECE], vec![0; PIECE]);
    volume.read_piece(&mut own, 0, &mut expected).unwrap();
    recorder.calls.lock().unwrap().clear();
    let result = volume.read_next_piece(&mut own, 0, &mut data, left);
    assert_eq!((result, data == expected), (Ok(()), true));
    recorder.calls.lock().unwrap().clone()
}

const PIECE: usize = 256 * 1024;

#[test]
fn while_a_piece_is_waited_for_the_disk_knows_of_the_next() {
    let all = calls_of_a_piece(Some(0..0), 4 * PIECE);
    let whole = 4 * PIECE as u64;
    assert_eq!(all, [Tried(0), Prefetch(0, whole), Read(0, PIECE)]);
    assert_eq!(calls_of_a_piece(Some(0..SIZE), 4 * PIECE), [Tried(0)]);
    assert_eq!(calls_of_a_piece(None, 4 * PIECE), [Read(0, PIECE)]);
    assert_eq!(calls_of_a_piece(Some(0..0), PIECE), [Read(0, PIECE)]);
}

#[test]
fn an_error_is_told_by_the_read_that_waits() {
    let recorder = Arc::new(Recorder {
        store: MemoryBacking::new(SIZE),
        in_memory: Some(0..0),
        calls: Mutex::default(),
    });
    let geometry = geometry(4096, SIZE);
    let volume = Volume::new(recorder.clone(), Box::new(XorTransform), geometry).unwrap();
    recorder.store.shrink(65536);
    let (mut first, mut second) = ([0; 4096], [0; 4096]);
    let mut extents = [Extent::new(65536, &mut first), Extent::new(0, &mut second)];
    volume.read_extents(&mut Workspace::new().unwrap(), &mut extents);
    assert_eq!(extents[0].result, Err(IoError::Truncated));
    assert_eq!(extents[1].result, Ok(()));
}
