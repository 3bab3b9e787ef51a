// SPDX-License-Identifier: Apache-2.0
//! A command, on its way out.

use crate::authorization::{self, Attributes, CommandAuthorization};
use crate::field::{self, FirstParameter};
use crate::frame::{Frame, Tag};
use crate::reader::Reader;
use crate::schema::Schema;
use crate::table;
use crate::{GateError, Result};

/// A command that may go out.
pub struct Command<'a> {
    /// What the TPM is to do.
    pub code: u32,
    /// What it is to be done to.
    pub handles: Vec<u32>,
    /// Who allows it, and which sessions encrypt or audit it.
    pub authorizations: Vec<CommandAuthorization<'a>>,
    /// The parameters as they are on the wire; the first may be ciphertext.
    pub parameters: &'a [u8],
    pub(crate) tag: Tag,
    pub(crate) schema: &'static Schema,
}

impl<'a> Command<'a> {
    /// Parses a whole command, to its last byte.
    ///
    /// # Errors
    /// The first rule that it breaks. Never panics, whatever the bytes are.
    ///
    /// Spec: TPM 2.0 Part 1, 18; Part 3 for each command.
    pub fn parse(message: &'a [u8]) -> Result<Self> {
        let Frame {
            tag,
            code,
            mut body,
        } = Frame::parse(message)?;
        let schema = table::schema_of(code).ok_or(GateError::NotAllowed { code })?;
        let allowed = match tag {
            Tag::NoSessions => schema.authorized == 0,
            Tag::Sessions => schema.takes_sessions,
        };
        if !allowed {
            return Err(GateError::Tag { tag: tag.number() });
        }
        let handles = schema
            .handles
            .iter()
            .map(|kind| kind.read(&mut body))
            .collect::<Result<_>>()?;
        let authorizations = match tag {
            Tag::NoSessions => Vec::new(),
            Tag::Sessions => authorization::read_of_command(schema, &mut body)?,
        };
        let parameters = body.take_rest();
        let first = first_parameter(&authorizations, Attributes::decrypt);
        field::walk_all(schema.parameters, parameters, first)?;
        Ok(Self {
            code,
            handles,
            authorizations,
            parameters,
            tag,
            schema,
        })
    }

    /// Checks the first response parameter once it is decrypted: `content` is what the TPM2B holds,
    /// without its size.
    ///
    /// # Errors
    /// The first rule that it breaks, or that this response has nothing that can be encrypted.
    pub fn check_decrypted(&self, content: &[u8]) -> Result<()> {
        match self.schema.answered.first() {
            Some(first) => first.walk_content(content),
            None => Err(GateError::Disagrees("nothing of it can be encrypted")),
        }
    }

    /// Whether the first parameter of the response comes encrypted.
    pub(crate) fn first_answered(&self) -> FirstParameter {
        first_parameter(&self.authorizations, Attributes::encrypt)
    }

    /// The parameters from the one at `offset_bytes` on; they have been walked, so they are there.
    pub(crate) fn parameters_from(&self, offset_bytes: usize) -> Reader<'a> {
        Reader::new(self.parameters.get(offset_bytes..).unwrap_or_default())
    }
}

fn first_parameter(
    authorizations: &[CommandAuthorization<'_>],
    is_encrypted: fn(Attributes) -> bool,
) -> FirstParameter {
    if authorizations
        .iter()
        .any(|one| is_encrypted(one.attributes))
    {
        FirstParameter::Ciphertext
    } else {
        FirstParameter::Plaintext
    }
}
