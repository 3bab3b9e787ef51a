// SPDX-License-Identifier: Apache-2.0
//! Confinement of the process, and what secrets are kept in.

use pyo3::prelude::*;
use strongroom_core::kdf;
use strongroom_sys::confine as sys;
use strongroom_sys::{secret, signals, stack};

use crate::errors::{PlatformError, from_core};

/// Secret memory set aside before confinement: keys, passphrases and key schedules of a process.
const RESERVED_BYTES: usize = 1024 * 1024;

/// Stacks in secret memory set aside before confinement.
const RESERVED_STACKS: usize = 4;

/// One measure of confinement. See the stub file for the contract.
#[pyclass(frozen, module = "strongroom._core")]
pub(crate) struct Measure(sys::Measure);

#[pymethods]
impl Measure {
    #[getter]
    fn name(&self) -> &'static str {
        self.0.name
    }

    #[getter]
    fn active(&self) -> bool {
        self.0.active
    }

    #[getter]
    fn detail(&self) -> &str {
        &self.0.detail
    }

    fn __repr__(&self) -> String {
        format!(
            "<Measure {}: {} ({})>",
            self.0.name, self.0.active, self.0.detail
        )
    }
}

/// Moves the process into namespaces of its own.
#[pyfunction]
pub(crate) fn enter_namespaces() -> Vec<Measure> {
    sys::enter_namespaces().into_iter().map(Measure).collect()
}

/// Confines the process for good.
#[pyfunction]
pub(crate) fn confine() -> PyResult<Vec<Measure>> {
    // What needs a file or a new mapping of secret memory is taken before the doors close.
    secret::reserve(RESERVED_BYTES).map_err(|error| PlatformError::new_err(error.to_string()))?;
    stack::reserve(RESERVED_STACKS).map_err(|error| PlatformError::new_err(error.to_string()))?;
    kdf::prepare().map_err(from_core)?;
    Ok(sys::confine().into_iter().map(Measure).collect())
}

/// Tells what secrets are kept in.
#[pyfunction]
pub(crate) fn secret_memory() -> Measure {
    let kind = secret::kind();
    Measure(sys::Measure {
        name: "secret memory",
        active: kind == secret::Kind::MemfdSecret,
        detail: match kind {
            secret::Kind::MemfdSecret => "memfd_secret: not in the kernel's own map, never dumped",
            secret::Kind::Locked => "locked memory, kept out of dumps; root can read it",
            secret::Kind::Unlocked => return unlocked(),
            secret::Kind::Ordinary => {
                "ordinary memory: this kernel neither hides it nor keeps it out of dumps"
            }
        }
        .to_owned(),
    })
}

/// Says what secrets are kept in for want of locked memory, and which limit stands in the way.
fn unlocked() -> Measure {
    let limit = secret::limit_in_the_way().map_or_else(String::new, |(limit, needed)| {
        format!(
            "; the limit of locked memory is {} KiB, and {} KiB are needed",
            limit / 1024,
            needed / 1024
        )
    });
    Measure(sys::Measure {
        name: "secret memory",
        active: false,
        detail: format!(
            "ordinary memory, kept out of dumps; it can be swapped, and root can read it{limit}"
        ),
    })
}

/// Asks the kernel to kill this process when the thread that started it ends.
#[pyfunction]
pub(crate) fn die_with_parent() -> PyResult<()> {
    sys::die_with_parent().map_err(|error| PlatformError::new_err(error.to_string()))
}

/// Makes this process the reaper of its orphaned descendants.
#[pyfunction]
pub(crate) fn adopt_orphans() -> PyResult<()> {
    sys::adopt_orphans().map_err(|error| PlatformError::new_err(error.to_string()))
}

/// Makes this process ignore signals that ask it to end or to stop.
#[pyfunction]
pub(crate) fn ignore_signals() -> PyResult<()> {
    signals::ignore_requests().map_err(|error| PlatformError::new_err(error.to_string()))
}

/// Forbids core dumps of this process, and tracing by its own user.
#[pyfunction]
pub(crate) fn forbid_reading() -> PyResult<()> {
    sys::forbid_reading().map_err(PlatformError::new_err)
}

/// Lets processes of the same user see again what this one has open.
#[pyfunction]
pub(crate) fn allow_reading() -> PyResult<()> {
    sys::allow_reading().map_err(PlatformError::new_err)
}
