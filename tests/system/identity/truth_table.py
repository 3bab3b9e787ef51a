# SPDX-License-Identifier: Apache-2.0
"""The truth tables of ``spec/unlock.md``, "Resealing", read from that page.

Tests take what they expect from here, so that page and tests cannot differ.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, get_args

from strongroom.tee.identity import SealPolicy

PAGE: Final = Path(__file__).parents[3] / "spec" / "unlock.md"
COLUMNS: Final = ("1", "2", "other")
"""Enclaves: two security versions of one signer, and one of another signer."""
YES: Final = 0

Question = Literal["opens", "moves"]


@dataclass(frozen=True, slots=True)
class Cell:
    """What an enclave gets of a volume, as an exit code; 0 is yes."""

    policy: SealPolicy
    sealed_by: str
    enclave: str
    exit_code: int


def cells(question: Question) -> tuple[Cell, ...]:
    """Return every cell of a table, in its order."""
    lines = PAGE.read_text().split("## Resealing\n", 1)[1].splitlines()
    head = lines.index(f"| {question}: policy | sealed by | {' | '.join(COLUMNS)} |")
    found: list[Cell] = []
    for line in lines[head + 2 :]:
        if not line.startswith("|"):
            break
        name, sealed_by, *values = (word.strip(" `") for word in line.strip("|").split("|"))
        (policy,) = (known for known in get_args(SealPolicy) if known == name)
        assert len(values) == len(COLUMNS)
        found += (
            Cell(policy, sealed_by, enclave, YES if value == "yes" else int(value))
            for enclave, value in zip(COLUMNS, values, strict=True)
        )
    wanted = [
        (policy, sealed_by, enclave)
        for policy in get_args(SealPolicy)
        for sealed_by in COLUMNS[:2]
        for enclave in COLUMNS
    ]
    assert [(cell.policy, cell.sealed_by, cell.enclave) for cell in found] == wanted
    return tuple(found)


def shown(question: Question, outcomes: dict[Cell, int]) -> str:
    """Return the table as it was found to be, for people."""
    rows: list[tuple[str, ...]] = [(question, "policy", "sealed by", *COLUMNS)]
    for cell, code in outcomes.items():
        if cell.enclave == COLUMNS[0]:
            rows.append(("", cell.policy, cell.sealed_by))
        rows[-1] += (str(code) if code else "yes",)
    lines = ("".join(f"{word:>13}" for word in row) for row in rows)
    return "\n".join(lines)
