# SPDX-License-Identifier: Apache-2.0
"""Argon2id with the same parameters, against libargon2's own program."""

from __future__ import annotations

import re
import sys
from functools import partial
from typing import TYPE_CHECKING, Final

from strongroom.bench.comparison import Comparison
from strongroom.bench.place import CommandError, require
from strongroom.bench.servers import OURS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from strongroom.bench.place import Place
    from strongroom.bench.run import Run

PASSES: Final = 4
MEMORY_KIB: Final = 256 * 1024
LANES: Final = 2
SALT: Final = "0123456789abcdef"
LIBARGON2: Final = "libargon2"


def key_derivation(run: Run) -> Iterator[Comparison]:
    """Seconds of one derivation."""
    require("argon2")
    run.expect(2 * run.rounds)
    measure = f"Argon2id, {MEMORY_KIB // 1024} MiB, {PASSES} passes, {LANES} lanes"
    values = run.in_turn({OURS: partial(ours, run.place), LIBARGON2: partial(theirs, run.place)})
    yield Comparison(run.group, measure, "s", values, larger_is_better=False)


def ours(place: Place) -> float:
    """Return the seconds of one derivation of ours."""
    numbers = (str(PASSES), str(MEMORY_KIB), str(LANES))
    program = (sys.executable, "-I", "-m", "strongroom.bench.argon2_once")
    return float(place.run(*program, SALT, *numbers).stdout)


def theirs(place: Place) -> float:
    """Return the seconds of one derivation; libargon2's program does a second one to verify."""
    numbers = ("-t", str(PASSES), "-k", str(MEMORY_KIB), "-p", str(LANES), "-l", "32")
    done = place.run("argon2", SALT, "-id", *numbers, given="bench")
    return parse_argon2(done.stdout)


def parse_argon2(printed: str) -> float:
    """Return the seconds from what libargon2's program prints.

    Raises:
        CommandError: There are none.
    """
    found = re.search(r"^([0-9.]+) seconds", printed, re.MULTILINE)
    if found is None:
        raise CommandError(f"argon2 printed something else: {printed[:80]!r}")
    return float(found[1])
