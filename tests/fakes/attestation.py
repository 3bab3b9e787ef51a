# SPDX-License-Identifier: Apache-2.0
"""A stand-in for Gramine's ``/dev/attestation``: a directory of files, and FIFOs with threads.

As in Gramine, what is read is made when it is opened: a report is over what is in
``user_report_data`` at that moment, padded with zeros, and needs a target. The keys and the target
are fixed; the report's MAC and the quote's signature are of nothing.
"""

import hashlib
import os
import stat
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

TARGET_INFO_BYTES: Final = 512
USER_DATA_BYTES: Final = 64


@dataclass(frozen=True, slots=True)
class Enclave:
    """What the CPU knows of the enclave."""

    measurement: bytes = bytes(range(32))
    signer: bytes = bytes(range(100, 132))
    product_id: int = 0x0102
    security_version: int = 0x0304
    debug: bool = False
    initialised: bool = True
    attestation_type: str = "none"

    def key(self, of: bytes) -> bytes:
        """The CPU's key for a measurement or signer, at the present security version."""
        version = struct.pack("<H", self.security_version)
        return hashlib.sha256(b"the CPU's own key" + of + version).digest()[:16]

    @property
    def target_info(self) -> bytes:
        return self.measurement.ljust(TARGET_INFO_BYTES, b"\0")

    def report_body(self, user_data: bytes) -> bytes:
        body = bytearray(384)
        struct.pack_into("<Q", body, 48, self.initialised | self.debug << 1 | 0x04)
        body[64:96] = self.measurement
        body[128:160] = self.signer
        struct.pack_into("<HH", body, 256, self.product_id, self.security_version)
        body[320:384] = user_data[:USER_DATA_BYTES].ljust(USER_DATA_BYTES, b"\0")
        return bytes(body)

    def report(self, user_data: bytes) -> bytes:
        return self.report_body(user_data) + bytes(32) + bytes(16)

    def quote(self, user_data: bytes) -> bytes:
        signature = bytes(576)
        header = struct.pack("<HHI", 3, 2, 0).ljust(48, b"\xab")
        return header + self.report_body(user_data) + struct.pack("<I", 576) + signature


def write_attestation(directory: Path, enclave: Enclave) -> None:
    """Make the files, and serve those that are made when they are opened until the process ends."""
    keys = directory / "keys"
    keys.mkdir(parents=True)
    (keys / "_sgx_mrenclave").write_bytes(enclave.key(enclave.measurement))
    (keys / "_sgx_mrsigner").write_bytes(enclave.key(enclave.signer))
    (directory / "attestation_type").write_text(enclave.attestation_type)
    (directory / "my_target_info").write_bytes(enclave.target_info)
    user_data, target = directory / "user_report_data", directory / "target_info"
    user_data.write_bytes(b"")
    target.write_bytes(b"")

    def report() -> bytes:
        is_own_target = target.read_bytes() == enclave.target_info
        return enclave.report(user_data.read_bytes()) if is_own_target else b""

    _serve(directory / "report", report)
    if enclave.attestation_type == "dcap":
        _serve(directory / "quote", lambda: enclave.quote(user_data.read_bytes()))


def _serve(path: Path, make: Callable[[], bytes]) -> None:
    os.mkfifo(path, 0o600)
    threading.Thread(target=_answer, args=(path, make), daemon=True).start()


def _answer(path: Path, make: Callable[[], bytes]) -> None:
    fresh = path.with_name(f".{path.name}")
    while (fifo := _opened_by_a_reader(path)) is not None:
        # A FIFO of its own for each reader: this one must not get the next one's answer.
        os.mkfifo(fresh, 0o600)
        fresh.rename(path)
        with os.fdopen(fifo, "wb", buffering=0) as reader:
            reader.write(make())


def _opened_by_a_reader(path: Path) -> int | None:
    """Wait for a reader; ``None`` when a test removed the FIFO or put a file in its place."""
    try:
        fd = os.open(path, os.O_WRONLY)
    except FileNotFoundError:
        return None
    if stat.S_ISFIFO(os.fstat(fd).st_mode):
        return fd
    os.close(fd)
    return None
