// SPDX-License-Identifier: Apache-2.0
//! Sealed blobs.

use pyo3::prelude::*;
use pyo3::types::PyBytes;
use strongroom_core::sealing;

use crate::errors::from_core;
use crate::secret::Secret;

/// Seals a secret.
#[pyfunction]
#[pyo3(signature = (secret, key, *, aad))]
pub(crate) fn seal_secret<'py>(
    py: Python<'py>,
    secret: &Secret,
    key: &Secret,
    aad: Vec<u8>,
) -> PyResult<Bound<'py, PyBytes>> {
    let blob = sealing::seal_secret(&*secret.share()?, &*key.share()?, &aad).map_err(from_core)?;
    Ok(PyBytes::new(py, &blob))
}

/// Opens a sealed secret.
#[pyfunction]
#[pyo3(signature = (blob, key, *, aad))]
pub(crate) fn unseal_secret(blob: Vec<u8>, key: &Secret, aad: Vec<u8>) -> PyResult<Secret> {
    sealing::unseal_secret(&blob, &*key.share()?, &aad)
        .map(Secret::new)
        .map_err(from_core)
}

/// Seals bytes that are no key.
#[pyfunction]
#[pyo3(signature = (parameters, key, *, aad))]
pub(crate) fn seal_parameters<'py>(
    py: Python<'py>,
    parameters: Vec<u8>,
    key: &Secret,
    aad: Vec<u8>,
) -> PyResult<Bound<'py, PyBytes>> {
    let blob = sealing::seal_parameters(&parameters, &*key.share()?, &aad).map_err(from_core)?;
    Ok(PyBytes::new(py, &blob))
}

/// Opens sealed bytes that are no key.
#[pyfunction]
#[pyo3(signature = (blob, key, *, aad))]
pub(crate) fn unseal_parameters<'py>(
    py: Python<'py>,
    blob: Vec<u8>,
    key: &Secret,
    aad: Vec<u8>,
) -> PyResult<Bound<'py, PyBytes>> {
    let parameters = sealing::unseal_parameters(&blob, &*key.share()?, &aad).map_err(from_core)?;
    Ok(PyBytes::new(py, &parameters))
}
