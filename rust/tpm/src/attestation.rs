// SPDX-License-Identifier: Apache-2.0
//! PCR selections, digests, time, and what a TPM signs.
//!
//! Spec: TPM 2.0 Part 2, 10.9 "Lists", 10.11 "Clock/Counter Structures", 10.12 "Attestation".

use crate::algorithms;
use crate::field::{DATA, DIGEST, Field, NAME, NV_BUFFER, Walk, yes_no};
use crate::reader::Reader;
use crate::{GateError, Result};

/// Banks of PCRs: no TPM implements more hash algorithms.
const MAX_BANKS: usize = 16;
/// Digests in a TPML_DIGEST.
const MAX_DIGESTS: usize = 8;
/// Bytes of a bit map of PCRs: 32 PCRs are more than any TPM has.
const MAX_SELECT_BYTES: u8 = 4;
/// A TPM2B_ATTEST: a certified NV index of the largest size is the largest.
const MAX_ATTEST_BYTES: usize = 2304;

pub(crate) const PCR_SELECTIONS: Field = Field::Plain(pcr_selections);
pub(crate) const DIGESTS: Field = Field::Plain(|reader| digests(reader, 0));
/// The branches of a PolicyOR: at least two.
pub(crate) const POLICY_BRANCHES: Field = Field::Plain(|reader| digests(reader, 2));
pub(crate) const DIGEST_VALUES: Field = Field::Plain(digest_values);
pub(crate) const SIGNATURE: Field = Field::Plain(algorithms::signature);
pub(crate) const SIGNING_SCHEME: Field = Field::Plain(algorithms::signing_scheme);
pub(crate) const TIME_INFO: Field = Field::Plain(time_info);

pub(crate) const QUOTED: Field = attest(|reader| statement(reader, 0x8018, quoted));
pub(crate) const CERTIFIED: Field = attest(|reader| statement(reader, 0x8017, certified));
pub(crate) const CERTIFIED_NV: Field = attest(|reader| statement(reader, 0x8014, certified_nv));
pub(crate) const TIME: Field = attest(|reader| statement(reader, 0x8019, time));

const fn attest(content: Walk) -> Field {
    Field::structure("TPM2B_ATTEST", MAX_ATTEST_BYTES, content)
}

/// Takes a TPML_PCR_SELECTION.
pub(crate) fn pcr_selections(reader: &mut Reader<'_>) -> Result<()> {
    for _ in 0..reader.count("TPML_PCR_SELECTION", MAX_BANKS)? {
        algorithms::hash(reader)?;
        pcr_select(reader)?;
    }
    Ok(())
}

/// Takes a TPMS_PCR_SELECT: a bit map, preceded by its size in bytes.
pub(crate) fn pcr_select(reader: &mut Reader<'_>) -> Result<()> {
    let what = "TPMS_PCR_SELECT";
    let size = reader.u8(what)?;
    if size > MAX_SELECT_BYTES {
        let size = size.into();
        return Err(GateError::Size { what, size });
    }
    reader.take(what, size.into()).map(drop)
}

fn digests(reader: &mut Reader<'_>, minimum: usize) -> Result<()> {
    let what = "TPML_DIGEST";
    let size = reader.count(what, MAX_DIGESTS)?;
    if size < minimum {
        return Err(GateError::Size { what, size });
    }
    (0..size).try_for_each(|_| DIGEST.walk(reader))
}

fn digest_values(reader: &mut Reader<'_>) -> Result<()> {
    let count = reader.count("TPML_DIGEST_VALUES", MAX_BANKS)?;
    (0..count).try_for_each(|_| algorithms::hash_value(reader))
}

/// Takes a TPMS_TIME_INFO.
fn time_info(reader: &mut Reader<'_>) -> Result<()> {
    reader.take("TPMS_TIME_INFO", 8)?;
    clock_info(reader)
}

/// Takes a TPMS_CLOCK_INFO: clock, resetCount, restartCount, safe.
fn clock_info(reader: &mut Reader<'_>) -> Result<()> {
    reader.take("TPMS_CLOCK_INFO", 8 + 4 + 4)?;
    yes_no(reader)
}

/// Takes a TPMS_ATTEST of one type.
///
/// ```text
/// magic u32 | type u16 | qualifiedSigner | extraData | clockInfo | firmwareVersion u64 | attested
/// ```
fn statement(reader: &mut Reader<'_>, kind: u16, attested: Walk) -> Result<()> {
    let what = "the magic number of TPMS_ATTEST";
    let value = reader.u32(what)?;
    if value != 0xFF54_4347 {
        return Err(GateError::Value { what, value });
    }
    let what = "the type of TPMS_ATTEST";
    let found = reader.u16(what)?;
    if found != kind {
        let value = found.into();
        return Err(GateError::Value { what, value });
    }
    NAME.walk(reader)?;
    DATA.walk(reader)?;
    clock_info(reader)?;
    reader.take("the firmware's version", 8)?;
    attested(reader)
}

fn quoted(reader: &mut Reader<'_>) -> Result<()> {
    pcr_selections(reader)?;
    DIGEST.walk(reader)
}

fn certified(reader: &mut Reader<'_>) -> Result<()> {
    NAME.walk(reader)?;
    NAME.walk(reader)
}

fn certified_nv(reader: &mut Reader<'_>) -> Result<()> {
    NAME.walk(reader)?;
    reader.u16("the offset in an NV index")?;
    NV_BUFFER.walk(reader)
}

fn time(reader: &mut Reader<'_>) -> Result<()> {
    time_info(reader)?;
    reader.take("the firmware's version", 8).map(drop)
}
