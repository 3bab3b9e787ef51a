// SPDX-License-Identifier: Apache-2.0
//! Sessions with a TPM, and the commands that go through them.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pyo3::prelude::*;
use pyo3::types::PyBytes;
use strongroom_core::Secret as CoreSecret;
use strongroom_core::tpm::{
    Authorization, CipherKey, Command, Opening, Pending, Piece, SaltKey, Session, SessionKind,
};

use crate::errors::{InternalError, from_core};
use crate::secret::Secret;

/// A session that the TPM has not answered yet. See the stub file for the contract.
#[pyclass(frozen, module = "strongroom._core")]
pub(crate) struct TpmOpening {
    nonce_caller: Vec<u8>,
    encrypted_salt: Vec<u8>,
    opening: Mutex<Option<Opening>>,
}

#[pymethods]
impl TpmOpening {
    #[new]
    fn new(kind: &str, salt_key: Vec<u8>, cipher_bits: u32) -> PyResult<Self> {
        let kind = match kind {
            "hmac" => SessionKind::Hmac,
            "policy" => SessionKind::Policy,
            _ => {
                return Err(InternalError::new_err(
                    "a session is of kind hmac or policy",
                ));
            }
        };
        let cipher_key = match cipher_bits {
            128 => CipherKey::Bits128,
            256 => CipherKey::Bits256,
            _ => return Err(InternalError::new_err("a cipher key has 128 or 256 bits")),
        };
        let key = SaltKey::parse(&salt_key).map_err(from_core)?;
        let opening = Opening::new(kind, cipher_key, &key).map_err(from_core)?;
        Ok(Self {
            nonce_caller: opening.nonce_caller().to_vec(),
            encrypted_salt: opening.encrypted_salt().to_vec(),
            opening: Mutex::new(Some(opening)),
        })
    }

    #[getter]
    fn nonce_caller<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.nonce_caller)
    }

    #[getter]
    fn encrypted_salt<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.encrypted_salt)
    }

    fn finish(&self, handle: u32, nonce_tpm: Vec<u8>) -> PyResult<TpmSession> {
        self.opening
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
            .ok_or_else(|| InternalError::new_err("a session was opened already"))?
            .finish(handle, &nonce_tpm)
            .map(|session| TpmSession(Mutex::new(session)))
            .map_err(from_core)
    }
}

/// An open session. See the stub file for the contract.
#[pyclass(frozen, module = "strongroom._core")]
pub(crate) struct TpmSession(Mutex<Session>);

impl TpmSession {
    /// The session, for one command at a time.
    fn take(&self) -> PyResult<MutexGuard<'_, Session>> {
        self.0
            .try_lock()
            .map_err(|_| InternalError::new_err("a session is in two places at once"))
    }
}

#[pymethods]
impl TpmSession {
    #[getter]
    fn handle(&self) -> PyResult<u32> {
        Ok(self.take()?.handle())
    }

    #[getter]
    fn nonce_tpm<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        Ok(PyBytes::new(py, self.take()?.nonce_tpm()))
    }

    #[getter]
    fn is_broken(&self) -> PyResult<bool> {
        Ok(self.take()?.is_broken())
    }
}

/// What authorizes a handle. See the stub file for the contract.
#[pyclass(frozen, module = "strongroom._core")]
pub(crate) struct TpmAuthorization {
    session: Option<Py<TpmSession>>,
    auth: Option<Py<Secret>>,
    decrypt: bool,
    encrypt: bool,
    audit: bool,
}

#[pymethods]
impl TpmAuthorization {
    #[new]
    #[pyo3(signature = (session, auth=None, *, decrypt=false, encrypt=false, audit=false))]
    fn new(
        session: Option<Py<TpmSession>>,
        auth: Option<Py<Secret>>,
        decrypt: bool,
        encrypt: bool,
        audit: bool,
    ) -> PyResult<Self> {
        if session.is_none() && (auth.is_some() || decrypt || encrypt || audit) {
            return Err(InternalError::new_err(
                "the empty password does nothing else",
            ));
        }
        Ok(Self {
            session,
            auth,
            decrypt,
            encrypt,
            audit,
        })
    }
}

/// An answer, checked. See the stub file for the contract.
#[pyclass(frozen, module = "strongroom._core")]
pub(crate) struct TpmAnswer {
    handle: Option<u32>,
    confidential: Option<Py<Secret>>,
    parameters: Py<PyBytes>,
}

#[pymethods]
impl TpmAnswer {
    #[getter]
    fn handle(&self) -> Option<u32> {
        self.handle
    }

    #[getter]
    fn confidential(&self, py: Python<'_>) -> Option<Py<Secret>> {
        self.confidential
            .as_ref()
            .map(|secret| secret.clone_ref(py))
    }

    #[getter]
    fn parameters(&self, py: Python<'_>) -> Py<PyBytes> {
        self.parameters.clone_ref(py)
    }
}

/// Sends a command and returns its checked answer.
#[pyfunction]
pub(crate) fn tpm_exchange(
    py: Python<'_>,
    transmit: Bound<'_, PyAny>,
    code: u32,
    handles: Vec<(u32, Vec<u8>)>,
    first: Option<Vec<Bound<'_, PyAny>>>,
    rest: Vec<u8>,
    authorizations: Vec<Py<TpmAuthorization>>,
) -> PyResult<TpmAnswer> {
    let held = first.map(|parts| parts.iter().map(Part::of).collect::<PyResult<Vec<_>>>());
    let held = held.transpose()?;
    let pieces: Option<Vec<Piece<'_>>> = held
        .as_ref()
        .map(|parts| parts.iter().map(Part::piece).collect());
    let names: Vec<(u32, &[u8])> = handles
        .iter()
        .map(|(handle, name)| (*handle, name.as_slice()))
        .collect();
    let command = Command {
        code,
        handles: &names,
        first: pieces.as_deref(),
        rest: &rest,
    };
    let mut taken = authorizations
        .iter()
        .map(|one| Taken::of(one.get()))
        .collect::<PyResult<Vec<_>>>()?;
    let mut all: Vec<Authorization<'_>> = taken.iter_mut().map(Taken::authorization).collect();
    let pending = Pending::new(&command, &mut all).map_err(from_core)?;
    let response = match receive(py, &transmit, &pending.wire) {
        Ok(response) => response,
        Err(err) => {
            Pending::abandon(&mut all);
            return Err(err);
        }
    };
    let answer = pending.open(&response, &mut all).map_err(from_core)?;
    Ok(TpmAnswer {
        handle: answer.handle,
        confidential: answer
            .confidential
            .map(|secret| Py::new(py, Secret::new(secret)))
            .transpose()?,
        parameters: PyBytes::new(py, &answer.parameters).unbind(),
    })
}

fn receive(py: Python<'_>, transmit: &Bound<'_, PyAny>, wire: &[u8]) -> PyResult<Vec<u8>> {
    transmit.call1((PyBytes::new(py, wire),))?.extract()
}

/// A part of the first parameter, held for the length of a command.
enum Part {
    Plain(Vec<u8>),
    Confidential(Arc<CoreSecret>),
}

impl Part {
    fn of(from: &Bound<'_, PyAny>) -> PyResult<Self> {
        if let Ok(secret) = from.cast::<Secret>() {
            return secret.get().share().map(Self::Confidential);
        }
        from.extract().map(Self::Plain)
    }

    fn piece(&self) -> Piece<'_> {
        match self {
            Self::Plain(bytes) => Piece::Plain(bytes),
            Self::Confidential(secret) => Piece::Confidential(secret),
        }
    }
}

/// An authorization, and its session, held for the length of a command.
struct Taken<'a> {
    session: Option<MutexGuard<'a, Session>>,
    auth: Option<Arc<CoreSecret>>,
    flags: &'a TpmAuthorization,
}

impl<'a> Taken<'a> {
    fn of(from: &'a TpmAuthorization) -> PyResult<Self> {
        let session = from.session.as_ref().map(|one| one.get().take());
        let auth = from.auth.as_ref().map(|one| one.get().share());
        Ok(Self {
            session: session.transpose()?,
            auth: auth.transpose()?,
            flags: from,
        })
    }

    fn authorization(&mut self) -> Authorization<'_> {
        match &mut self.session {
            None => Authorization::EmptyPassword,
            Some(session) => Authorization::Session {
                session,
                auth: self.auth.as_deref(),
                decrypt: self.flags.decrypt,
                encrypt: self.flags.encrypt,
                audit: self.flags.audit,
            },
        }
    }
}
