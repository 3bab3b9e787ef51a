// SPDX-License-Identifier: Apache-2.0
// One exchange made of arbitrary bytes, and what must be true of it whatever they are.
//
// ```text
// flags u8 | size of the command u16 | command | response
// ```
//
// With bit 0 of the flags the size field of the command is made true, with bit 1 that of the response,
// so that a fuzzer need not guess them. With bit 2 the response is also taken for decrypted content.

use strongroom_tpm::{Command, CommandAuthorization, Response, ResponseAuthorization};

/// Takes one input through the gate; panics if the gate is wrong.
pub(crate) fn check(input: &[u8]) {
    let Some((&[flags, high, low], rest)) = input.split_first_chunk() else {
        return;
    };
    let size = usize::from(u16::from_be_bytes([high, low]));
    let (sent, received) = rest.split_at(size.min(rest.len()));
    let sent = with_size(sent, flags & 1 != 0);
    let received = with_size(received, flags & 2 != 0);
    let Ok(command) = Command::parse(&sent) else {
        return;
    };
    assert_eq!(
        put_together(command.code, &command_body(&command), sent[1]),
        sent
    );
    if flags & 4 != 0 {
        let _verdict = command.check_decrypted(&received);
    }
    let Ok(response) = Response::parse(&command, &received) else {
        return;
    };
    assert_eq!(
        put_together(response.code, &response_body(&response), received[1]),
        received
    );
    if response.code == 0 {
        assert_eq!(response.authorizations.len(), command.authorizations.len());
    } else {
        assert_eq!(received.len(), 10);
    }
}

fn with_size(message: &[u8], make_true: bool) -> Vec<u8> {
    let mut message = message.to_vec();
    let size = u32::try_from(message.len()).expect("an input is small");
    if let (true, Some(field)) = (make_true, message.get_mut(2..6)) {
        field.copy_from_slice(&size.to_be_bytes());
    }
    message
}

fn put_together(code: u32, body: &[u8], tag: u8) -> Vec<u8> {
    let size = u32::try_from(10 + body.len()).expect("a message is small");
    [
        &[0x80, tag],
        &size.to_be_bytes()[..],
        &code.to_be_bytes(),
        body,
    ]
    .concat()
}

fn command_body(command: &Command<'_>) -> Vec<u8> {
    let handles = command
        .handles
        .iter()
        .flat_map(|handle| handle.to_be_bytes());
    let mut body: Vec<u8> = handles.collect();
    if !command.authorizations.is_empty() {
        let area: Vec<u8> = command
            .authorizations
            .iter()
            .flat_map(authorization)
            .collect();
        body.extend(
            u32::try_from(area.len())
                .expect("an area is small")
                .to_be_bytes(),
        );
        body.extend(area);
    }
    body.extend(command.parameters);
    body
}

fn authorization(one: &CommandAuthorization<'_>) -> Vec<u8> {
    let rest = acknowledgment(one.nonce, one.attributes.octet(), one.hmac);
    [&one.session.to_be_bytes()[..], &rest].concat()
}

fn response_body(response: &Response<'_>) -> Vec<u8> {
    let mut body: Vec<u8> = response
        .handle
        .map_or(Vec::new(), |handle| handle.to_be_bytes().into());
    if !response.authorizations.is_empty() {
        let size = u32::try_from(response.parameters.len()).expect("parameters are small");
        body.extend(size.to_be_bytes());
    }
    body.extend(response.parameters);
    let vouch = |one: &ResponseAuthorization<'_>| {
        acknowledgment(one.nonce, one.attributes.octet(), one.hmac)
    };
    body.extend(response.authorizations.iter().flat_map(vouch));
    body
}

fn acknowledgment(nonce: &[u8], attributes: u8, hmac: &[u8]) -> Vec<u8> {
    [&sized(nonce)[..], &[attributes], &sized(hmac)].concat()
}

fn sized(content: &[u8]) -> Vec<u8> {
    let size = u16::try_from(content.len()).expect("a field is small");
    [&size.to_be_bytes(), content].concat()
}
