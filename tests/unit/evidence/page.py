# SPDX-License-Identifier: Apache-2.0
"""The page ``spec/evidence.md``: which tests try a sentence, or what kind of promise it is."""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

from tests.unit.evidence.sentences import cells, sentences

REPOSITORY: Final = Path(__file__).parents[3]
PAGE: Final = REPOSITORY / "spec" / "evidence.md"
DOCUMENTS: Final = ("spec/threat-model.md", "README.md")
IN_GUEST: Final = "On Linux 6.1"
_NAME: Final = re.compile(r"`([^`]+::[^`]+)`")
_KIND: Final = re.compile(r"(?<!\*)\*([a-z' ]+)\*(?!\*)")


@dataclass(frozen=True, slots=True)
class Row:
    """One sentence: how it begins, what tries it, and what kind of promise the rest of it is."""

    begins: str
    tests: tuple[str, ...]
    kinds: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Page:
    """The whole page.

    Attributes:
        kinds: The list of kinds.
        in_guest: Tests that the guest runs.
        rows: By document, in order.
    """

    kinds: tuple[str, ...]
    in_guest: tuple[str, ...]
    rows: dict[str, tuple[Row, ...]]


def read(text: str) -> Page:
    """Read the page."""
    top, *others = re.split(r"^## ", text, flags=re.MULTILINE)
    parts = dict(other.split("\n", 1) for other in others)
    return Page(
        kinds=tuple(cells(row)[0].strip("*") for row in sentences(top) if row.startswith("|")),
        in_guest=tuple(_NAME.findall(parts[IN_GUEST])),
        rows={name: tuple(_rows(parts[name])) for name in DOCUMENTS},
    )


def _rows(part: str) -> Iterator[Row]:
    for row in sentences(part):
        begins, evidence = cells(row)
        tests = tuple(_NAME.findall(evidence))
        yield Row(begins, tests, tuple(_KIND.findall(_NAME.sub("", evidence))))


def beginning(sentence: str) -> str:
    """Return what a row has to begin like: a sentence, or the first cell of a table's row."""
    return cells(sentence)[0] if sentence.startswith("|") else sentence


def problems(page: Page, documents: dict[str, str]) -> list[str]:
    """Return what is wrong with a page about these documents."""
    found = [f"no such test: {name}" for name in page.in_guest if not exists(name)]
    for document, text in documents.items():
        found += _missing(document, [beginning(one) for one in sentences(text)], page)
        for row in page.rows[document]:
            found += [f"no such test: {name}" for name in row.tests if not exists(name)]
            found += [f"no such kind: {kind}" for kind in row.kinds if kind not in page.kinds]
            if not (row.tests or row.kinds):
                found.append(f"neither a test nor a kind: {row.begins}")
    return found


def _missing(document: str, said: list[str], page: Page) -> Iterator[str]:
    """Compare in order; from the first difference on, nothing fits, so it alone is told."""
    rows = [row.begins for row in page.rows[document]]
    for sentence, begins in zip(said, rows, strict=False):
        if not sentence.startswith(begins):
            yield f"{document} says {sentence!r} where the page has {begins!r}"
            return
        if sum(one.startswith(begins) for one in said) > 1:
            yield f"{document} has several sentences that begin {begins!r}"
    yield from (f"{document} says, and the page has not: {one!r}" for one in said[len(rows) :])
    yield from (f"the page has, and {document} does not say: {one!r}" for one in rows[len(said) :])


def exists(name: str) -> bool:
    """Tell whether a test is defined, and has parameters where the name has one."""
    path, _, rest = name.partition("::")
    function, _, parameter = rest.partition("[")
    return parameter_fits(function, parameter, _tests(REPOSITORY / path))


def parameter_fits(function: str, parameter: str, tests: dict[str, bool]) -> bool:
    """Tell whether a function is among these tests, with parameters where one is asked for."""
    return function in tests and (tests[function] or not parameter)


@cache
def _tests(path: Path) -> dict[str, bool]:
    """Return the tests of a file, and whether each has parameters."""
    if not path.is_file():
        return {}
    if path.suffix == ".rs":
        named = re.findall(r"#\[test\]\n\s*fn (\w+)\(", path.read_text())
        return dict.fromkeys(named, False)
    functions = [node for node in ast.walk(ast.parse(path.read_text())) if _is_test(node)]
    return {
        function.name: any("parametrize" in ast.unparse(one) for one in function.decorator_list)
        for function in functions
        if isinstance(function, ast.FunctionDef)
    }


def _is_test(node: ast.AST) -> bool:
    return isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
