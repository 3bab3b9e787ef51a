// SPDX-License-Identifier: Apache-2.0
//! Key derivation, keyslots and digests.

use pyo3::prelude::*;
use pyo3::types::PyBytes;
use strongroom_core::cipher;
use strongroom_core::digest::{self, Hash, Pbkdf2};
use strongroom_core::kdf::{self, Argon2, Variant};
use strongroom_core::keyslot::{self, Layout};

use crate::errors::from_core;
use crate::secret::Secret;

/// Derives a key with PBKDF2-HMAC.
#[pyfunction]
#[pyo3(signature = (passphrase, salt, *, hash_name, iterations, length_bytes))]
pub(crate) fn pbkdf2(
    py: Python<'_>,
    passphrase: &Secret,
    salt: Vec<u8>,
    hash_name: &str,
    iterations: u32,
    length_bytes: usize,
) -> PyResult<Secret> {
    let hash = Hash::from_name(hash_name).map_err(from_core)?;
    let passphrase = passphrase.share()?;
    py.detach(|| {
        Pbkdf2 {
            hash,
            salt: &salt,
            iterations,
        }
        .derive(&passphrase, length_bytes)
    })
    .map(Secret::new)
    .map_err(from_core)
}

/// Derives a key with Argon2.
#[pyfunction]
#[pyo3(signature = (passphrase, salt, *, variant, memory_kib, iterations, lanes, length_bytes))]
#[expect(
    clippy::too_many_arguments,
    reason = "the parameters of Argon2, by keyword from Python"
)]
pub(crate) fn argon2(
    py: Python<'_>,
    passphrase: &Secret,
    salt: Vec<u8>,
    variant: &str,
    memory_kib: u32,
    iterations: u32,
    lanes: u32,
    length_bytes: usize,
) -> PyResult<Secret> {
    let variant = Variant::from_name(variant).map_err(from_core)?;
    let passphrase = passphrase.share()?;
    py.detach(|| {
        Argon2 {
            variant,
            salt: &salt,
            memory_kib,
            iterations,
            lanes,
        }
        .derive(&passphrase, length_bytes)
    })
    .map(Secret::new)
    .map_err(from_core)
}

/// Combines shares into one key.
#[pyfunction]
#[pyo3(signature = (shares, *, salt, info, length_bytes))]
pub(crate) fn hkdf_sha256(
    shares: Vec<PyRef<'_, Secret>>,
    salt: Vec<u8>,
    info: Vec<u8>,
    length_bytes: usize,
) -> PyResult<Secret> {
    let owned = shares
        .iter()
        .map(|share| share.share())
        .collect::<PyResult<Vec<_>>>()?;
    let borrowed: Vec<_> = owned.iter().map(AsRef::as_ref).collect();
    kdf::hkdf_sha256(&borrowed, &salt, &info, length_bytes)
        .map(Secret::new)
        .map_err(from_core)
}

/// Returns the PBKDF2 digest of a volume key, which is public.
#[pyfunction]
#[pyo3(signature = (volume_key, salt, *, hash_name, iterations, length_bytes))]
pub(crate) fn volume_key_digest<'py>(
    py: Python<'py>,
    volume_key: &Secret,
    salt: Vec<u8>,
    hash_name: &str,
    iterations: u32,
    length_bytes: usize,
) -> PyResult<Bound<'py, PyBytes>> {
    let hash = Hash::from_name(hash_name).map_err(from_core)?;
    let volume_key = volume_key.share()?;
    let digest = py
        .detach(|| {
            let parameters = Pbkdf2 {
                hash,
                salt: &salt,
                iterations,
            };
            digest::volume_key_digest(&volume_key, &parameters, length_bytes)
        })
        .map_err(from_core)?;
    Ok(PyBytes::new(py, &digest))
}

/// Tells in constant time whether a volume key has this digest.
#[pyfunction]
#[pyo3(signature = (volume_key, digest, salt, *, hash_name, iterations))]
pub(crate) fn volume_key_matches(
    py: Python<'_>,
    volume_key: &Secret,
    digest: Vec<u8>,
    salt: Vec<u8>,
    hash_name: &str,
    iterations: u32,
) -> PyResult<bool> {
    let hash = Hash::from_name(hash_name).map_err(from_core)?;
    let volume_key = volume_key.share()?;
    py.detach(|| {
        let parameters = Pbkdf2 {
            hash,
            salt: &salt,
            iterations,
        };
        digest::volume_key_matches(&volume_key, &digest, &parameters)
    })
    .map_err(from_core)
}

/// Decrypts a keyslot area and merges its stripes into a candidate volume key.
#[pyfunction]
#[pyo3(signature = (area, slot_key, *, cipher, volume_key_bytes, stripes, hash_name))]
pub(crate) fn keyslot_open(
    py: Python<'_>,
    area: Vec<u8>,
    slot_key: &Secret,
    cipher: &str,
    volume_key_bytes: usize,
    stripes: u32,
    hash_name: &str,
) -> PyResult<Secret> {
    let slot_key = slot_key.share()?;
    let layout = Layout {
        cipher: cipher.parse().map_err(from_core)?,
        volume_key_bytes,
        stripes,
        hash: Hash::from_name(hash_name).map_err(from_core)?,
    };
    py.detach(|| keyslot::keyslot_open(&area, &slot_key, &layout))
        .map(Secret::new)
        .map_err(from_core)
}

/// Splits a volume key and encrypts it: the bytes of a keyslot area.
#[pyfunction]
#[pyo3(signature = (volume_key, slot_key, *, cipher, stripes, hash_name))]
pub(crate) fn keyslot_seal<'py>(
    py: Python<'py>,
    volume_key: &Secret,
    slot_key: &Secret,
    cipher: &str,
    stripes: u32,
    hash_name: &str,
) -> PyResult<Bound<'py, PyBytes>> {
    let (volume_key, slot_key) = (volume_key.share()?, slot_key.share()?);
    let layout = Layout {
        cipher: cipher.parse().map_err(from_core)?,
        volume_key_bytes: volume_key.len(),
        stripes,
        hash: Hash::from_name(hash_name).map_err(from_core)?,
    };
    let area = py
        .detach(|| keyslot::keyslot_seal(&volume_key, &slot_key, &layout))
        .map_err(from_core)?;
    Ok(PyBytes::new(py, &area))
}

/// Names the AES implementation in use.
#[pyfunction]
pub(crate) fn cipher_backend() -> &'static str {
    cipher::cipher_backend()
}

/// Runs the known-answer tests of the core.
#[pyfunction]
pub(crate) fn selftest(py: Python<'_>) -> Vec<(String, bool)> {
    py.detach(strongroom_core::selftest)
}
