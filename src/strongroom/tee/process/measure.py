# SPDX-License-Identifier: Apache-2.0
"""What this process runs, as one digest.

The measurement is the SHA-256 of the canonical JSON of a manifest::

    {"files":   {NAME: SHA-256 in hex, ...},
     "launch":  {how Python was started, and which},
     "opaque":  [names of the modules that no file stands behind],
     "version": 1}

Measured are the file of every loaded module and every file that is mapped executable: the
interpreter, the C library, extension modules, what ``LD_PRELOAD`` brought. Files of the package are
named relative to it, as in ``strongroom/errors.py``; all others by their path, which is so a part
of the measurement.

Not measured: byte code, as an enclave runs none but its own, which it has made of these sources
(start.py of the enclave, decision 031); the kernel; what is loaded later. The process measures
itself: a source that was written to deceive can report what it likes. Files are read by their path
after they were loaded, so a change in between goes unnoticed, except that a mapped file was removed
or replaced.
"""

import hashlib
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Final

import strongroom
from strongroom.errors import TeeError
from strongroom.tee.process.canonical import canonical

_MANIFEST_VERSION: Final = 1
_MAPS: Final = Path("/proc/self/maps")
_PATH_FIELD: Final = 5
_DELETED: Final = " (deleted)"


def this_process() -> bytes:
    """Return the measurement of this process, 32 bytes.

    Raises:
        TeeError: Something that it runs cannot be read.
    """
    return measurement_of(measured_files(), launch_options(), opaque_modules())


def measurement_of(
    files: Mapping[str, Path], launch: Mapping[str, object], opaque: tuple[str, ...]
) -> bytes:
    """Return the measurement of files, by the names they have in it, and of how they were started.

    Raises:
        TeeError: A file cannot be read.
    """
    manifest = {
        "files": {name: _digest(path).hex() for name, path in files.items()},
        "launch": launch,
        "opaque": opaque,
        "version": _MANIFEST_VERSION,
    }
    return hashlib.sha256(canonical(manifest)).digest()


def measured_files() -> dict[str, Path]:
    """Return every file that this process runs, by its name in the manifest.

    Raises:
        TeeError: The memory map cannot be read, or has code of a file that is gone.
    """
    modules = (file for _, file in _loaded() if file is not None)
    package = Path(os.path.realpath(strongroom.__file__)).parent
    return {_name(path, package): path for path in (*modules, *_mapped_executable())}


def launch_options() -> dict[str, object]:
    """Return how Python was started, and which Python it is."""
    return {
        "flags": {name: int(getattr(sys.flags, name)) for name in sys.flags.__match_args__},
        "implementation": sys.implementation.cache_tag,
        "pycache_prefix": sys.pycache_prefix,
        "python": sys.version,
    }


def opaque_modules() -> tuple[str, ...]:
    """Return the names of the loaded modules without a file: built in, frozen, or made by code."""
    return tuple(sorted(name for name, file in _loaded() if file is None))


def _loaded() -> Iterator[tuple[str, Path | None]]:
    for name, module in list(sys.modules.items()):
        # Quirk: a program may put anything into sys.modules; None stands for a blocked import.
        if isinstance(module, ModuleType):
            file = module.__file__ if hasattr(module, "__file__") else None
            yield name, None if file is None else Path(file)


def _name(path: Path, package: Path) -> str:
    real = os.path.realpath(path)
    if real.startswith(f"{package}/"):
        return real.removeprefix(f"{package.parent}/")
    return str(path)


def _mapped_executable() -> Iterator[Path]:
    try:
        lines = os.fsdecode(_MAPS.read_bytes()).splitlines()
    except OSError as err:
        raise TeeError(f"cannot read {_MAPS}: {err.strerror}", hint="mount /proc") from err
    for line in lines:
        fields = line.split(maxsplit=_PATH_FIELD)
        if len(fields) <= _PATH_FIELD or "x" not in fields[1] or not fields[-1].startswith("/"):
            continue
        if fields[-1].endswith(_DELETED):
            raise TeeError(
                f"{fields[-1].removesuffix(_DELETED)} was replaced while it runs",
                hint="start Strongroom again, when the upgrade is done",
            )
        yield Path(fields[-1])


def _digest(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").digest()
    except OSError as err:
        raise TeeError(f"cannot measure {path}: {err.strerror}") from err
