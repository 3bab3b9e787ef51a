# SPDX-License-Identifier: Apache-2.0
"""An SGX enclave that Gramine starts, from a manifest that was signed before.

The manifest fixes the enclave's arguments, so also its disk and how it is reached: by standard
input and output. It lies in ``gramine`` in the state directory. One manifest is for one image.
"""

import itertools
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import IO, Final

from strongroom.errors import PlatformError, TeeError
from strongroom.host.starting.disk import StartDisk
from strongroom.host.starting.process import ENVIRONMENT, translating_start
from strongroom.host.state import state_directory
from strongroom.host.transport import Link

_PROGRAM: Final = "gramine-sgx"
_NAME: Final = "strongroom"
_DISK_OPTIONS: Final = ("--image", "--header")


def start(link: Link, log: IO[bytes] | int, *, disk: StartDisk | None) -> subprocess.Popen[bytes]:
    """Start it.

    Args:
        link: Of standard streams.
        log: Where Gramine's own standard error goes; the enclave is silent.
        disk: What it must be made for; any will do without.

    Raises:
        TeeError: There is no signed manifest, or it is for another image.
        PlatformError: Gramine is not installed.
    """
    folder = state_directory().absolute() / "gramine"
    _check_manifest(folder / f"{_NAME}.manifest.sgx", disk)
    program = shutil.which(_PROGRAM)
    if program is None:
        raise PlatformError(
            f"{_PROGRAM} is not installed",
            hint="--tee gramine needs Gramine, and a processor with SGX",
        )
    with translating_start(program, hint="is Gramine installed completely?"):
        return subprocess.Popen(
            [program, _NAME],
            stdin=link.stdin,
            stdout=link.stdout,
            stderr=log,
            env=ENVIRONMENT,
            cwd=folder,
            start_new_session=True,
        )


def _check_manifest(path: Path, disk: StartDisk | None) -> None:
    given = _disk_arguments(path)
    if disk is None or given == disk.arguments():
        return
    raise TeeError(
        f"{path} is for {_words(given)}, not for {_words(disk.arguments())}",
        hint="make gramine-manifest, sign what it makes, and put it there: one is for one image",
    )


def _disk_arguments(path: Path) -> list[str]:
    try:
        with path.open("rb") as file:
            arguments = tomllib.load(file)["loader"]["argv"]
        words = [str(word) for word in arguments]
    except OSError as err:
        raise TeeError(
            f"{path} cannot be read: {(err.strerror or 'unknown reason').lower()}",
            hint="make gramine-manifest IMAGE=..., sign what it makes, and put it there",
        ) from err
    except (ValueError, LookupError, TypeError) as err:
        raise TeeError(f"{path} is no manifest of Strongroom") from err
    pairs = itertools.pairwise(words)
    return [word for pair in pairs if pair[0] in _DISK_OPTIONS for word in pair]


def _words(arguments: list[str]) -> str:
    return " ".join(arguments) or "no disk"
