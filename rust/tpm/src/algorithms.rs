// SPDX-License-Identifier: Apache-2.0
//! Algorithm identifiers, and the structures whose form they select.
//!
//! Spec: TPM 2.0 Part 2, 6.3 "TPM_ALG_ID"; 11 "Algorithm Parameters and Structures".

use crate::field::MAX_DIGEST_BYTES;
use crate::reader::Reader;
use crate::{GateError, Result};

const HMAC: u16 = 0x0005;
const XOR: u16 = 0x000A;
const NULL: u16 = 0x0010;
const RSAES: u16 = 0x0015;
const ECDAA: u16 = 0x001A;

/// Bytes of the largest RSA modulus, 4096 bits.
pub(crate) const MAX_RSA_BYTES: usize = 512;
/// Bytes of the largest coordinate, of BN P638.
pub(crate) const MAX_ECC_BYTES: usize = 80;

/// Bytes of a digest.
fn digest_bytes(algorithm: u16) -> Option<usize> {
    match algorithm {
        0x0004 => Some(20),                        // SHA-1
        0x000B | 0x0012 | 0x0027 => Some(32),      // SHA-256, SM3-256, SHA3-256
        0x000C | 0x0028 => Some(48),               // SHA-384, SHA3-384
        0x000D | 0x0029 => Some(MAX_DIGEST_BYTES), // SHA-512, SHA3-512
        _ => None,
    }
}

/// Takes a TPMI_ALG_HASH, and returns it with the size of its digests in bytes.
pub(crate) fn hash(reader: &mut Reader<'_>) -> Result<(u16, usize)> {
    let what = "TPMI_ALG_HASH";
    let algorithm = reader.u16(what)?;
    match digest_bytes(algorithm) {
        Some(bytes) => Ok((algorithm, bytes)),
        None => Err(bad(what, algorithm)),
    }
}

/// Takes a TPMI_ALG_HASH+: the null algorithm's digests have no bytes.
pub(crate) fn hash_or_null(reader: &mut Reader<'_>) -> Result<usize> {
    let what = "TPMI_ALG_HASH+";
    match reader.u16(what)? {
        NULL => Ok(0),
        algorithm => digest_bytes(algorithm).ok_or_else(|| bad(what, algorithm)),
    }
}

/// Takes a TPMT_HA: a hash algorithm and as many bytes as its digests have.
pub(crate) fn hash_value(reader: &mut Reader<'_>) -> Result<()> {
    let (_, bytes) = hash(reader)?;
    reader.take("TPMT_HA", bytes).map(drop)
}

/// Takes a TPMT_HA+.
pub(crate) fn hash_value_or_null(reader: &mut Reader<'_>) -> Result<()> {
    let bytes = hash_or_null(reader)?;
    reader.take("TPMT_HA", bytes).map(drop)
}

/// Takes a TPMT_SYM_DEF_OBJECT+: no algorithm, or a block cipher with key bits and mode.
pub(crate) fn symmetric_object(reader: &mut Reader<'_>) -> Result<()> {
    let what = "TPMT_SYM_DEF_OBJECT";
    match reader.u16(what)? {
        NULL => Ok(()),
        // TDES, AES, SM4, Camellia
        0x0003 | 0x0006 | 0x0013 | 0x0026 => {
            reader.u16(what)?;
            block_mode(reader)
        }
        other => Err(bad(what, other)),
    }
}

/// Takes a TPMI_ALG_SYM_MODE+: CTR, OFB, CBC, CFB, ECB or none.
fn block_mode(reader: &mut Reader<'_>) -> Result<()> {
    let what = "TPMI_ALG_SYM_MODE";
    match reader.u16(what)? {
        0x0040..=0x0044 | NULL => Ok(()),
        other => Err(bad(what, other)),
    }
}

/// Takes a TPMT_KEYEDHASH_SCHEME+.
pub(crate) fn keyed_hash_scheme(reader: &mut Reader<'_>) -> Result<()> {
    let what = "TPMT_KEYEDHASH_SCHEME";
    match reader.u16(what)? {
        NULL => Ok(()),
        HMAC => hash(reader).map(drop),
        XOR => {
            hash(reader)?;
            derivation_scheme(reader)
        }
        other => Err(bad(what, other)),
    }
}

/// Takes a TPMT_RSA_SCHEME+, a TPMT_ECC_SCHEME+ or a TPMT_ASYM_SCHEME+.
pub(crate) fn asymmetric_scheme(reader: &mut Reader<'_>) -> Result<()> {
    let what = "TPMT_ASYM_SCHEME";
    match reader.u16(what)? {
        NULL | RSAES => Ok(()),
        ECDAA => {
            hash(reader)?;
            reader.u16("TPMS_SCHEME_ECDAA").map(drop)
        }
        // OAEP, ECDH, ECMQV
        0x0017 | 0x0019 | 0x001D => hash(reader).map(drop),
        scheme if is_signing(scheme) => hash(reader).map(drop),
        other => Err(bad(what, other)),
    }
}

/// Takes a TPMT_SIG_SCHEME+.
pub(crate) fn signing_scheme(reader: &mut Reader<'_>) -> Result<()> {
    let what = "TPMT_SIG_SCHEME";
    match reader.u16(what)? {
        NULL => Ok(()),
        scheme if scheme == HMAC || is_signing(scheme) => hash(reader).map(drop),
        other => Err(bad(what, other)),
    }
}

/// RSASSA, RSAPSS, ECDSA, SM2, ECSCHNORR.
fn is_signing(scheme: u16) -> bool {
    matches!(scheme, 0x0014 | 0x0016 | 0x0018 | 0x001B | 0x001C)
}

/// Takes a TPMT_KDF_SCHEME+.
pub(crate) fn derivation_scheme(reader: &mut Reader<'_>) -> Result<()> {
    let what = "TPMT_KDF_SCHEME";
    match reader.u16(what)? {
        NULL => Ok(()),
        // MGF1, KDF1 of SP 800-56A, KDF2, KDF1 of SP 800-108
        0x0007 | 0x0020..=0x0022 => hash(reader).map(drop),
        other => Err(bad(what, other)),
    }
}

/// Takes a TPMT_SIGNATURE. The null signature, which proves nothing, is refused.
///
/// Spec: TPM 2.0 Part 2, 11.3 "Signatures".
pub(crate) fn signature(reader: &mut Reader<'_>) -> Result<()> {
    let what = "TPMT_SIGNATURE";
    match reader.u16(what)? {
        HMAC => hash_value(reader),
        // RSASSA, RSAPSS
        0x0014 | 0x0016 => {
            hash(reader)?;
            reader.sized(what, MAX_RSA_BYTES).map(drop)
        }
        // ECDSA, SM2, ECSCHNORR
        0x0018 | 0x001B | 0x001C => {
            hash(reader)?;
            point(reader)
        }
        other => Err(bad(what, other)),
    }
}

/// Takes two TPM2B_ECC_PARAMETER: a TPMS_ECC_POINT, or the two halves of a signature.
pub(crate) fn point(reader: &mut Reader<'_>) -> Result<()> {
    for _ in 0..2 {
        reader.sized("TPM2B_ECC_PARAMETER", MAX_ECC_BYTES)?;
    }
    Ok(())
}

fn bad(what: &'static str, value: u16) -> GateError {
    GateError::Value {
        what,
        value: value.into(),
    }
}
