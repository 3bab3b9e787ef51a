// SPDX-License-Identifier: Apache-2.0
//! One session: its key, and the nonces that both sides roll with every command.

use super::NONCE_BYTES;
use super::derive::kdfa;
use super::salt::{Salt, SaltKey};
use crate::random::fill_random;
use crate::secret::shielded;
use crate::{Error, Result, Secret};

const KEY_BYTES: usize = 32;
const MAX_NONCE_BYTES: usize = 64;
const HMAC_HANDLES: u32 = 0x02;
const POLICY_HANDLES: u32 = 0x03;

/// What a session is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionKind {
    /// Proves that an authorization value is known; audits; encrypts.
    Hmac,
    /// Collects a policy; may encrypt.
    Policy,
}

/// The AES key that encrypts parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CipherKey {
    /// 128 bits: what every TPM has.
    Bits128,
    /// 256 bits. A session is no stronger than the key that it is salted to.
    Bits256,
}

impl CipherKey {
    pub(super) fn bytes(self) -> usize {
        match self {
            Self::Bits128 => 16,
            Self::Bits256 => 32,
        }
    }
}

/// A session that the TPM has not answered yet: what `TPM2_StartAuthSession` is to be told.
pub struct Opening {
    kind: SessionKind,
    cipher_key: CipherKey,
    salt: Salt,
    nonce_caller: [u8; NONCE_BYTES],
}

impl Opening {
    /// Makes a salt and a nonce. There is no session without a salt.
    ///
    /// # Errors
    /// As [`Salt::new`].
    pub fn new(kind: SessionKind, cipher_key: CipherKey, key: &SaltKey) -> Result<Self> {
        let mut nonce_caller = [0; NONCE_BYTES];
        fill_random(&mut nonce_caller)?;
        Ok(Self {
            kind,
            cipher_key,
            salt: Salt::new(key)?,
            nonce_caller,
        })
    }

    /// The first nonce.
    #[must_use]
    pub fn nonce_caller(&self) -> &[u8] {
        &self.nonce_caller
    }

    /// Content of the `TPM2B_ENCRYPTED_SECRET`.
    #[must_use]
    pub fn encrypted_salt(&self) -> &[u8] {
        &self.salt.encrypted
    }

    /// Returns the session that the TPM says it has opened. That it was this TPM is proven by its
    /// first answer in the session.
    ///
    /// # Errors
    /// [`Error::Tampered`] if the handle is of another kind, or the nonce too short or too long.
    pub fn finish(self, handle: u32, nonce_tpm: &[u8]) -> Result<Session> {
        let kind = match self.kind {
            SessionKind::Hmac => HMAC_HANDLES,
            SessionKind::Policy => POLICY_HANDLES,
        };
        if handle >> 24 != kind {
            return Err(Error::Tampered("the TPM opened a session of another kind"));
        }
        check_nonce(nonce_tpm)?;
        let mut key = Secret::zeroed(KEY_BYTES)?;
        shielded(|| {
            let (salt, ours) = (self.salt.value.bytes(), &self.nonce_caller);
            kdfa(salt, "ATH", nonce_tpm, ours, key.bytes_mut())
        })?;
        Ok(Session {
            handle,
            kind: self.kind,
            cipher_key: self.cipher_key,
            key,
            nonce_caller: self.nonce_caller,
            nonce_tpm: nonce_tpm.to_vec(),
            is_broken: false,
        })
    }
}

/// An open session. Dropping it erases its key; the TPM keeps its part until it is flushed.
pub struct Session {
    pub(super) handle: u32,
    pub(super) kind: SessionKind,
    pub(super) cipher_key: CipherKey,
    pub(super) key: Secret,
    pub(super) nonce_caller: [u8; NONCE_BYTES],
    pub(super) nonce_tpm: Vec<u8>,
    pub(super) is_broken: bool,
}

impl Session {
    /// The TPM's handle for it.
    #[must_use]
    pub fn handle(&self) -> u32 {
        self.handle
    }

    /// The TPM's last nonce, by which a policy can be bound to this session.
    #[must_use]
    pub fn nonce_tpm(&self) -> &[u8] {
        &self.nonce_tpm
    }

    /// What it is for.
    #[must_use]
    pub fn kind(&self) -> SessionKind {
        self.kind
    }

    /// Whether an answer in it was not the TPM's: it is used no more.
    #[must_use]
    pub fn is_broken(&self) -> bool {
        self.is_broken
    }

    /// Rolls our nonce, for the next command.
    pub(super) fn roll(&mut self) -> Result<()> {
        if self.is_broken {
            return Err(Error::Tampered(
                "a session in which an answer was forged is used no more",
            ));
        }
        fill_random(&mut self.nonce_caller)
    }

    /// The key of MACs and encryption: the session's, and the authorization value behind it.
    pub(super) fn keyed(&self, auth: Option<&Secret>) -> Result<Secret> {
        let auth = auth.map_or(&[][..], |value| value.bytes());
        // The TPM takes trailing zeros off authorization values.
        let end = auth
            .iter()
            .rposition(|&byte| byte != 0)
            .map_or(0, |at| at + 1);
        let mut joined = Secret::zeroed(KEY_BYTES + end)?;
        let (first, second) = joined.bytes_mut().split_at_mut(KEY_BYTES);
        first.copy_from_slice(self.key.bytes());
        second.copy_from_slice(&auth[..end]);
        Ok(joined)
    }
}

pub(super) fn check_nonce(nonce: &[u8]) -> Result<()> {
    if (NONCE_BYTES..=MAX_NONCE_BYTES).contains(&nonce.len()) {
        Ok(())
    } else {
        Err(Error::Tampered(
            "a nonce of the TPM is too short or too long",
        ))
    }
}
