# SPDX-License-Identifier: Apache-2.0
"""Files of sealed data: anybody can write one."""

import dataclasses
import json
from pathlib import Path
from typing import Any, Final

import pytest

from strongroom.errors import FormatError, NotFoundError, PlatformError
from strongroom.host.tpm.results import SealedResult
from strongroom.host.tpm.sealed_file import encode_sealed, read_sealed

pytestmark = pytest.mark.unit

SEALED: Final = SealedResult("0008abcd", "00" * 1024, "sha256", (0, 7, 23), "enclave")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "sealed.json"
    path.write_bytes(encode_sealed(SEALED))
    return path


def test_what_was_written_is_read(file: Path) -> None:
    assert read_sealed(file) == SEALED
    none = dataclasses.replace(SEALED, pcrs=(), protection="none")
    file.write_bytes(encode_sealed(none))
    assert read_sealed(file) == none


@pytest.mark.parametrize(
    "change",
    [
        {"public": ""},
        {"public": "zz"},
        {"public": "0000"},
        {"public": "0003abcd"},
        {"public": "0001abcd"},
        {"public": 1},
        {"public": None},
        {"private": "0401" + "00" * 1025},
        {"bank": "md5"},
        {"bank": ["sha256"]},
        {"protection": "root"},
        {"pcrs": 7},
        {"pcrs": [24]},
        {"pcrs": [-1]},
        {"pcrs": [True]},
        {"pcrs": ["7"]},
        {"pcrs": {"7": 7}},
        {"another": 1},
    ],
    ids=str,
)
def test_another_value_is_refused(file: Path, change: dict[str, Any]) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    with pytest.raises(FormatError, match="no sealed data"):
        read_sealed(file)


@pytest.mark.parametrize(
    "content", [b"", b"\xff", b"{}", b"[]", b"null", b"[" * 16000, b" " * 20000, b'{"public": "']
)
def test_something_else_is_refused(file: Path, content: bytes) -> None:
    file.write_bytes(content)
    with pytest.raises(FormatError, match="no sealed data"):
        read_sealed(file)


def test_a_missing_field_is_refused(file: Path) -> None:
    facts = json.loads(file.read_text())
    for name in facts:
        file.write_text(json.dumps({key: facts[key] for key in facts if key != name}))
        with pytest.raises(FormatError):
            read_sealed(file)


def test_what_is_no_file_is_said_to_be_none(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError):
        read_sealed(tmp_path / "missing")
    with pytest.raises(PlatformError):
        read_sealed(tmp_path)
