# SPDX-License-Identifier: Apache-2.0
"""What is written in several places is the same in all of them."""

import inspect
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from strongroom import errors
from strongroom.boundary.calls import Confinement
from strongroom.errors import StrongroomError
from strongroom.host import promises

pytestmark = pytest.mark.unit

REPOSITORY: Final = Path(__file__).parents[3]
VERDICTS: Final = ("not detected", "not safe", "keys are not found", "detected", "safe")
SAID_DIFFERENTLY: Final = {"refused": "detected", "finds no key": "keys are not found"}
"""The README speaks to people in a hurry; these are its words for the same outcomes."""


def table(path: str, heading: str) -> list[list[str]]:
    """Return the cells of the first table whose head begins with ``heading``."""
    lines = iter((REPOSITORY / path).read_text().splitlines())
    for line in lines:
        if line.startswith(f"| {heading}"):
            break
    next(lines)
    rows = []
    for line in lines:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in line.strip("|").split("|")])
    return rows


def verdict(text: str) -> str:
    """Return which of the outcomes a sentence means."""
    plain = text.lower().replace("*", "")
    for words, meaning in SAID_DIFFERENTLY.items():
        if plain.startswith(words) or words in plain.partition(":")[0]:
            return meaning
    return next(known for known in VERDICTS if known in plain)


def test_doctor_prints_the_threat_model() -> None:
    promised = [tuple(row[:3]) for row in table("spec/threat-model.md", "attacker | `process`")]
    assert promised
    assert promised == [(row.attacker, row.outcome, row.otherwise) for row in promises.ROWS]


def test_an_outcome_follows_from_the_measures_that_are_in_force() -> None:
    every = {name for row in promises.ROWS for name in row.rests_on}
    assert every == {promises.SECRET_MEMORY, promises.NOT_DUMPABLE}
    for row in promises.ROWS:
        assert row.on(frozenset()) == row.outcome
        assert bool(row.rests_on) == bool(row.otherwise)
        for name in row.rests_on:
            assert verdict(row.on(frozenset({name}))) == "not safe"


def test_what_a_machine_lacks_is_said_in_a_sentence_or_two() -> None:
    measures = [Confinement(name, active=True, detail="") for name in ("secret memory", "seccomp")]
    assert promises.shortcomings(measures) == ()
    lacking = [Confinement(item.name, active=False, detail="") for item in measures]
    line, keys = promises.shortcomings(lacking)
    assert line.startswith("2 of 2 measures of confinement are missing here: secret memory, ")
    assert "root finds the keys" in keys
    (line,) = promises.shortcomings([measures[0], lacking[1]])
    assert line.startswith("1 of 2 measures of confinement are missing here: seccomp; ")


def test_the_readme_promises_neither_more_nor_less() -> None:
    readme = table("README.md", "attacker | outcome")
    spec = table("spec/threat-model.md", "attacker | `process`")
    assert sorted(verdict(row[1]) for row in readme) == sorted(verdict(row[1]) for row in spec)


def test_exit_codes_are_unique_and_in_range() -> None:
    kinds = [
        kind
        for kind in vars(errors).values()
        if inspect.isclass(kind) and issubclass(kind, StrongroomError)
    ]
    own = {kind: kind.__dict__["exit_code"] for kind in kinds}
    shared = {errors.StrongroomError, errors.InternalError}
    codes = [code for kind, code in own.items() if kind not in shared]

    assert len(codes) == len(set(codes))
    assert own[errors.StrongroomError] == own[errors.InternalError] == 1
    assert all(
        1 < code < 126 or kind is errors.CancelledError
        for kind, code in own.items()
        if kind not in shared
    )


def test_layers_are_kept() -> None:
    lint_imports = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run(
        [lint_imports, "--no-cache"],
        cwd=REPOSITORY,
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout
    assert "0 broken" in done.stdout
