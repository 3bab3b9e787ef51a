// SPDX-License-Identifier: Apache-2.0
//! The header that commands and responses share.
//!
//! Spec: TPM 2.0 Part 1, 18.1 to 18.3.

use crate::reader::Reader;
use crate::{GateError, Result};

/// Bytes of the shortest message: its header.
pub const MIN_MESSAGE_BYTES: usize = 10;
/// Bytes of the longest message: what every TPM of the PC Client profile takes and gives.
pub const MAX_MESSAGE_BYTES: usize = 4096;

/// Whether a message has an authorization area.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tag {
    NoSessions,
    Sessions,
}

impl Tag {
    /// Spec: TPM 2.0 Part 2, 6.9 "TPM_ST".
    pub(crate) fn number(self) -> u16 {
        match self {
            Self::NoSessions => 0x8001,
            Self::Sessions => 0x8002,
        }
    }
}

/// The header of a message, and what comes after it.
pub(crate) struct Frame<'a> {
    pub(crate) tag: Tag,
    /// Command code or response code.
    pub(crate) code: u32,
    pub(crate) body: Reader<'a>,
}

impl<'a> Frame<'a> {
    pub(crate) fn parse(message: &'a [u8]) -> Result<Self> {
        let bytes = message.len();
        if !(MIN_MESSAGE_BYTES..=MAX_MESSAGE_BYTES).contains(&bytes) {
            return Err(GateError::Length { bytes });
        }
        let mut body = Reader::new(message);
        let tag = match body.u16("the header")? {
            0x8001 => Tag::NoSessions,
            0x8002 => Tag::Sessions,
            tag => return Err(GateError::Tag { tag }),
        };
        let says = body.u32("the header")?;
        if usize::try_from(says) != Ok(bytes) {
            return Err(GateError::SizeField { says, bytes });
        }
        let code = body.u32("the header")?;
        Ok(Self { tag, code, body })
    }
}
