# SPDX-License-Identifier: Apache-2.0
"""What is loaded before a volume is open, counted: starting gets slow one import at a time.

Each of three processes waits for the next. The numbers do not depend on the machine. Who needs one
more module raises a bound, and says in the commit what it costs (``python -X importtime``).
"""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from strongroom.boundary import calls
from strongroom.host.contracts import ImageReference, OpenRequest
from strongroom.host.launch import launch
from strongroom.host.request import encode_request
from strongroom.host.silence import Silent
from tests.harness import Operator

pytestmark = pytest.mark.system

COUNTING: Final = (sys.executable, "-X", "importtime")
PROGRAM: Final = ("-I", "-m", "strongroom")
SECONDS: Final = 60.0

MOST_OF_THE_COMMAND: Final = {"--help": 140, "list": 145, "open": 190}
MOST_OF_THE_HOST: Final = 190
MOST_OF_THE_ENCLAVE: Final = 170

SLOW: Final = {"argparse", "asyncio", "concurrent.futures", "email", "http", "logging", "unittest"}
"""Modules of the standard library that bring many more."""
OURS_INSTEAD: Final = {"dataclasses", "inspect", "platform", "random", "secrets", "uuid"}
"""For these there is something quicker: see :mod:`strongroom.values`, :mod:`strongroom.uuids`."""
ARCHIVES: Final = {"bz2", "lzma", "shutil", "zlib"}


def imported(log: str) -> set[str]:
    """Return the modules that ``-X importtime`` tells of."""
    lines = [line for line in log.splitlines() if line.startswith("import time:")]
    return {line.rpartition("|")[2].strip() for line in lines[1:]}


@pytest.fixture
def image(operator: Operator) -> Path:
    path = operator.place / "image"
    operator.format(path)
    return path


@pytest.mark.parametrize("command", ["--help", "list"])
def test_a_command_loads_little(operator: Operator, command: str) -> None:
    done = operator.run(*COUNTING, *PROGRAM, command)
    modules = imported(done.stderr)
    assert len(modules) <= MOST_OF_THE_COMMAND[command], sorted(modules)
    assert not modules & SLOW
    assert "strongroom.boundary.tpm_calls" not in modules


def test_open_loads_little(operator: Operator, image: Path) -> None:
    key = ("--passphrase-file", operator.passphrase_file)
    try:
        done = operator.run(*COUNTING, *PROGRAM, "open", image, "v", "--attach", "none", *key)
    finally:
        operator.close("v", check=False)
    modules = imported(done.stderr)
    assert len(modules) <= MOST_OF_THE_COMMAND["open"], sorted(modules)
    assert not modules & (SLOW | ARCHIVES)
    # What it does not ask for itself is not loaded either.
    assert not modules & {"strongroom.host.daemon", "strongroom.host.doctor"}


def test_the_host_loads_little_before_the_enclave_starts(operator: Operator, image: Path) -> None:
    request = OpenRequest(
        image=ImageReference(image, None),
        name="v",
        attach="none",
        read_only=False,
        discard=False,
        tee="process",
        transport="fd",
    )
    ours, theirs = socket.socketpair()
    ours.settimeout(SECONDS)
    with ours, theirs:
        process = subprocess.Popen(
            [
                *(*COUNTING, "-I", "-m", "strongroom.host.daemon"),
                *(str(theirs.fileno()), encode_request(request)),
            ],
            stderr=subprocess.PIPE,
            text=True,
            pass_fds=(theirs.fileno(),),
            env={**os.environ, "STRONGROOM_RUNTIME_DIR": str(operator.runtime)},
        )
        theirs.close()
        said = ours.recv(4096)
    _, log = process.communicate(timeout=SECONDS)
    assert json.loads(said) == {}, log
    modules = imported(log)
    assert len(modules) <= MOST_OF_THE_HOST, sorted(modules)
    assert not modules & SLOW
    # In the order in which they are complete: what is after the service was loaded beside it.
    order = [line.rpartition("|")[2].strip() for line in log.splitlines() if "|" in line]
    critical = set(order[: order.index("strongroom.host.listening")])
    assert not critical & (OURS_INSTEAD | ARCHIVES | {"strongroom.host.attach.attaching"})


def test_an_enclave_loads_little(tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nexec {sys.executable} -X importtime "$@"\n')
    python.chmod(0o700)
    with (tmp_path / "log").open("w+b") as log, launch(Silent(), log, python=python) as enclave:
        enclave.call(calls.Describe())
    modules = imported((tmp_path / "log").read_text())
    assert "strongroom.enclave.running" in modules
    assert len(modules) <= MOST_OF_THE_ENCLAVE, sorted(modules)
    assert not modules & (SLOW | OURS_INSTEAD | ARCHIVES)
