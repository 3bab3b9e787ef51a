// SPDX-License-Identifier: Apache-2.0
//! Each rule for responses, broken alone.

use super::messages::{
    GET_CAPABILITY, NO_SESSIONS, READ_CLOCK, SESSIONS, acknowledgment, area, get_random,
    get_random_in_session, message, nv_data, nv_read, random_in_session, sized, start_auth_session,
};
use super::{passes, refused_response};
use crate::{Command, GateError, Response};

const CONTINUE: u8 = 0x01;
const ENCRYPT: u8 = 0x40;

fn truncated(what: &'static str) -> GateError {
    GateError::Truncated { what }
}

#[test]
fn a_response_is_taken_apart() {
    let sent = get_random_in_session(CONTINUE | ENCRYPT);
    let command = Command::parse(&sent).unwrap_or_else(|error| panic!("{error}"));
    let vouched = acknowledgment(&[9; 32], CONTINUE | ENCRYPT, &[6; 32]);
    let bytes = random_in_session(&[&vouched]);
    let response = Response::parse(&command, &bytes).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!((response.code, response.handle), (0, None));
    assert_eq!(response.parameters, [0, 4, 1, 2, 3, 4]);
    let [one] = &response.authorizations[..] else {
        panic!("one session went in");
    };
    assert_eq!((one.nonce, one.hmac), (&[9; 32][..], &[6; 32][..]));
}

#[test]
fn the_header_is_true() {
    let good = message(NO_SESSIONS, 0, &[&sized(&[1, 2, 3, 4])]);
    passes(&get_random(), &good);
    for length in 0..10 {
        let error = refused_response(&get_random(), &good[..length]);
        assert_eq!(error, GateError::Length { bytes: length });
    }
    let long = message(NO_SESSIONS, 0, &[&[0; 4087]]);
    assert_eq!(
        refused_response(&get_random(), &long),
        GateError::Length { bytes: 4097 }
    );
    for length in 10..good.len() {
        let error = refused_response(&get_random(), &good[..length]);
        assert_eq!(
            error,
            GateError::SizeField {
                says: 16,
                bytes: length
            }
        );
    }
    let longer = [&good[..], &[0]].concat();
    let error = refused_response(&get_random(), &longer);
    assert_eq!(
        error,
        GateError::SizeField {
            says: 16,
            bytes: 17
        }
    );
}

#[test]
fn success_has_the_tag_of_the_command() {
    let plain = message(NO_SESSIONS, 0, &[&sized(&[1, 2, 3, 4])]);
    let vouched = random_in_session(&[&acknowledgment(&[9; 32], CONTINUE, &[6; 32])]);
    let tag = |tag| GateError::Tag { tag };
    let in_session = get_random_in_session(CONTINUE);
    passes(&in_session, &vouched);
    assert_eq!(refused_response(&in_session, &plain), tag(NO_SESSIONS));
    assert_eq!(refused_response(&get_random(), &vouched), tag(SESSIONS));
    let old = message(0x00C4, 0x1E, &[]);
    assert_eq!(refused_response(&get_random(), &old), tag(0x00C4));
}

#[test]
fn an_error_is_its_header_and_nothing_else() {
    for sent in [get_random(), get_random_in_session(CONTINUE)] {
        passes(&sent, &message(NO_SESSIONS, 0x922, &[]));
        for bad in [
            message(SESSIONS, 0x922, &[]),
            message(NO_SESSIONS, 0x922, &[&[0]]),
            message(NO_SESSIONS, 0x922, &[&sized(&[1, 2, 3, 4])]),
        ] {
            assert_eq!(
                refused_response(&sent, &bad),
                GateError::ErrorShape { code: 0x922 }
            );
        }
    }
}

#[test]
fn a_made_handle_is_of_the_kind_that_was_asked_for() {
    let answer = |handle: u32| message(NO_SESSIONS, 0, &[&handle.to_be_bytes(), &sized(&[3; 32])]);
    let (hmac, policy) = (0x0200_0001, 0x0300_0001);
    for (kind, right, wrong) in [(0, hmac, policy), (1, policy, hmac), (3, policy, hmac)] {
        passes(&start_auth_session(kind), &answer(right));
        let error = refused_response(&start_auth_session(kind), &answer(wrong));
        assert_eq!(error, GateError::Disagrees("it is not what was asked for"));
        for handle in [0x8000_0000, 0, 0x4000_0009, 0xFFFF_FFFF] {
            let error = refused_response(&start_auth_session(kind), &answer(handle));
            assert_eq!(
                error,
                GateError::Handle {
                    what: "a session",
                    handle
                }
            );
        }
    }
    let none = message(NO_SESSIONS, 0, &[]);
    assert_eq!(
        refused_response(&start_auth_session(0), &none),
        truncated("a handle")
    );
}

#[test]
fn the_parameters_are_as_large_as_they_say() {
    let sent = get_random_in_session(CONTINUE);
    let vouched = acknowledgment(&[9; 32], CONTINUE, &[6; 32]);
    let good = random_in_session(&[&vouched]);
    passes(&sent, &good);
    for size in 0..=255 {
        let mut bytes = good.clone();
        bytes[13] = size;
        if size != 6 {
            refused_response(&sent, &bytes);
        }
    }
    let mut beyond = good;
    beyond[10] = 0xFF;
    assert!(matches!(
        refused_response(&sent, &beyond),
        GateError::Size { .. }
    ));
}

#[test]
fn there_are_as_many_authorizations_as_went_in() {
    let sent = get_random_in_session(CONTINUE);
    let vouched = acknowledgment(&[9; 32], CONTINUE, &[6; 32]);
    let error = refused_response(&sent, &random_in_session(&[]));
    assert_eq!(error, truncated("the nonce of a session"));
    let error = refused_response(&sent, &random_in_session(&[&vouched, &vouched]));
    let left = vouched.len();
    assert_eq!(
        error,
        GateError::Trailing {
            what: "the last authorization",
            bytes: left
        }
    );
    for cut in 1..vouched.len() {
        let short = random_in_session(&[&vouched[..vouched.len() - cut]]);
        assert!(matches!(
            refused_response(&sent, &short),
            GateError::Truncated { .. }
        ));
    }
    for too_long in [
        acknowledgment(&[9; 65], CONTINUE, &[6; 32]),
        acknowledgment(&[9; 32], CONTINUE, &[6; 65]),
    ] {
        let error = refused_response(&sent, &random_in_session(&[&too_long]));
        assert!(matches!(error, GateError::Size { size: 65, .. }));
    }
}

#[test]
fn a_session_answers_with_the_attributes_it_was_given() {
    let answer = |nonce: &[u8], attributes| {
        random_in_session(&[&acknowledgment(nonce, attributes, &[6; 32])])
    };
    let changed = GateError::Authorization("the attributes of a session changed");
    for (sent, came) in [
        (0x41, 0x01),
        (0x01, 0x41),
        (0x81, 0x01),
        (0x01, 0x21),
        (0x00, 0x01),
    ] {
        let sent = get_random_in_session(sent);
        assert_eq!(refused_response(&sent, &answer(&[9; 32], came)), changed);
    }
    // A session may end early, or tell that its audit is exclusive.
    passes(&get_random_in_session(0x01), &answer(&[9; 32], 0x00));
    passes(&get_random_in_session(0x81), &answer(&[9; 32], 0x83));
    let error = refused_response(&get_random_in_session(1), &answer(&[9; 15], 1));
    assert_eq!(
        error,
        GateError::Authorization("the nonce of a session is too short")
    );
    for reserved in [0x09, 0x11] {
        let error = refused_response(&get_random_in_session(1), &answer(&[9; 32], reserved));
        assert_eq!(
            error,
            GateError::Authorization("a session has a reserved attribute")
        );
    }
}

#[test]
fn the_answer_to_a_password_is_empty() {
    passes(&nv_read(), &nv_data(&[0; 8]));
    for password in [
        acknowledgment(&[1], 1, &[]),
        acknowledgment(&[], 1, &[1]),
        acknowledgment(&[], 0x41, &[]),
    ] {
        let bytes = message(SESSIONS, 0, &[&area(&[&sized(&[0; 8])]), &password]);
        let error = refused_response(&nv_read(), &bytes);
        assert_eq!(
            error,
            GateError::Authorization("the answer to a password is not empty")
        );
    }
}

/// GHSA-7638-f8gq-c475: the size of an encrypted parameter reaches beyond the response.
#[test]
fn an_encrypted_parameter_lies_inside_the_parameters() {
    let sent = get_random_in_session(CONTINUE | ENCRYPT);
    let vouched = acknowledgment(&[9; 32], CONTINUE | ENCRYPT, &[6; 32]);
    let good = random_in_session(&[&vouched]);
    passes(&sent, &good);
    for size in [0_u16, 3, 5, 6, 64, 65, 255, 0x7FFF, 0xFFFF] {
        let mut bytes = good.clone();
        bytes[14..16].copy_from_slice(&size.to_be_bytes());
        let error = refused_response(&sent, &bytes);
        match size {
            0..4 => assert!(
                matches!(error, GateError::Trailing { .. }),
                "{size}: {error}"
            ),
            4..=64 => assert_eq!(error, truncated("TPM2B_DIGEST"), "{size}"),
            _ => assert!(matches!(error, GateError::Size { .. }), "{size}: {error}"),
        }
    }
}

#[test]
fn an_answer_has_the_length_that_was_asked_for() {
    let disagrees = GateError::Disagrees("it is not what was asked for");
    for length in [0, 7, 9, 2048] {
        assert_eq!(
            refused_response(&nv_read(), &nv_data(&vec![0; length])),
            disagrees
        );
    }
    let random = |length| message(NO_SESSIONS, 0, &[&sized(&vec![0; length])]);
    passes(&get_random(), &random(3));
    assert_eq!(refused_response(&get_random(), &random(5)), disagrees);
}

#[test]
fn a_capability_is_the_one_that_was_asked_for() {
    let ask = message(
        NO_SESSIONS,
        GET_CAPABILITY,
        &[&[0, 0, 0, 6, 0, 0, 1, 0, 0, 0, 0, 1]],
    );
    let answer = |capability: u8, count: u8, list: &[u8]| {
        message(
            NO_SESSIONS,
            0,
            &[&[0, 0, 0, 0, capability, 0, 0, 0, count], list],
        )
    };
    let disagrees = GateError::Disagrees("it is not what was asked for");
    passes(&ask, &answer(6, 1, &[0; 8]));
    passes(&ask, &answer(6, 0, &[]));
    assert_eq!(refused_response(&ask, &answer(6, 2, &[0; 16])), disagrees);
    assert_eq!(refused_response(&ask, &answer(1, 1, &[0; 4])), disagrees);
    let what = "the list of a capability";
    assert_eq!(
        refused_response(&ask, &answer(6, 2, &[0; 8])),
        truncated(what)
    );
    let error = refused_response(&ask, &answer(6, 129, &[0; 8]));
    assert_eq!(error, GateError::Size { what, size: 129 });
    let error = refused_response(&ask, &answer(11, 0, &[]));
    assert_eq!(
        error,
        GateError::Value {
            what: "TPM_CAP",
            value: 11
        }
    );
}

#[test]
fn parameters_are_walked_to_the_last_byte() {
    let ask = message(NO_SESSIONS, READ_CLOCK, &[]);
    let clock = |bytes: &[u8]| message(NO_SESSIONS, 0, &[bytes]);
    passes(&ask, &clock(&[0; 25]));
    assert_eq!(
        refused_response(&ask, &clock(&[0; 24])),
        truncated("TPMI_YES_NO")
    );
    let error = refused_response(&ask, &clock(&[0; 26]));
    assert_eq!(
        error,
        GateError::Trailing {
            what: "the last parameter",
            bytes: 1
        }
    );
    let error = refused_response(&ask, &clock(&[2; 25]));
    assert_eq!(
        error,
        GateError::Value {
            what: "TPMI_YES_NO",
            value: 2
        }
    );
}

#[test]
fn what_was_decrypted_is_checked_like_what_was_not() {
    let sent = message(NO_SESSIONS, 0x173, &[&[0x81, 0, 0, 1]]);
    let command = Command::parse(&sent).unwrap_or_else(|error| panic!("{error}"));
    let keyed_hash = [0, 8, 0, 0x0B, 0, 0, 0, 0, 0, 0, 0, 0x10, 0, 0];
    assert_eq!(command.check_decrypted(&keyed_hash), Ok(()));
    let error = command.check_decrypted(&keyed_hash[..13]);
    assert_eq!(error, Err(truncated("TPM2B_DIGEST")));
    let longer = [&keyed_hash[..], &[0]].concat();
    let left = GateError::Trailing {
        what: "TPM2B_PUBLIC",
        bytes: 1,
    };
    assert_eq!(command.check_decrypted(&longer), Err(left));
    let large = command.check_decrypted(&[0; 605]);
    assert!(matches!(large, Err(GateError::Size { size: 605, .. })));
    let clock = message(NO_SESSIONS, READ_CLOCK, &[]);
    let command = Command::parse(&clock).unwrap_or_else(|error| panic!("{error}"));
    let nothing = GateError::Disagrees("nothing of it can be encrypted");
    assert_eq!(command.check_decrypted(&[]), Err(nothing));
}
