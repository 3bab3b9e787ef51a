// SPDX-License-Identifier: Apache-2.0
//! Public areas, what objects are made from, and tickets.
//!
//! Spec: TPM 2.0 Part 2, 12 "Key/Object Complex", 13 "NV Storage Structures", 10.7 "Tickets".

use crate::algorithms::{self, MAX_RSA_BYTES};
use crate::attestation;
use crate::field::{AUTH, DATA, DIGEST, Field, NAME, SENSITIVE_DATA};
use crate::handle::Kind;
use crate::reader::Reader;
use crate::{GateError, Result};

/// A TPM2B_PUBLIC: everything at its largest in one RSA key of 4096 bits.
pub(crate) const PUBLIC: Field = Field::structure("TPM2B_PUBLIC", 604, public);
/// A TPM2B_SENSITIVE_CREATE: an authorization value and data.
pub(crate) const SENSITIVE_CREATE: Field =
    Field::structure("TPM2B_SENSITIVE_CREATE", 2 + 64 + 2 + 128, sensitive_create);
/// The TPM2B_SENSITIVE of an object of which only the public area is loaded.
pub(crate) const NO_SENSITIVE: Field = Field::bytes("TPM2B_SENSITIVE", 0);
/// A TPM2B_CREATION_DATA.
pub(crate) const CREATION_DATA: Field = Field::structure("TPM2B_CREATION_DATA", 512, creation_data);
/// A TPM2B_ID_OBJECT: what MakeCredential made.
pub(crate) const ID_OBJECT: Field = Field::structure("TPM2B_ID_OBJECT", 132, id_object);
/// A TPM2B_NV_PUBLIC.
pub(crate) const NV_PUBLIC: Field = Field::structure("TPM2B_NV_PUBLIC", 78, nv_public);

pub(crate) const TICKET_CREATION: Field = Field::Plain(|reader| ticket(reader, 0x8021));
pub(crate) const TICKET_VERIFIED: Field = Field::Plain(|reader| ticket(reader, 0x8022));
pub(crate) const TICKET_SECRET: Field = Field::Plain(|reader| ticket(reader, 0x8023));
pub(crate) const TICKET_SIGNED: Field = Field::Plain(|reader| ticket(reader, 0x8025));

/// Takes a TPMT_PUBLIC.
///
/// ```text
/// type u16 | nameAlg u16 | objectAttributes u32 | authPolicy TPM2B | parameters[type] | unique[type]
/// ```
fn public(reader: &mut Reader<'_>) -> Result<()> {
    let what = "TPMT_PUBLIC";
    let kind = reader.u16(what)?;
    algorithms::hash_or_null(reader)?;
    reader.u32("TPMA_OBJECT")?;
    DIGEST.walk(reader)?;
    match kind {
        0x0001 => rsa(reader),
        0x0008 => {
            algorithms::keyed_hash_scheme(reader)?;
            DIGEST.walk(reader)
        }
        0x0023 => ecc(reader),
        0x0025 => {
            algorithms::symmetric_object(reader)?;
            DIGEST.walk(reader)
        }
        other => Err(GateError::Value {
            what,
            value: other.into(),
        }),
    }
}

fn rsa(reader: &mut Reader<'_>) -> Result<()> {
    algorithms::symmetric_object(reader)?;
    algorithms::asymmetric_scheme(reader)?;
    reader.u16("the bits of an RSA key")?;
    reader.u32("the exponent of an RSA key")?;
    reader
        .sized("TPM2B_PUBLIC_KEY_RSA", MAX_RSA_BYTES)
        .map(drop)
}

fn ecc(reader: &mut Reader<'_>) -> Result<()> {
    algorithms::symmetric_object(reader)?;
    algorithms::asymmetric_scheme(reader)?;
    reader.u16("TPMI_ECC_CURVE")?;
    algorithms::derivation_scheme(reader)?;
    algorithms::point(reader)
}

fn sensitive_create(reader: &mut Reader<'_>) -> Result<()> {
    AUTH.walk(reader)?;
    SENSITIVE_DATA.walk(reader)
}

fn creation_data(reader: &mut Reader<'_>) -> Result<()> {
    attestation::pcr_selections(reader)?;
    DIGEST.walk(reader)?;
    reader.u8("TPMA_LOCALITY")?;
    algorithms::hash_or_null(reader)?;
    NAME.walk(reader)?;
    NAME.walk(reader)?;
    DATA.walk(reader)
}

fn id_object(reader: &mut Reader<'_>) -> Result<()> {
    DIGEST.walk(reader)?;
    // The encrypted identity has no size of its own: it reaches to the end.
    reader
        .take("an encrypted identity", reader.remaining())
        .map(drop)
}

fn nv_public(reader: &mut Reader<'_>) -> Result<()> {
    Kind::NvIndex.read(reader)?;
    algorithms::hash(reader)?;
    reader.u32("TPMA_NV")?;
    DIGEST.walk(reader)?;
    reader.u16("the size of an NV index").map(drop)
}

/// Takes a TPMT_TK_*: tag, hierarchy, digest.
fn ticket(reader: &mut Reader<'_>, expected: u16) -> Result<()> {
    let what = "the tag of a ticket";
    let tag = reader.u16(what)?;
    if tag != expected {
        let value = tag.into();
        return Err(GateError::Value { what, value });
    }
    Kind::Hierarchy.read(reader)?;
    DIGEST.walk(reader)
}
