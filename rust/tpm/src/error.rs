// SPDX-License-Identifier: Apache-2.0
//! Which rule a message breaks.

use std::fmt;

/// Why a message may not pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum GateError {
    /// A message is shorter than its header, or longer than any.
    Length {
        /// Bytes of the message.
        bytes: usize,
    },
    /// The header gives another size than the message has.
    SizeField {
        /// What the header says.
        says: u32,
        /// Bytes of the message.
        bytes: usize,
    },
    /// The tag is not one that this message may have.
    Tag {
        /// The tag.
        tag: u16,
    },
    /// The command is not on the allow-list.
    NotAllowed {
        /// The command code.
        code: u32,
    },
    /// An error response is more than its header.
    ErrorShape {
        /// The response code.
        code: u32,
    },
    /// A handle cannot be what it stands for here.
    Handle {
        /// What it should be.
        what: &'static str,
        /// The handle.
        handle: u32,
    },
    /// The authorization area breaks a rule.
    Authorization(&'static str),
    /// The message ends inside a field.
    Truncated {
        /// The field.
        what: &'static str,
    },
    /// A size or count is not one that the field may have.
    Size {
        /// The field.
        what: &'static str,
        /// The size or count.
        size: usize,
    },
    /// A value is not one that the field may have.
    Value {
        /// The field.
        what: &'static str,
        /// The value.
        value: u32,
    },
    /// Bytes are left after the last field.
    Trailing {
        /// Of what.
        what: &'static str,
        /// Number of bytes.
        bytes: usize,
    },
    /// The response is well formed, but answers another question.
    Disagrees(&'static str),
}

impl fmt::Display for GateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Length { bytes } => write!(f, "a message of {bytes} bytes is not one of a TPM"),
            Self::SizeField { says, bytes } => {
                write!(f, "the header says {says} bytes, the message has {bytes}")
            }
            Self::Tag { tag } => write!(f, "the tag {tag:#06x} is not allowed here"),
            Self::NotAllowed { code } => {
                write!(f, "the command {code:#010x} is not on the allow-list")
            }
            Self::ErrorShape { code } => {
                write!(f, "an error response ({code:#x}) is more than its header")
            }
            Self::Handle { what, handle } => write!(f, "the handle {handle:#010x} is not {what}"),
            Self::Authorization(rule) => f.write_str(rule),
            Self::Truncated { what } => write!(f, "the message ends inside {what}"),
            Self::Size { what, size } => write!(f, "{what} cannot have the size or count {size}"),
            Self::Value { what, value } => write!(f, "{what} cannot be {value:#x}"),
            Self::Trailing { what, bytes } => write!(f, "{bytes} bytes are left after {what}"),
            Self::Disagrees(what) => write!(f, "the response does not fit the command: {what}"),
        }
    }
}

impl std::error::Error for GateError {}
