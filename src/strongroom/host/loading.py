# SPDX-License-Identifier: Apache-2.0
"""An enclave that has read the header of a volume, and whether that header is still the same.

An enclave reads a header once. One that changes while a volume waits for its key is read by a new
enclave. That this process compares it protects nothing, as the disk may answer it otherwise: the
enclave uses what it has read and checked, in any case.
"""

from strongroom.boundary import calls
from strongroom.host.contracts import OpenRequest, Reporter
from strongroom.host.files import VolumeFiles
from strongroom.host.launch import EnclaveProcess, launch
from strongroom.host.runtime import Claim
from strongroom.values import dataclass


@dataclass(frozen=True, slots=True)
class Loaded:
    """An enclave with a header. ``mark`` changes with each change of the header on the disk."""

    enclave: EnclaveProcess
    facts: calls.DiskFacts
    mark: bytes


class Loader:
    """Starts enclaves for one volume, one after the other."""

    def __init__(
        self,
        request: OpenRequest,
        owned: Claim,
        files: VolumeFiles,
        *,
        direct_fd: int | None,
        report: Reporter,
    ) -> None:
        self._request = request
        self._owned = owned
        self._direct_fd = direct_fd
        self._report = report
        self.files = files

    def start(self) -> EnclaveProcess:
        """Start an enclave, without waiting for it."""
        request, disk = self._request, self.files.start_disk()
        with self._owned.open_log() as log:
            return launch(
                self._report, log, tee=request.tee, transport=request.transport, disk=disk
            )

    def load(self, enclave: EnclaveProcess) -> Loaded:
        """Have an enclave read the header; it is ended if that fails.

        Raises:
            StrongroomError: The header was refused.
        """
        try:
            with self.files.header_lock(), self.files.named():
                given = enclave.files(*self.files.descriptors)
                order = calls.LoadDisk(
                    *given, read_only=self._request.read_only, direct=self._direct_fd
                )
                facts = enclave.call(order)
                return Loaded(enclave, facts, self.files.header_mark())
        except BaseException:
            enclave.end()
            raise
