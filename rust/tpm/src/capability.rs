// SPDX-License-Identifier: Apache-2.0
//! What GetCapability answers.
//!
//! Spec: TPM 2.0 Part 2, 10.10 "Capabilities Structures"; Part 3, 30.2.

use crate::algorithms;
use crate::attestation;
use crate::field::{Field, Walk};
use crate::reader::Reader;
use crate::{GateError, Result};

/// Bytes of the largest list, without which the number of its entries would have no limit.
const MAX_LIST_BYTES: usize = 1024;

pub(crate) const CAPABILITY_DATA: Field = Field::Plain(capability_data);

/// Takes a TPMS_CAPABILITY_DATA: which capability, and a list of what it consists of.
fn capability_data(reader: &mut Reader<'_>) -> Result<()> {
    let what = "TPM_CAP";
    match reader.u32(what)? {
        // Algorithms, each with its attributes.
        0 => list::<6>(reader),
        // Handles, commands with attributes, commands that need presence, audited commands.
        1..=4 => list::<4>(reader),
        5 => attestation::pcr_selections(reader).map(drop),
        // Properties of the TPM, each with its value.
        6 => list::<8>(reader),
        7 => entries(reader, 8, |reader| {
            reader.u32("TPM_PT_PCR")?;
            attestation::pcr_select(reader).map(drop)
        }),
        // Curves.
        8 => list::<2>(reader),
        // Policies of hierarchies.
        9 => entries(reader, 6, |reader| {
            reader.u32("a handle")?;
            algorithms::hash_value_or_null(reader)
        }),
        // Countdown timers: handle, timeout, attributes.
        10 => list::<12>(reader),
        value => Err(GateError::Value { what, value }),
    }
}

/// Takes a list whose entries have one size.
fn list<const ENTRY_BYTES: usize>(reader: &mut Reader<'_>) -> Result<()> {
    entries(reader, ENTRY_BYTES, |reader| {
        reader
            .take("the list of a capability", ENTRY_BYTES)
            .map(drop)
    })
}

/// Takes a count, and as many entries, none of which is smaller than `least_bytes`.
fn entries(reader: &mut Reader<'_>, least_bytes: usize, entry: Walk) -> Result<()> {
    let count = reader.count("the list of a capability", MAX_LIST_BYTES / least_bytes)?;
    (0..count).try_for_each(|_| entry(reader))
}
