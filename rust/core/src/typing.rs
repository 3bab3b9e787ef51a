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
        let found = shielded(|| Ok(obstacles(self.bytes())))?;
        let there = found.iter().filter(|(is_there, _)| *is_there);
        Ok(there.map(|&(_, word)| word).collect())
    }
}

/// What might be in the way, and whether it is.
fn obstacles(bytes: &[u8]) -> [(bool, &'static str); 5] {
    let has = |wanted: fn(u8) -> bool| {
        bytes
            .iter()
            .map(|&byte| usize::from(wanted(byte)))
            .sum::<usize>()
            > 0
    };
    [
        (has(|byte| byte == b'\n'), "several lines"),
        (has(|byte| byte == b'\r'), "a carriage return"),
        (has(is_control), "control characters"),
        (str::from_utf8(bytes).is_err(), "bytes that are no text"),
        (
            bytes.len() > MAX_TYPED_BYTES,
            "more bytes than a terminal passes on",
        ),
    ]
}

/// Whether a terminal may take the byte for a command; a tab it passes on.
fn is_control(byte: u8) -> bool {
    byte.is_ascii_control() && !matches!(byte, b'\t' | b'\n' | b'\r')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(bytes: &[u8]) -> Vec<&'static str> {
        Secret::copy_of(bytes).unwrap().typing_obstacles().unwrap()
    }

    #[test]
    fn what_can_be_typed_has_no_obstacles() {
        for typed in ["pw", " a b\tc ", "schlüssel", "密码", "-", "\u{a0}"] {
            assert!(told(typed.as_bytes()).is_empty(), "{typed:?}");
        }
        assert!(told(&[b'x'; MAX_TYPED_BYTES]).is_empty());
    }

    #[test]
    fn every_obstacle_is_named() {
        assert_eq!(told(b"pw\nuser: me"), ["several lines"]);
        assert_eq!(told(b"pw\r"), ["a carriage return"]);
        for control in [b"p\x03w", b"p\0w", b"p\x1bw", b"p\x7fw"] {
            assert_eq!(told(control), ["control characters"]);
        }
        assert_eq!(told(b"\xff\xfe"), ["bytes that are no text"]);
        let longer = [b'x'; MAX_TYPED_BYTES + 1];
        assert_eq!(told(&longer), ["more bytes than a terminal passes on"]);
        assert_eq!(
            told(b"a\r\nb\0\xff"),
            [
                "several lines",
                "a carriage return",
                "control characters",
                "bytes that are no text"
            ]
        );
    }
}
