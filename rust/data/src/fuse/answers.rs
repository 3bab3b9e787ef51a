// SPDX-License-Identifier: Apache-2.0
//! What is said back to the kernel: a header, and a body of a few dozen bytes or a read's data.

use super::protocol::{FILE, MAJOR, MAX_DATA_BYTES, MINOR, init_flag};
use crate::geometry::Geometry;

/// `struct fuse_out_header`.
pub(crate) const HEADER_BYTES: usize = 16;

/// The largest body that is not data: `struct fuse_entry_out`.
const MAX_BODY_BYTES: usize = 128;

/// How long the kernel may rely on names and attributes, in seconds: they never change.
const FOR_EVER: u64 = 1 << 31;

/// Requests that the kernel keeps in flight for asynchronous I/O, which is all that a loop device
/// does; without a word from us it would be 12. A loop device has 128 requests.
const MAX_BACKGROUND: u16 = 128;

const TYPE_DIRECTORY: u32 = 0o040_000;
const TYPE_FILE: u32 = 0o100_000;

/// The block size that is told to `stat`; no I/O is limited by it.
const PREFERRED_BYTES: u32 = 4096;

/// `FOPEN_DIRECT_IO`: no pages of the file are cached.
const DIRECT_IO: u32 = 1 << 0;
/// `FOPEN_PARALLEL_DIRECT_WRITES`: writes do not wait for each other.
const PARALLEL_DIRECT_WRITES: u32 = 1 << 6;

/// A body without data.
#[derive(Clone, Copy)]
pub(crate) struct Body {
    bytes: [u8; MAX_BODY_BYTES],
    length: usize,
}

impl Body {
    /// An answer that says no more than that it worked.
    pub(crate) const EMPTY: Self = Self {
        bytes: [0; MAX_BODY_BYTES],
        length: 0,
    };

    pub(crate) fn as_slice(&self) -> &[u8] {
        &self.bytes[..self.length]
    }

    fn u16(self, value: u16) -> Self {
        self.append(value.to_ne_bytes())
    }

    fn u32(self, value: u32) -> Self {
        self.append(value.to_ne_bytes())
    }

    fn u64(self, value: u64) -> Self {
        self.append(value.to_ne_bytes())
    }

    /// Appends fields that are zero.
    fn zeroes(mut self, count: usize) -> Self {
        self.length += count;
        self
    }

    fn append<const N: usize>(mut self, value: [u8; N]) -> Self {
        self.bytes[self.length..self.length + N].copy_from_slice(&value);
        self.length += N;
        self
    }
}

/// The header of an answer with `length` bytes of body; `error` is zero or an error number.
pub(crate) fn header(unique: u64, error: i32, length: usize) -> [u8; HEADER_BYTES] {
    let whole = u32::try_from(HEADER_BYTES + length).unwrap_or(u32::MAX);
    let mut bytes = [0; HEADER_BYTES];
    bytes[..4].copy_from_slice(&whole.to_ne_bytes());
    bytes[4..8].copy_from_slice(&(-error).to_ne_bytes());
    bytes[8..].copy_from_slice(&unique.to_ne_bytes());
    bytes
}

/// `struct fuse_init_out`, for a kernel that offers `flags`.
pub(crate) fn init(max_readahead: u32, flags: u32) -> Body {
    let wanted =
        init_flag::ASYNC_READ | init_flag::BIG_WRITES | init_flag::ASYNC_DIO | init_flag::MAX_PAGES;
    let max_data = u32::try_from(MAX_DATA_BYTES).unwrap_or(u32::MAX);
    Body::EMPTY
        .u32(MAJOR)
        .u32(MINOR)
        .u32(max_readahead)
        .u32(flags & wanted)
        .u16(MAX_BACKGROUND)
        .u16(MAX_BACKGROUND)
        .u32(max_data)
        .u32(1) // Granularity of times, which do not change.
        .u16(u16::try_from(MAX_DATA_BYTES / 4096).unwrap_or(u16::MAX))
        .zeroes(34)
}

/// `struct fuse_entry_out` of the one file.
pub(crate) fn entry(geometry: &Geometry) -> Body {
    let body = Body::EMPTY
        .u64(FILE)
        .u64(0)
        .u64(FOR_EVER)
        .u64(FOR_EVER)
        .zeroes(8);
    attributes(body, FILE, geometry)
}

/// `struct fuse_attr_out` of a node, which is the file or the directory.
pub(crate) fn attributes_of(node: u64, geometry: &Geometry) -> Body {
    attributes(Body::EMPTY.u64(FOR_EVER).zeroes(8), node, geometry)
}

/// Appends `struct fuse_attr`.
fn attributes(body: Body, node: u64, geometry: &Geometry) -> Body {
    let (mode, links, size) = match node {
        FILE if geometry.read_only => (TYPE_FILE | 0o400, 1, geometry.size_bytes),
        FILE => (TYPE_FILE | 0o600, 1, geometry.size_bytes),
        _ => (TYPE_DIRECTORY | 0o500, 2, 0),
    };
    body.u64(node)
        .u64(size)
        .u64(size / 512)
        .zeroes(36) // Three times: the epoch.
        .u32(mode)
        .u32(links)
        .zeroes(12) // The owner is root, and it is no device.
        .u32(PREFERRED_BYTES)
        .zeroes(4)
}

/// `struct fuse_open_out`.
pub(crate) fn open() -> Body {
    Body::EMPTY
        .u64(0)
        .u32(DIRECT_IO | PARALLEL_DIRECT_WRITES)
        .zeroes(4)
}

/// `struct fuse_write_out`: `size` bytes have been written.
pub(crate) fn written(size: u32) -> Body {
    Body::EMPTY.u32(size).zeroes(4)
}
