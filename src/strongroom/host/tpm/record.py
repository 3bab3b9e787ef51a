# SPDX-License-Identifier: Apache-2.0
"""What an enclave pinned of a TPM, from one command to the next: sealed to it, kept by the host.

It is the file ``tpm/record`` of the state directory.
"""

import contextlib
import os
from pathlib import Path
from typing import Final

from strongroom.errors import NoPermissionError, PlatformError
from strongroom.host.state import state_directory

_MAX_RECORD_BYTES: Final = 4096


def record_path() -> Path:
    """Return where the record is kept."""
    return state_directory() / "tpm" / "record"


def read_record() -> bytes | None:
    """Return the record of the enrolled TPM, or ``None`` if there is none.

    Raises:
        NoPermissionError: It may not be read.
        PlatformError: It cannot be read.
    """
    try:
        with record_path().open("rb") as file:
            return file.read(_MAX_RECORD_BYTES + 1)[:_MAX_RECORD_BYTES]
    except FileNotFoundError:
        return None
    except PermissionError as err:
        raise NoPermissionError(f"cannot read {record_path()}: {err.strerror}") from err
    except OSError as err:
        raise PlatformError(f"cannot read {record_path()}: {err.strerror}") from err


def write_record(record: bytes) -> None:
    """Keep a record, in place of an earlier one: a crash leaves one of the two, whole.

    Raises:
        PlatformError: It cannot be written.
    """
    path = record_path()
    new = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        new.touch(mode=0o600)
        with new.open("wb") as file:
            file.write(record)
            file.flush()
            os.fsync(file.fileno())
        new.replace(path)
    except OSError as err:
        with contextlib.suppress(OSError):
            new.unlink()
        raise PlatformError(f"cannot write {path}: {(err.strerror or 'failed').lower()}") from err


def remove_record() -> None:
    """Forget the TPM that was enrolled. Raises :class:`PlatformError` if that cannot be done."""
    try:
        record_path().unlink(missing_ok=True)
    except OSError as err:
        raise PlatformError(
            f"cannot remove {record_path()}: {(err.strerror or 'failed').lower()}"
        ) from err
