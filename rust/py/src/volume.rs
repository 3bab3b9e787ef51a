// SPDX-License-Identifier: Apache-2.0
//! An unlocked volume, its NBD server and its FUSE server.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};
use strongroom_core::cipher::{CipherKind, SectorCipher, SectorSize};
use strongroom_data::fuse;
use strongroom_data::nbd::{self, Offer, Server};
use strongroom_data::{DirectBacking, Geometry, Volume as DataVolume, Workspace, of_descriptor};
use strongroom_sys::descriptor;

use crate::errors::{
    BoundsError, PlatformError, UnsupportedCipherError, from_core, from_io, from_open,
};
use crate::secret::Secret;

/// Largest read through [`Volume::read`].
const MAX_READ_BYTES: usize = 1024 * 1024;

/// An unlocked data segment. See the stub file for the contract.
#[pyclass(frozen, module = "strongroom._core")]
pub(crate) struct Volume(Arc<DataVolume>);

#[pymethods]
impl Volume {
    #[new]
    #[pyo3(signature = (
        image_fd, volume_key, *, cipher, segment_offset_bytes, segment_size_bytes,
        sector_size_bytes, iv_tweak, read_only, discard
    ))]
    #[expect(
        clippy::too_many_arguments,
        reason = "a segment's geometry, by keyword from Python"
    )]
    fn new(
        image_fd: i32,
        volume_key: &Secret,
        cipher: &str,
        segment_offset_bytes: u64,
        segment_size_bytes: u64,
        sector_size_bytes: u32,
        iv_tweak: u64,
        read_only: bool,
        discard: bool,
    ) -> PyResult<Self> {
        let kind: CipherKind = cipher.parse().map_err(from_core)?;
        if kind == CipherKind::CbcEssivSha256 && !read_only {
            return Err(UnsupportedCipherError::new_err(format!(
                "{cipher} is supported for reading only"
            )));
        }
        let key = volume_key.share()?;
        let transform = SectorCipher::new(kind, key.as_secret_bytes()).map_err(from_core)?;
        let geometry = Geometry {
            segment_offset_bytes,
            size_bytes: segment_size_bytes,
            sector_size: SectorSize::new(sector_size_bytes).map_err(from_core)?,
            iv_tweak,
            read_only,
            discard,
        };
        let backing = of_descriptor(own_fd(image_fd)?)
            .map_err(|error| platform_error("looking at the image", &error))?;
        DataVolume::new(backing, Box::new(transform), geometry)
            .map(|volume| Self(Arc::new(volume)))
            .map_err(from_open)
    }

    fn read<'py>(
        &self,
        py: Python<'py>,
        offset_bytes: u64,
        length_bytes: usize,
    ) -> PyResult<Bound<'py, PyBytes>> {
        if length_bytes > MAX_READ_BYTES {
            return Err(BoundsError::new_err("a read of more than 1 MiB"));
        }
        let mut data = vec![0; length_bytes];
        py.detach(|| {
            let mut workspace = Workspace::new()?;
            self.0.read(&mut workspace, offset_bytes, &mut data)
        })
        .map_err(from_io)?;
        Ok(PyBytes::new(py, &data))
    }

    fn counters<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let totals = self.0.totals();
        let counters = PyDict::new(py);
        counters.set_item("read_bytes", totals.read_bytes)?;
        counters.set_item("written_bytes", totals.written_bytes)?;
        counters.set_item("reads", totals.reads)?;
        counters.set_item("writes", totals.writes)?;
        counters.set_item("flushes", totals.flushes)?;
        counters.set_item("trims", totals.trims)?;
        counters.set_item("zeroes", totals.zeroes)?;
        counters.set_item("errors", totals.errors)?;
        counters.set_item("connections", totals.connections)?;
        counters.set_item("refused_connections", totals.refused_connections)?;
        counters.set_item("failed_flushes", totals.failed_flushes)?;
        counters.set_item("failed_writes", totals.failed_writes)?;
        Ok(counters)
    }

    fn flush(&self, py: Python<'_>) -> PyResult<()> {
        py.detach(|| self.0.flush()).map_err(from_io)
    }

    fn erase(&self, py: Python<'_>) {
        py.detach(|| self.0.erase());
    }

    fn close(&self, py: Python<'_>) {
        py.detach(|| self.0.close());
    }
}

/// Serves one volume over NBD. See the stub file for the contract.
#[pyclass(frozen, module = "strongroom._core")]
pub(crate) struct NbdServer(Mutex<Option<Server>>);

#[pymethods]
impl NbdServer {
    #[new]
    #[pyo3(signature = (volume, listener_fd, *, export_name, structured_replies))]
    fn new(
        volume: &Volume,
        listener_fd: i32,
        export_name: String,
        structured_replies: bool,
    ) -> PyResult<Self> {
        let offer = Offer {
            export_name,
            structured_replies,
        };
        let listener = own_fd(listener_fd)?;
        let server = Server::start(Arc::clone(&volume.0), listener, offer)
            .map_err(|error| platform_error("starting the NBD server", &error))?;
        Ok(Self(Mutex::new(Some(server))))
    }

    fn stop(&self, py: Python<'_>) {
        let server = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(server) = server {
            py.detach(|| server.stop());
        }
    }
}

/// Serves one volume as a file of a FUSE file system. See the stub file for the contract.
#[pyclass(frozen, module = "strongroom._core")]
pub(crate) struct FuseServer(Mutex<Option<fuse::Server>>);

#[pymethods]
impl FuseServer {
    #[new]
    #[pyo3(signature = (volume, device_fds, *, file_name))]
    fn new(volume: &Volume, device_fds: Vec<i32>, file_name: String) -> PyResult<Self> {
        let devices = device_fds
            .into_iter()
            .map(own_fd)
            .collect::<PyResult<Vec<_>>>()?;
        let server = fuse::Server::start(Arc::clone(&volume.0), devices, file_name)
            .map_err(|error| platform_error("starting the FUSE server", &error))?;
        Ok(Self(Mutex::new(Some(server))))
    }

    fn stop(&self, py: Python<'_>) {
        let server = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(server) = server {
            py.detach(|| server.stop());
        }
    }
}

/// Says whether a file can be read past the page cache. See the stub file for the contract.
#[pyfunction]
#[pyo3(signature = (image_fd, *, offset_bytes, length_bytes))]
pub(crate) fn takes_direct_transfers(
    py: Python<'_>,
    image_fd: i32,
    offset_bytes: u64,
    length_bytes: usize,
) -> PyResult<bool> {
    let backing = DirectBacking::new(own_fd(image_fd)?);
    py.detach(|| backing.takes(offset_bytes, length_bytes))
        .map_err(from_io)
}

/// Serves one connected stream socket until the client leaves.
#[pyfunction]
#[pyo3(signature = (volume, connection_fd, *, export_name, structured_replies))]
pub(crate) fn serve_nbd_connection(
    py: Python<'_>,
    volume: &Volume,
    connection_fd: i32,
    export_name: String,
    structured_replies: bool,
) -> PyResult<()> {
    let offer = Offer {
        export_name,
        structured_replies,
    };
    let connection = own_fd(connection_fd)?;
    let volume = Arc::clone(&volume.0);
    py.detach(|| nbd::serve_connection(&volume, connection, &offer))
        .map_err(|error| platform_error("serving an NBD connection", &error))
}

/// A descriptor of our own for the number that Python holds.
pub(crate) fn own_fd(number: i32) -> PyResult<OwnedFd> {
    descriptor::duplicate(number).map_err(|error| platform_error("using a descriptor", &error))
}

fn platform_error(doing: &str, error: &io::Error) -> PyErr {
    PlatformError::new_err(format!("{doing} failed: {error}"))
}
