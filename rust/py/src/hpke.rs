// SPDX-License-Identifier: Apache-2.0
//! One HPKE key pair that opens what was sealed to it, once.

use std::os::fd::AsFd;

use pyo3::prelude::*;
use pyo3::types::PyBytes;
use strongroom_core::hpke::Receiver;

use crate::errors::from_core;
use crate::secret::Secret;
use crate::volume::own_fd;

/// One key pair. See the stub file for the contract.
#[pyclass(frozen, module = "strongroom._core")]
pub(crate) struct HpkeReceiver(Receiver);

#[pymethods]
impl HpkeReceiver {
    #[new]
    fn new() -> PyResult<Self> {
        Receiver::new().map(Self).map_err(from_core)
    }

    #[getter]
    fn public_key<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, self.0.public_key())
    }

    #[pyo3(signature = (encapsulated_key, ciphertext, *, info, aad))]
    fn open(
        &self,
        encapsulated_key: Vec<u8>,
        ciphertext: Vec<u8>,
        info: Vec<u8>,
        aad: Vec<u8>,
    ) -> PyResult<Secret> {
        self.0
            .open(&encapsulated_key, &ciphertext, &info, &aad)
            .map(Secret::new)
            .map_err(from_core)
    }

    #[pyo3(signature = (encapsulated_key, ciphertext, *, info, aad, fd, ending))]
    fn open_to_fd(
        &self,
        encapsulated_key: Vec<u8>,
        ciphertext: Vec<u8>,
        info: Vec<u8>,
        aad: Vec<u8>,
        fd: i32,
        ending: Vec<u8>,
    ) -> PyResult<()> {
        let output = own_fd(fd)?;
        let place = (output.as_fd(), ending.as_slice());
        self.0
            .open_to_fd(&encapsulated_key, &ciphertext, &info, &aad, place)
            .map_err(from_core)
    }

    fn erase(&self) {
        self.0.erase();
    }
}
