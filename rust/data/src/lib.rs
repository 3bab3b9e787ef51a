// SPDX-License-Identifier: Apache-2.0
//! The data path of Strongroom: plaintext on an NBD socket or in a FUSE file, ciphertext in a file.
//!
//! ```text
//!   client ── socket ────── nbd::Server ──┬── Volume ── SectorTransform (the cipher)
//!   kernel ── /dev/fuse ── fuse::Server ──┘      └───── Backing (file or block device)
//! ```
//!
//! Bytes flow in place: a write is received into the connection's buffer, encrypted there and
//! written from there; a read goes from the file into the connection's buffer, is decrypted there
//! and sent from there. Everything a client or the disk says is hostile, and bounded before it is
//! used. The crate needs no system call that a confined process lacks: it opens no file and makes
//! no socket, it only uses those that are handed to it.

mod backing;
mod buffer;
mod counters;
mod error;
pub mod fuse;
mod geometry;
mod locks;
pub mod nbd;
mod recycle;
mod transform;
mod volume;

#[cfg(test)]
mod testing;

pub use backing::{Backing, Cached, DirectBacking, FileBacking, of_descriptor};
pub use counters::Totals;
pub use error::{IoError, OpenError, Result};
pub use geometry::Geometry;
pub use transform::SectorTransform;
pub use volume::{Volume, Workspace};
