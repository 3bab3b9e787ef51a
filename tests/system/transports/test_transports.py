# SPDX-License-Identifier: Apache-2.0
"""One volume through each transport, with the confinement and on a kernel that has none of it."""

import contextlib
import functools
import os
import random
import signal
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from tests.conftest import require_tools
from tests.harness import STRONGROOM, Operator, has_ended, open_files
from tests.hostile.confinement.test_status import MEASURES
from tests.interop.nbd import tools
from tests.system.crash.remains import await_true, end_all, remains

pytestmark = pytest.mark.system

TRANSPORTS: Final = ("fd", "stdio", "tcp")
MULTIPLEXED: Final = TRANSPORTS[1:]
WITHOUT_CALLS: Final = Path(__file__).with_name("without_calls.py")
MIB: Final = 1 << 20
LOST: Final = MEASURES - {"core limit"}
"""What is missing where the confining calls are; the core limit is an ordinary limit."""


@pytest.fixture
def operator(operator: Operator) -> Iterator[Operator]:
    require_tools("nbdcopy", "nbdinfo", "qemu-io")
    yield operator
    end_all(operator.place)


@pytest.fixture
def image(operator: Operator) -> Path:
    path = operator.place / "image"
    operator.format(path, size="96M")
    return path


@contextlib.contextmanager
def opened(
    operator: Operator, image: Path, transport: str, *options: str | Path, confined: bool = True
) -> Iterator[dict[str, Any]]:
    """Open a volume, and close it as an operator does."""
    prefix = () if confined else (sys.executable, "-I", WITHOUT_CALLS)
    key = ("--passphrase-file", operator.passphrase_file, "--attach", "none")
    operator.run(*prefix, STRONGROOM, "open", image, "v", *key, "--boundary", transport, *options)
    yield operator.facts("status", "v")
    operator.close("v")
    assert remains(operator.place, "v") == []


def missing(status: dict[str, Any]) -> dict[str, str]:
    return {item["name"]: item["detail"] for item in status["confinement"] if not item["active"]}


def test_what_one_transport_wrote_the_others_read(operator: Operator, image: Path) -> None:
    source, back = operator.place / "source", operator.place / "back"
    content = b""
    for seed, (transport, confined) in enumerate(
        (transport, confined) for confined in (True, False) for transport in TRANSPORTS
    ):
        with opened(operator, image, transport, confined=confined) as status:
            assert status["transport"] == transport
            assert missing(status).keys() == (set() if confined else LOST)
            if content:
                tools.run("nbdcopy", "--connections=4", status["uri"], back)
                assert back.read_bytes()[: 20 * MIB] == content
            content = random.Random(seed).randbytes(20 * MIB)
            source.write_bytes(content)
            tools.run("nbdcopy", "--connections=4", "--flush", source, status["uri"])
            counters = operator.facts("status", "v")["counters"]
            assert counters["written_bytes"] >= len(content)
            assert counters["errors"] == 0


@pytest.mark.parametrize(("transport", "confined"), [("stdio", True), ("tcp", False)])
def test_foreign_clients_find_an_ordinary_server(
    operator: Operator, image: Path, transport: str, *, confined: bool
) -> None:
    with opened(operator, image, transport, confined=confined) as status:
        size, uri = status["size_bytes"], status["uri"]
        tools.check_information(uri, size_bytes=size, read_only=False, structured=False)
        tools.check_qemu_io(uri)
        tools.check_libnbd(uri, "pipelined", "4")
        tools.check_libnbd(uri, "shared-sector")


@pytest.mark.parametrize("transport", MULTIPLEXED)
def test_a_detached_header_and_a_read_only_disk(operator: Operator, transport: str) -> None:
    image, header = operator.place / "image", operator.place / "header"
    operator.format(image, "--header", header)
    before = tools.sha256(image), tools.sha256(header)
    with opened(operator, image, transport, "--header", header, "--read-only") as status:
        tools.check_information(
            status["uri"], size_bytes=status["size_bytes"], read_only=True, structured=False
        )
    assert (tools.sha256(image), tools.sha256(header)) == before


def test_a_client_that_does_not_read_stops_nobody(operator: Operator, image: Path) -> None:
    with opened(operator, image, "stdio") as status, socket.socket(socket.AF_UNIX) as stalled:
        stalled.connect(status["socket"])
        ask_for_everything(stalled)
        tools.run("qemu-io", "-f", "raw", "-c", "write -P 7 0 32M", status["uri"])
        assert operator.facts("status", "v")["counters"]["connections"] >= 1
        before = time.monotonic()
        operator.close("v")
        # Half of the time that a server gives to requests under way, and then it hangs up.
        assert time.monotonic() - before < 15
        operator.open(image, "v")
    assert remains(operator.place, "v") == []


def ask_for_everything(client: socket.socket) -> None:
    """Negotiate, then ask for far more than anybody buffers, and read none of it."""
    client.settimeout(20)
    client.recv(18)
    client.sendall((3).to_bytes(4, "big"))
    option = b"IHAVEOPT" + (1).to_bytes(4, "big") + (1).to_bytes(4, "big") + b"v"
    client.sendall(option)
    heard = b""
    while len(heard) < 10:
        heard += client.recv(10 - len(heard))
    assert int.from_bytes(heard[:8], "big") >= 64 * MIB
    for number in range(64):
        request = (0x25609513).to_bytes(4, "big") + bytes(4) + number.to_bytes(8, "big")
        client.sendall(request + bytes(8) + MIB.to_bytes(4, "big"))


@pytest.mark.parametrize("transport", MULTIPLEXED)
@pytest.mark.parametrize("victim", ["host_pid", "enclave_pid"])
def test_neither_process_survives_the_other(
    operator: Operator, image: Path, transport: str, victim: str
) -> None:
    facts = operator.open(image, "v", "--boundary", transport)
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(20)
        client.connect(facts["socket"])
        assert client.recv(8) == b"NBDMAGIC"
        os.kill(facts[victim], signal.SIGKILL)
        for pid in (facts["host_pid"], facts["enclave_pid"]):
            await_true(functools.partial(has_ended, pid), f"the end of {pid}")
        with contextlib.suppress(ConnectionError):
            while client.recv(4096):
                pass
    # What a killed host leaves, the next command removes.
    operator.strongroom("list")
    assert remains(operator.place, "v") == []
    with opened(operator, image, transport):
        pass


@pytest.mark.parametrize(("confined", "served"), [(True, 256), (False, 300)])
def test_a_confined_enclave_serves_a_stock_of_clients_and_says_no_to_more(
    operator: Operator, image: Path, served: int, *, confined: bool
) -> None:
    with opened(operator, image, "stdio", confined=confined) as status:
        greetings = []
        for _ in range(300):
            with socket.socket(socket.AF_UNIX) as client:
                client.settimeout(20)
                client.connect(status["socket"])
                greetings.append(client.recv(8))
        assert greetings == [b"NBDMAGIC"] * served + [b""] * (300 - served)


@pytest.mark.parametrize("transport", MULTIPLEXED)
def test_the_enclave_of_another_transport_is_confined_as_ever(
    operator: Operator, image: Path, transport: str
) -> None:
    with opened(operator, image, transport) as status:
        tools.run("nbdinfo", status["uri"])
        tasks = list(Path(f"/proc/{status['enclave_pid']}/task").iterdir())
        assert len(tasks) >= 3
        for task in tasks:
            assert "Seccomp:\t2\n" in (task / "status").read_text()
        files = {target for target in open_files(status["enclave_pid"]) if target.startswith("/")}
        assert files == {str(image), "/dev/null", str(Path(status["socket"]).parent / "log")}
        process = Path(f"/proc/{status['enclave_pid']}")
        words = (process / "cmdline").read_bytes().split(b"\0")
        assert words[words.index(b"--image") + 1].startswith(b"/proc/self/fd/")
        assert (process / "environ").read_bytes().count(b"=") == 3
