// SPDX-License-Identifier: Apache-2.0
//! One parameter: how it is walked, and whether a session may encrypt it.

use crate::algorithms;
use crate::reader::Reader;
use crate::{GateError, Result};

/// Takes exactly one structure, or refuses.
pub(crate) type Walk = fn(&mut Reader<'_>) -> Result<()>;

/// A parameter of a command or response.
#[derive(Clone, Copy)]
pub(crate) enum Field {
    /// A TPM2B. As the first parameter it may be ciphertext, of the same size as the plaintext.
    Sized {
        what: &'static str,
        maximum: usize,
        content: Walk,
    },
    /// Anything else.
    Plain(Walk),
}

/// Whether the content of the first TPM2B can be read.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum FirstParameter {
    Plaintext,
    Ciphertext,
}

impl Field {
    const fn sized(what: &'static str, maximum: usize, content: Walk) -> Self {
        Self::Sized {
            what,
            maximum,
            content,
        }
    }

    /// A TPM2B of bytes that mean nothing to the gate.
    pub(crate) const fn bytes(what: &'static str, maximum: usize) -> Self {
        Self::sized(what, maximum, anything)
    }

    /// A TPM2B that holds a structure, and nothing after it.
    pub(crate) const fn structure(what: &'static str, maximum: usize, content: Walk) -> Self {
        Self::sized(what, maximum, content)
    }

    /// Whether a session can encrypt it.
    pub(crate) fn is_sized(&self) -> bool {
        matches!(self, Self::Sized { .. })
    }

    pub(crate) fn walk(&self, reader: &mut Reader<'_>) -> Result<()> {
        match *self {
            Self::Plain(walk) => walk(reader),
            Self::Sized { what, maximum, .. } => {
                let content = reader.sized(what, maximum)?;
                self.walk_content(content)
            }
        }
    }

    /// Walks what is inside a TPM2B; any other field has no inside.
    pub(crate) fn walk_content(&self, content: &[u8]) -> Result<()> {
        let Self::Sized {
            what,
            maximum,
            content: walk,
        } = *self
        else {
            return Err(GateError::Disagrees("nothing of it can be encrypted"));
        };
        if content.len() > maximum {
            let size = content.len();
            return Err(GateError::Size { what, size });
        }
        let mut inside = Reader::new(content);
        walk(&mut inside)?;
        inside.finish(what)
    }

    /// Takes a TPM2B without a look inside.
    fn walk_size(&self, reader: &mut Reader<'_>) -> Result<()> {
        match *self {
            Self::Sized { what, maximum, .. } => reader.sized(what, maximum).map(drop),
            Self::Plain(walk) => walk(reader),
        }
    }
}

/// Walks parameters to the last byte.
pub(crate) fn walk_all(
    fields: &[Field],
    parameters: &[u8],
    first_parameter: FirstParameter,
) -> Result<()> {
    let mut reader = Reader::new(parameters);
    let mut fields = fields.iter();
    if first_parameter == FirstParameter::Ciphertext
        && let Some(first) = fields.next()
    {
        first.walk_size(&mut reader)?;
    }
    for field in fields {
        field.walk(&mut reader)?;
    }
    reader.finish("the last parameter")
}

fn anything(reader: &mut Reader<'_>) -> Result<()> {
    reader.take("bytes", reader.remaining()).map(drop)
}

// --- the fields that many commands have ----------------------------------------------------------
// The limits are those of Part 2, with the largest digest (SHA-512) and RSA key (4096 bits) of any
// TPM sold; a limit of a particular TPM may be lower.

pub(crate) const MAX_DIGEST_BYTES: usize = 64;

pub(crate) const YES_NO: Field = Field::Plain(yes_no);
pub(crate) const U16: Field = Field::Plain(|reader| reader.u16("a number").map(drop));
pub(crate) const U32: Field = Field::Plain(|reader| reader.u32("a number").map(drop));
pub(crate) const HASH: Field = Field::Plain(|reader| algorithms::hash(reader).map(drop));

pub(crate) const DIGEST: Field = Field::bytes("TPM2B_DIGEST", MAX_DIGEST_BYTES);
pub(crate) const NONCE: Field = Field::bytes("TPM2B_NONCE", MAX_DIGEST_BYTES);
pub(crate) const AUTH: Field = Field::bytes("TPM2B_AUTH", MAX_DIGEST_BYTES);
pub(crate) const OPERAND: Field = Field::bytes("TPM2B_OPERAND", MAX_DIGEST_BYTES);
pub(crate) const DATA: Field = Field::bytes("TPM2B_DATA", MAX_DIGEST_BYTES + 2);
pub(crate) const TIMEOUT: Field = Field::bytes("TPM2B_TIMEOUT", 8);
pub(crate) const SENSITIVE_DATA: Field = Field::bytes("TPM2B_SENSITIVE_DATA", 128);
pub(crate) const MAX_BUFFER: Field = Field::bytes("TPM2B_MAX_BUFFER", 1024);
pub(crate) const NV_BUFFER: Field = Field::bytes("TPM2B_MAX_NV_BUFFER", 2048);
pub(crate) const PRIVATE: Field = Field::bytes("TPM2B_PRIVATE", 1536);
pub(crate) const ENCRYPTED_SECRET: Field = Field::bytes("TPM2B_ENCRYPTED_SECRET", 512);
pub(crate) const NAME: Field = Field::structure("TPM2B_NAME", MAX_DIGEST_BYTES + 2, name);

/// Takes a TPMI_YES_NO.
pub(crate) fn yes_no(reader: &mut Reader<'_>) -> Result<()> {
    let what = "TPMI_YES_NO";
    match reader.u8(what)? {
        0 | 1 => Ok(()),
        other => Err(GateError::Value {
            what,
            value: other.into(),
        }),
    }
}

/// Takes what a Name can be: nothing, a handle, or a hash algorithm and its digest.
///
/// Spec: TPM 2.0 Part 1, 16 "Names".
fn name(reader: &mut Reader<'_>) -> Result<()> {
    if reader.is_empty() {
        return Ok(());
    }
    if reader.remaining() == 4 {
        return reader.u32("a handle").map(drop);
    }
    algorithms::hash_value(reader)
}
