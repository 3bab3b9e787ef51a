// SPDX-License-Identifier: Apache-2.0
//! Secrets sealed to a key pair: HPKE in base mode.
//!
//! Suite: DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, `ChaCha20Poly1305`.
//!
//! Spec: RFC 9180.

use std::os::fd::BorrowedFd;
use std::sync::{Mutex, PoisonError};

use hpke::aead::{AeadTag, ChaCha20Poly1305};
use hpke::inout::InOutBuf;
use hpke::kdf::HkdfSha256;
use hpke::kem::X25519HkdfSha256;
use hpke::{Deserializable, Kem, OpModeR, OpModeS, Serializable};

use crate::random::fill_random;
use crate::secret::shielded;
use crate::{Error, Result, Secret};

/// Length of a private key, a public key and an encapsulated key in bytes.
pub const KEY_BYTES: usize = 32;

/// What the ciphertext is longer than the plaintext, in bytes.
pub const TAG_BYTES: usize = 16;

/// A passphrase of the greatest length, with room for a message around it.
const MAX_CIPHERTEXT_BYTES: usize = crate::MAX_PASSPHRASE_BYTES + 4096;

type Suite = X25519HkdfSha256;

/// Encrypts a secret to a public key.
///
/// Returns the encapsulated key, 32 bytes, and the ciphertext, 16 bytes longer than the secret.
///
/// # Errors
/// [`Error::Format`] if `public_key` is not a valid X25519 point; [`Error::Platform`] without
/// secret memory.
///
/// Spec: RFC 9180, 6.1.
pub fn seal(
    public_key: &[u8],
    secret: &Secret,
    info: &[u8],
    aad: &[u8],
) -> Result<(Vec<u8>, Vec<u8>)> {
    let bad_key = Error::Format("the public key is not a valid X25519 point");
    let Ok(public_key) = <Suite as Kem>::PublicKey::from_bytes(public_key) else {
        return Err(bad_key);
    };
    let mut buffer = Secret::zeroed(secret.len())?;
    shielded(|| {
        buffer.bytes_mut().copy_from_slice(secret.bytes());
        let sealed = hpke::single_shot_seal_inout_detached::<ChaCha20Poly1305, HkdfSha256, Suite>(
            &OpModeS::Base,
            &public_key,
            info,
            InOutBuf::from(buffer.bytes_mut()),
            aad,
        );
        // The two lengths are ours and far below the AEAD's limits: only the key can be bad.
        let Ok((encapsulated_key, tag)) = sealed else {
            return Err(bad_key);
        };
        let mut ciphertext = buffer.bytes().to_vec();
        ciphertext.extend_from_slice(&tag.to_bytes());
        Ok((encapsulated_key.to_bytes().to_vec(), ciphertext))
    })
}

/// One key pair that opens what was sealed to it, once.
#[derive(Debug)]
pub struct Receiver {
    private_key: Mutex<Option<Secret>>,
    public_key: [u8; KEY_BYTES],
}

impl Receiver {
    /// Generates a fresh key pair.
    ///
    /// # Errors
    /// [`Error::Platform`] without secret memory or randomness.
    pub fn new() -> Result<Self> {
        let mut private_key = Secret::zeroed(KEY_BYTES)?;
        fill_random(private_key.bytes_mut())?;
        Self::with_private_key(private_key)
    }

    pub(crate) fn with_private_key(private_key: Secret) -> Result<Self> {
        let public_key = shielded(|| {
            let private_key = unwrap_private_key(&private_key)?;
            let mut public_key = [0; KEY_BYTES];
            Suite::sk_to_pk(&private_key).write_exact(&mut public_key);
            Ok(public_key)
        })?;
        Ok(Self {
            private_key: Mutex::new(Some(private_key)),
            public_key,
        })
    }

    /// The public key.
    #[must_use]
    pub fn public_key(&self) -> &[u8; KEY_BYTES] {
        &self.public_key
    }

    /// Opens once: the private key is erased whether or not it succeeds.
    ///
    /// # Errors
    /// [`Error::Format`] if the message was not sealed to this key with this `info` and `aad`, or
    /// if the receiver has been used already; [`Error::Platform`] without secret memory.
    pub fn open(
        &self,
        encapsulated_key: &[u8],
        ciphertext: &[u8],
        info: &[u8],
        aad: &[u8],
    ) -> Result<Secret> {
        let Some(private_key) = self.take_private_key() else {
            return Err(Error::Format("this key pair has been used already"));
        };
        let bad_message = || Error::Format("the message was not sealed to this key and context");
        if ciphertext.len() > MAX_CIPHERTEXT_BYTES {
            return Err(bad_message());
        }
        let (body, tag) = ciphertext
            .split_last_chunk::<TAG_BYTES>()
            .ok_or_else(bad_message)?;
        let tag = AeadTag::from_bytes(tag).map_err(|_| bad_message())?;
        let encapsulated_key =
            <Suite as Kem>::EncappedKey::from_bytes(encapsulated_key).map_err(|_| bad_message())?;
        let mut opened = Secret::zeroed(body.len())?;
        opened.bytes_mut().copy_from_slice(body);
        shielded(|| {
            hpke::single_shot_open_inout_detached::<ChaCha20Poly1305, HkdfSha256, Suite>(
                &OpModeR::Base,
                &unwrap_private_key(&private_key)?,
                &encapsulated_key,
                info,
                InOutBuf::from(opened.bytes_mut()),
                aad,
                &tag,
            )
            .map_err(|_| bad_message())
        })?;
        Ok(opened)
    }

    /// Opens once and writes the bytes and an ending to `fd`.
    ///
    /// # Errors
    /// As [`Receiver::open`], and [`Error::Platform`] if writing fails.
    pub fn open_to_fd(
        &self,
        encapsulated_key: &[u8],
        ciphertext: &[u8],
        info: &[u8],
        aad: &[u8],
        (fd, ending): (BorrowedFd<'_>, &[u8]),
    ) -> Result<()> {
        self.open(encapsulated_key, ciphertext, info, aad)?
            .write_to_fd(fd, ending)
    }

    /// Erases the private key. Doing it twice is allowed.
    pub fn erase(&self) {
        self.take_private_key();
    }

    fn take_private_key(&self) -> Option<Secret> {
        self.private_key
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
    }
}

/// Copies the private key into the library's type, which is wiped on drop; for secret stacks.
fn unwrap_private_key(private_key: &Secret) -> Result<<Suite as Kem>::PrivateKey> {
    <Suite as Kem>::PrivateKey::from_bytes(private_key.bytes())
        .map_err(|_| Error::Internal("an X25519 private key has the wrong length"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::known_answers::{HPKE, unhex};
    use std::io::Read;
    use std::os::fd::AsFd;

    const INFO: &[u8] = b"strongroom test";
    const AAD: &[u8] = b"context";

    fn sealed(receiver: &Receiver, text: &[u8]) -> (Vec<u8>, Vec<u8>) {
        let secret = Secret::copy_of(text).unwrap();
        seal(receiver.public_key(), &secret, INFO, AAD).unwrap()
    }

    /// RFC 9180, A.2.1: base setup, the first encryption.
    #[test]
    fn open_known_answer() {
        let private_key = Secret::copy_of(&unhex(HPKE.private_key)).unwrap();
        let receiver = Receiver::with_private_key(private_key).unwrap();
        assert_eq!(receiver.public_key()[..], unhex(HPKE.public_key));
        let opened = receiver.open(
            &unhex(HPKE.encapsulated_key),
            &unhex(HPKE.ciphertext),
            &unhex(HPKE.info),
            &unhex(HPKE.aad),
        );
        assert_eq!(opened.unwrap().bytes(), unhex(HPKE.plaintext));
    }

    #[test]
    fn what_was_sealed_opens_once() {
        let longest = vec![7; crate::MAX_PASSPHRASE_BYTES];
        for text in [&b""[..], b"x", &longest] {
            let receiver = Receiver::new().unwrap();
            let (key, ciphertext) = sealed(&receiver, text);
            assert_eq!((key.len(), ciphertext.len()), (32, text.len() + 16));
            let opened = receiver.open(&key, &ciphertext, INFO, AAD).unwrap();
            assert_eq!(opened.bytes(), text);
            let again = receiver.open(&key, &ciphertext, INFO, AAD);
            assert!(matches!(again, Err(Error::Format(_))));
        }
    }

    #[test]
    fn any_change_is_refused_and_uses_the_key_up() {
        type Change = fn(&mut Vec<u8>, &mut Vec<u8>);
        let changes: [Change; 7] = [
            |key, _| key[0] ^= 1,
            |key, _| key.truncate(31),
            |key, _| key.fill(0),
            |_, ciphertext| ciphertext[0] ^= 1,
            |_, ciphertext| *ciphertext.last_mut().unwrap() ^= 1,
            |_, ciphertext| ciphertext.truncate(15),
            |_, ciphertext| ciphertext.resize(MAX_CIPHERTEXT_BYTES + 1, 0),
        ];
        for change in changes {
            let receiver = Receiver::new().unwrap();
            let (key, ciphertext) = sealed(&receiver, b"passphrase");
            let (mut bad_key, mut bad_ciphertext) = (key.clone(), ciphertext.clone());
            change(&mut bad_key, &mut bad_ciphertext);
            let outcome = receiver.open(&bad_key, &bad_ciphertext, INFO, AAD);
            assert!(matches!(outcome, Err(Error::Format(_))));
            assert!(receiver.open(&key, &ciphertext, INFO, AAD).is_err());
        }
    }

    #[test]
    fn another_context_or_key_is_refused() {
        for (info, aad) in [(&b"other"[..], AAD), (INFO, b"other")] {
            let receiver = Receiver::new().unwrap();
            let (key, ciphertext) = sealed(&receiver, b"passphrase");
            assert!(receiver.open(&key, &ciphertext, info, aad).is_err());
        }
        let (key, ciphertext) = sealed(&Receiver::new().unwrap(), b"passphrase");
        let other = Receiver::new().unwrap();
        assert!(other.open(&key, &ciphertext, INFO, AAD).is_err());
    }

    #[test]
    fn bad_public_keys_are_refused() {
        let secret = Secret::copy_of(b"passphrase").unwrap();
        let mut order_eight = [0; 32];
        order_eight[0] = 1;
        for bad in [&[0; 32][..], &order_eight, &[9; 31], &[9; 33], &[]] {
            let outcome = seal(bad, &secret, INFO, AAD);
            assert!(matches!(outcome, Err(Error::Format(_))));
        }
    }

    #[test]
    fn an_erased_receiver_opens_nothing() {
        let receiver = Receiver::new().unwrap();
        let (key, ciphertext) = sealed(&receiver, b"passphrase");
        receiver.erase();
        receiver.erase();
        assert!(receiver.open(&key, &ciphertext, INFO, AAD).is_err());
    }

    #[test]
    fn opening_to_a_descriptor_writes_one_line() {
        let receiver = Receiver::new().unwrap();
        let (key, ciphertext) = sealed(&receiver, b"recovery key");
        let (mut reader, writer) = std::io::pipe().unwrap();
        let outcome = receiver.open_to_fd(&key, &ciphertext, INFO, AAD, (writer.as_fd(), b"\n"));
        outcome.unwrap();
        drop(writer);
        let mut line = String::new();
        reader.read_to_string(&mut line).unwrap();
        assert_eq!(line, "recovery key\n");
    }
}
