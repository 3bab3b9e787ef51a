// SPDX-License-Identifier: Apache-2.0
//! The gate in front of the TPM.

use pyo3::prelude::*;
use pyo3::types::PyBytes;
use strongroom_tpm::{Command, Response, ResponseAuthorization};

use crate::errors::{own_tpm_command, tpm_response};

/// A response whose form is right.
#[pyclass(frozen, module = "strongroom._core")]
pub(crate) struct TpmResponse {
    code: u32,
    handle: Option<u32>,
    parameters: Py<PyBytes>,
    authorizations: Vec<(Py<PyBytes>, u8, Py<PyBytes>)>,
}

#[pymethods]
impl TpmResponse {
    #[getter]
    fn code(&self) -> u32 {
        self.code
    }

    #[getter]
    fn handle(&self) -> Option<u32> {
        self.handle
    }

    #[getter]
    fn parameters(&self, py: Python<'_>) -> Py<PyBytes> {
        self.parameters.clone_ref(py)
    }

    #[getter]
    fn authorizations(&self, py: Python<'_>) -> Vec<(Py<PyBytes>, u8, Py<PyBytes>)> {
        let copy = |(nonce, attributes, hmac): &(Py<PyBytes>, u8, Py<PyBytes>)| {
            (nonce.clone_ref(py), *attributes, hmac.clone_ref(py))
        };
        self.authorizations.iter().map(copy).collect()
    }
}

impl TpmResponse {
    fn new(py: Python<'_>, response: &Response<'_>) -> Self {
        let bytes = |slice: &[u8]| PyBytes::new(py, slice).unbind();
        let triple = |one: &ResponseAuthorization<'_>| {
            (bytes(one.nonce), one.attributes.octet(), bytes(one.hmac))
        };
        Self {
            code: response.code,
            handle: response.handle,
            parameters: bytes(response.parameters),
            authorizations: response.authorizations.iter().map(triple).collect(),
        }
    }
}

/// Refuses a command that may not go out.
#[pyfunction]
pub(crate) fn tpm_check_command(command: Vec<u8>) -> PyResult<()> {
    Command::parse(&command).map(drop).map_err(own_tpm_command)
}

/// Refuses a response that cannot be the answer to a command.
#[pyfunction]
pub(crate) fn tpm_check_response(
    py: Python<'_>,
    command: Vec<u8>,
    response: Vec<u8>,
) -> PyResult<TpmResponse> {
    let command = Command::parse(&command).map_err(own_tpm_command)?;
    let response = Response::parse(&command, &response).map_err(tpm_response)?;
    Ok(TpmResponse::new(py, &response))
}

/// Refuses a decrypted first parameter that the response to a command cannot have.
#[pyfunction]
pub(crate) fn tpm_check_decrypted(command: Vec<u8>, content: Vec<u8>) -> PyResult<()> {
    Command::parse(&command)
        .map_err(own_tpm_command)?
        .check_decrypted(&content)
        .map_err(tpm_response)
}
