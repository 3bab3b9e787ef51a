# SPDX-License-Identifier: Apache-2.0
"""Gramine's files under ``/dev/attestation``, which are calls: a read is answered when it opens.

``user_report_data`` and ``target_info`` are one register each for the whole process, so what is
written and what is read back for it must not be parted by another thread.

Spec: Gramine, "Attestation and Secret Provisioning"; ``libos/src/fs/dev/attestation.c``.
"""

import os
import threading
from pathlib import Path
from typing import Final

from strongroom._core import Secret, read_secret_exactly
from strongroom.errors import PassphraseInputError, TeeError

SEAL_KEY_BYTES: Final = 16
"""Length of the keys that Gramine gives."""

_ROOT: Final = Path("/dev/attestation")
_TARGET_INFO_BYTES: Final = 512
_MAX_TYPE_BYTES: Final = 16
_MAX_EVIDENCE_BYTES: Final = 16 * 1024
"""More than Gramine's own limit for a quote, 8 KiB."""

_lock: Final = threading.Lock()


def attestation_type() -> str:
    """Return the manifest's ``sgx.remote_attestation``: ``none`` or ``dcap``.

    Raises:
        TeeError: It is another one, or this is not Gramine on SGX.
    """
    name = _read("attestation_type", _MAX_TYPE_BYTES).strip().decode("ascii", "replace")
    if name not in ("none", "dcap"):
        raise TeeError(
            f"{_ROOT / 'attestation_type'} says {name!r}",
            hint="sgx.remote_attestation must be none or dcap in Gramine's manifest",
        )
    return name


def target_own_reports() -> None:
    """Make this enclave the target of its reports, so that SGX gives some.

    Raises:
        TeeError: A file is missing or odd.
    """
    target = _read("my_target_info", _TARGET_INFO_BYTES)
    if len(target) != _TARGET_INFO_BYTES:
        raise TeeError(f"{_ROOT / 'my_target_info'} has {len(target)} bytes instead of 512")
    with _lock:
        _write("target_info", target)


def evidence(name: str, user_data: bytes) -> bytes:
    """Return the ``report`` or ``quote`` over 64 bytes.

    Raises:
        TeeError: A file is missing, empty or too long.
    """
    with _lock:
        _write("user_report_data", user_data)
        found = _read(name, _MAX_EVIDENCE_BYTES)
    if not found:
        raise TeeError(f"{_ROOT / name} is empty")
    return found


def seal_key(name: str) -> Secret:
    """Return the key ``_sgx_mrenclave`` or ``_sgx_mrsigner``, 16 bytes.

    Raises:
        TeeError: Its file is missing or of another length.
    """
    path = _ROOT / "keys" / name
    fd = _open(path, os.O_RDONLY)
    try:
        key = read_secret_exactly(fd, SEAL_KEY_BYTES)
        if os.read(fd, 1):
            key.erase()
            raise TeeError(f"{path} is longer than 16 bytes")
    except PassphraseInputError as err:
        raise TeeError(f"{path} is shorter than 16 bytes") from err
    except OSError as err:
        raise _failed(path, err) from err
    finally:
        os.close(fd)
    return key


def _read(name: str, max_bytes: int) -> bytes:
    path = _ROOT / name
    try:
        with os.fdopen(_open(path, os.O_RDONLY), "rb") as file:
            content = file.read(max_bytes + 1)
    except OSError as err:
        raise _failed(path, err) from err
    if len(content) > max_bytes:
        raise TeeError(f"{path} is longer than {max_bytes} bytes")
    return content


def _write(name: str, content: bytes) -> None:
    path = _ROOT / name
    fd = _open(path, os.O_WRONLY)
    try:
        written = os.write(fd, content)
    except OSError as err:
        raise _failed(path, err) from err
    finally:
        os.close(fd)
    if written != len(content):
        raise TeeError(f"{path} took {written} of {len(content)} bytes")


def _open(path: Path, flags: int) -> int:
    try:
        return os.open(path, flags | os.O_CLOEXEC)
    except OSError as err:
        raise _failed(path, err) from err


def _failed(path: Path, err: OSError) -> TeeError:
    return TeeError(
        f"cannot use {path}: {err.strerror}",
        hint="--tee gramine works inside an SGX enclave that Gramine started",
    )
