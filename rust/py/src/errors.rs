// SPDX-License-Identifier: Apache-2.0
//! The one table from errors of the core to the exceptions of `strongroom.errors`.

use std::io::ErrorKind;

use pyo3::import_exception;
use pyo3::prelude::*;
use strongroom_core::Error;
use strongroom_data::{IoError, OpenError};
use strongroom_tpm::GateError;

import_exception!(strongroom.errors, BoundsError);
import_exception!(strongroom.errors, DiskError);
import_exception!(strongroom.errors, EmptyPassphraseError);
import_exception!(strongroom.errors, FormatError);
import_exception!(strongroom.errors, InternalError);
import_exception!(strongroom.errors, LimitError);
import_exception!(strongroom.errors, NoPermissionError);
import_exception!(strongroom.errors, NoSpaceError);
import_exception!(strongroom.errors, PassphraseInputError);
import_exception!(strongroom.errors, PlatformError);
import_exception!(strongroom.errors, SealedBlobError);
import_exception!(strongroom.errors, TpmError);
import_exception!(strongroom.errors, TpmTamperedError);
import_exception!(strongroom.errors, TruncatedError);
import_exception!(strongroom.errors, UnsupportedCipherError);

/// The exception for an error of `strongroom-core`.
pub(crate) fn from_core(error: Error) -> PyErr {
    let text = error.to_string();
    match error {
        Error::Format(_) => FormatError::new_err(text),
        Error::Unsupported { .. } => UnsupportedCipherError::new_err(text),
        Error::Bounds(_) => BoundsError::new_err(text),
        Error::Limit { .. } => LimitError::new_err(text),
        Error::EmptyPassphrase => EmptyPassphraseError::new_err(text),
        Error::EndOfInput
        | Error::InputTooShort
        | Error::PassphraseTooLong
        | Error::PassphraseInput(_) => PassphraseInputError::new_err(text),
        Error::SealedBlob => SealedBlobError::new_err(text),
        Error::Tampered(_) => TpmTamperedError::new_err(text),
        Error::TpmRefused(code) => refused(code, text),
        Error::Platform { ref source, .. }
            if matches!(
                source.kind(),
                ErrorKind::StorageFull | ErrorKind::QuotaExceeded
            ) =>
        {
            NoSpaceError::new_err(text)
        }
        Error::Platform { .. } => PlatformError::new_err(text),
        _ => InternalError::new_err(text),
    }
}

/// The exception for an error of the data path.
pub(crate) fn from_io(error: IoError) -> PyErr {
    let text = error.to_string();
    match error {
        IoError::Invalid | IoError::OutOfBounds | IoError::BeyondEnd => BoundsError::new_err(text),
        IoError::ReadOnly => NoPermissionError::new_err(text),
        IoError::Truncated => TruncatedError::new_err(text),
        IoError::NoMemory | IoError::NotSupported => PlatformError::new_err(text),
        IoError::Disk(_) | IoError::FlushFailed => DiskError::new_err(text),
        _ => InternalError::new_err(text),
    }
}

/// The exception for a volume that could not be set up.
pub(crate) fn from_open(error: OpenError) -> PyErr {
    match error {
        OpenError::Backing(_) => DiskError::new_err(error.to_string()),
        _ => BoundsError::new_err(error.to_string()),
    }
}

/// The exception for a TPM command of ours that breaks a rule.
pub(crate) fn own_tpm_command(error: GateError) -> PyErr {
    InternalError::new_err(format!("refused to send a command to the TPM: {error}"))
}

/// The exception for what came from a TPM and breaks a rule.
pub(crate) fn tpm_response(error: GateError) -> PyErr {
    TpmTamperedError::new_err(format!("refused a response of the TPM: {error}"))
}

/// The exception for a refusal: it carries the code.
fn refused(code: u32, text: String) -> PyErr {
    let error = TpmError::new_err(text);
    let marked = Python::attach(|py| error.value(py).setattr("code", code));
    marked.err().unwrap_or(error)
}
