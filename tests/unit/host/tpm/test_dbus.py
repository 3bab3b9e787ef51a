# SPDX-License-Identifier: Apache-2.0
"""A message bus that lies, stalls or hands out what it should not ends in an error, in time."""

import array
import os
import socket
import struct
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from strongroom.errors import TpmTransportError
from strongroom.host.tpm.address import TabrmdAddress
from strongroom.host.tpm.dbus import _parse_fields
from strongroom.host.tpm.limits import Deadline
from strongroom.host.tpm.tabrmd import bus_socket, connect
from tests.unit.host.tpm.peers import GET_RANDOM, LIMIT_SECONDS, SLACK_SECONDS, peer, response

pytestmark = pytest.mark.unit

GREETING = (b"OK 0123456789abcdef\r\n", b"AGREE_UNIX_FD\r\n")
Bus = Callable[[socket.socket], None]


def field(code: int, kind: bytes, value: bytes) -> bytes:
    return bytes([code, len(kind)]) + kind + b"\0" + value


def text(value: bytes) -> bytes:
    return struct.pack("<I", len(value)) + value + b"\0"


def message(kind: int, *fields: bytes, body: bytes = b"") -> bytes:
    joined = b""
    for one in fields:
        joined = joined.ljust(-(-len(joined) // 8) * 8, b"\0") + one
    head = struct.pack("<cBBBIII", b"l", kind, 0, 1, len(body), 9, len(joined)) + joined
    return head.ljust(-(-len(head) // 8) * 8, b"\0") + body


def reply(serial: int, kind: int = 2, *more: bytes, body: bytes = b"") -> bytes:
    # A variant's value is aligned to 4 after code, signature size, signature and its NUL.
    return message(kind, field(5, b"u", struct.pack("<I", serial)), *more, body=body)


SIGNAL = message(4, field(1, b"o", text(b"/a")), field(8, b"g", b"\1s\0"), body=text(b"x"))
UNKNOWN = field(4, b"s", text(b"org.freedesktop.DBus.Error.ServiceUnknown"))
DENIED = field(4, b"s", text(b"org.freedesktop.DBus.Error.AccessDenied"))


def says(*parts: bytes) -> Bus:
    """Let the client in, answer its first call, then say this to the second."""

    def behave(connected: socket.socket) -> None:
        greet(connected)
        connected.recv(4096)
        connected.sendall(reply(1, 2, field(6, b"s", text(b":1.1"))) + SIGNAL)
        connected.recv(4096)
        for part in parts:
            connected.sendall(part)
        connected.recv(4096)

    return behave


def greet(connected: socket.socket) -> None:
    """Let the client in, unless it gave up or says something else."""
    said = [connected.recv(4096)[:15]]
    connected.sendall(GREETING[0])
    said.append(connected.recv(4096))
    connected.sendall(GREETING[1])
    said.append(connected.recv(7))
    if said != [b"\0AUTH EXTERNAL ", b"NEGOTIATE_UNIX_FD\r\n", b"BEGIN\r\n"]:
        raise EOFError


def hands_out(*descriptors: int, answer: bytes | None = None, times: int = 1) -> Bus:
    """Answer the second call with these beside it, so many times."""

    def behave(connected: socket.socket) -> None:
        greet(connected)
        connected.recv(4096)
        connected.sendall(reply(1))
        connected.recv(4096)
        rights = array.array("i", descriptors)
        for _ in range(times):
            beside = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)]
            connected.sendmsg([SIGNAL, answer or reply(2, body=bytes(8))], beside)
        connected.recv(4096)

    return behave


def broker(bus: Bus, path: Path, *, seconds: float = 30) -> TpmTransportError:
    """Return the error of connecting through a bus that must fail, and in time.

    Only who misses the limit has a short one.
    """
    start = time.monotonic()
    before = len(list(Path("/proc/self/fd").iterdir()))
    with peer(lambda _, connected: bus(connected), path=path):
        with pytest.raises(TpmTransportError) as caught:
            connect(TabrmdAddress(), str(path), Deadline(seconds))
        assert time.monotonic() - start < LIMIT_SECONDS + SLACK_SECONDS
    assert len(list(Path("/proc/self/fd").iterdir())) <= before, "a descriptor was left behind"
    return caught.value


def silent(connected: socket.socket) -> None:
    connected.recv(4096)
    time.sleep(LIMIT_SECONDS * 2)


def chatters(connected: socket.socket) -> None:
    greet(connected)
    while True:
        connected.sendall(SIGNAL)


def refuses(connected: socket.socket) -> None:
    connected.recv(4096)
    connected.sendall(b"REJECTED EXTERNAL\r\n")


@pytest.mark.parametrize(
    ("bus", "problem"),
    [
        (silent, "within"),
        (refuses, "does not let us in"),
        (lambda connected: connected.sendall(b"x" * 5000), "a line is too long"),
        (lambda _: None, "ended"),
        (chatters, "everything but an answer"),
        (says(), "within"),
        (says(b"l"), "within"),
        (says(b"x" * 16), "nonsense"),
        (says(b"l\2\0\2" + bytes(12)), "nonsense"),
        (says(b"l\2\0\1" + b"\xff" * 12), "too long"),
        (says(struct.pack("<cBBBIII", b"l", 2, 0, 1, 0, 1, 65536 + 1)), "too long"),
        (says(message(2, field(5, b"u", b"\2\0"))), "malformed"),
        (says(message(2, b"\5\xffu")), "malformed"),
        (says(message(2, field(5, b"ai", bytes(8)))), "unknown type"),
        (says(message(2, field(4, b"s", b"\xff\xff\0\0abc"))), "ends outside"),
        (says(message(2, field(4, b"s", text(b"\xff")))), "malformed"),
        (says(reply(3)), "within"),
        (says(reply(1)), "within"),
        (says(reply(2)), "gave 0 connections"),
        (says(reply(2, 3, UNKNOWN)), "no access broker"),
        (says(reply(2, 3, DENIED)), "refused"),
        (says(reply(2, 3)), "refused"),
    ],
)
def test_a_broken_bus_is_an_error_in_time(tmp_path: Path, bus: Bus, problem: str) -> None:
    error = broker(bus, tmp_path / "bus", seconds=LIMIT_SECONDS if problem == "within" else 30)
    assert problem in error.message or "bus broke" in error.message, error.message


def test_what_is_missing_is_said(tmp_path: Path) -> None:
    absent = broker(says(reply(2, 3, UNKNOWN)), tmp_path / "bus")
    assert "tpm2-abrmd" in absent.hint
    denied = broker(says(reply(2, 3, DENIED)), tmp_path / "other")
    assert "group tss" in denied.hint
    with pytest.raises(TpmTransportError, match="no TPM can be reached"):
        connect(TabrmdAddress(), str(tmp_path / "none"), Deadline(30))


def test_one_socket_is_the_brokers(tmp_path: Path) -> None:
    ours, theirs = socket.socketpair()

    def serve() -> None:
        assert theirs.recv(4096) == GET_RANDOM
        theirs.sendall(response(20))

    thread = threading.Thread(target=serve)
    thread.start()
    bus = hands_out(ours.fileno())
    with ours, theirs, peer(lambda _, connected: bus(connected), path=tmp_path / "bus"):
        transport = connect(TabrmdAddress(), str(tmp_path / "bus"), Deadline(10))
        assert transport.transmit(GET_RANDOM, Deadline(10)) == response(20)
        transport.close()
        thread.join(10)


@pytest.mark.parametrize("number", [2, 4, 5, 100])
def test_more_than_one_descriptor_is_refused_and_closed(tmp_path: Path, number: int) -> None:
    with socket.socket() as one:
        error = broker(hands_out(*[one.fileno()] * number), tmp_path / "bus")
    assert "connections, not one" in error.message or "too many" in error.message


@pytest.mark.parametrize(
    ("answer", "seconds"), [(reply(2, 3, DENIED), 30), (SIGNAL, LIMIT_SECONDS), (b"x" * 16, 30)]
)
def test_descriptors_beside_no_answer_are_closed(
    tmp_path: Path, answer: bytes, seconds: float
) -> None:
    with socket.socket() as one:
        bus = hands_out(one.fileno(), one.fileno(), answer=answer)
        broker(bus, tmp_path / "bus", seconds=seconds)


def test_descriptors_without_end_are_refused_and_closed(tmp_path: Path) -> None:
    with socket.socket() as one:
        endless = hands_out(*[one.fileno()] * 4, answer=SIGNAL, times=20)
        assert "too many descriptors" in broker(endless, tmp_path / "bus").message


def test_what_is_no_socket_is_refused_and_closed(tmp_path: Path) -> None:
    read_end, write_end = os.pipe()
    try:
        error = broker(hands_out(read_end), tmp_path / "bus")
    finally:
        os.close(read_end)
        os.close(write_end)
    assert "no socket" in error.message


@settings(max_examples=2000, deadline=None)
@given(st.binary(max_size=200), st.sampled_from("<>"))
def test_no_header_crashes_the_parser(data: bytes, order: str) -> None:
    try:
        fields = _parse_fields(order, data)
    except TpmTransportError:
        return
    assert len(fields) <= len(data)


def test_the_buses_are_where_they_are_by_convention(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DBUS_SESSION_BUS_ADDRESS", "unix:path=/evil")
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", "unix:path=/evil")
    assert bus_socket(TabrmdAddress("system")) == "/run/dbus/system_bus_socket"
    assert bus_socket(TabrmdAddress("session")) == f"/run/user/{os.getuid()}/bus"
