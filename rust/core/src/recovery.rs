// SPDX-License-Identifier: Apache-2.0
//! Recovery keys, in the form that `systemd-cryptenroll` prints.

use crate::random::fill_random;
use crate::secret::shielded;
use crate::{Result, Secret};

/// Digits that sit on the same keys of most keyboard layouts. Digit `n` stands for the value `n`.
const MODHEX: &[u8; 16] = b"cbdefghijklnrtuv";

const RANDOM_BYTES: usize = 32;
const GROUP_DIGITS: usize = 8;
const LENGTH: usize = RANDOM_BYTES * 2 + RANDOM_BYTES * 2 / GROUP_DIGITS - 1;

impl Secret {
    /// Returns a fresh recovery key: 256 random bits as 71 ASCII characters.
    ///
    /// 64 modhex digits in eight groups of eight, joined by dashes. The characters themselves are
    /// the passphrase.
    ///
    /// # Errors
    /// [`crate::Error::Platform`] without secret memory or randomness.
    pub fn random_recovery_key() -> Result<Self> {
        let mut random = Self::zeroed(RANDOM_BYTES)?;
        let mut key = Self::zeroed(LENGTH)?;
        shielded(|| {
            fill_random(random.bytes_mut())?;
            write_modhex(random.bytes(), key.bytes_mut());
            Ok(())
        })?;
        Ok(key)
    }
}

/// Writes two digits for each byte, high half first, and a dash between groups.
fn write_modhex(bytes: &[u8], text: &mut [u8]) {
    let digits = bytes.iter().flat_map(|&byte| [byte >> 4, byte & 15]);
    let mut places = text.iter_mut();
    for (index, digit) in digits.enumerate() {
        if index > 0
            && index % GROUP_DIGITS == 0
            && let Some(place) = places.next()
        {
            *place = b'-';
        }
        if let Some(place) = places.next() {
            *place = digit_of(digit);
        }
    }
}

/// Looks the digit up without an address that depends on it.
fn digit_of(value: u8) -> u8 {
    MODHEX.iter().zip(0u8..).fold(0, |found, (&digit, index)| {
        let difference = u16::from(index ^ value);
        // All ones when the difference is zero, else zero.
        let mask = difference.wrapping_sub(1).to_be_bytes()[0];
        found | (digit & mask)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_those_of_systemd() {
        for (value, &digit) in MODHEX.iter().enumerate() {
            assert_eq!(digit_of(u8::try_from(value).unwrap()), digit);
        }
    }

    #[test]
    fn text_is_grouped_by_eight() {
        let mut text = [0u8; LENGTH];
        let bytes: Vec<u8> = (0..32).map(|n| n * 8 + n / 4).collect();
        write_modhex(&bytes, &mut text);
        assert_eq!(
            str::from_utf8(&text).unwrap(),
            "cccjbcbj-dbdkebek-fdflgdgl-hehniein-jfjrkfkr-lgltngnt-rhruthtu-uiuvvivv"
        );
        let groups: Vec<_> = text.split(|&byte| byte == b'-').collect();
        assert_eq!(groups.len(), 8);
        assert!(groups.iter().all(|group| group.len() == 8));
    }

    #[test]
    fn fresh_keys_differ() {
        let one = Secret::random_recovery_key().unwrap();
        assert_eq!(one.len(), 71);
        assert!(
            one.bytes()
                .iter()
                .all(|byte| MODHEX.contains(byte) || *byte == b'-')
        );
        assert!(!one.equals(&Secret::random_recovery_key().unwrap()));
    }
}
