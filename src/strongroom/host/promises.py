# SPDX-License-Identifier: Apache-2.0
"""The threat model's table for the machine that this runs on.

Some rows rest on measures that a kernel or a container may refuse. An enclave reports which of them
it has, and the outcome follows from its report.

Spec: ``spec/threat-model.md``.
"""

from collections.abc import Collection, Iterable
from typing import Final, Protocol

from strongroom.values import dataclass

SECRET_MEMORY: Final = "secret memory"  # noqa: S105 - the name of a measure
NOT_DUMPABLE: Final = "not dumpable"
"""Names of measures, as an enclave reports them."""


class Measure(Protocol):
    """A measure of confinement, as an enclave reports it."""

    @property
    def name(self) -> str:
        """What it is called."""

    @property
    def active(self) -> bool:
        """Whether it is in force."""


@dataclass(frozen=True, slots=True)
class Row:
    """One attacker of the ``process`` column.

    Attributes:
        attacker: Who attacks, and how.
        outcome: What comes of it where all measures are in force.
        rests_on: The measures without which it does not hold.
        otherwise: What comes of it where one of these is missing.
    """

    attacker: str
    outcome: str
    rests_on: tuple[str, ...] = ()
    otherwise: str = ""

    def on(self, missing: frozenset[str]) -> str:
        """Return what comes of the attack where these measures are missing."""
        return self.otherwise if missing.intersection(self.rests_on) else self.outcome


ROWS: Final = (
    Row("stolen disk, copied image", "safe"),
    Row(
        "other users, other processes",
        "safe",
        (NOT_DUMPABLE,),
        "NOT SAFE from other processes of the same user: they can trace the enclave",
    ),
    Row(
        "root reading memory, core dumps, swap",
        "keys are not found",
        (SECRET_MEMORY,),
        "NOT SAFE here: without secret memory root finds the keys in /proc/PID/mem",
    ),
    Row("root changing the enclave's code, or tracing it, at any time", "NOT SAFE"),
    Row("copied image and stolen passphrase, without the account's state directory", "safe"),
    Row(
        "copied image, stolen passphrase, and the state directory, such as on one stolen disk",
        "NOT SAFE",
    ),
    Row("malicious disk: null cipher, malformed header", "detected"),
    Row("malicious disk: changed header", "detected"),
    Row("malicious disk: old header", "detected on a machine that saw a newer one"),
    Row("malicious disk: old sectors, changed sectors", "NOT DETECTED in this version"),
    Row(
        "the TPM's wire: reads, changes, replays, answers for it",
        "safe: nothing learned, nothing believed",
    ),
    Row("another TPM, a cleared one", "detected"),
    Row("cold boot, DMA", "NOT SAFE"),
)
"""The ``process`` column of ``spec/threat-model.md``; a test holds the two together."""


def missing(measures: Iterable[Measure]) -> frozenset[str]:
    """Return the names of the measures that are not in force."""
    return frozenset(measure.name for measure in measures if not measure.active)


def shortcomings(measures: Collection[Measure]) -> tuple[str, ...]:
    """Return what an operator should know before relying on an enclave of this machine.

    Nothing where every measure is in force; else a line that names those that are not, and one more
    where the keys are not kept from root.
    """
    lacking = [measure.name for measure in measures if not measure.active]
    if not lacking:
        return ()
    found = f"{len(lacking)} of {len(measures)} measures of confinement are missing here"
    line = f"{found}: {', '.join(lacking)}; `strongroom doctor` says what mends that"
    if SECRET_MEMORY not in lacking:
        return (line,)
    return (line, "without secret memory, root finds the keys in the enclave's memory")
