// SPDX-License-Identifier: Apache-2.0
//! What may go over a TPM's wire.
//!
//! A gate between the enclave and a TPM that it reaches only through a host that lies. Outwards,
//! [`Command::parse`] lets pass the commands of an allow-list, each in its exact shape. Inwards,
//! [`Response::parse`] lets pass what can be an answer to that very command: every length, count,
//! tag and selector is checked down to the last byte, before anything else reads it.
//!
//! ```text
//! command    tag u16 | size u32 | code u32 | handles | [size u32 | authorizations] | parameters
//! response   tag u16 | size u32 | rc u32 | [handle u32] | [size u32] | parameters | [authorizations]
//! ```
//!
//! The gate holds no secret, does no I/O, and computes nothing: it does **not** check an HMAC, a
//! Name, a signature or a digest, so what it lets pass is well formed and nothing more. A first
//! parameter that a session encrypts is checked by its size; once it is decrypted, ask
//! [`Command::check_decrypted`].
//!
//! Spec: TPM 2.0 Part 1, 18 "Command/Response Structure"; Part 2; Part 3.

#![allow(
    clippy::doc_markdown,
    reason = "the specification's names are the words of this text"
)]

mod algorithms;
mod attestation;
mod authorization;
mod capability;
mod command;
mod error;
mod field;
mod frame;
mod handle;
mod objects;
mod operands;
mod reader;
mod response;
mod schema;
mod table;

#[cfg(test)]
mod tests;

pub use authorization::{Attributes, CommandAuthorization, ResponseAuthorization};
pub use command::Command;
pub use error::GateError;
pub use frame::{MAX_MESSAGE_BYTES, MIN_MESSAGE_BYTES};
pub use response::Response;

/// A result whose error is [`GateError`].
pub type Result<T> = std::result::Result<T, GateError>;
