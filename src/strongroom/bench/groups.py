# SPDX-License-Identifier: Apache-2.0
"""The groups of measurements: what there is, without what it takes to measure it."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Final, TypeAlias

from strongroom.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from strongroom.bench.comparison import Comparison
    from strongroom.bench.run import Run

Measure: TypeAlias = "Callable[[Run], Iterator[Comparison]]"
FEW_ROUNDS: Final = 3
CURVE_SHARE: Final = 0.3
"""A point of a curve needs no more turns than that, and this share of the time."""


def _later(module: str, name: str) -> Measure:
    """Return a function that is imported when it is called."""

    def measure(run: Run) -> Iterator[Comparison]:
        found: Measure = getattr(import_module(f"strongroom.bench.{module}"), name)
        return found(run)

    return measure


@dataclass(frozen=True, slots=True)
class Group:
    """What is measured in one go.

    Attributes:
        measure: Does it.
        about: What it is, in a few words.
        is_curve: It has many points, and is measured when it is asked for only.
        is_extra: It is measured when it is asked for only.
        most_rounds: Of what takes long by itself.
    """

    measure: Measure
    about: str
    is_curve: bool = False
    is_extra: bool = False
    most_rounds: int | None = None


Groups: TypeAlias = "Mapping[str, Group]"

GROUPS: Final[Groups] = {
    "nbd": Group(_later("nbd", "nbd"), "reading and writing over one NBD connection; memory"),
    "latency": Group(_later("nbd", "latency"), "one request at a time"),
    "cost": Group(_later("nbd", "cost"), "processor time for each GiB served"),
    "file-system": Group(
        _later("files", "file_system"), "files on a mounted file system; needs root"
    ),
    "opening": Group(_later("volumes", "opening"), "from the command to a server that answers"),
    "key-derivation": Group(_later("key_derivation", "key_derivation"), "Argon2id"),
    "same-sectors": Group(
        _later("nbd", "same_sectors"), "with 512-byte sectors on both sides", is_extra=True
    ),
    "copying": Group(_later("nbd", "copying"), "nbdcopy over two connections", is_extra=True),
    "device": Group(
        _later("files", "device"),
        "dd and hdparm; needs root",
        is_extra=True,
        most_rounds=FEW_ROUNDS,
    ),
    "request-size": Group(_later("scaling", "request_size"), "512 bytes to 4 MiB", is_curve=True),
    "queue-depth": Group(
        _later("scaling", "queue_depth"), "1 to 64 requests at once", is_curve=True
    ),
    "connections": Group(_later("scaling", "connections"), "1 to 8 clients", is_curve=True),
    "volume-size": Group(
        _later("volumes", "volume_size"), "64 MiB to 1 TiB, sparse", is_curve=True
    ),
    "volume-count": Group(_later("volumes", "volume_count"), "1 to 32 open volumes", is_curve=True),
}


def usual(groups: Groups) -> tuple[str, ...]:
    """Return the names of the groups that are measured when none is named."""
    return tuple(name for name, group in groups.items() if not (group.is_curve or group.is_extra))
