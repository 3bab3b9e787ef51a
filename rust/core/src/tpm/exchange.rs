// SPDX-License-Identifier: Apache-2.0
//! One command and its answer, authorized, authenticated and encrypted.
//!
//! Spec: TPM 2.0 Part 1, 16 "Command Authorization", 18.6 "HMAC Computation", 21.

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use strongroom_tpm as gate;
use subtle::ConstantTimeEq;

use super::derive::kdfa;
use super::session::{Session, check_nonce};
use crate::cipher::{Scratch, aes_ecb_encrypt};
use crate::secret::shielded;
use crate::{Error, Result, Secret};

const TAG_SESSIONS: u16 = 0x8002;
const TAG_NO_SESSIONS: u16 = 0x8001;
const PASSWORD_HANDLE: u32 = 0x4000_0009;
const HEADER_BYTES: usize = 10;
const MAC_BYTES: usize = 32;
const BLOCK_BYTES: usize = 16;

const CONTINUE: u8 = 0x01;
const DECRYPT: u8 = 0x20;
const ENCRYPT: u8 = 0x40;
const AUDIT: u8 = 0x80;

/// A part of the first parameter.
pub enum Piece<'a> {
    /// Bytes that anybody may see.
    Plain(&'a [u8]),
    /// Bytes that go out encrypted, or not at all.
    Confidential(&'a Secret),
}

/// A command, but for its authorizations.
pub struct Command<'a> {
    /// The command code. Spec: TPM 2.0 Part 2, 6.5.2.
    pub code: u32,
    /// Each handle with the Name of what it must be about.
    pub handles: &'a [(u32, &'a [u8])],
    /// Content of the first parameter if that is a `TPM2B`, without its size.
    pub first: Option<&'a [Piece<'a>]>,
    /// All other parameters, as they are on the wire.
    pub rest: &'a [u8],
}

/// What authorizes a handle, or stands behind those that do.
pub enum Authorization<'a> {
    /// The empty password, of hierarchies that have no other.
    EmptyPassword,
    /// A session, and what it is used for in this command.
    Session {
        /// The session.
        session: &'a mut Session,
        /// The authorization value of the handle that it authorizes.
        auth: Option<&'a Secret>,
        /// Encrypt the first parameter of the command.
        decrypt: bool,
        /// Have the first parameter of the answer encrypted.
        encrypt: bool,
        /// Have the answer authenticated where nothing else does.
        audit: bool,
    },
}

/// An answer that the TPM gave to this command, if a session took part in it.
pub struct Answer {
    /// The handle of what was made.
    pub handle: Option<u32>,
    /// Content of the first parameter, if it came encrypted.
    pub confidential: Option<Secret>,
    /// All other parameters, as they are on the wire.
    pub parameters: Vec<u8>,
}

/// A command on its way.
pub struct Pending {
    /// What goes to the TPM.
    pub wire: Vec<u8>,
    code: u32,
}

impl Pending {
    /// Builds a command.
    ///
    /// # Errors
    /// [`Error::Internal`] if a secret would go out in the clear, or the gate refuses the command;
    /// [`Error::Tampered`] if a session was given up.
    pub fn new(command: &Command<'_>, authorizations: &mut [Authorization<'_>]) -> Result<Self> {
        for authorization in &mut *authorizations {
            if let Authorization::Session { session, .. } = authorization {
                session.roll()?;
            }
        }
        // Once for all that is computed: each secret stack is wiped in its whole length.
        shielded(|| Self::built(command, authorizations))
    }

    fn built(command: &Command<'_>, authorizations: &[Authorization<'_>]) -> Result<Self> {
        let parameters = parameters_of(command, authorizations)?;
        let mut digest = Sha256::new();
        digest.update(command.code.to_be_bytes());
        for (_, name) in command.handles {
            digest.update(name);
        }
        digest.update(&parameters);
        let command_hash = digest.finalize();

        let mut area = Vec::new();
        for index in 0..authorizations.len() {
            append_authorization(&mut area, authorizations, index, &command_hash)?;
        }
        let tag = if authorizations.is_empty() {
            TAG_NO_SESSIONS
        } else {
            TAG_SESSIONS
        };
        let mut body = Vec::new();
        for (handle, _) in command.handles {
            body.extend_from_slice(&handle.to_be_bytes());
        }
        if !authorizations.is_empty() {
            body.extend_from_slice(&length_u32(area.len())?.to_be_bytes());
            body.extend_from_slice(&area);
        }
        body.extend_from_slice(&parameters);
        let mut wire = Vec::with_capacity(HEADER_BYTES + body.len());
        wire.extend_from_slice(&tag.to_be_bytes());
        wire.extend_from_slice(&length_u32(HEADER_BYTES + body.len())?.to_be_bytes());
        wire.extend_from_slice(&command.code.to_be_bytes());
        wire.extend_from_slice(&body);
        gate::Command::parse(&wire).map_err(|_| Error::Internal("the gate refuses our command"))?;
        Ok(Self {
            wire,
            code: command.code,
        })
    }

    /// Gives up the sessions of a command whose answer never came: the TPM may have rolled its
    /// nonces.
    pub fn abandon(authorizations: &mut [Authorization<'_>]) {
        for authorization in authorizations {
            if let Authorization::Session { session, .. } = authorization {
                session.is_broken = true;
            }
        }
    }

    /// Checks an answer, and takes it apart.
    ///
    /// # Errors
    /// [`Error::Tampered`] if it is malformed, or not authenticated by every session: no session
    /// of the command is used again then. [`Error::TpmRefused`] if it is a refusal, which anybody
    /// on the wire can make.
    pub fn open(self, response: &[u8], authorizations: &mut [Authorization<'_>]) -> Result<Answer> {
        let opened = shielded(|| self.checked(response, authorizations));
        if matches!(opened, Err(Error::Tampered(_))) {
            Self::abandon(authorizations);
        }
        opened
    }

    fn checked(&self, response: &[u8], authorizations: &mut [Authorization<'_>]) -> Result<Answer> {
        let command = gate::Command::parse(&self.wire)
            .map_err(|_| Error::Internal("the gate refuses our command"))?;
        let answer = gate::Response::parse(&command, response)
            .map_err(|_| Error::Tampered("the TPM's answer is malformed"))?;
        if answer.code != 0 {
            return Err(Error::TpmRefused(answer.code));
        }
        let mut digest = Sha256::new();
        digest.update(0u32.to_be_bytes());
        digest.update(self.code.to_be_bytes());
        digest.update(answer.parameters);
        let response_hash = digest.finalize();
        for (authorization, theirs) in authorizations.iter_mut().zip(&answer.authorizations) {
            if let Authorization::Session { session, auth, .. } = authorization {
                check_nonce(theirs.nonce)?;
                let newer = [theirs.nonce, &session.nonce_caller].concat();
                let expected = mac_over(
                    &session.keyed(*auth)?,
                    &[&response_hash, &newer, &[theirs.attributes.octet()]],
                )?;
                if !bool::from(expected.ct_eq(theirs.hmac)) {
                    return Err(Error::Tampered("the TPM's answer is not authentic"));
                }
                session.nonce_tpm = theirs.nonce.to_vec();
            }
        }
        take_apart(&command, &answer, authorizations)
    }
}

fn parameters_of(command: &Command<'_>, authorizations: &[Authorization<'_>]) -> Result<Vec<u8>> {
    let Some(pieces) = command.first else {
        return Ok(command.rest.to_vec());
    };
    let length = pieces.iter().map(|piece| bytes_of(piece).len()).sum();
    let mut content = Secret::zeroed(length)?;
    let mut at = 0;
    for piece in pieces {
        let bytes = bytes_of(piece);
        content.bytes_mut()[at..at + bytes.len()].copy_from_slice(bytes);
        at += bytes.len();
    }
    let encrypting = authorizations.iter().find_map(|one| match one {
        Authorization::Session {
            session,
            auth,
            decrypt: true,
            ..
        } => Some((session, *auth)),
        _ => None,
    });
    if let Some((session, auth)) = encrypting {
        let key = session.keyed(auth)?;
        let (newer, older) = (&session.nonce_caller[..], &session.nonce_tpm[..]);
        let cipher = Cfb { session, key: &key };
        cipher.run(Way::Encrypt, newer, older, content.bytes_mut())?;
    } else if pieces
        .iter()
        .any(|piece| matches!(piece, Piece::Confidential(_)))
    {
        return Err(Error::Internal("a secret would go to the TPM in the clear"));
    }
    let mut parameters = Vec::with_capacity(2 + length + command.rest.len());
    let size = u16::try_from(length).map_err(|_| Error::Internal("a parameter is too long"))?;
    parameters.extend_from_slice(&size.to_be_bytes());
    parameters.extend_from_slice(content.bytes());
    parameters.extend_from_slice(command.rest);
    Ok(parameters)
}

fn bytes_of<'a>(piece: &'a Piece<'_>) -> &'a [u8] {
    match piece {
        Piece::Plain(bytes) => bytes,
        Piece::Confidential(secret) => secret.bytes(),
    }
}

fn append_authorization(
    area: &mut Vec<u8>,
    authorizations: &[Authorization<'_>],
    index: usize,
    command_hash: &[u8],
) -> Result<()> {
    let Authorization::Session {
        session,
        auth,
        decrypt,
        encrypt,
        audit,
    } = &authorizations[index]
    else {
        area.extend_from_slice(&PASSWORD_HANDLE.to_be_bytes());
        area.extend_from_slice(&[0, 0, CONTINUE, 0, 0]);
        return Ok(());
    };
    let attributes = CONTINUE
        | if *decrypt { DECRYPT } else { 0 }
        | if *encrypt { ENCRYPT } else { 0 }
        | if *audit { AUDIT } else { 0 };
    let others = if index == 0 {
        nonces_of_others(authorizations)
    } else {
        Vec::new()
    };
    let key = session.keyed(*auth)?;
    let nonces = [&session.nonce_caller[..], &session.nonce_tpm].concat();
    let code = mac_over(&key, &[command_hash, &nonces, &others, &[attributes]])?;
    area.extend_from_slice(&session.handle.to_be_bytes());
    append_sized(area, &session.nonce_caller)?;
    area.push(attributes);
    append_sized(area, &code)
}

/// The first session also covers the nonces of those that decrypt and encrypt, if they are others.
fn nonces_of_others(authorizations: &[Authorization<'_>]) -> Vec<u8> {
    let place = |wanted: fn(&Authorization<'_>) -> bool| authorizations.iter().position(wanted);
    let decrypting = place(|one| matches!(one, Authorization::Session { decrypt: true, .. }));
    let encrypting = place(|one| matches!(one, Authorization::Session { encrypt: true, .. }));
    let mut nonces = Vec::new();
    for (at, other) in [(decrypting, None), (encrypting, decrypting)] {
        if let Some(at) = at
            && at != 0
            && Some(at) != other
            && let Authorization::Session { session, .. } = &authorizations[at]
        {
            nonces.extend_from_slice(&session.nonce_tpm);
        }
    }
    nonces
}

fn take_apart(
    command: &gate::Command<'_>,
    answer: &gate::Response<'_>,
    authorizations: &[Authorization<'_>],
) -> Result<Answer> {
    let decrypting = authorizations.iter().find_map(|one| match one {
        Authorization::Session {
            session,
            auth,
            encrypt: true,
            ..
        } => Some((session, *auth)),
        _ => None,
    });
    let parameters = answer.parameters;
    let Some((session, auth)) = decrypting else {
        return Ok(Answer {
            handle: answer.handle,
            confidential: None,
            parameters: parameters.to_vec(),
        });
    };
    let malformed = Error::Tampered("the TPM's answer has nothing to decrypt");
    let (size, rest) = parameters.split_at_checked(2).ok_or(malformed)?;
    let size = usize::from(u16::from(size[0]) << 8 | u16::from(size[1]));
    let (content, rest) = rest
        .split_at_checked(size)
        .ok_or(Error::Tampered("the TPM's answer has nothing to decrypt"))?;
    let mut plain = Secret::copy_of(content)?;
    let key = session.keyed(auth)?;
    let (newer, older) = (&session.nonce_tpm[..], &session.nonce_caller[..]);
    let cipher = Cfb { session, key: &key };
    cipher.run(Way::Decrypt, newer, older, plain.bytes_mut())?;
    command
        .check_decrypted(plain.bytes())
        .map_err(|_| Error::Tampered("what the TPM encrypted is malformed"))?;
    Ok(Answer {
        handle: answer.handle,
        confidential: Some(plain),
        parameters: rest.to_vec(),
    })
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Encrypt,
    Decrypt,
}

/// The cipher of one parameter: AES-CFB over whole data.
///
/// Spec: TPM 2.0 Part 1, 21.3; SP 800-38A, 6.3, with full blocks of feedback.
struct Cfb<'a> {
    session: &'a Session,
    key: &'a Secret,
}

impl Cfb<'_> {
    fn run(&self, way: Way, newer: &[u8], older: &[u8], data: &mut [u8]) -> Result<()> {
        let key_bytes = self.session.cipher_key.bytes();
        let mut derived = Secret::zeroed(key_bytes + BLOCK_BYTES)?;
        kdfa(self.key.bytes(), "CFB", newer, older, derived.bytes_mut())?;
        let (cipher_key, iv) = derived.bytes().split_at(key_bytes);
        let mut scratch = Scratch::new()?;
        let mut feedback = Secret::copy_of(iv)?;
        for chunk in data.chunks_mut(BLOCK_BYTES) {
            let stream = feedback.bytes_mut();
            aes_ecb_encrypt(&mut scratch, cipher_key, stream)?;
            for (byte, mask) in chunk.iter_mut().zip(stream) {
                let before = *byte;
                *byte ^= *mask;
                *mask = if way == Way::Encrypt { *byte } else { before };
            }
        }
        Ok(())
    }
}

fn mac_over(key: &Secret, parts: &[&[u8]]) -> Result<[u8; MAC_BYTES]> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key.bytes())
        .map_err(|_| Error::Internal("hmac refused a key"))?;
    for part in parts {
        mac.update(part);
    }
    Ok(mac.finalize().into_bytes().into())
}

fn append_sized(area: &mut Vec<u8>, bytes: &[u8]) -> Result<()> {
    let size = u16::try_from(bytes.len()).map_err(|_| Error::Internal("a field is too long"))?;
    area.extend_from_slice(&size.to_be_bytes());
    area.extend_from_slice(bytes);
    Ok(())
}

fn length_u32(length: usize) -> Result<u32> {
    u32::try_from(length).map_err(|_| Error::Internal("a command is too long"))
}
