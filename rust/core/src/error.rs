// SPDX-License-Identifier: Apache-2.0
//! What can go wrong, sorted by whose fault it is, as in `strongroom.errors`.

use std::fmt;
use std::io;

/// A result whose error is [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

/// Why a computation was refused or failed.
///
/// No variant carries secret bytes, and no message depends on them.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// The caller broke a rule: our bug (`InternalError`).
    Internal(&'static str),
    /// The bytes are wrong (`FormatError`).
    Format(&'static str),
    /// A cipher, mode or hash that is not on the list (`UnsupportedCipherError`).
    Unsupported {
        /// What is unsupported: `cipher`, `hash` or `kdf`.
        what: &'static str,
        /// The name that was asked for.
        name: String,
    },
    /// An offset or size lies off the grid or outside its place (`BoundsError`).
    Bounds(&'static str),
    /// A number exceeds a limit (`LimitError`).
    Limit {
        /// What is limited, with its unit.
        what: &'static str,
        /// The number that was asked for.
        value: u64,
        /// The smallest that is allowed.
        minimum: u64,
        /// The largest that is allowed.
        maximum: u64,
    },
    /// The passphrase is empty (`EmptyPassphraseError`).
    EmptyPassphrase,
    /// The input ended before anything was read (`PassphraseInputError`).
    EndOfInput,
    /// More than [`crate::MAX_PASSPHRASE_BYTES`] came (`PassphraseInputError`).
    PassphraseTooLong,
    /// Reading a passphrase failed (`PassphraseInputError`).
    PassphraseInput(io::Error),
    /// The input ended before a secret of a given length was whole (`PassphraseInputError`).
    InputTooShort,
    /// A sealed blob does not open (`SealedBlobError`).
    SealedBlob,
    /// What came from the TPM is not what the TPM answered (`TpmTamperedError`).
    Tampered(&'static str),
    /// The TPM, or whoever sits on its wire, refused with this code (`TpmError`).
    TpmRefused(u32),
    /// The machine did not give what was needed (`PlatformError`).
    Platform {
        /// What was tried, such as `allocating secret memory`.
        doing: &'static str,
        /// The system's answer.
        source: io::Error,
    },
}

impl Error {
    /// Secret memory could not be had.
    pub(crate) fn secret_memory(source: io::Error) -> Self {
        Self::Platform {
            doing: "allocating secret memory",
            source,
        }
    }

    /// Checks that `value` lies in `range`.
    pub(crate) fn check_limit(
        what: &'static str,
        value: u64,
        range: std::ops::RangeInclusive<u64>,
    ) -> Result<()> {
        if range.contains(&value) {
            return Ok(());
        }
        Err(Self::Limit {
            what,
            value,
            minimum: *range.start(),
            maximum: *range.end(),
        })
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TpmRefused(code) => write!(f, "the TPM refused with code {code:#05x}"),
            Self::Internal(what) => write!(f, "internal error: {what}"),
            Self::Format(what) | Self::Bounds(what) | Self::Tampered(what) => f.write_str(what),
            Self::Unsupported { what, name } => write!(f, "unsupported {what} {name:?}"),
            Self::Limit {
                what,
                value,
                minimum,
                maximum,
            } => write!(f, "{what} is {value}, allowed is {minimum} to {maximum}"),
            Self::EmptyPassphrase => f.write_str("the passphrase is empty"),
            Self::EndOfInput => f.write_str("the input ended before a passphrase came"),
            Self::PassphraseTooLong => write!(
                f,
                "the passphrase is longer than {} bytes",
                crate::MAX_PASSPHRASE_BYTES
            ),
            Self::PassphraseInput(source) => write!(f, "cannot read the passphrase: {source}"),
            Self::InputTooShort => f.write_str("the input ended before the secret was whole"),
            Self::SealedBlob => f.write_str(
                "the sealed blob was changed, or belongs to another key, purpose or context",
            ),
            Self::Platform { doing, source } => write!(f, "{doing} failed: {source}"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::PassphraseInput(source) | Self::Platform { source, .. } => Some(source),
            _ => None,
        }
    }
}
