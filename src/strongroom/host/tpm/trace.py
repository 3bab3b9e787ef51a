# SPDX-License-Identifier: Apache-2.0
"""``--tpm-trace FILE``: everything that goes to the TPM and comes back, for Wireshark.

The file holds what is on the wire: names, public areas, PCR values, the contents of NV indexes that
are read without encryption, the authorisations of whoever sends them in the clear. What the enclave
sends and receives encrypted is encrypted here too. So only the owner can read the file.

::

    pcap header | for each packet: time, size | IPv4 | TCP | command or response

Wireshark takes bare commands to TCP port 2321, and answers from there, for TPM 2.0 (the dissector
is named ``tpm``). There is no such connection: addresses, ports and sequence numbers are made up,
such that they are one connection of which nothing is missing.

Spec: draft-ietf-opsawg-pcap; RFC 791; RFC 9293.
"""

import errno
import os
import struct
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from strongroom.errors import (
    NoPermissionError,
    NoSpaceError,
    NotFoundError,
    PlatformError,
    StrongroomError,
    UsageError,
)

_CREATE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC

_FILE_HEADER: Final = struct.Struct("<IHHiIII")
_PACKET_HEADER: Final = struct.Struct("<IIII")
_NANOSECOND_MAGIC: Final = 0xA1B23C4D
_LINKTYPE_RAW: Final = 101
_SNAP_BYTES: Final = 65535

_IP: Final = struct.Struct(">BBHHHBBH4s4s")
_TCP: Final = struct.Struct(">HHIIBBHHH")
_PSEUDO: Final = struct.Struct(">4s4sBBH")
_LOOPBACK: Final = bytes([127, 0, 0, 1])
_IP_VERSION_AND_WORDS: Final = 0x45
_DO_NOT_FRAGMENT: Final = 0x4000
_HOPS: Final = 64
_TCP_PROTOCOL: Final = 6
_TCP_WORDS: Final = 5 << 4
_PUSH_AND_ACKNOWLEDGE: Final = 0x18
_WINDOW: Final = 65535

_TPM_PORT: Final = 2321
_OUR_PORT: Final = 50000
_NANOSECONDS: Final = 10**9


class Trace:
    """A file that is written while commands are carried. It never replaces another.

    Every packet is handed to the kernel before the call returns, so the file is whole up to the
    last packet when the process is killed. A write that fails leaves a torn packet at the end; so
    nothing is written after it.

    Raises:
        UsageError: The file exists.
        NotFoundError: Its directory does not.
        NoPermissionError: It may not be made.
        NoSpaceError: There is no room.
        PlatformError: It could not be made for another reason.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._failed: StrongroomError | None = None
        self._sent_bytes = {_OUR_PORT: 0, _TPM_PORT: 0}
        self._packets = 0
        try:
            self._fd = os.open(path, _CREATE, 0o600)
        except OSError as err:
            raise _translated(path, err) from err
        try:
            self._write(
                _FILE_HEADER.pack(_NANOSECOND_MAGIC, 2, 4, 0, 0, _SNAP_BYTES, _LINKTYPE_RAW)
            )
        except BaseException:
            os.close(self._fd)
            raise

    def command(self, data: bytes) -> None:
        """Record a command that is about to be sent.

        Raises:
            NoSpaceError: There is no room, now or at an earlier packet.
            PlatformError: It could not be written for another reason.
        """
        with self._lock:
            self._packet(_OUR_PORT, _TPM_PORT, data)

    def response(self, data: bytes) -> None:
        """Record a response that was received.

        Raises:
            NoSpaceError: As :meth:`command`.
            PlatformError: As :meth:`command`.
        """
        with self._lock:
            self._packet(_TPM_PORT, _OUR_PORT, data)

    def close(self) -> None:
        """Close the file, once; nothing can be recorded after that."""
        with self._lock:
            fd, self._fd = self._fd, -1
            if fd >= 0:
                os.close(fd)

    def _packet(self, source: int, destination: int, data: bytes) -> None:
        tcp = _tcp(source, destination, self._sent_bytes, data)
        self._sent_bytes[source] += len(data)
        self._packets += 1
        ip = _ip(self._packets, len(tcp))
        seconds, nanoseconds = divmod(time.time_ns(), _NANOSECONDS)
        size = len(ip) + len(tcp)
        self._write(_PACKET_HEADER.pack(seconds % 2**32, nanoseconds, size, size) + ip + tcp)

    def _write(self, data: bytes) -> None:
        if self._failed is not None:
            raise self._failed
        unwritten = memoryview(data)
        try:
            while unwritten:
                unwritten = unwritten[os.write(self._fd, unwritten) :]
        except OSError as err:
            self._failed = _translated(self._path, err)
            raise self._failed from err


def _tcp(source: int, destination: int, sent_bytes: Mapping[int, int], data: bytes) -> bytes:
    """Return a segment with the next bytes of one side, which has all of the other's."""
    size = _TCP.size + len(data)
    start = (source, destination, _number(sent_bytes[source]), _number(sent_bytes[destination]))
    middle = (_TCP_WORDS, _PUSH_AND_ACKNOWLEDGE, _WINDOW)
    pseudo = _PSEUDO.pack(_LOOPBACK, _LOOPBACK, 0, _TCP_PROTOCOL, size)
    checksum = _internet_checksum(pseudo + _TCP.pack(*start, *middle, 0, 0) + data)
    return _TCP.pack(*start, *middle, checksum, 0) + data


def _ip(identification: int, payload_bytes: int) -> bytes:
    size = _IP.size + payload_bytes
    start = (_IP_VERSION_AND_WORDS, 0, size, identification % 2**16, _DO_NOT_FRAGMENT)
    middle = (_HOPS, _TCP_PROTOCOL)
    checksum = _internet_checksum(_IP.pack(*start, *middle, 0, _LOOPBACK, _LOOPBACK))
    return _IP.pack(*start, *middle, checksum, _LOOPBACK, _LOOPBACK)


def _number(sent_bytes: int) -> int:
    """Return a sequence number: they start at 1, as if a connection had been opened."""
    return (sent_bytes + 1) % 2**32


def _internet_checksum(data: bytes) -> int:
    """Return the checksum of IP and TCP. Spec: RFC 1071."""
    padded = data + b"\0" * (len(data) % 2)
    total: int = sum(struct.unpack(f">{len(padded) // 2}H", padded))
    while total > 0xFFFF:  # noqa: PLR2004 - the carries of 16 bits
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def _translated(path: Path, err: OSError) -> StrongroomError:
    message = f"cannot write the TPM trace {path}: {err.strerror}"
    match err.errno:
        case errno.EEXIST | errno.ELOOP:
            return UsageError(message, hint="name a new file: traces are never overwritten")
        case errno.ENOENT | errno.ENOTDIR:
            return NotFoundError(message, hint="make its directory first")
        case errno.EACCES | errno.EPERM | errno.EROFS:
            return NoPermissionError(message)
        case errno.ENOSPC | errno.EDQUOT:
            return NoSpaceError(message, hint="no TPM command goes unrecorded, so none is sent")
        case _:
            return PlatformError(message)
