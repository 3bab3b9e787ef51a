// SPDX-License-Identifier: Apache-2.0
//! Sessions with a TPM that is reached through a host that lies.
//!
//! A session is salted to a key of the TPM that the enclave has pinned: only who has the private
//! part of that key learns the session's key. Every command in it carries a MAC over the command,
//! the Names of what it is about, and fresh nonces of both sides; so does every answer. The first
//! parameter can be encrypted in either direction. Nothing here trusts a byte of the wire, and
//! nothing here parses one: `strongroom-tpm` has checked the shape of what comes in.
//!
//! A command that carries a secret cannot be built without a session that encrypts it, and an
//! answer's secret comes out as a [`crate::Secret`] only.
//!
//! ```text
//! salt         random, to the pinned key: as TPM 2.0 Part 1, B.10.2 or C.6.1 shares secrets
//! session key  KDFa(SHA-256, salt, "ATH", nonceTPM, nonceCaller)
//! command      HMAC(key | auth, SHA-256(code | Names | parameters) | nonceCaller | nonceTPM | ...)
//! answer       HMAC(key | auth, SHA-256(rc | code | parameters) | nonceTPM | nonceCaller | ...)
//! parameter    AES-CFB, key and IV = KDFa(SHA-256, key | auth, "CFB", newer, older nonce)
//! ```
//!
//! Spec: TPM 2.0 Part 1, 19 "Authorizations and Acknowledgments", 21 "Session-based encryption".

mod derive;
mod ecc;
mod exchange;
mod oaep;
mod rsa;
mod salt;
mod session;

pub use exchange::{Answer, Authorization, Command, Pending, Piece};
pub use salt::{Salt, SaltKey};
pub use session::{CipherKey, Opening, Session, SessionKind};

/// Length of every nonce of ours, and the least that a TPM of SHA-256 gives, in bytes.
pub const NONCE_BYTES: usize = 32;
