// SPDX-License-Identifier: Apache-2.0
//! Signatures: Ed25519.
//!
//! Spec: RFC 8032, 5.1.

use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};

use crate::secret::shielded;
use crate::{Error, Result, Secret};

/// Length of a seed, which is what RFC 8032 calls the private key, in bytes.
pub const SEED_BYTES: usize = 32;

/// Length of a public key in bytes.
pub const PUBLIC_KEY_BYTES: usize = 32;

/// Length of a signature in bytes.
pub const SIGNATURE_BYTES: usize = 64;

/// Returns the public key of a seed.
///
/// # Errors
/// [`Error::Limit`] unless the seed is 32 bytes long; [`Error::Platform`] without secret memory.
///
/// Spec: RFC 8032, 5.1.5.
pub fn public_key(seed: &Secret) -> Result<[u8; PUBLIC_KEY_BYTES]> {
    shielded(|| Ok(signing_key(seed)?.verifying_key().to_bytes()))
}

/// Signs a message. The same seed and message give the same signature.
///
/// # Errors
/// As [`public_key`].
///
/// Spec: RFC 8032, 5.1.6.
pub fn sign(seed: &Secret, message: &[u8]) -> Result<[u8; SIGNATURE_BYTES]> {
    shielded(|| Ok(signing_key(seed)?.sign(message).to_bytes()))
}

/// Tells whether the holder of a key's seed signed a message.
///
/// Strict: the equation is checked without the cofactor, and a key or point of small order, for
/// which one signature fits many messages, never verifies. Neither do keys and signatures of
/// another length or encoding.
///
/// Spec: RFC 8032, 5.1.7.
#[must_use]
pub fn verifies(public_key: &[u8], message: &[u8], signature: &[u8]) -> bool {
    let (Ok(public_key), Ok(signature)) = (public_key.try_into(), Signature::from_slice(signature))
    else {
        return false;
    };
    VerifyingKey::from_bytes(public_key)
        .is_ok_and(|key| key.verify_strict(message, &signature).is_ok())
}

/// Expands the seed into the library's type, which is wiped on drop; for secret stacks.
fn signing_key(seed: &Secret) -> Result<SigningKey> {
    let length = SEED_BYTES as u64;
    Error::check_limit(
        "an Ed25519 seed in bytes",
        seed.len() as u64,
        length..=length,
    )?;
    let seed = seed
        .bytes()
        .try_into()
        .map_err(|_| Error::Internal("a checked length was another one"))?;
    Ok(SigningKey::from_bytes(seed))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::known_answers::{ED25519, unhex};

    fn seed(byte: u8) -> Secret {
        Secret::copy_of(&[byte; SEED_BYTES]).unwrap()
    }

    #[test]
    fn ed25519_known_answers() {
        for case in ED25519 {
            let seed = Secret::copy_of(&unhex(case.seed)).unwrap();
            let message = unhex(case.message);
            let (key, signature) = (unhex(case.public_key), unhex(case.signature));
            assert_eq!(public_key(&seed).unwrap()[..], key);
            assert_eq!(sign(&seed, &message).unwrap()[..], signature);
            assert!(verifies(&key, &message, &signature));
        }
    }

    #[test]
    fn every_changed_bit_is_refused() {
        let (key, message) = (public_key(&seed(1)).unwrap(), b"message");
        let signature = sign(&seed(1), message).unwrap();
        assert!(verifies(&key, message, &signature));
        for bit in 0..8 * SIGNATURE_BYTES {
            let mut changed = signature;
            changed[bit / 8] ^= 1 << (bit % 8);
            assert!(!verifies(&key, message, &changed), "bit {bit}");
        }
        for bit in 0..8 * PUBLIC_KEY_BYTES {
            let mut changed = key;
            changed[bit / 8] ^= 1 << (bit % 8);
            assert!(!verifies(&changed, message, &signature), "bit {bit}");
        }
        assert!(!verifies(&key, b"massage", &signature));
        assert!(!verifies(
            &public_key(&seed(2)).unwrap(),
            message,
            &signature
        ));
    }

    #[test]
    fn other_lengths_are_refused() {
        let key = public_key(&seed(1)).unwrap();
        let signature = sign(&seed(1), b"").unwrap();
        assert!(verifies(&key, b"", &signature));
        assert!(!verifies(&key[1..], b"", &signature));
        assert!(!verifies(&[&key[..], &[0]].concat(), b"", &signature));
        assert!(!verifies(&key, b"", &signature[..63]));
        assert!(!verifies(&key, b"", &[&signature[..], &[0]].concat()));
        assert!(!verifies(b"", b"", b""));
        for length in [0, 31, 33, 64] {
            let seed = Secret::copy_of(&vec![1; length]).unwrap();
            assert!(matches!(public_key(&seed), Err(Error::Limit { .. })));
            assert!(matches!(sign(&seed, b""), Err(Error::Limit { .. })));
        }
    }

    /// The neutral element as key and as point, with the scalar zero: the equation holds for every
    /// message, so whoever does not look at the order accepts it.
    #[test]
    fn a_key_of_small_order_signs_nothing() {
        let mut neutral = [0; PUBLIC_KEY_BYTES];
        neutral[0] = 1;
        let mut forged = [0; SIGNATURE_BYTES];
        forged[0] = 1;
        assert!(!verifies(&neutral, b"any message", &forged));
    }

    /// A signature with the group order added to its scalar, RFC 8032, 5.1.7, step 1.
    #[test]
    fn a_signature_has_one_encoding() {
        let order = unhex("edd3f55c1a631258d69cf7a2def9de1400000000000000000000000000000010");
        let key = public_key(&seed(1)).unwrap();
        let mut signature = sign(&seed(1), b"message").unwrap();
        let mut carry = 0;
        for (place, byte) in signature[32..].iter_mut().zip(order) {
            let sum = u16::from(*place) + u16::from(byte) + carry;
            *place = sum.to_le_bytes()[0];
            carry = sum >> 8;
        }
        assert!(!verifies(&key, b"message", &signature));
    }
}
