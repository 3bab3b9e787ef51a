// SPDX-License-Identifier: Apache-2.0
//! Messages put together by hand, so that one rule at a time can be broken.

pub(super) const NO_SESSIONS: u16 = 0x8001;
pub(super) const SESSIONS: u16 = 0x8002;
pub(super) const PASSWORD: u32 = 0x4000_0009;
pub(super) const HMAC_SESSION: u32 = 0x0200_0000;

pub(super) const START_AUTH_SESSION: u32 = 0x176;
pub(super) const NV_READ: u32 = 0x14E;
pub(super) const GET_CAPABILITY: u32 = 0x17A;
pub(super) const GET_RANDOM: u32 = 0x17B;
pub(super) const READ_CLOCK: u32 = 0x181;

/// Bytes of a field with its big-endian size in front.
pub(super) fn sized(content: &[u8]) -> Vec<u8> {
    let size = u16::try_from(content.len()).unwrap();
    [&size.to_be_bytes(), content].concat()
}

/// A message with a header that is true.
pub(super) fn message(tag: u16, code: u32, body: &[&[u8]]) -> Vec<u8> {
    let body = body.concat();
    let size = u32::try_from(10 + body.len()).unwrap();
    [
        &tag.to_be_bytes()[..],
        &size.to_be_bytes(),
        &code.to_be_bytes(),
        &body,
    ]
    .concat()
}

/// An area with its size in 32 bits in front.
pub(super) fn area(content: &[&[u8]]) -> Vec<u8> {
    let content = content.concat();
    let size = u32::try_from(content.len()).unwrap();
    [&size.to_be_bytes(), &content[..]].concat()
}

/// One authorization of a command.
pub(super) fn authorization(session: u32, nonce: &[u8], attributes: u8, hmac: &[u8]) -> Vec<u8> {
    [
        &session.to_be_bytes()[..],
        &acknowledgment(nonce, attributes, hmac),
    ]
    .concat()
}

/// One authorization of a response.
pub(super) fn acknowledgment(nonce: &[u8], attributes: u8, hmac: &[u8]) -> Vec<u8> {
    [&sized(nonce)[..], &[attributes], &sized(hmac)].concat()
}

/// GetRandom of four bytes, without sessions.
pub(super) fn get_random() -> Vec<u8> {
    message(NO_SESSIONS, GET_RANDOM, &[&[0, 4]])
}

/// GetRandom of four bytes in a session with these attributes.
pub(super) fn get_random_in_session(attributes: u8) -> Vec<u8> {
    let session = authorization(HMAC_SESSION, &[7; 32], attributes, &[8; 32]);
    message(SESSIONS, GET_RANDOM, &[&area(&[&session]), &[0, 4]])
}

/// The answer to it, with `authorizations` after the parameters.
pub(super) fn random_in_session(authorizations: &[&[u8]]) -> Vec<u8> {
    let parameters = area(&[&sized(&[1, 2, 3, 4])]);
    message(SESSIONS, 0, &[&parameters, &authorizations.concat()])
}

/// NV_Read of eight bytes with the owner's empty password.
pub(super) fn nv_read() -> Vec<u8> {
    let handles = [0x40, 0, 0, 1, 0x01, 0x80, 0, 1];
    let password = authorization(PASSWORD, &[], 0, &[]);
    let parameters = [0, 8, 0, 0];
    message(
        SESSIONS,
        NV_READ,
        &[&handles, &area(&[&password]), &parameters],
    )
}

/// The answer to it.
pub(super) fn nv_data(data: &[u8]) -> Vec<u8> {
    let password = acknowledgment(&[], 1, &[]);
    message(SESSIONS, 0, &[&area(&[&sized(data)]), &password])
}

/// StartAuthSession without salt, for a session of this type.
pub(super) fn start_auth_session(kind: u8) -> Vec<u8> {
    let null = 0x4000_0007_u32.to_be_bytes();
    let aes_128_cfb_sha256 = [0, 6, 0, 128, 0, 0x43, 0, 0x0B];
    let parameters = [
        &sized(&[5; 16])[..],
        &sized(&[]),
        &[kind],
        &aes_128_cfb_sha256,
    ]
    .concat();
    message(
        NO_SESSIONS,
        START_AUTH_SESSION,
        &[&null, &null, &parameters],
    )
}
