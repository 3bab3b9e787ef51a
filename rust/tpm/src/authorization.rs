// SPDX-License-Identifier: Apache-2.0
//! Authorization areas: who allows a command, and who vouches for a response.
//!
//! Spec: TPM 2.0 Part 1, 18.5 to 18.7 and 19 "Authorizations and Acknowledgments".

use crate::field::{Field, MAX_DIGEST_BYTES};
use crate::handle::{Kind, RS_PASSWORD};
use crate::reader::Reader;
use crate::schema::Schema;
use crate::{GateError, Result};

/// Authorizations that a command can have.
pub(crate) const MAX_AUTHORIZATIONS: usize = 3;
/// Bytes of the shortest nonce. Spec: TPM 2.0 Part 1, 19.6.3 "Session Nonces".
const MIN_NONCE_BYTES: usize = 16;

/// A TPMA_SESSION.
///
/// Spec: TPM 2.0 Part 2, 8.4.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attributes(u8);

impl Attributes {
    const CONTINUE: u8 = 0x01;
    const RESERVED: u8 = 0x18;
    const DECRYPT: u8 = 0x20;
    const ENCRYPT: u8 = 0x40;
    const AUDIT: u8 = 0x80;

    /// The octet on the wire.
    #[must_use]
    pub fn octet(self) -> u8 {
        self.0
    }

    /// Whether the first parameter of the command is encrypted.
    #[must_use]
    pub fn decrypt(self) -> bool {
        self.0 & Self::DECRYPT != 0
    }

    /// Whether the first parameter of the response is encrypted.
    #[must_use]
    pub fn encrypt(self) -> bool {
        self.0 & Self::ENCRYPT != 0
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self> {
        let octet = reader.u8("TPMA_SESSION")?;
        if octet & Self::RESERVED != 0 {
            return refuse("a session has a reserved attribute");
        }
        Ok(Self(octet))
    }

    /// Whether a response may have these attributes after a command that had `sent`.
    fn answer(self, sent: Self) -> bool {
        let same = Self::DECRYPT | Self::ENCRYPT | Self::AUDIT;
        self.0 & same == sent.0 & same && self.0 & !sent.0 & Self::CONTINUE == 0
    }
}

/// A TPMS_AUTH_COMMAND.
#[derive(Clone, Copy)]
pub struct CommandAuthorization<'a> {
    /// The session's handle, or that of the password.
    pub session: u32,
    /// nonceCaller.
    pub nonce: &'a [u8],
    /// What the session does for this command.
    pub attributes: Attributes,
    /// The HMAC, or the authorization value itself.
    pub hmac: &'a [u8],
}

impl CommandAuthorization<'_> {
    fn is_password(&self) -> bool {
        self.session == RS_PASSWORD
    }

    fn check(&self) -> Result<()> {
        if self.is_password() {
            let plain =
                self.nonce.is_empty() && self.attributes.octet() & !Attributes::CONTINUE == 0;
            return if plain {
                Ok(())
            } else {
                refuse("a password has a nonce, or attributes of a session")
            };
        }
        if self.nonce.len() < MIN_NONCE_BYTES {
            return refuse("the nonce of a session is too short");
        }
        Ok(())
    }
}

/// A TPMS_AUTH_RESPONSE.
#[derive(Clone, Copy)]
pub struct ResponseAuthorization<'a> {
    /// nonceTPM, the next one of the session.
    pub nonce: &'a [u8],
    /// What the session did for this response.
    pub attributes: Attributes,
    /// The HMAC, which nobody has checked yet.
    pub hmac: &'a [u8],
}

impl ResponseAuthorization<'_> {
    fn check(&self, sent: &CommandAuthorization<'_>) -> Result<()> {
        if sent.is_password() {
            // Spec: TPM 2.0 Part 1, 19.4 "Password Authorizations": empty but for one attribute.
            let plain = self.nonce.is_empty()
                && self.hmac.is_empty()
                && self.attributes.octet() & !Attributes::CONTINUE == 0;
            return if plain {
                Ok(())
            } else {
                refuse("the answer to a password is not empty")
            };
        }
        if self.nonce.len() < MIN_NONCE_BYTES {
            return refuse("the nonce of a session is too short");
        }
        if !self.attributes.answer(sent.attributes) {
            return refuse("the attributes of a session changed");
        }
        Ok(())
    }
}

/// Takes the authorization area of a command, from its size on.
pub(crate) fn read_of_command<'a>(
    schema: &Schema,
    reader: &mut Reader<'a>,
) -> Result<Vec<CommandAuthorization<'a>>> {
    let what = "the authorization area";
    let size = reader.count(what, crate::MAX_MESSAGE_BYTES)?;
    let mut area = Reader::new(reader.take(what, size)?);
    let mut authorizations = Vec::with_capacity(MAX_AUTHORIZATIONS);
    while !area.is_empty() {
        if authorizations.len() == MAX_AUTHORIZATIONS {
            return refuse("there are more than three authorizations");
        }
        let authorization = CommandAuthorization {
            session: Kind::Authorizer.read(&mut area)?,
            nonce: area.sized("the nonce of a session", MAX_DIGEST_BYTES)?,
            attributes: Attributes::read(&mut area)?,
            hmac: area.sized("the HMAC of a session", MAX_DIGEST_BYTES)?,
        };
        authorization.check()?;
        authorizations.push(authorization);
    }
    check_roles(schema, &authorizations)?;
    Ok(authorizations)
}

fn check_roles(schema: &Schema, authorizations: &[CommandAuthorization<'_>]) -> Result<()> {
    if authorizations.is_empty() || authorizations.len() < schema.authorized {
        return refuse("a handle has no authorization");
    }
    let mut beside = authorizations.iter().skip(schema.authorized);
    if beside.any(CommandAuthorization::is_password) {
        return refuse("a password authorizes nothing");
    }
    let count = |has: fn(Attributes) -> bool| {
        let marked = authorizations.iter().filter(|one| has(one.attributes));
        marked.count()
    };
    let encrypts = |fields: &[Field], sessions: usize| {
        sessions == 0 || (sessions == 1 && fields.first().is_some_and(Field::is_sized))
    };
    if !encrypts(schema.parameters, count(Attributes::decrypt))
        || !encrypts(schema.answered, count(Attributes::encrypt))
    {
        return refuse("a parameter cannot be encrypted, or would be twice");
    }
    Ok(())
}

/// Takes the authorizations of a response: as many as the command had, and nothing after them.
pub(crate) fn read_of_response<'a>(
    sent: &[CommandAuthorization<'_>],
    mut reader: Reader<'a>,
) -> Result<Vec<ResponseAuthorization<'a>>> {
    let mut authorizations = Vec::with_capacity(sent.len());
    for sent in sent {
        let authorization = ResponseAuthorization {
            nonce: reader.sized("the nonce of a session", MAX_DIGEST_BYTES)?,
            attributes: Attributes::read(&mut reader)?,
            hmac: reader.sized("the HMAC of a session", MAX_DIGEST_BYTES)?,
        };
        authorization.check(sent)?;
        authorizations.push(authorization);
    }
    reader.finish("the last authorization")?;
    Ok(authorizations)
}

fn refuse<T>(rule: &'static str) -> Result<T> {
    Err(GateError::Authorization(rule))
}
