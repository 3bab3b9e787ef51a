# SPDX-License-Identifier: Apache-2.0
"""Running the command line in this process, against a host in memory."""

import json
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from strongroom.cli.main import main
from tests.fakes.host_volumes import FakeVolumes

IMAGE = Path("vault.img")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a command left behind."""

    code: int
    out: str
    err: str

    @property
    def facts(self) -> object:
        """Standard output as JSON; it must be exactly one line."""
        assert self.out.count("\n") == 1
        return json.loads(self.out)


Run = Callable[..., Outcome]


@pytest.fixture
def volumes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeVolumes:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    return FakeVolumes(IMAGE)


@pytest.fixture
def run(volumes: FakeVolumes, capfd: pytest.CaptureFixture[str]) -> Run:
    def run_command(*arguments: str) -> Outcome:
        capfd.readouterr()
        code = main(arguments, volumes=volumes)
        captured = capfd.readouterr()
        return Outcome(code, captured.out, captured.err)

    return run_command


@pytest.fixture
def passphrase_file(tmp_path: Path) -> str:
    file = tmp_path / "pass"
    file.write_bytes(b"correct horse\n")
    return str(file)


@pytest.fixture
def pipe_stdin(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[bytes], None]]:
    """Give the bytes as standard input, through a pipe whose writer has left."""
    opened = []

    def give(text: bytes) -> None:
        source, sink = os.pipe()
        os.write(sink, text)
        os.close(sink)
        stream = os.fdopen(source, "r")
        opened.append(stream)
        monkeypatch.setattr(sys, "stdin", stream)

    yield give
    for stream in opened:
        stream.close()
