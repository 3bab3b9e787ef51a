// SPDX-License-Identifier: Apache-2.0
//! A response, before anybody believes it.

use crate::attestation::pcr_selections;
use crate::authorization::{self, ResponseAuthorization};
use crate::command::Command;
use crate::field;
use crate::frame::{Frame, MAX_MESSAGE_BYTES, MIN_MESSAGE_BYTES, Tag};
use crate::handle::Kind;
use crate::reader::Reader;
use crate::schema::Answer;
use crate::{GateError, Result};

const RC_SUCCESS: u32 = 0;

/// A response whose form is that of an answer to its command; nothing in it is proven.
pub struct Response<'a> {
    /// The response code. One that is not zero is never authenticated, so it proves nothing.
    pub code: u32,
    /// The handle of what was made.
    pub handle: Option<u32>,
    /// The parameters as they are on the wire; the first may be ciphertext. Empty after an error.
    pub parameters: &'a [u8],
    /// One for each of the command's, in its order. Empty after an error.
    pub authorizations: Vec<ResponseAuthorization<'a>>,
}

impl<'a> Response<'a> {
    /// Parses a whole response, to its last byte.
    ///
    /// # Errors
    /// The first rule that it breaks. Never panics, whatever the bytes are.
    ///
    /// Spec: TPM 2.0 Part 1, 18; Part 3 for each command.
    pub fn parse(command: &Command<'_>, message: &'a [u8]) -> Result<Self> {
        let Frame {
            tag,
            code,
            mut body,
        } = Frame::parse(message)?;
        if code != RC_SUCCESS {
            return Self::parse_error(message, tag, code);
        }
        if tag != command.tag {
            return Err(GateError::Tag { tag: tag.number() });
        }
        let handle = command
            .schema
            .answered_handle
            .map(|kind| kind.read(&mut body))
            .transpose()?;
        let (parameters, authorizations) = split(command, tag, body)?;
        let first = command.first_answered();
        field::walk_all(command.schema.answered, parameters, first)?;
        agree(command, handle, parameters)?;
        Ok(Self {
            code,
            handle,
            parameters,
            authorizations,
        })
    }

    /// An error has no sessions and no parameters, whatever the command had.
    fn parse_error(message: &[u8], tag: Tag, code: u32) -> Result<Self> {
        if message.len() != MIN_MESSAGE_BYTES || tag != Tag::NoSessions {
            return Err(GateError::ErrorShape { code });
        }
        Ok(Self {
            code,
            handle: None,
            parameters: &[],
            authorizations: Vec::new(),
        })
    }
}

/// Parts the parameters from the authorizations that come after them.
fn split<'a>(
    command: &Command<'_>,
    tag: Tag,
    mut body: Reader<'a>,
) -> Result<(&'a [u8], Vec<ResponseAuthorization<'a>>)> {
    if tag == Tag::NoSessions {
        return Ok((body.take_rest(), Vec::new()));
    }
    let what = "the parameters";
    let size = body.count(what, MAX_MESSAGE_BYTES)?;
    let parameters = body.take(what, size)?;
    let authorizations = authorization::read_of_response(&command.authorizations, body)?;
    Ok((parameters, authorizations))
}

/// Compares a well-formed response with what was asked.
fn agree(command: &Command<'_>, handle: Option<u32>, parameters: &[u8]) -> Result<()> {
    let fits = match command.schema.answer {
        Answer::Any => true,
        Answer::AtMost => size_of_first(parameters)? <= asked_bytes(command)?,
        Answer::Exactly => size_of_first(parameters)? == asked_bytes(command)?,
        Answer::Capability => capability_fits(command, parameters)?,
        Answer::Pcrs => pcrs_fit(command, parameters)?,
        Answer::Session => session_fits(command, handle)?,
    };
    if fits {
        Ok(())
    } else {
        Err(GateError::Disagrees("it is not what was asked for"))
    }
}

fn size_of_first(parameters: &[u8]) -> Result<u16> {
    Reader::new(parameters).u16("the size of the first parameter")
}

/// The first parameter of GetRandom and NV_Read.
fn asked_bytes(command: &Command<'_>) -> Result<u16> {
    command.parameters_from(0).u16("the number of bytes")
}

/// GetCapability asks for a capability, a first property and a number of them; PCRs come all.
fn capability_fits(command: &Command<'_>, parameters: &[u8]) -> Result<bool> {
    const PCRS: u32 = 5;
    let asked = command.parameters_from(0).u32("TPM_CAP")?;
    let asked_count = command.parameters_from(8).u32("the number of properties")?;
    let mut answered = Reader::new(parameters);
    answered.u8("TPMI_YES_NO")?;
    let found = answered.u32("TPM_CAP")?;
    let count = answered.u32("the list of a capability")?;
    Ok(found == asked && (asked == PCRS || count <= asked_count))
}

/// PCR_Read answers with a counter, and a selection out of the one that it was given.
fn pcrs_fit(command: &Command<'_>, parameters: &[u8]) -> Result<bool> {
    let asked = pcr_selections(&mut command.parameters_from(0))?;
    let mut answered = Reader::new(parameters);
    answered.u32("the update counter of PCRs")?;
    let found = pcr_selections(&mut answered)?;
    Ok(found.iter().all(|bank| bank.is_among(&asked)))
}

/// StartAuthSession makes an HMAC session, or else a policy session, trial ones included.
fn session_fits(command: &Command<'_>, handle: Option<u32>) -> Result<bool> {
    let mut parameters = command.parameters_from(0);
    parameters.sized("TPM2B_NONCE", usize::MAX)?;
    parameters.sized("TPM2B_ENCRYPTED_SECRET", usize::MAX)?;
    let kind = match parameters.u8("TPM_SE")? {
        0 => Kind::HmacSession,
        _ => Kind::PolicySession,
    };
    Ok(handle.is_some_and(|handle| kind.fits(handle)))
}
