# SPDX-License-Identifier: Apache-2.0
"""What an enclave is told when it starts, by the host or by a TEE's manifest.

Not by ``argparse``, which would bring three libraries for archives into the process.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from strongroom.errors import UsageError
from strongroom.values import dataclass

_FLAGS: Final = ("--read-only", "--quiet", "--tpm", "--look-only")
_VALUES: Final = ("--boundary", "--pid-fd", "--tee", "--state", "--image", "--header")
_NEEDED: Final = ("--boundary", "--tee", "--state")


@dataclass(frozen=True, slots=True)
class Options:
    """See :mod:`strongroom.enclave.entry`; ``pid_fd`` is where the pid of who stays is told."""

    boundary: str
    tee: str
    state: Path
    pid_fd: int | None
    image: Path | None
    header: Path | None
    read_only: bool
    quiet: bool
    tpm: bool
    look_only: bool


def parse_options(words: list[str]) -> Options:
    """Return what the arguments of the process say.

    Raises:
        UsageError: One is unknown, given twice, missing, or has no value.
    """
    given: dict[str, str] = {}
    rest = iter(words)
    for word in rest:
        if word in given or word not in (*_FLAGS, *_VALUES):
            raise UsageError(f"the enclave does not take {word!r} here")
        given[word] = "" if word in _FLAGS else _value_after(word, rest)
    missing = [name for name in _NEEDED if name not in given]
    if missing:
        raise UsageError(f"the enclave needs {', '.join(missing)}")
    return Options(
        boundary=given["--boundary"],
        tee=given["--tee"],
        state=Path(given["--state"]),
        pid_fd=_number(given.get("--pid-fd")),
        image=_path(given.get("--image")),
        header=_path(given.get("--header")),
        read_only="--read-only" in given,
        quiet="--quiet" in given,
        tpm="--tpm" in given,
        look_only="--look-only" in given,
    )


def _value_after(name: str, rest: Iterator[str]) -> str:
    value = next(rest, None)
    if value is None:
        raise UsageError(f"{name} of the enclave has no value")
    return value


def _path(text: str | None) -> Path | None:
    return None if text is None else Path(text)


def _number(text: str | None) -> int | None:
    if text is None:
        return None
    if not (text.isascii() and text.isdigit()):
        raise UsageError(f"{text!r} is no descriptor of the enclave")
    return int(text)
