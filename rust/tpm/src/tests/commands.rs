// SPDX-License-Identifier: Apache-2.0
//! Each rule for commands, broken alone.

use super::messages::{
    GET_RANDOM, HMAC_SESSION, NO_SESSIONS, NV_READ, PASSWORD, READ_CLOCK, SESSIONS, area,
    authorization, get_random, get_random_in_session, message, nv_read, sized, start_auth_session,
};
use super::refused_command;
use crate::table::TABLE;
use crate::{Command, GateError};

fn in_sessions(sessions: &[&[u8]]) -> Vec<u8> {
    message(SESSIONS, GET_RANDOM, &[&area(sessions), &[0, 4]])
}

#[test]
fn a_command_is_taken_apart() {
    let bytes = get_random_in_session(0x61 & !0x20);
    let command = Command::parse(&bytes).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(command.code, GET_RANDOM);
    assert!(command.handles.is_empty());
    assert_eq!(command.parameters, [0, 4]);
    let [session] = &command.authorizations[..] else {
        panic!("one session went in");
    };
    assert_eq!(session.session, HMAC_SESSION);
    assert_eq!((session.nonce, session.hmac), (&[7; 32][..], &[8; 32][..]));
    assert_eq!(session.attributes.octet(), 0x41);
    assert!(session.attributes.encrypt() && !session.attributes.decrypt());

    let bytes = nv_read();
    let command = Command::parse(&bytes).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(command.handles, [0x4000_0001, 0x0180_0001]);
}

#[test]
fn the_table_is_in_order_and_each_row_can_be_kept() {
    assert!(TABLE.is_sorted_by_key(|schema| schema.code));
    for schema in TABLE {
        let code = schema.code;
        assert!(schema.authorized <= schema.handles.len(), "{code:#x}");
        assert!(schema.authorized == 0 || schema.takes_sessions, "{code:#x}");
    }
}

#[test]
fn the_header_is_true() {
    for length in 0..10 {
        let error = refused_command(&get_random()[..length]);
        assert_eq!(error, GateError::Length { bytes: length });
    }
    let error = refused_command(&message(NO_SESSIONS, GET_RANDOM, &[&[0; 4087]]));
    assert_eq!(error, GateError::Length { bytes: 4097 });
    for (says, byte) in [(11, 11), (13, 13), (0, 0)] {
        let mut bytes = get_random();
        bytes[5] = byte;
        assert_eq!(
            refused_command(&bytes),
            GateError::SizeField { says, bytes: 12 }
        );
    }
    let mut bytes = get_random();
    bytes[2] = 0x80;
    assert!(matches!(
        refused_command(&bytes),
        GateError::SizeField { .. }
    ));
    for tag in [0, 0x00C1, 0x00C4, 0x8000, 0x8003] {
        let error = refused_command(&message(tag, GET_RANDOM, &[&[0, 4]]));
        assert_eq!(error, GateError::Tag { tag });
    }
}

#[test]
fn what_is_not_on_the_list_stays_inside() {
    // Clear, ClearControl, HierarchyChangeAuth, Duplicate, Import, RSA_Decrypt, Sign, ContextSave,
    // SequenceComplete, SetPrimaryPolicy, a vendor's.
    for code in [
        0x126,
        0x127,
        0x129,
        0x14B,
        0x156,
        0x159,
        0x15D,
        0x162,
        0x13E,
        0x12E,
        0x2000_0000,
        0,
    ] {
        let error = refused_command(&message(NO_SESSIONS, code, &[]));
        assert_eq!(error, GateError::NotAllowed { code });
    }
}

#[test]
fn sessions_are_where_they_must_be_and_nowhere_else() {
    let tag = |tag| GateError::Tag { tag };
    let handles = [0x40, 0, 0, 1, 0x01, 0x80, 0, 1];
    let bare = message(NO_SESSIONS, NV_READ, &[&handles, &[0, 8, 0, 0]]);
    assert_eq!(refused_command(&bare), tag(NO_SESSIONS));
    let session = authorization(HMAC_SESSION, &[7; 32], 1, &[]);
    let flush = message(SESSIONS, 0x165, &[&area(&[&session]), &[0x80, 0, 0, 0]]);
    assert_eq!(refused_command(&flush), tag(SESSIONS));
    let none = refused_command(&in_sessions(&[]));
    assert_eq!(
        none,
        GateError::Authorization("a handle has no authorization")
    );
    // Certify needs two.
    let password = authorization(PASSWORD, &[], 0, &[]);
    let handles = [0x80, 0, 0, 0, 0x80, 0, 0, 1];
    let parameters = [0, 0, 0, 0x10];
    let one = message(
        SESSIONS,
        0x148,
        &[&handles, &area(&[&password]), &parameters],
    );
    let missing = GateError::Authorization("a handle has no authorization");
    assert_eq!(refused_command(&one), missing);
    let two = area(&[&password, &password]);
    let certify = message(SESSIONS, 0x148, &[&handles, &two, &parameters]);
    assert!(Command::parse(&certify).is_ok());
}

#[test]
fn authorizations_obey_their_rules() {
    let rule = |sessions: &[&[u8]]| match refused_command(&in_sessions(sessions)) {
        GateError::Authorization(rule) => rule,
        other => panic!("{other}"),
    };
    let session = |attributes| authorization(HMAC_SESSION, &[7; 32], attributes, &[]);
    let (plain, encrypt, decrypt) = (session(1), session(0x41), session(0x21));
    let four = [&plain[..], &plain, &plain, &plain];
    assert_eq!(rule(&four), "there are more than three authorizations");
    let twice = "a parameter cannot be encrypted, or would be twice";
    assert_eq!(rule(&[&encrypt, &encrypt]), twice);
    assert_eq!(rule(&[&decrypt]), twice); // GetRandom takes a number
    let short = authorization(HMAC_SESSION, &[7; 15], 1, &[]);
    assert_eq!(rule(&[&short]), "the nonce of a session is too short");
    for attributes in [0x09, 0x11] {
        let reserved = rule(&[&session(attributes)]);
        assert_eq!(reserved, "a session has a reserved attribute");
    }
    let password = authorization(PASSWORD, &[], 1, &[]);
    assert_eq!(rule(&[&password]), "a password authorizes nothing");
    let odd = "a password has a nonce, or attributes of a session";
    assert_eq!(rule(&[&authorization(PASSWORD, &[1], 1, &[])]), odd);
    assert_eq!(rule(&[&authorization(PASSWORD, &[], 0x41, &[])]), odd);
}

#[test]
fn an_authorization_area_ends_where_it_says() {
    let session = authorization(HMAC_SESSION, &[7; 32], 1, &[8; 32]);
    let truncated = |what| GateError::Truncated { what };
    for (cut, what) in [
        (1, "the HMAC of a session"),
        (33, "the HMAC of a session"),
        (70, "a handle"),
    ] {
        let error = refused_command(&in_sessions(&[&session[..session.len() - cut]]));
        assert_eq!(error, truncated(what), "{cut}");
    }
    let mut beyond = in_sessions(&[&session]);
    beyond[13] += 3; // beyond the end of the message
    assert_eq!(
        refused_command(&beyond),
        truncated("the authorization area")
    );
    let unknown = authorization(0x0400_0000, &[7; 32], 1, &[]);
    assert!(matches!(
        refused_command(&in_sessions(&[&unknown])),
        GateError::Handle { .. }
    ));
    for session in [
        authorization(HMAC_SESSION, &[7; 65], 1, &[]),
        authorization(HMAC_SESSION, &[7; 32], 1, &[8; 65]),
    ] {
        let error = refused_command(&in_sessions(&[&session]));
        assert!(matches!(error, GateError::Size { size: 65, .. }), "{error}");
    }
}

#[test]
fn a_handle_is_what_it_stands_for() {
    for (handle, what) in [
        (0x8000_0000_u32, "a policy session"),
        (0x0200_0000, "a policy session"),
    ] {
        let error = refused_command(&message(NO_SESSIONS, 0x16B, &[&handle.to_be_bytes()]));
        assert_eq!(error, GateError::Handle { what, handle });
    }
    let error = refused_command(&message(NO_SESSIONS, 0x169, &[&[0x81, 0, 0, 1]]));
    assert!(matches!(
        error,
        GateError::Handle {
            what: "an NV index",
            ..
        }
    ));
}

#[test]
fn parameters_are_walked_to_the_last_byte() {
    let error = refused_command(&message(NO_SESSIONS, GET_RANDOM, &[&[0]]));
    assert_eq!(error, GateError::Truncated { what: "a number" });
    for extra in [1, 2, 100] {
        let error = refused_command(&message(NO_SESSIONS, READ_CLOCK, &[&vec![0; extra]]));
        assert!(matches!(error, GateError::Trailing { bytes, .. } if bytes == extra));
    }
    assert!(matches!(
        refused_command(&start_auth_session(2)),
        GateError::Value {
            what: "TPM_SE",
            value: 2
        }
    ));
    let stir = message(NO_SESSIONS, 0x146, &[&sized(&[0; 129])]);
    assert!(matches!(
        refused_command(&stir),
        GateError::Size { size: 129, .. }
    ));
}

#[test]
fn a_policy_has_two_to_eight_branches() {
    let branches = |count: u8| {
        let digests = sized(&[1; 32]).repeat(count.into());
        let policy_session = [3, 0, 0, 0];
        message(
            NO_SESSIONS,
            0x171,
            &[&policy_session, &[0, 0, 0, count], &digests],
        )
    };
    for count in [0, 1, 9] {
        let (what, size) = ("TPML_DIGEST", count.into());
        assert_eq!(
            refused_command(&branches(count)),
            GateError::Size { what, size }
        );
    }
    for count in 2..=8 {
        assert!(Command::parse(&branches(count)).is_ok(), "{count}");
    }
}
