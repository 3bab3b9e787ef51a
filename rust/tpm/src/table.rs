// SPDX-License-Identifier: Apache-2.0
//! The allow-list: every command that may go out, in the order of its code.
//!
//! Each row: code, command handles, command parameters, response parameters; then how many handles
//! are authorized, and the handle of the response.
//!
//! Not on the list, on purpose: whatever clears, takes ownership, duplicates, imports, signs what it
//! is given or decrypts with a key of the TPM, and whatever nobody in Strongroom sends.
//!
//! Spec: TPM 2.0 Part 2, 6.5.2 "TPM_CC"; Part 3.

use crate::attestation::{
    CERTIFIED, CERTIFIED_NV, DIGEST_VALUES, PCR_SELECTIONS, PCR_VALUES, POLICY_BRANCHES, QUOTED,
    SIGNATURE, SIGNING_SCHEME, TIME, TIME_INFO,
};
use crate::capability::CAPABILITY_DATA;
use crate::field::{
    AUTH, DATA, DIGEST, ENCRYPTED_SECRET, HASH, MAX_BUFFER, NAME, NONCE, NV_BUFFER, OPERAND,
    PRIVATE, SENSITIVE_DATA, TIMEOUT, U16, U32, YES_NO,
};
use crate::handle::Kind;
use crate::objects::{
    CREATION_DATA, ID_OBJECT, NO_SENSITIVE, NV_PUBLIC, PUBLIC, SENSITIVE_CREATE, TICKET_CREATION,
    TICKET_SECRET, TICKET_SIGNED, TICKET_VERIFIED,
};
use crate::operands::{
    COMPARISON, HIERARCHY, PERSISTENT, SESSION_CIPHER, SESSION_TYPE, STARTUP_TYPE, TO_FLUSH,
};
use crate::schema::{Answer, Schema};

/// The row of a command code.
pub(crate) fn schema_of(code: u32) -> Option<&'static Schema> {
    TABLE.iter().find(|schema| schema.code == code)
}

#[rustfmt::skip]
pub(crate) static TABLE: &[Schema] = &[
    // EvictControl
    Schema::new(0x120, &[Kind::Provisioner, Kind::Object], &[PERSISTENT], &[]).authorized(1),
    // NV_UndefineSpace
    Schema::new(0x122, &[Kind::Provisioner, Kind::NvIndex], &[], &[]).authorized(1),
    // NV_DefineSpace
    Schema::new(0x12A, &[Kind::Provisioner], &[AUTH, NV_PUBLIC], &[]).authorized(1),
    // CreatePrimary
    Schema::new(
        0x131,
        &[Kind::Hierarchy],
        &[SENSITIVE_CREATE, PUBLIC, DATA, PCR_SELECTIONS],
        &[PUBLIC, CREATION_DATA, DIGEST, TICKET_CREATION, NAME],
    )
    .authorized(1)
    .answers_handle(Kind::Transient),
    // NV_Increment
    Schema::new(0x134, &[Kind::NvAuthorizer, Kind::NvIndex], &[], &[]).authorized(1),
    // NV_Write
    Schema::new(0x137, &[Kind::NvAuthorizer, Kind::NvIndex], &[NV_BUFFER, U16], &[]).authorized(1),
    // SelfTest
    Schema::new(0x143, &[], &[YES_NO], &[]),
    // Startup: what a simulator needs before anything else
    Schema::new(0x144, &[], &[STARTUP_TYPE], &[]).without_sessions(),
    // StirRandom
    Schema::new(0x146, &[], &[SENSITIVE_DATA], &[]),
    // ActivateCredential
    Schema::new(0x147, &[Kind::Object, Kind::Object], &[ID_OBJECT, ENCRYPTED_SECRET], &[DIGEST])
        .authorized(2),
    // Certify
    Schema::new(
        0x148,
        &[Kind::Object, Kind::Object],
        &[DATA, SIGNING_SCHEME],
        &[CERTIFIED, SIGNATURE],
    )
    .authorized(2),
    // PolicyNV
    Schema::new(
        0x149,
        &[Kind::NvAuthorizer, Kind::NvIndex, Kind::PolicySession],
        &[OPERAND, U16, COMPARISON],
        &[],
    )
    .authorized(1),
    // GetTime
    Schema::new(
        0x14C,
        &[Kind::Endorsement, Kind::Object],
        &[DATA, SIGNING_SCHEME],
        &[TIME, SIGNATURE],
    )
    .authorized(2),
    // NV_Read
    Schema::new(0x14E, &[Kind::NvAuthorizer, Kind::NvIndex], &[U16, U16], &[NV_BUFFER])
        .authorized(1)
        .answers(Answer::Exactly),
    // PolicySecret
    Schema::new(
        0x151,
        &[Kind::Entity, Kind::PolicySession],
        &[NONCE, DIGEST, NONCE, U32],
        &[TIMEOUT, TICKET_SECRET],
    )
    .authorized(1),
    // Create
    Schema::new(
        0x153,
        &[Kind::Object],
        &[SENSITIVE_CREATE, PUBLIC, DATA, PCR_SELECTIONS],
        &[PRIVATE, PUBLIC, CREATION_DATA, DIGEST, TICKET_CREATION],
    )
    .authorized(1),
    // Load
    Schema::new(0x157, &[Kind::Object], &[PRIVATE, PUBLIC], &[NAME])
        .authorized(1)
        .answers_handle(Kind::Transient),
    // Quote
    Schema::new(
        0x158,
        &[Kind::Object],
        &[DATA, SIGNING_SCHEME, PCR_SELECTIONS],
        &[QUOTED, SIGNATURE],
    )
    .authorized(1),
    // Unseal
    Schema::new(0x15E, &[Kind::Object], &[], &[SENSITIVE_DATA]).authorized(1),
    // PolicySigned
    Schema::new(
        0x160,
        &[Kind::Object, Kind::PolicySession],
        &[NONCE, DIGEST, NONCE, U32, SIGNATURE],
        &[TIMEOUT, TICKET_SIGNED],
    ),
    // FlushContext: its handle is a parameter
    Schema::new(0x165, &[], &[TO_FLUSH], &[]).without_sessions(),
    // LoadExternal, of public areas only
    Schema::new(0x167, &[], &[NO_SENSITIVE, PUBLIC, HIERARCHY], &[NAME])
        .answers_handle(Kind::Transient),
    // NV_ReadPublic
    Schema::new(0x169, &[Kind::NvIndex], &[], &[NV_PUBLIC, NAME]),
    // PolicyAuthorize
    Schema::new(0x16A, &[Kind::PolicySession], &[DIGEST, NONCE, NAME, TICKET_VERIFIED], &[]),
    // PolicyAuthValue
    Schema::new(0x16B, &[Kind::PolicySession], &[], &[]),
    // PolicyCommandCode
    Schema::new(0x16C, &[Kind::PolicySession], &[U32], &[]),
    // PolicyOR
    Schema::new(0x171, &[Kind::PolicySession], &[POLICY_BRANCHES], &[]),
    // ReadPublic
    Schema::new(0x173, &[Kind::Object], &[], &[PUBLIC, NAME, NAME]),
    // StartAuthSession
    Schema::new(
        0x176,
        &[Kind::ObjectOrNull, Kind::Entity],
        &[NONCE, ENCRYPTED_SECRET, SESSION_TYPE, SESSION_CIPHER, HASH],
        &[NONCE],
    )
    .answers_handle(Kind::Session)
    .answers(Answer::Session),
    // VerifySignature
    Schema::new(0x177, &[Kind::Object], &[DIGEST, SIGNATURE], &[TICKET_VERIFIED]),
    // GetCapability
    Schema::new(0x17A, &[], &[U32, U32, U32], &[YES_NO, CAPABILITY_DATA])
        .answers(Answer::Capability),
    // GetRandom
    Schema::new(0x17B, &[], &[U16], &[DIGEST]).answers(Answer::AtMost),
    // GetTestResult
    Schema::new(0x17C, &[], &[], &[MAX_BUFFER, U32]),
    // PCR_Read
    Schema::new(0x17E, &[], &[PCR_SELECTIONS], &[U32, PCR_VALUES])
        .answers(Answer::Pcrs),
    // PolicyPCR
    Schema::new(0x17F, &[Kind::PolicySession], &[DIGEST, PCR_SELECTIONS], &[]),
    // PolicyRestart
    Schema::new(0x180, &[Kind::PolicySession], &[], &[]),
    // ReadClock
    Schema::new(0x181, &[], &[], &[TIME_INFO]),
    // PCR_Extend
    Schema::new(0x182, &[Kind::Pcr], &[DIGEST_VALUES], &[]).authorized(1),
    // NV_Certify
    Schema::new(
        0x184,
        &[Kind::Object, Kind::NvAuthorizer, Kind::NvIndex],
        &[DATA, SIGNING_SCHEME, U16, U16],
        &[CERTIFIED_NV, SIGNATURE],
    )
    .authorized(2),
    // PolicyGetDigest
    Schema::new(0x189, &[Kind::PolicySession], &[], &[DIGEST]),
];
