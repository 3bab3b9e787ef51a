// SPDX-License-Identifier: Apache-2.0
//! What keeps a secret from being typed at a terminal: facts about it, never its bytes.

use crate::secret::shielded;
use crate::{Result, Secret};

/// Longest line that Linux passes on from a terminal, in bytes.
///
/// Its buffer for a line has 4096. It keeps the newline and the 4095 bytes before it, and drops the
/// rest without a word, so a line of 4095 bytes may have been longer.
pub const MAX_TYPED_BYTES: usize = 4094;

impl Secret {
    /// Tells why the secret cannot be typed as a line; nothing if it can.
    ///
    /// # Errors
    /// [`crate::Error::Platform`] without secret memory.
    pub fn typing_obstacles(&self) -> Result<Vec<&'static str>> {
        let found = shielded(|| Ok(Obstacles::of(self.bytes())))?;
        Ok(found.words())
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Obstacles {
    newline: bool,
    carriage_return: bool,
    control: bool,
    not_text: bool,
    too_long: bool,
}

impl Obstacles {
    fn of(bytes: &[u8]) -> Self {
        let has = |wanted: fn(u8) -> bool| bytes.iter().fold(false, |any, &b| any | wanted(b));
        Self {
            newline: has(|byte| byte == b'\n'),
            carriage_return: has(|byte| byte == b'\r'),
            control: has(is_control),
            not_text: str::from_utf8(bytes).is_err(),
            too_long: bytes.len() > MAX_TYPED_BYTES,
        }
    }

    fn words(self) -> Vec<&'static str> {
        let all = [
            (self.newline, "several lines"),
            (self.carriage_return, "a carriage return"),
            (self.control, "control characters"),
            (self.not_text, "bytes that are no text"),
            (self.too_long, "more bytes than a terminal passes on"),
        ];
        all.iter()
            .filter_map(|&(is_there, word)| is_there.then_some(word))
            .collect()
    }
}

/// Whether a terminal may take the byte for a command; a tab it passes on.
fn is_control(byte: u8) -> bool {
    byte.is_ascii_control() && !matches!(byte, b'\t' | b'\n' | b'\r')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn obstacles(bytes: &[u8]) -> Vec<&'static str> {
        Secret::copy_of(bytes).unwrap().typing_obstacles().unwrap()
    }

    #[test]
    fn what_can_be_typed_has_no_obstacles() {
        for typed in ["pw", " a b\tc ", "schlüssel", "密码", "-", "\u{a0}"] {
            assert!(obstacles(typed.as_bytes()).is_empty(), "{typed:?}");
        }
        assert!(obstacles(&[b'x'; MAX_TYPED_BYTES]).is_empty());
    }

    #[test]
    fn every_obstacle_is_named() {
        assert_eq!(obstacles(b"pw\nuser: me"), ["several lines"]);
        assert_eq!(obstacles(b"pw\r"), ["a carriage return"]);
        for control in [b"p\x03w", b"p\0w", b"p\x1bw", b"p\x7fw"] {
            assert_eq!(obstacles(control), ["control characters"]);
        }
        assert_eq!(obstacles(b"\xff\xfe"), ["bytes that are no text"]);
        let longer = [b'x'; MAX_TYPED_BYTES + 1];
        assert_eq!(obstacles(&longer), ["more bytes than a terminal passes on"]);
        assert_eq!(
            obstacles(b"a\r\nb\0\xff"),
            [
                "several lines",
                "a carriage return",
                "control characters",
                "bytes that are no text"
            ]
        );
    }
}
