# SPDX-License-Identifier: Apache-2.0
"""What is printed cannot move the cursor, and JSON is JSON."""

import json
from pathlib import Path

import pytest

from strongroom.cli.output import JsonValue, json_line, outline, pairs, printable, table
from strongroom.errors import InternalError
from strongroom.host.contracts import Finding

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain", "plain"),
        ("grün", "grün"),
        ("\x1b[2Jgone", "\\x1b[2Jgone"),
        ("two\nlines\r", "two\\nlines\\r"),
        ("\x9b1m\x7f", "\\x9b1m\\x7f"),
        ("\u202eright", "\\u202eright"),
        ("file\udcff", "file\\udcff"),
    ],
)
def test_control_characters_are_escaped(text: str, shown: str) -> None:
    assert printable(text) == shown


def test_every_way_to_print_escapes() -> None:
    evil = "\x1b[2J"
    assert evil not in table(("A", "B"), [(evil, evil)])
    assert evil not in pairs([("name", evil)])
    assert evil not in outline({evil: {evil: [evil, {evil: evil}]}})


def test_table_columns_align() -> None:
    text = table(("NAME", "DEVICE"), [("a", "none"), ("longer", "/dev/x")])
    assert text == "NAME    DEVICE\na       none\nlonger  /dev/x"


def test_outline_nests_and_names_nothing() -> None:
    facts: dict[str, JsonValue] = {
        "a": 1,
        "b": {"c": True},
        "d": [],
        "e": [1, 2],
        "f": [{"g": None}],
        "h": "",
    }
    assert outline(facts).splitlines() == [
        *("a: 1", "b:", "  c: yes", "d: none", "e: 1, 2"),
        *("f:", "  0:", "    g: none", 'h: ""'),
    ]


def test_dataclasses_and_paths_become_json() -> None:
    finding = Finding("topic", "ok", "found\n", "")
    assert json.loads(json_line((finding, Path("/x"), "\udcff"))) == [
        {"topic": "topic", "level": "ok", "found": "found\n", "mend": ""},
        "/x",
        "\udcff",
    ]
    assert json_line(["grün"]).isascii()


def test_what_has_no_json_form_is_a_bug() -> None:
    with pytest.raises(InternalError):
        json_line({"x": object()})
