// SPDX-License-Identifier: Apache-2.0
//! Message authentication codes and signatures.

use pyo3::prelude::*;
use pyo3::types::PyBytes;
use strongroom_core::{mac, signature};

use crate::errors::from_core;
use crate::secret::Secret;

/// Returns the HMAC-SHA256 of a message.
#[pyfunction]
pub(crate) fn hmac_sha256<'py>(
    py: Python<'py>,
    key: &Secret,
    message: Vec<u8>,
) -> PyResult<Bound<'py, PyBytes>> {
    let code = mac::hmac_sha256(&*key.share()?, &message).map_err(from_core)?;
    Ok(PyBytes::new(py, &code))
}

/// Tells in constant time whether a code is the message's.
#[pyfunction]
pub(crate) fn hmac_sha256_matches(key: &Secret, message: Vec<u8>, code: Vec<u8>) -> PyResult<bool> {
    mac::hmac_sha256_matches(&*key.share()?, &message, &code).map_err(from_core)
}

/// Returns the public key of a seed.
#[pyfunction]
pub(crate) fn ed25519_public_key<'py>(
    py: Python<'py>,
    seed: &Secret,
) -> PyResult<Bound<'py, PyBytes>> {
    let public_key = signature::public_key(&*seed.share()?).map_err(from_core)?;
    Ok(PyBytes::new(py, &public_key))
}

/// Signs a message.
#[pyfunction]
pub(crate) fn ed25519_sign<'py>(
    py: Python<'py>,
    seed: &Secret,
    message: Vec<u8>,
) -> PyResult<Bound<'py, PyBytes>> {
    let signature = signature::sign(&*seed.share()?, &message).map_err(from_core)?;
    Ok(PyBytes::new(py, &signature))
}

/// Tells whether the holder of a key's seed signed a message.
#[pyfunction]
pub(crate) fn ed25519_verifies(public_key: Vec<u8>, message: Vec<u8>, signature: Vec<u8>) -> bool {
    signature::verifies(&public_key, &message, &signature)
}
