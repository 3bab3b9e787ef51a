// SPDX-License-Identifier: Apache-2.0
//! Blobs that only the holder of a key can make and open.
//!
//! A blob is the byte `01`, a salt of 32 bytes, the ciphertext and a tag of 16 bytes. The key of
//! each blob is derived from the key and the salt with HKDF-SHA256 under the name of the blob's
//! purpose; the cipher is `ChaCha20Poly1305`. As no two blobs share a key, the nonce is zero.
//!
//! Spec: RFC 5869, RFC 8439.

use chacha20poly1305::aead::AeadInOut;
use chacha20poly1305::{ChaCha20Poly1305, KeyInit, Nonce, Tag};

use crate::kdf;
use crate::random::fill_random;
use crate::secret::shielded;
use crate::{Error, MAX_PASSPHRASE_BYTES, Result, Secret};

/// What a blob is longer than its content, in bytes.
pub const OVERHEAD_BYTES: usize = 1 + SALT_BYTES + TAG_BYTES;

const VERSION: u8 = 1;
const SALT_BYTES: usize = 32;
const TAG_BYTES: usize = 16;
const CIPHER_KEY_BYTES: usize = 32;

/// The shortest is that of SGX; the longest that HKDF gives.
const KEY_BYTES: std::ops::RangeInclusive<u64> = 16..=512;

/// What a blob holds: one kind never opens as the other.
#[derive(Clone, Copy, Debug)]
enum Purpose {
    Secret,
    Parameters,
}

impl Purpose {
    fn info(self) -> &'static [u8] {
        match self {
            Self::Secret => b"strongroom/1 sealed secret",
            Self::Parameters => b"strongroom/1 sealed parameters",
        }
    }
}

/// Seals a secret of 65536 bytes at most. Two blobs of one secret have nothing in common.
///
/// # Errors
/// [`Error::Limit`] for a longer secret, or unless the key is 16 to 512 bytes long;
/// [`Error::Platform`] without secret memory or randomness.
pub fn seal_secret(secret: &Secret, key: &Secret, aad: &[u8]) -> Result<Vec<u8>> {
    check_lengths(secret.len(), key)?;
    let mut buffer = Secret::zeroed(secret.len())?;
    shielded(|| {
        buffer.bytes_mut().copy_from_slice(secret.bytes());
        seal(buffer.bytes_mut(), key, Purpose::Secret, aad)
    })
}

/// Opens what [`seal_secret`] made with this key and `aad`.
///
/// # Errors
/// [`Error::SealedBlob`] for anything else; [`Error::Limit`] and [`Error::Platform`] as there.
pub fn unseal_secret(blob: &[u8], key: &Secret, aad: &[u8]) -> Result<Secret> {
    let parts = Parts::of(blob)?;
    check_lengths(parts.ciphertext.len(), key)?;
    let mut opened = Secret::zeroed(parts.ciphertext.len())?;
    opened.bytes_mut().copy_from_slice(parts.ciphertext);
    shielded(|| unseal(opened.bytes_mut(), &parts, key, Purpose::Secret, aad))?;
    Ok(opened)
}

/// Seals bytes that the host must neither see nor choose, but that are no key: 65536 at most.
///
/// # Errors
/// As [`seal_secret`].
pub fn seal_parameters(parameters: &[u8], key: &Secret, aad: &[u8]) -> Result<Vec<u8>> {
    check_lengths(parameters.len(), key)?;
    let mut buffer = parameters.to_vec();
    shielded(|| seal(&mut buffer, key, Purpose::Parameters, aad))
}

/// Opens what [`seal_parameters`] made with this key and `aad`.
///
/// # Errors
/// As [`unseal_secret`].
pub fn unseal_parameters(blob: &[u8], key: &Secret, aad: &[u8]) -> Result<Vec<u8>> {
    let parts = Parts::of(blob)?;
    check_lengths(parts.ciphertext.len(), key)?;
    let mut opened = parts.ciphertext.to_vec();
    shielded(|| unseal(&mut opened, &parts, key, Purpose::Parameters, aad))?;
    Ok(opened)
}

/// A blob of the right version and a possible length, taken apart.
struct Parts<'a> {
    salt: &'a [u8; SALT_BYTES],
    ciphertext: &'a [u8],
    tag: Tag,
}

impl<'a> Parts<'a> {
    fn of(blob: &'a [u8]) -> Result<Self> {
        let (&VERSION, rest) = blob.split_first().ok_or(Error::SealedBlob)? else {
            return Err(Error::SealedBlob);
        };
        let (salt, rest) = rest.split_first_chunk().ok_or(Error::SealedBlob)?;
        let (ciphertext, tag) = rest
            .split_last_chunk::<TAG_BYTES>()
            .ok_or(Error::SealedBlob)?;
        if ciphertext.len() > MAX_PASSPHRASE_BYTES {
            return Err(Error::SealedBlob);
        }
        Ok(Self {
            salt,
            ciphertext,
            tag: (*tag).into(),
        })
    }
}

fn check_lengths(content_bytes: usize, key: &Secret) -> Result<()> {
    Error::check_limit(
        "what is to be sealed in bytes",
        content_bytes as u64,
        0..=MAX_PASSPHRASE_BYTES as u64,
    )?;
    Error::check_limit("a sealing key in bytes", key.len() as u64, KEY_BYTES)
}

/// Encrypts in place under a fresh salt and returns the blob; for secret stacks.
fn seal(content: &mut [u8], key: &Secret, purpose: Purpose, aad: &[u8]) -> Result<Vec<u8>> {
    let mut salt = [0; SALT_BYTES];
    fill_random(&mut salt)?;
    let tag = cipher(key, &salt, purpose)?
        .encrypt_inout_detached(&Nonce::default(), aad, (&mut *content).into())
        .map_err(|_| Error::Internal("the AEAD refused a checked length"))?;
    Ok([&[VERSION], &salt[..], content, &tag[..]].concat())
}

/// Decrypts in place if the tag is right, and leaves the ciphertext if not; for secret stacks.
fn unseal(
    content: &mut [u8],
    parts: &Parts<'_>,
    key: &Secret,
    purpose: Purpose,
    aad: &[u8],
) -> Result<()> {
    cipher(key, parts.salt, purpose)?
        .decrypt_inout_detached(&Nonce::default(), aad, content.into(), &parts.tag)
        .map_err(|_| Error::SealedBlob)
}

/// The cipher of one blob, which is wiped on drop; for secret stacks.
fn cipher(key: &Secret, salt: &[u8; SALT_BYTES], purpose: Purpose) -> Result<ChaCha20Poly1305> {
    let mut cipher_key = [0; CIPHER_KEY_BYTES];
    kdf::expand(key.bytes(), salt, purpose.info(), &mut cipher_key)?;
    Ok(ChaCha20Poly1305::new(&cipher_key.into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::known_answers::{SEALED, unhex};

    const AAD: &[u8] = b"context";

    fn key(byte: u8) -> Secret {
        Secret::copy_of(&[byte; 32]).unwrap()
    }

    fn sealed(text: &[u8]) -> Vec<u8> {
        seal_secret(&Secret::copy_of(text).unwrap(), &key(1), AAD).unwrap()
    }

    fn refused<T>(outcome: &Result<T>) -> bool {
        matches!(outcome, Err(Error::SealedBlob))
    }

    /// Made with another implementation, see `PROVENANCE.md`.
    #[test]
    fn unseal_known_answers() {
        let key = Secret::copy_of(&unhex(SEALED.key)).unwrap();
        let (aad, content) = (unhex(SEALED.aad), unhex(SEALED.content));
        let opened = unseal_secret(&unhex(SEALED.secret_blob), &key, &aad).unwrap();
        assert_eq!(opened.bytes(), content);
        let opened = unseal_parameters(&unhex(SEALED.parameters_blob), &key, &aad).unwrap();
        assert_eq!(opened, content);
    }

    #[test]
    fn what_was_sealed_opens() {
        let longest = vec![7; MAX_PASSPHRASE_BYTES];
        for text in [&b""[..], b"x", &[0; 32], &longest] {
            let blob = sealed(text);
            assert_eq!(blob.len(), text.len() + OVERHEAD_BYTES);
            let opened = unseal_secret(&blob, &key(1), AAD).unwrap();
            assert_eq!(opened.bytes(), text);
            let blob = seal_parameters(text, &key(1), AAD).unwrap();
            assert_eq!(blob.len(), text.len() + OVERHEAD_BYTES);
            assert_eq!(unseal_parameters(&blob, &key(1), AAD).unwrap(), text);
        }
    }

    #[test]
    fn every_changed_bit_is_refused() {
        let secret = sealed(&[5; 32]);
        let parameters = seal_parameters(&[5; 32], &key(1), AAD).unwrap();
        for bit in 0..8 * secret.len() {
            let (mut secret, mut parameters) = (secret.clone(), parameters.clone());
            secret[bit / 8] ^= 1 << (bit % 8);
            parameters[bit / 8] ^= 1 << (bit % 8);
            assert!(refused(&unseal_secret(&secret, &key(1), AAD)), "bit {bit}");
            assert!(
                refused(&unseal_parameters(&parameters, &key(1), AAD)),
                "bit {bit}"
            );
        }
    }

    #[test]
    fn every_other_length_is_refused() {
        let blob = sealed(&[5; 32]);
        for length in 0..blob.len() {
            assert!(refused(&unseal_secret(&blob[..length], &key(1), AAD)));
            assert!(refused(&unseal_parameters(&blob[..length], &key(1), AAD)));
        }
        let longer = [&blob[..], &[0]].concat();
        assert!(refused(&unseal_secret(&longer, &key(1), AAD)));
        let huge = vec![1; MAX_PASSPHRASE_BYTES + OVERHEAD_BYTES + 1];
        assert!(refused(&unseal_secret(&huge, &key(1), AAD)));
        assert!(refused(&unseal_parameters(&huge, &key(1), AAD)));
    }

    #[test]
    fn another_key_context_or_purpose_is_refused() {
        let secret = sealed(b"secret");
        let parameters = seal_parameters(b"secret", &key(1), AAD).unwrap();
        assert!(refused(&unseal_secret(&secret, &key(2), AAD)));
        assert!(refused(&unseal_parameters(&parameters, &key(2), AAD)));
        for aad in [&b""[..], b"contex", b"context\0", b"Context"] {
            assert!(refused(&unseal_secret(&secret, &key(1), aad)));
            assert!(refused(&unseal_parameters(&parameters, &key(1), aad)));
        }
        assert!(refused(&unseal_parameters(&secret, &key(1), AAD)));
        assert!(refused(&unseal_secret(&parameters, &key(1), AAD)));
    }

    #[test]
    fn two_blobs_of_one_secret_share_nothing() {
        let mut salts = std::collections::HashSet::new();
        let mut ciphertexts = std::collections::HashSet::new();
        for _ in 0..64 {
            let blob = sealed(&[5; 32]);
            salts.insert(blob[1..33].to_vec());
            ciphertexts.insert(blob[33..].to_vec());
        }
        assert_eq!((salts.len(), ciphertexts.len()), (64, 64));
    }

    #[test]
    fn lengths_are_bounded() {
        let limited = |outcome| matches!(outcome, Err(Error::Limit { .. }));
        let too_long = vec![0; MAX_PASSPHRASE_BYTES + 1];
        assert!(limited(seal_parameters(&too_long, &key(1), AAD)));
        let too_long = Secret::copy_of(&too_long).unwrap();
        assert!(limited(seal_secret(&too_long, &key(1), AAD)));
        let blob = sealed(b"secret");
        for length in [0, 15, 513] {
            let key = Secret::copy_of(&vec![1; length]).unwrap();
            assert!(limited(seal_parameters(b"secret", &key, AAD)));
            assert!(limited(unseal_parameters(&blob, &key, AAD)));
            assert!(limited(unseal_secret(&blob, &key, AAD).map(|_| Vec::new())));
        }
    }
}
