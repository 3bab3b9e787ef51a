# SPDX-License-Identifier: Apache-2.0
"""One enclave over each transport; only the UNIX socket brings it a disk."""

import contextlib
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from strongroom.boundary import calls, cbor
from strongroom.boundary.channel import Caller, registry_of
from strongroom.boundary.mux import Multiplexer
from strongroom.boundary.mux.frames import PREFACE, Header, Kind
from strongroom.boundary.stream import ByteStream, receive_frame, send_frame
from strongroom.boundary.token import TOKEN_BYTES
from strongroom.errors import BoundaryError
from strongroom.host.starting.process import interpreting
from tests.hostile.boundary.evil import PACKAGE, VIOLATED, Enclave, enclave_command, opened

pytestmark = pytest.mark.hostile

TOKEN = bytes(range(TOKEN_BYTES))


@contextlib.contextmanager
def over_pipes() -> Iterator[tuple[ByteStream, subprocess.Popen[bytes]]]:
    with subprocess.Popen(
        enclave_command("stdio"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        cwd="/",
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        ends = os.dup(process.stdout.fileno()), os.dup(process.stdin.fileno())
        process.stdin.close()
        with multiplexed(*ends) as stream:
            yield stream, process
        process.wait(10)


@contextlib.contextmanager
def over_tcp() -> Iterator[tuple[ByteStream, subprocess.Popen[bytes]]]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(30)
        port = server.getsockname()[1]
        with subprocess.Popen(
            enclave_command(f"tcp:{port}"),
            stdin=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd="/",
        ) as process:
            assert process.stdin is not None
            process.stdin.write(TOKEN)
            process.stdin.close()
            connection, _ = server.accept()
            connection.settimeout(30)
            assert connection.recv(len(TOKEN), socket.MSG_WAITALL) == TOKEN
            descriptor = connection.detach()
            with multiplexed(descriptor, descriptor) as stream:
                yield stream, process
            process.wait(10)


@contextlib.contextmanager
def multiplexed(read_fd: int, write_fd: int) -> Iterator[ByteStream]:
    multiplexer = Multiplexer(read_fd, write_fd)
    multiplexer.start()
    try:
        yield multiplexer.boundary
    finally:
        multiplexer.close()


def caller_of(stream: ByteStream) -> Caller:
    return Caller(stream, registry_of(calls.OCALLS), lambda _: calls.Done())


def test_a_socket_pair_carries_descriptions_and_tests(enclave: Enclave) -> None:
    assert enclave.call(calls.Describe()).protocol == calls.PROTOCOL_VERSION
    assert all(test.passed for test in enclave.call(calls.RunSelftest()).results)


@pytest.mark.parametrize("transport", [over_pipes, over_tcp])
def test_other_transports_carry_calls_and_no_disk(transport: object, image: Path) -> None:
    assert callable(transport)
    with transport() as (stream, process):
        caller = caller_of(stream)
        description = caller.call(calls.Describe())
        assert description.identity.tee == "process"
        assert {measure.name for measure in description.confinement} >= {"seccomp", "landlock"}
        results = caller.call(calls.RunSelftest()).results
        assert results
        assert all(test.passed for test in results)
        with opened(image) as descriptor, pytest.raises(BoundaryError, match="no file descriptor"):
            caller.call(calls.LoadDisk(descriptor, None, read_only=True))
        # Nothing was sent: both sides go on.
        assert caller.call(calls.Describe()) == description
        assert caller.call(calls.Shutdown()) == calls.Done()
    assert process.returncode == 0


@pytest.mark.parametrize("transport", [over_pipes, over_tcp])
def test_a_disk_that_is_only_claimed_is_a_violation(transport: object) -> None:
    assert callable(transport)
    with transport() as (stream, process):
        fields: cbor.Value = {"direct": None, "header": None, "image": True, "read_only": True}
        send_frame(stream, cbor.encode([0, "LoadDisk", fields]), [])
        heard = cbor.decode(receive_frame(stream)[0])
        assert isinstance(heard, list)
        assert heard[:2] == [2, ""]
    assert process.returncode == VIOLATED


LIES = {
    "another version": b"SRMX" + (2).to_bytes(4, "big"),
    "no preface": b"\x00\x00\x00\x01\xa0",
    "unknown channel": PREFACE + Header(Kind.END, 5, 0).encode(),
    "too much data": PREFACE + Header(Kind.DATA, 0, 2**32 - 1).encode(),
    "credit for nothing": PREFACE + Header(Kind.CREDIT, 0, 1).encode(),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_stream_that_lies_ends_the_enclave(lie: str) -> None:
    with subprocess.Popen(
        enclave_command("stdio"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd="/",
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdin.write(LIES[lie].ljust(64, b"\0"))
        process.stdin.flush()
        assert process.wait(30) == VIOLATED
        assert process.stdout.read().startswith(PREFACE)
        assert b"boundary violated, keys erased" in process.stderr.read()


@pytest.mark.parametrize("transport", [over_pipes, over_tcp])
def test_a_host_that_leaves_ends_the_enclave(transport: object) -> None:
    assert callable(transport)
    with transport() as (stream, process):
        caller_of(stream).call(calls.Describe())
    assert process.returncode == 0


@pytest.mark.parametrize(
    "address", ["", "fd", "fd:", "fd:x", "fd:0", "fd:99", "stdio:1", "tcp:", "tcp:0", "unix:/x"]
)
def test_an_address_that_is_none_is_refused(address: str) -> None:
    done = subprocess.run(
        [
            *(*interpreting(sys.executable, PACKAGE), "--boundary", address),
            *("--tee", "process", "--state", "/nowhere"),
        ],
        check=False,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=30,
    )
    assert (done.returncode, done.stdout) == (2, b"")
    assert b"boundary" in done.stderr
    assert b"Traceback" not in done.stderr
