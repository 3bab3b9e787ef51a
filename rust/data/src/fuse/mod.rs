// SPDX-License-Identifier: Apache-2.0
//! Serving a volume as one file of a FUSE file system, straight on the kernel's descriptors.
//!
//! ```text
//!   /dev/loopN ── direct I/O ── FUSE in the kernel ── /dev/fuse ── fuse::Server ── Volume
//! ```
//!
//! The kernel's side of the descriptor is the host, and not trusted: a message may have any
//! length and any contents. Nothing is kept between two requests, so no order of them matters.
//!
//! * [`protocol`]: what a message is; bytes in, values out.
//! * [`answers`]: what is said back.
//! * [`session`]: one thread's requests, on one descriptor.
//! * [`server`]: the threads, and their end.
//!
//! Spec: `include/uapi/linux/fuse.h`, protocol 7.31 to 7.38, as far as one file needs it.

mod answers;
mod protocol;
mod server;
mod session;

pub use server::Server;

#[cfg(test)]
mod tests;
