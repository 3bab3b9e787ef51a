// SPDX-License-Identifier: Apache-2.0
//! The NBD protocol, fixed newstyle, server side.
//!
//! Spec: `doc/proto.md` of <https://github.com/NetworkBlockDevice/nbd>.
//!
//! One thread serves one connection, and a second one joins it when requests are large
//! ([`transmission`]). Their memory is bounded by named limits: the inbound buffer ([`inbound`], 512
//! KiB), the batch buffer ([`batch`], 512 KiB), for each of the two 768 KiB of its own, and while it
//! serves one large unfragmented read at most 4 MiB more ([`job`]). Pages that are never touched
//! cost nothing, so an idle connection takes some tens of KiB.

mod batch;
mod handshake;
mod inbound;
mod intake;
mod job;
mod protocol;
mod server;
mod socket;
mod transmission;

#[cfg(test)]
mod tests;

pub use handshake::Offer;
pub use server::{MAX_CONNECTIONS, Server, serve_connection};
