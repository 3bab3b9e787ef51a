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

    /// Returns the recovery key that was meant, if the bytes are one in another form: in capitals,
    /// with blanks or line ends, with other dashes or none.
    ///
    /// `None` for everything else, and for a key whose bytes are right already.
    ///
    /// # Errors
    /// [`crate::Error::Platform`] without secret memory.
    pub fn recovery_key_form(&self) -> Result<Option<Self>> {
        if self.len() > MAX_WRITTEN_BYTES {
            return Ok(None);
        }
        let mut key = Self::zeroed(LENGTH)?;
        let is_key = shielded(|| Ok(write_normal_form(self.bytes(), key.bytes_mut())))?;
        Ok((is_key && !key.equals(self)).then_some(key))
    }

    /// Tells whether the bytes are a recovery key, in whatever form.
    ///
    /// # Errors
    /// [`crate::Error::Platform`] without secret memory.
    pub fn is_recovery_key(&self) -> Result<bool> {
        if self.len() > MAX_WRITTEN_BYTES {
            return Ok(false);
        }
        let mut key = Self::zeroed(LENGTH)?;
        shielded(|| Ok(write_normal_form(self.bytes(), key.bytes_mut())))
    }

    /// Tells what keeps bytes that look like a recovery key from being one; `None` if they do not
    /// look like one, or are one.
    ///
    /// The answer has counts, and no letter of the secret.
    ///
    /// # Errors
    /// [`crate::Error::Platform`] without secret memory.
    pub fn recovery_key_fault(&self) -> Result<Option<String>> {
        if self.len() > MAX_WRITTEN_BYTES {
            return Ok(None);
        }
        let fault = shielded(|| Ok(find_fault(self.bytes())))?;
        Ok(fault.map(Fault::words))
    }
}

/// A recovery key with a blank or dash between all of its digits is shorter than this.
const MAX_WRITTEN_BYTES: usize = 160;

/// As many digits make a text look like a recovery key, if other characters are rare.
const LOOKS_LIKE_DIGITS: usize = 40;

const GROUPS: usize = RANDOM_BYTES * 2 / GROUP_DIGITS;

/// What a byte of a written recovery key is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Written {
    Digit(u8),
    Separator,
    Foreign,
}

impl Written {
    fn of(byte: u8) -> Self {
        let lower = byte.to_ascii_lowercase();
        let found: u8 = MODHEX.iter().map(|&digit| u8::from(digit == lower)).sum();
        if found > 0 {
            Self::Digit(lower)
        } else if matches!(byte, b'-' | b' ' | b'\t' | b'\r' | b'\n') {
            Self::Separator
        } else {
            Self::Foreign
        }
    }
}

/// Writes the digits in groups; whether there were as many as a key has, and nothing foreign.
fn write_normal_form(written: &[u8], key: &mut [u8]) -> bool {
    let (mut digits, mut is_key) = (0, true);
    for &byte in written {
        match Written::of(byte) {
            Written::Digit(digit) => {
                // One place in every nine is a dash.
                if let Some(place) = key.get_mut(digits + digits / GROUP_DIGITS) {
                    *place = digit;
                }
                digits += 1;
            }
            Written::Separator => {}
            Written::Foreign => is_key = false,
        }
    }
    for dash in key.iter_mut().skip(GROUP_DIGITS).step_by(GROUP_DIGITS + 1) {
        *dash = b'-';
    }
    is_key && digits == RANDOM_BYTES * 2
}

/// What is wrong with a text that looks like a recovery key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// A group, from 1, has a character that is no digit.
    Foreign { group: usize },
    /// A group, from 1, has another number of digits.
    Digits { group: usize, digits: usize },
    /// There is another number of groups.
    Groups(usize),
    /// Without groups: another number of digits.
    Total(usize),
}

impl Fault {
    fn words(self) -> String {
        match self {
            Self::Foreign { group } => {
                format!("group {group} has a character that is in no recovery key")
            }
            Self::Digits { group, digits } => {
                format!("group {group} has {digits} letters, not {GROUP_DIGITS}")
            }
            Self::Groups(groups) => format!("it has {groups} groups, not {GROUPS}"),
            Self::Total(digits) => format!("it has {digits} letters, not {}", RANDOM_BYTES * 2),
        }
    }
}

fn find_fault(text: &[u8]) -> Option<Fault> {
    let kinds = || text.iter().map(|&byte| Written::of(byte));
    let digits = kinds()
        .filter(|kind| matches!(kind, Written::Digit(_)))
        .count();
    let foreign = kinds().filter(|kind| *kind == Written::Foreign).count();
    let is_key = digits == RANDOM_BYTES * 2 && foreign == 0;
    if is_key || digits < LOOKS_LIKE_DIGITS || foreign > digits / GROUP_DIGITS {
        return None;
    }
    let groups = text
        .split(|&byte| Written::of(byte) == Written::Separator)
        .filter(|group| !group.is_empty());
    let (mut count, mut fault) = (0, None);
    for group in groups {
        count += 1;
        fault = fault.or_else(|| group_fault(count, group));
    }
    match (count, foreign) {
        (1, 0) => Some(Fault::Total(digits)),
        (GROUPS | 1, _) => fault,
        _ => Some(Fault::Groups(count)),
    }
}

fn group_fault(group: usize, text: &[u8]) -> Option<Fault> {
    if text
        .iter()
        .any(|&byte| Written::of(byte) == Written::Foreign)
    {
        return Some(Fault::Foreign { group });
    }
    let digits = text.len();
    (digits != GROUP_DIGITS).then_some(Fault::Digits { group, digits })
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

    const KEY: &str = "cccjbcbj-dbdkebek-fdflgdgl-hehniein-jfjrkfkr-lgltngnt-rhruthtu-uiuvvivv";

    fn form(text: &str) -> Option<Vec<u8>> {
        let secret = Secret::copy_of(text.as_bytes()).unwrap();
        let form = secret.recovery_key_form().unwrap();
        form.map(|key| key.bytes().to_vec())
    }

    fn fault(text: &str) -> Option<String> {
        let secret = Secret::copy_of(text.as_bytes()).unwrap();
        secret.recovery_key_fault().unwrap()
    }

    #[test]
    fn other_forms_of_a_key_become_the_key() {
        let blanks = KEY.replace('-', " ");
        let joined = KEY.replace('-', "");
        let fours: Vec<_> = joined
            .as_bytes()
            .chunks(4)
            .map(|c| str::from_utf8(c).unwrap())
            .collect();
        for written in [
            KEY.to_uppercase(),
            joined.clone(),
            joined.to_uppercase(),
            blanks,
            format!(" {KEY}\t"),
            format!("{KEY}\r"),
            KEY.replace('-', "\r\n"),
            KEY.replace('-', " - "),
            fours.join("-"),
            joined.split("").collect::<Vec<_>>().join(" "),
        ] {
            assert_eq!(
                form(&written).as_deref(),
                Some(KEY.as_bytes()),
                "{written:?}"
            );
            assert_eq!(fault(&written), None, "{written:?}");
        }
    }

    #[test]
    fn what_is_no_key_has_no_other_form() {
        let long = format!("{KEY}{}", " ".repeat(200));
        let (short, more) = (KEY[..70].to_owned(), format!("{KEY}c"));
        for text in [
            "pw",
            "",
            &short,
            &more,
            &KEY.replacen('c', "a", 1),
            &long,
            KEY,
        ] {
            if !text.is_empty() {
                assert_eq!(form(text), None, "{text:?}");
            }
        }
    }

    #[test]
    fn what_looks_like_a_key_is_told_what_it_lacks() {
        let groups: Vec<_> = KEY.split('-').collect();
        let told = |text: &str, words: &str| assert_eq!(fault(text).as_deref(), Some(words));
        told(
            &KEY.replacen("fdflgdgl", "fdflgdg", 1),
            "group 3 has 7 letters, not 8",
        );
        told(
            &KEY.replacen("uiuvvivv", "uiuvvivvc", 1),
            "group 8 has 9 letters, not 8",
        );
        told(
            &KEY.replacen("dbdkebek", "dbdkebe1", 1),
            "group 2 has a character that is in no recovery key",
        );
        told(&groups[..7].join("-"), "it has 7 groups, not 8");
        told(&KEY.replace('-', "")[..63], "it has 63 letters, not 64");
        told(
            &KEY.to_uppercase().replace('-', "")[1..],
            "it has 63 letters, not 64",
        );
    }

    #[test]
    fn what_does_not_look_like_a_key_is_told_nothing() {
        for text in [
            "correct horse battery staple correct horse battery staple correct horse",
            "cbdefghi-cbdefghi",
            "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
            "pw",
            KEY,
        ] {
            assert_eq!(fault(text), None, "{text:?}");
        }
        assert_eq!(fault(&KEY.repeat(3)), None);
    }
}
