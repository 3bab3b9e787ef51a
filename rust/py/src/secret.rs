// SPDX-License-Identifier: Apache-2.0
//! The opaque handle: bytes that Python cannot see.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, Mutex, PoisonError};

use pyo3::prelude::*;
use pyo3::types::PyBytes;
use strongroom_core::{Secret as CoreSecret, hpke};

use crate::errors::{InternalError, from_core};
use crate::volume::own_fd;

/// Bytes that Python cannot see. See the stub file for the contract.
#[pyclass(frozen, module = "strongroom._core")]
pub(crate) struct Secret(Mutex<Option<Arc<CoreSecret>>>);

impl Secret {
    pub(crate) fn new(secret: CoreSecret) -> Self {
        Self(Mutex::new(Some(Arc::new(secret))))
    }

    /// The bytes for as long as the caller computes with them, also if the handle is erased.
    pub(crate) fn share(&self) -> PyResult<Arc<CoreSecret>> {
        self.current()
            .ok_or_else(|| InternalError::new_err("a secret was used after it was erased"))
    }

    fn current(&self) -> Option<Arc<CoreSecret>> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

#[pymethods]
impl Secret {
    #[staticmethod]
    fn random(length_bytes: usize) -> PyResult<Self> {
        CoreSecret::random(length_bytes)
            .map(Self::new)
            .map_err(from_core)
    }

    #[staticmethod]
    fn random_recovery_key() -> PyResult<Self> {
        CoreSecret::random_recovery_key()
            .map(Self::new)
            .map_err(from_core)
    }

    #[getter]
    fn length_bytes(&self) -> usize {
        self.current().map_or(0, |secret| secret.len())
    }

    fn equals(&self, other: &Self) -> PyResult<bool> {
        Ok(self.share()?.equals(&*other.share()?))
    }

    #[staticmethod]
    fn joined(parts: Vec<Py<Self>>) -> PyResult<Self> {
        let shared = parts.iter().map(|part| part.get().share());
        let shared = shared.collect::<PyResult<Vec<_>>>()?;
        let borrowed: Vec<&CoreSecret> = shared.iter().map(AsRef::as_ref).collect();
        CoreSecret::joined(&borrowed)
            .map(Self::new)
            .map_err(from_core)
    }

    fn part(&self, offset_bytes: usize, length_bytes: usize) -> PyResult<Self> {
        self.share()?
            .part(offset_bytes, length_bytes)
            .map(Self::new)
            .map_err(from_core)
    }

    fn matches(&self, known: Vec<u8>) -> PyResult<bool> {
        Ok(self.share()?.matches(&known))
    }

    fn erase(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    fn base64(&self) -> PyResult<Self> {
        self.share()?.base64().map(Self::new).map_err(from_core)
    }

    fn typing_obstacles(&self) -> PyResult<Vec<&'static str>> {
        self.share()?.typing_obstacles().map_err(from_core)
    }

    fn recovery_key_form(&self) -> PyResult<Option<Self>> {
        let form = self.share()?.recovery_key_form().map_err(from_core)?;
        Ok(form.map(Self::new))
    }

    fn is_recovery_key(&self) -> PyResult<bool> {
        self.share()?.is_recovery_key().map_err(from_core)
    }

    fn recovery_key_fault(&self) -> PyResult<Option<String>> {
        self.share()?.recovery_key_fault().map_err(from_core)
    }

    #[pyo3(signature = (public_key, *, info, aad))]
    fn seal_to<'py>(
        &self,
        py: Python<'py>,
        public_key: Vec<u8>,
        info: Vec<u8>,
        aad: Vec<u8>,
    ) -> PyResult<(Bound<'py, PyBytes>, Bound<'py, PyBytes>)> {
        let (encapsulated_key, ciphertext) =
            hpke::seal(&public_key, &*self.share()?, &info, &aad).map_err(from_core)?;
        Ok((
            PyBytes::new(py, &encapsulated_key),
            PyBytes::new(py, &ciphertext),
        ))
    }

    #[expect(clippy::unused_self, reason = "Python calls it on an object")]
    fn __repr__(&self) -> &'static str {
        "<Secret redacted>"
    }
}

/// Mixes bytes of another source into all randomness from now on.
#[pyfunction]
pub(crate) fn stir_random(source: &Secret) -> PyResult<()> {
    strongroom_core::random::stir(&*source.share()?).map_err(from_core)
}

/// Reads a passphrase until the end of a file or pipe.
#[pyfunction]
pub(crate) fn read_secret_file(py: Python<'_>, fd: i32) -> PyResult<Secret> {
    read_from(py, fd, CoreSecret::read_file)
}

/// Reads a passphrase until the end, and tells whether a trailing newline was dropped.
#[pyfunction]
pub(crate) fn read_passphrase_file(py: Python<'_>, fd: i32) -> PyResult<(Secret, bool)> {
    let owned = own_fd(fd)?;
    py.detach(|| CoreSecret::read_passphrase_file(owned.as_fd()))
        .map(|(secret, dropped)| (Secret::new(secret), dropped))
        .map_err(from_core)
}

/// Reads every byte of a file or pipe.
#[pyfunction]
pub(crate) fn read_key_file(py: Python<'_>, fd: i32) -> PyResult<Secret> {
    read_from(py, fd, CoreSecret::read_key_file)
}

/// Reads one line, as typed at a terminal.
#[pyfunction]
pub(crate) fn read_secret_line(py: Python<'_>, fd: i32) -> PyResult<Secret> {
    read_from(py, fd, CoreSecret::read_line)
}

/// Reads a secret of a known length.
#[pyfunction]
pub(crate) fn read_secret_exactly(
    py: Python<'_>,
    fd: i32,
    length_bytes: usize,
) -> PyResult<Secret> {
    read_from(py, fd, |fd| CoreSecret::read_exactly(fd, length_bytes))
}

/// Writes fresh random bytes.
#[pyfunction]
pub(crate) fn write_random_secret(py: Python<'_>, fd: i32, length_bytes: usize) -> PyResult<()> {
    let owned = own_fd(fd)?;
    py.detach(|| CoreSecret::write_random(owned.as_fd(), length_bytes))
        .map_err(from_core)
}

fn read_from(
    py: Python<'_>,
    fd: i32,
    read: impl FnOnce(BorrowedFd<'_>) -> strongroom_core::Result<CoreSecret> + Send,
) -> PyResult<Secret> {
    let owned = own_fd(fd)?;
    py.detach(|| read(owned.as_fd()))
        .map(Secret::new)
        .map_err(from_core)
}
