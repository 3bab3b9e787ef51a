// SPDX-License-Identifier: Apache-2.0
//! Secrets as text, for software that takes a passphrase and no raw bytes.

use base64ct::{Base64, Encoding};

use crate::secret::shielded;
use crate::{Error, Result, Secret};

impl Secret {
    /// Returns the bytes in base64: the standard alphabet, padded, no newline.
    ///
    /// Four characters for every three bytes begun; nothing for an empty secret. Computes digits
    /// instead of looking them up: neither an address nor a branch depends on the bytes.
    ///
    /// # Errors
    /// [`Error::Platform`] without secret memory.
    ///
    /// Spec: RFC 4648, 4.
    pub fn base64(&self) -> Result<Self> {
        let mut text = Self::zeroed(self.len().div_ceil(3) * 4)?;
        shielded(|| {
            Base64::encode(self.bytes(), text.bytes_mut())
                .map(|_| ())
                .map_err(|_| Error::Internal("base64 refused a buffer of the right length"))
        })?;
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(bytes: &[u8]) -> String {
        let text = Secret::copy_of(bytes).unwrap().base64().unwrap();
        String::from_utf8(text.bytes().to_vec()).unwrap()
    }

    /// RFC 4648, 10.
    #[test]
    fn base64_known_answers() {
        let cases = [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
            ("foobar", "Zm9vYmFy"),
        ];
        for (bytes, text) in cases {
            assert_eq!(encoded(bytes.as_bytes()), text);
        }
    }

    /// The 64 digits in order, RFC 4648, table 1: six bits each, 0 to 63.
    #[test]
    fn every_digit_is_that_of_the_standard_alphabet() {
        let bits =
            |index: u32| (index * 4..index * 4 + 4).fold(0u32, |all, digit| all << 6 | digit);
        let bytes: Vec<u8> = (0..16)
            .flat_map(|index| bits(index).to_be_bytes()[1..].to_vec())
            .collect();
        assert_eq!(
            encoded(&bytes),
            "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
        );
    }
}
