# SPDX-License-Identifier: Apache-2.0
"""Each sentence of the threat model and of the README has its test, or says what else it is."""

from collections.abc import Callable
from typing import Final

import pytest

from tests.unit.evidence.page import DOCUMENTS, PAGE, REPOSITORY, problems, read
from tests.unit.evidence.sentences import cells, sentences

pytestmark = pytest.mark.unit

THREATS: Final = "spec/threat-model.md"
TEXT: Final = """# Head

One sentence (with `code.` in it), of
two lines. **Another** one. "A third." And a fourth:

| head | x |
|---|---|
| row | safe. Not two. |

```
no sentence. None.
```
* A point. Its second
  sentence.
* **"Another point"** ends
"""
SENTENCES: Final = [
    "One sentence (with `code.` in it), of two lines.",
    "**Another** one.",
    '"A third.',
    "And a fourth:",
    "| row | safe. Not two. |",
    "A point.",
    "Its second sentence.",
    '**"Another point"** ends',
]


def documents() -> dict[str, str]:
    return {name: (REPOSITORY / name).read_text() for name in DOCUMENTS}


def test_a_document_is_split_into_sentences() -> None:
    assert sentences(TEXT) == SENTENCES


def test_each_sentence_has_its_evidence() -> None:
    assert problems(read(PAGE.read_text()), documents()) == []


def test_each_row_of_the_table_that_is_tried_is_tried_on_another_kernel() -> None:
    page = read(PAGE.read_text())
    table = {cells(row)[0] for row in sentences(documents()[THREATS]) if row.startswith("|")}
    tried = {plain(name) for name in page.in_guest}
    rows = [
        row
        for row in page.rows[THREATS]
        if row.begins in table and row.tests and "limit" not in row.kinds
    ]
    assert rows
    assert [row.begins for row in rows if not tried.intersection(map(plain, row.tests))] == []
    named = {plain(name) for rows in page.rows.values() for row in rows for name in row.tests}
    assert tried <= named


def plain(name: str) -> str:
    return name.partition("[")[0]


CUSTODY: Final = "| Keep it elsewhere. | *custody* |\n"
FIRST: Final = "tests/interop/nbd/test_core_volume.py::test_written_bytes_are_aes_xts"


def said(name: str, more: str) -> Callable[[str, dict[str, str]], tuple[str, dict[str, str]]]:
    """Return a change that lets a document say more."""
    return lambda page, texts: (page, {**texts, name: texts[name] + more})


def written(old: str, new: str) -> Callable[[str, dict[str, str]], tuple[str, dict[str, str]]]:
    """Return a change of the page."""

    def change(page: str, texts: dict[str, str]) -> tuple[str, dict[str, str]]:
        assert old in page
        return page.replace(old, new), texts

    return change


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (said(THREATS, "\nNothing is ever lost.\n"), "the page has not: 'Nothing is ever lost.'"),
        (said("README.md", "\nNothing is ever lost.\n"), "the page has not: 'Nothing is"),
        (written(CUSTODY, ""), "says 'Keep it elsewhere.' where the page has"),
        (written(CUSTODY, CUSTODY + "| Or lose it. | *custody* |\n"), "has 'Or lose it.'"),
        (written(CUSTODY, "| Keep it elsewhere. | |\n"), "neither a test nor a kind: Keep"),
        (written(CUSTODY, "| Keep it elsewhere. | *hope* |\n"), "no such kind: hope"),
        (written(FIRST, FIRST + "_twice"), f"no such test: {FIRST}_twice"),
        (written("nbd/test_core_volume.py", "nbd/test_core.py"), "no such test: tests/interop"),
        (written("::test_salts_are_fresh", "::test_salts_are_fresh[pbkdf2]"), "are_fresh[pbkdf2]"),
        (written("::a_failed_flush", "::no_failed_flush"), "no such test: rust/data"),
    ],
)
def test_what_is_wrong_is_found(
    change: Callable[[str, dict[str, str]], tuple[str, dict[str, str]]], problem: str
) -> None:
    page, texts = change(PAGE.read_text(), documents())
    assert any(problem in one for one in problems(read(page), texts))
