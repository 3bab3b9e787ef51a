// SPDX-License-Identifier: Apache-2.0
//! The parameters of commands that are one small number, each with its range.

use crate::algorithms;
use crate::field::Field;
use crate::handle::Kind;
use crate::reader::Reader;
use crate::{GateError, Result};

/// A TPM_SU: clear or state. Spec: TPM 2.0 Part 2, 6.10.
pub(crate) const STARTUP_TYPE: Field = Field::Plain(|reader| one_of(reader, "TPM_SU", 0..=1));
/// A TPM_EO, how PolicyNV compares. Spec: TPM 2.0 Part 2, 6.8.
pub(crate) const COMPARISON: Field = Field::Plain(|reader| one_of(reader, "TPM_EO", 0..=0xB));
/// A TPM_SE: HMAC, policy or trial. Spec: TPM 2.0 Part 2, 6.11.
pub(crate) const SESSION_TYPE: Field = Field::Plain(session_type);
/// The TPMT_SYM_DEF+ of a session. XOR obfuscation is refused.
pub(crate) const SESSION_CIPHER: Field = Field::Plain(algorithms::symmetric_object);
/// The handle that an object gets by EvictControl, or loses.
pub(crate) const PERSISTENT: Field = Field::Plain(|reader| Kind::Persistent.read(reader).map(drop));
/// What FlushContext removes.
pub(crate) const TO_FLUSH: Field = Field::Plain(|reader| Kind::Flushable.read(reader).map(drop));
/// The hierarchy of a loaded public area.
pub(crate) const HIERARCHY: Field = Field::Plain(|reader| Kind::Hierarchy.read(reader).map(drop));

fn one_of(
    reader: &mut Reader<'_>,
    what: &'static str,
    range: std::ops::RangeInclusive<u16>,
) -> Result<()> {
    let value = reader.u16(what)?;
    if range.contains(&value) {
        return Ok(());
    }
    let value = value.into();
    Err(GateError::Value { what, value })
}

fn session_type(reader: &mut Reader<'_>) -> Result<()> {
    let what = "TPM_SE";
    match reader.u8(what)? {
        0 | 1 | 3 => Ok(()),
        other => Err(GateError::Value {
            what,
            value: other.into(),
        }),
    }
}
