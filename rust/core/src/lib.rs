// SPDX-License-Identifier: Apache-2.0
//! Pure computation of Strongroom: no sockets, no files, no unsafe code.
//!
//! Everything that touches a key runs on a stack in secret memory and leaves nothing behind.

mod af;
mod base64;
pub mod cipher;
pub mod digest;
mod error;
pub mod hpke;
pub mod kdf;
pub mod keyslot;
mod known_answers;
pub mod mac;
mod passphrase;
pub mod random;
mod recovery;
pub mod sealing;
mod secret;
mod selftest;
pub mod signature;
pub mod tpm;
mod typing;

pub use error::{Error, Result};
pub use secret::Secret;
pub use selftest::selftest;
pub use typing::MAX_TYPED_BYTES;

/// Longest passphrase or key file that is read, in bytes.
pub const MAX_PASSPHRASE_BYTES: usize = 64 * 1024;
