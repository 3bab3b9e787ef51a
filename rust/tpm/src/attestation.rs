// SPDX-License-Identifier: Apache-2.0
//! PCR selections, digests, time, and what a TPM signs.
//!
//! Spec: TPM 2.0 Part 2, 10.9 "Lists", 10.11 "Clock/Counter Structures", 10.12 "Attestation".

use std::ops::RangeInclusive;

use crate::algorithms;
use crate::field::{DATA, DIGEST, Field, NAME, NV_BUFFER, Walk, yes_no};
use crate::reader::Reader;
use crate::{GateError, Result};

/// Banks of PCRs: no TPM implements more hash algorithms.
const MAX_BANKS: usize = 16;
/// Digests in a TPML_DIGEST.
const MAX_DIGESTS: usize = 8;
/// Bytes of a bit map of PCRs: the PC Client profile has 24 PCRs, some software makes maps for 32.
const SELECT_BYTES: RangeInclusive<u8> = 3..=4;
/// A TPM2B_ATTEST: a certified NV index of the largest size is the largest.
const MAX_ATTEST_BYTES: usize = 2304;

pub(crate) const PCR_SELECTIONS: Field = Field::Plain(|reader| pcr_selections(reader).map(drop));
/// A selection and the values of the PCRs that it selects.
pub(crate) const PCR_VALUES: Field = Field::Plain(pcr_values);
/// The branches of a PolicyOR.
pub(crate) const POLICY_BRANCHES: Field = Field::Plain(policy_branches);
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

/// PCRs of one bank.
pub(crate) struct Bank {
    algorithm: u16,
    /// Bytes of the bank's values.
    digest_bytes: usize,
    /// Bit `n` is PCR `n`.
    pcrs: u32,
}

impl Bank {
    /// Whether all of its PCRs are among those of `others`.
    pub(crate) fn is_among(&self, others: &[Bank]) -> bool {
        let same = others
            .iter()
            .filter(|other| other.algorithm == self.algorithm);
        self.pcrs & !same.fold(0, |all, other| all | other.pcrs) == 0
    }
}

/// Takes a TPML_PCR_SELECTION.
pub(crate) fn pcr_selections(reader: &mut Reader<'_>) -> Result<Vec<Bank>> {
    let count = reader.count("TPML_PCR_SELECTION", MAX_BANKS)?;
    (0..count)
        .map(|_| {
            let (algorithm, digest_bytes) = algorithms::hash(reader)?;
            let pcrs = pcr_select(reader)?;
            Ok(Bank {
                algorithm,
                digest_bytes,
                pcrs,
            })
        })
        .collect()
}

/// Takes a TPMS_PCR_SELECT: a bit map, preceded by its size in bytes.
pub(crate) fn pcr_select(reader: &mut Reader<'_>) -> Result<u32> {
    let what = "TPMS_PCR_SELECT";
    let size = reader.u8(what)?;
    if !SELECT_BYTES.contains(&size) {
        let size = size.into();
        return Err(GateError::Size { what, size });
    }
    let map = reader.take(what, size.into())?.iter().rev();
    Ok(map.fold(0, |pcrs, octet| pcrs << 8 | u32::from(*octet)))
}

/// Takes what PCR_Read answers: a selection, and a value of the right size for each of its PCRs.
///
/// Spec: TPM 2.0 Part 3, 22.4: the values come in the order of the selection.
fn pcr_values(reader: &mut Reader<'_>) -> Result<()> {
    let what = "the values of PCRs";
    let banks = pcr_selections(reader)?;
    let mut expected = 0;
    for bank in &banks {
        expected += bank.pcrs.count_ones();
    }
    let size = reader.count(what, MAX_DIGESTS)?;
    if u32::try_from(size) != Ok(expected) {
        return Err(GateError::Size { what, size });
    }
    for bank in &banks {
        for _ in 0..bank.pcrs.count_ones() {
            let size = reader.sized(what, bank.digest_bytes)?.len();
            if size != bank.digest_bytes {
                return Err(GateError::Size { what, size });
            }
        }
    }
    Ok(())
}

/// Takes a TPML_DIGEST of two to eight. Spec: TPM 2.0 Part 3, 23.6.
fn policy_branches(reader: &mut Reader<'_>) -> Result<()> {
    let what = "TPML_DIGEST";
    let size = reader.count(what, MAX_DIGESTS)?;
    if size < 2 {
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
