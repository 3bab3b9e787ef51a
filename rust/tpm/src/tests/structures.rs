// SPDX-License-Identifier: Apache-2.0
//! Each rule for what parameters hold, broken alone in a recorded response.

use super::refused_response;
use super::traffic::recorded;
use crate::GateError;

/// Where the parameters of a response with neither sessions nor handle begin.
const PLAIN: usize = 10;
/// Where they begin after the size that comes with sessions.
const IN_SESSION: usize = 14;

/// Why a recorded response is refused after bytes of it are replaced.
fn broken(name: &str, at: usize, bytes: &[u8]) -> GateError {
    let (command, mut response) = recorded(name);
    assert_ne!(
        response[at..at + bytes.len()],
        *bytes,
        "nothing is replaced"
    );
    response[at..at + bytes.len()].copy_from_slice(bytes);
    refused_response(&command, &response)
}

fn value(what: &'static str, value: u32) -> GateError {
    GateError::Value { what, value }
}

#[test]
fn a_statement_is_the_tpm_s_and_of_the_kind_that_was_asked_for() {
    for name in ["quote", "certify", "time", "nv-certify"] {
        let magic = broken(name, IN_SESSION + 2, &[0xFF, 0x54, 0x43, 0x48]);
        assert_eq!(
            magic,
            value("the magic number of TPMS_ATTEST", 0xFF54_4348),
            "{name}"
        );
        // Of a command audit: nobody here asks for one.
        let kind = broken(name, IN_SESSION + 6, &[0x80, 0x15]);
        assert_eq!(kind, value("the type of TPMS_ATTEST", 0x8015), "{name}");
    }
}

#[test]
fn a_statement_is_signed() {
    for name in ["quote", "certify", "time", "nv-certify"] {
        let (_, response) = recorded(name);
        let size = u16::from_be_bytes(response[IN_SESSION..][..2].try_into().unwrap());
        let signature = IN_SESSION + 2 + usize::from(size);
        for algorithm in [0x10, 0x15, 0x1A, 0] {
            let error = broken(name, signature, &[0, algorithm]);
            assert_eq!(error, value("TPMT_SIGNATURE", algorithm.into()), "{name}");
        }
        let hash = broken(name, signature + 2, &[0, 0x10]);
        assert_eq!(hash, value("TPMI_ALG_HASH", 0x10), "{name}");
        let coordinate = broken(name, signature + 4, &[0, 81]);
        let what = "TPM2B_ECC_PARAMETER";
        assert_eq!(coordinate, GateError::Size { what, size: 81 }, "{name}");
    }
}

#[test]
fn a_ticket_is_of_the_kind_that_was_asked_for() {
    for tag in [0x21, 0x23, 0x24, 0x25] {
        let error = broken("verify", PLAIN, &[0x80, tag]);
        assert_eq!(error, value("the tag of a ticket", 0x8000 + u32::from(tag)));
    }
    let (what, handle) = ("a hierarchy", 0x4000_0009);
    let error = broken("verify", PLAIN + 2, &[0x40, 0, 0, 9]);
    assert_eq!(error, GateError::Handle { what, handle });
}

#[test]
fn a_public_area_has_the_form_of_its_type() {
    let kind = broken("read-public", PLAIN + 2, &[0, 2]);
    assert_eq!(kind, value("TPMT_PUBLIC", 2));
    let hash = broken("read-public", PLAIN + 4, &[0, 1]);
    assert_eq!(hash, value("TPMI_ALG_HASH+", 1));
    // The parameters come after type, nameAlg, attributes and the empty policy.
    let cipher = broken("read-public", PLAIN + 12, &[0, 1]);
    assert_eq!(cipher, value("TPMT_SYM_DEF_OBJECT", 1));
    let mode = broken("read-public", PLAIN + 16, &[0, 0x45]);
    assert_eq!(mode, value("TPMI_ALG_SYM_MODE", 0x45));
    let scheme = broken("read-public", PLAIN + 18, &[0, 1]);
    assert_eq!(scheme, value("TPMT_ASYM_SCHEME", 1));
    let derivation = broken("read-public", PLAIN + 22, &[0, 1]);
    assert_eq!(derivation, value("TPMT_KDF_SCHEME", 1));
    for size in [0_u16, 89, 91, 605, 0xFFFF] {
        broken("read-public", PLAIN, &size.to_be_bytes());
    }
}

#[test]
fn what_is_loaded_is_transient() {
    for octet in [0x00, 0x01, 0x02, 0x03, 0x40, 0x81, 0x90, 0xFF] {
        let handle = u32::from_be_bytes([octet, 0, 0, 1]);
        let error = broken("load-external", PLAIN, &handle.to_be_bytes());
        let what = "a transient object";
        assert_eq!(error, GateError::Handle { what, handle });
    }
}

#[test]
fn a_name_is_a_digest_with_its_algorithm() {
    let (_, response) = recorded("load-external");
    assert_eq!(response[PLAIN + 4..PLAIN + 8], [0, 34, 0, 0x0B]);
    let unknown = broken("load-external", PLAIN + 6, &[0, 1]);
    assert_eq!(unknown, value("TPMI_ALG_HASH", 1));
    let longer = broken("load-external", PLAIN + 6, &[0, 0x0C]);
    assert_eq!(longer, GateError::Truncated { what: "TPMT_HA" });
    let shorter = broken("load-external", PLAIN + 6, &[0, 4]);
    let what = "TPM2B_NAME";
    assert_eq!(shorter, GateError::Trailing { what, bytes: 12 });
}

#[test]
fn the_public_area_of_an_index_is_that_of_an_index() {
    let handle = broken("nv-public-audited", IN_SESSION + 2, &[0x81, 0, 0, 1]);
    assert!(matches!(
        handle,
        GateError::Handle {
            what: "an NV index",
            ..
        }
    ));
    let hash = broken("nv-public-audited", IN_SESSION + 6, &[0, 0x10]);
    assert_eq!(hash, value("TPMI_ALG_HASH", 0x10));
}

#[test]
fn values_of_pcrs_are_those_that_were_asked_for() {
    const BANKS: usize = PLAIN + 4;
    const FIRST_MAP: usize = BANKS + 4 + 3;
    let banks = broken("pcr-read", BANKS, &[0, 0, 0, 17]);
    let what = "TPML_PCR_SELECTION";
    assert_eq!(banks, GateError::Size { what, size: 17 });
    for octets in [0, 2, 5, 255] {
        let error = broken("pcr-read", FIRST_MAP - 1, &[octets]);
        let (what, size) = ("TPMS_PCR_SELECT", octets.into());
        assert_eq!(error, GateError::Size { what, size });
    }
    let other = broken("pcr-read", FIRST_MAP, &[0x82]);
    assert_eq!(other, GateError::Disagrees("it is not what was asked for"));
    for fewer_or_more in [0x80, 0x83] {
        let error = broken("pcr-read", FIRST_MAP, &[fewer_or_more]);
        let (what, size) = ("the values of PCRs", 5);
        assert_eq!(error, GateError::Size { what, size });
    }
}
