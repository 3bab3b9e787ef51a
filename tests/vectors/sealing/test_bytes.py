# SPDX-License-Identifier: Apache-2.0
"""Secrets as text and in files: which bytes they are, and who can get at them."""

import base64
import os
from pathlib import Path

import pytest

from strongroom import _core
from strongroom.errors import LimitError, NoSpaceError, PassphraseInputError, PlatformError
from tests.vectors.sealing.known import known

pytestmark = pytest.mark.vectors


@pytest.mark.parametrize("length", [*range(1, 70), 49151, 49152])
def test_base64_is_the_standard_library_s(length: int) -> None:
    data = bytes(n * 151 % 256 for n in range(length))
    expected = base64.b64encode(data)
    text = known(data).base64()
    assert text.length_bytes == len(expected)
    assert text.equals(known(expected))
    assert not text.equals(known(expected[:-1] + b"?"))


def test_every_pair_of_bytes_has_its_digits() -> None:
    data = b"".join(
        bytes([first, second, 0]) for first in range(256) for second in range(0, 256, 7)
    )
    for start in range(0, len(data), 48000):
        part = data[start : start + 48000]
        assert known(part).base64().equals(known(base64.b64encode(part)))


def test_exactly_as_many_bytes_are_read_from_where_the_file_is(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_bytes(b"skipped\nsecret\nrest")
    with file.open("rb", buffering=0) as opened:
        opened.seek(8)
        secret = _core.read_secret_exactly(opened.fileno(), 7)
        assert opened.tell() == 15
        assert secret.equals(known(b"secret\n"))
        assert _core.read_secret_exactly(opened.fileno(), 4).equals(known(b"rest"))


@pytest.mark.parametrize("content", [b"", b"x" * 31])
def test_a_short_file_is_refused(content: bytes, tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_bytes(content)
    with file.open("rb") as opened, pytest.raises(PassphraseInputError, match="whole"):
        _core.read_secret_exactly(opened.fileno(), 32)


def test_a_file_that_cannot_be_read_or_a_length_out_of_range_is_refused(tmp_path: Path) -> None:
    with (tmp_path / "secret").open("wb") as opened:
        with pytest.raises(PassphraseInputError):
            _core.read_secret_exactly(opened.fileno(), 32)
        for length in (0, 65537):
            with pytest.raises(LimitError):
                _core.read_secret_exactly(opened.fileno(), length)


def test_a_written_secret_is_fresh_and_can_be_read_back(tmp_path: Path) -> None:
    contents = set()
    for number in range(50):
        file = tmp_path / str(number)
        with file.open("w+b", buffering=0) as opened:
            _core.write_random_secret(opened.fileno(), 32)
            opened.seek(0)
            secret = _core.read_secret_exactly(opened.fileno(), 32)
        content = file.read_bytes()
        assert len(content) == 32
        assert secret.equals(known(content))
        contents.add(content)
    assert len(contents) == 50


def test_a_full_disk_is_told_from_other_failures(tmp_path: Path) -> None:
    full = os.open("/dev/full", os.O_WRONLY)
    try:
        with pytest.raises(NoSpaceError):
            _core.write_random_secret(full, 32)
    finally:
        os.close(full)
    file = tmp_path / "secret"
    file.touch()
    with file.open("rb") as opened:
        with pytest.raises(PlatformError):
            _core.write_random_secret(opened.fileno(), 32)
        for length in (0, 4097):
            with pytest.raises(LimitError):
                _core.write_random_secret(opened.fileno(), length)
    assert file.read_bytes() == b""


def test_the_self_test_knows_the_new_algorithms() -> None:
    results = dict(_core.selftest())
    for name in ("hmac-sha256", "sealed chacha20poly1305", "ed25519"):
        assert results[name], name
