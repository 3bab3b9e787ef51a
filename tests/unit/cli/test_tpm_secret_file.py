# SPDX-License-Identifier: Apache-2.0
"""What a TPM is to keep, read for an enclave and for the host: the same bytes or the same error."""

import io
import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from strongroom.cli.commands.tpm.secret_file import (
    AUTHORIZATION,
    INDEX_DATA,
    SEALED_DATA,
    Kind,
    SecretFile,
)
from strongroom.errors import (
    EmptyPassphraseError,
    NotFoundError,
    PassphraseInputError,
    UsageError,
)

pytestmark = pytest.mark.unit

KINDS = (AUTHORIZATION, SEALED_DATA, INDEX_DATA)
MORE_THAN_A_PASSPHRASE = 70_000


def length_for_enclave(source: SecretFile) -> int:
    return source.read("", confirm=False).length_bytes


def length_for_host(source: SecretFile) -> int:
    return len(source.read_open())


roads = pytest.mark.parametrize("length", [length_for_enclave, length_for_host])
Length = Callable[[SecretFile], int]


@roads
@pytest.mark.parametrize("kind", KINDS)
def test_the_most_is_read_and_no_more(tmp_path: Path, kind: Kind, length: Length) -> None:
    path = tmp_path / "file"
    source = SecretFile(str(path), kind)
    for content in (b"s" * kind.most_bytes, b"s" * kind.most_bytes + b"\n"):
        path.write_bytes(content)
        assert length(source) == kind.most_bytes
    for size in (kind.most_bytes + 1, kind.most_bytes + 2, MORE_THAN_A_PASSPHRASE):
        for ending in (b"", b"\n"):
            path.write_bytes(b"s" * size + ending)
            with pytest.raises(UsageError, match=f"more than {kind.most_bytes} bytes") as caught:
                length(source)
            assert kind.called in caught.value.message
            assert caught.value.hint == kind.too_long


@roads
@pytest.mark.parametrize("content", [b"", b"\n"])
def test_nothing_is_no_value(tmp_path: Path, content: bytes, length: Length) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    with pytest.raises(EmptyPassphraseError, match="the authorization value is empty"):
        length(SecretFile(str(path), AUTHORIZATION))


@roads
def test_what_cannot_be_read(tmp_path: Path, length: Length) -> None:
    with pytest.raises(NotFoundError, match="no such data file"):
        length(SecretFile(str(tmp_path / "missing"), SEALED_DATA))
    with pytest.raises(PassphraseInputError, match="cannot read the data: Is a directory"):
        length(SecretFile(str(tmp_path), SEALED_DATA))


@roads
def test_a_closed_standard_input(monkeypatch: pytest.MonkeyPatch, length: Length) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(PassphraseInputError, match="standard input is closed") as caught:
        length(SecretFile("-", AUTHORIZATION))
    assert caught.value.hint == "give --auth-file FILE"


@roads
def test_a_pipe_that_drips(monkeypatch: pytest.MonkeyPatch, length: Length) -> None:
    """Its end is the end of the value, wherever its pieces end."""
    reader, writer = os.pipe()

    def drip() -> None:
        for byte in b"a value\n":
            os.write(writer, bytes([byte]))
        os.close(writer)

    with io.FileIO(reader) as standard_input:
        monkeypatch.setattr(sys, "stdin", standard_input)
        thread = threading.Thread(target=drip)
        thread.start()
        assert length(SecretFile("-", AUTHORIZATION)) == len("a value")
        thread.join()


@roads
def test_a_pipe_whose_writer_failed(monkeypatch: pytest.MonkeyPatch, length: Length) -> None:
    reader, writer = os.pipe()
    os.close(writer)
    with io.FileIO(reader) as standard_input:
        monkeypatch.setattr(sys, "stdin", standard_input)
        with pytest.raises(PassphraseInputError, match="closed before the data came"):
            length(SecretFile("-", SEALED_DATA))
