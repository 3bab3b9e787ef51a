// SPDX-License-Identifier: Apache-2.0
//! Message authentication codes: HMAC-SHA256.
//!
//! Spec: RFC 2104, FIPS 198-1.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use subtle::ConstantTimeEq;

use crate::secret::shielded;
use crate::{Error, MAX_PASSPHRASE_BYTES, Result, Secret};

/// Length of a code in bytes.
pub const CODE_BYTES: usize = 32;

/// Returns the code of a message.
///
/// # Errors
/// [`Error::Limit`] unless the key is 1 to 65536 bytes long; [`Error::Platform`] without secret
/// memory.
pub fn hmac_sha256(key: &Secret, message: &[u8]) -> Result<[u8; CODE_BYTES]> {
    shielded(|| compute(key, message))
}

/// Tells in constant time whether `code` is the message's; a code of another length is not.
///
/// The right code does not leave secret memory.
///
/// # Errors
/// As [`hmac_sha256`].
pub fn hmac_sha256_matches(key: &Secret, message: &[u8], code: &[u8]) -> Result<bool> {
    shielded(|| Ok(compute(key, message)?.ct_eq(code).into()))
}

/// Leaves copies on the stack: for use on a secret stack.
fn compute(key: &Secret, message: &[u8]) -> Result<[u8; CODE_BYTES]> {
    Error::check_limit(
        "the key of a MAC in bytes",
        key.len() as u64,
        1..=MAX_PASSPHRASE_BYTES as u64,
    )?;
    let mut state = Hmac::<Sha256>::new_from_slice(key.bytes())
        .map_err(|_| Error::Internal("hmac refused a key"))?;
    state.update(message);
    Ok(state.finalize().into_bytes().into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::known_answers::{HMAC, unhex};

    #[test]
    fn hmac_known_answers() {
        for case in HMAC {
            let key = Secret::copy_of(&unhex(case.key)).unwrap();
            let (message, expected) = (unhex(case.message), unhex(case.code));
            let code = hmac_sha256(&key, &message).unwrap();
            assert_eq!(code[..], expected);
            assert!(hmac_sha256_matches(&key, &message, &expected).unwrap());
        }
    }

    #[test]
    fn only_the_whole_code_of_this_message_and_key_matches() {
        let key = Secret::copy_of(&[1; 32]).unwrap();
        let code = hmac_sha256(&key, b"message").unwrap();
        let matches = |code: &[u8]| hmac_sha256_matches(&key, b"message", code).unwrap();
        assert!(matches(&code));
        for bit in 0..8 * CODE_BYTES {
            let mut changed = code;
            changed[bit / 8] ^= 1 << (bit % 8);
            assert!(!matches(&changed), "bit {bit}");
        }
        for length in 0..CODE_BYTES {
            assert!(!matches(&code[..length]), "{length} bytes");
        }
        assert!(!matches(&[&code[..], &[0]].concat()));
        assert!(!hmac_sha256_matches(&key, b"another", &code).unwrap());
        let other = Secret::copy_of(&[2; 32]).unwrap();
        assert!(!hmac_sha256_matches(&other, b"message", &code).unwrap());
    }

    #[test]
    fn an_empty_key_is_refused() {
        let empty = Secret::copy_of(b"").unwrap();
        assert!(matches!(
            hmac_sha256(&empty, b"message"),
            Err(Error::Limit { .. })
        ));
        assert!(hmac_sha256_matches(&empty, b"message", &[0; 32]).is_err());
    }
}
