# SPDX-License-Identifier: Apache-2.0
"""What a hostile peer does to a socket ends in an error, in time, and never in another's answer."""

import socket
import struct
import threading
from pathlib import Path

import pytest

from strongroom.errors import TpmTransportError
from strongroom.host.tpm import Relay, parse_address
from strongroom.host.tpm.limits import Deadline
from strongroom.host.tpm.stream import RawStream, connect_tcp
from tests.tpm_bridges import read
from tests.unit.host.tpm.peers import (
    CREATE_PRIMARY,
    LIMIT_SECONDS,
    QUICK,
    Behaviour,
    Peer,
    answers,
    answers_and_ends,
    doomed,
    drips,
    never_answers,
    peer,
    refused,
    resets,
    response,
)

pytestmark = pytest.mark.unit

LARGEST = response(4096)


@pytest.fixture(params=["unix", "tcp"])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path | None:
    return tmp_path / "socket" if request.param == "unix" else None


BROKEN: list[tuple[str, Behaviour, str]] = [
    ("ends at once", answers_and_ends(b""), "ended before"),
    ("ends in the header", answers_and_ends(LARGEST[:9]), "ended before"),
    ("ends after the header", answers_and_ends(LARGEST[:10]), "ended before"),
    ("ends before the last byte", answers_and_ends(LARGEST[:-1]), "ended before"),
    ("one byte too long", answers(response(4097)), "4097 bytes"),
    ("huge", answers(struct.pack(">HII", 0x8001, 0xFFFFFFFF, 0)), "4294967295 bytes"),
    ("shorter than its header", answers(struct.pack(">HII", 0x8001, 9, 0)), "9 bytes"),
    ("empty", answers(bytes(10)), "0 bytes"),
    ("another protocol", answers(b"HTTP/1.1 400 Bad Request\r\n\r\n"), "bytes"),
    ("never answers", never_answers, "within 0.2 seconds"),
    ("never ends", answers(LARGEST[:-1]), "within 0.2 seconds"),
    ("drips", drips, "within 0.2 seconds"),
    ("resets", resets, "broke|ended before"),
]


@pytest.mark.parametrize(
    ("behave", "message"), [pytest.param(b, m, id=name) for name, b, m in BROKEN]
)
def test_a_broken_answer_is_an_error_in_time(
    path: Path | None, behave: Behaviour, message: str
) -> None:
    with peer(behave, path=path) as it, Relay(parse_address(it.address), limits=QUICK) as relay:
        command = doomed(message)
        error = refused(relay, command)
        assert error.exit_code == 81
        assert any(part in error.message for part in message.split("|")), error.message
        assert it.received() == [command], "a command whose answer was lost is not sent again"


@pytest.mark.parametrize("size", [10, 11, 4095, 4096])
def test_every_size_that_is_allowed_comes_back_whole(path: Path | None, size: int) -> None:
    whole = response(size)
    behave = answers(whole[:1], whole[1:10], whole[10:])
    with peer(behave, path=path) as it, Relay(parse_address(it.address), limits=QUICK) as relay:
        assert relay.transmit(CREATE_PRIMARY) == whole
        assert relay.transmit(CREATE_PRIMARY) == whole
        assert it.connections == 1


def test_bytes_that_nobody_asked_for_are_no_answer(path: Path | None) -> None:
    def behave(it: Peer, connected: socket.socket) -> None:
        it.read_command(connected)
        connected.sendall(response(12, fill=b"%d" % it.connections) + response(12, fill=b"X"))
        read(connected, 1)

    with peer(behave, path=path) as it, Relay(parse_address(it.address), limits=QUICK) as relay:
        for number in (b"1", b"2", b"3"):
            assert relay.transmit(CREATE_PRIMARY) == response(12, fill=number)
        assert it.connections == 3


def test_a_late_answer_is_never_the_next_commands(path: Path | None) -> None:
    late = threading.Event()

    def behave(it: Peer, connected: socket.socket) -> None:
        it.read_command(connected)
        if it.connections == 1:
            late.wait(30)
        connected.sendall(response(12, fill=b"%d" % it.connections))

    with peer(behave, path=path) as it, Relay(parse_address(it.address), limits=QUICK) as relay:
        refused(relay)
        late.set()
        assert relay.transmit(CREATE_PRIMARY) == response(12, fill=b"2")


def test_an_answer_that_comes_after_the_next_command_is_not_its_answer(path: Path | None) -> None:
    def behave(it: Peer, connected: socket.socket) -> None:
        it.read_command(connected)
        number = it.connections
        if number == 1:
            it.read_command(connected)  # the next one, if it were to come here
        connected.sendall(response(12, fill=b"%d" % number))

    with peer(behave, path=path) as it, Relay(parse_address(it.address), limits=QUICK) as relay:
        refused(relay)
        assert relay.transmit(CREATE_PRIMARY) == response(12, fill=b"2")


def test_a_connection_that_ended_between_commands_is_made_anew(path: Path | None) -> None:
    ended = threading.Event()

    def behave(it: Peer, connected: socket.socket) -> None:
        it.read_command(connected)
        connected.sendall(response(12))
        connected.shutdown(socket.SHUT_RDWR)
        ended.set()

    with peer(behave, path=path) as it, Relay(parse_address(it.address), limits=QUICK) as relay:
        for _ in range(3):
            ended.clear()
            assert relay.transmit(CREATE_PRIMARY) == response(12)
            assert ended.wait(30)
        assert it.connections == 3
        assert len(it.commands) == 3


def test_a_descriptor_is_not_left_behind(path: Path | None) -> None:
    with peer(answers_and_ends(b""), path=path) as it:
        relay = Relay(parse_address(it.address), limits=QUICK)
        refused(relay)
        before = len(list(Path("/proc/self/fd").iterdir()))
        for _ in range(50):
            refused(relay)
        assert len(list(Path("/proc/self/fd").iterdir())) <= before + 1
        relay.close()


@pytest.mark.parametrize("address", ["swtpm:port=1", "mssim:port=1", "swtpm:path=/nonexistent"])
def test_nobody_there_says_where(address: str) -> None:
    error = refused(Relay(parse_address(address), limits=QUICK), CREATE_PRIMARY)
    assert "no TPM can be reached at" in error.message
    assert "--tpm" in error.hint


def test_a_name_that_cannot_be_looked_up() -> None:
    with pytest.raises(TpmTransportError, match="is no place"):
        connect_tcp("a..b", 2321, Deadline(5))


def test_a_server_that_never_accepts_is_not_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as first:
        listener.bind(str(path))
        listener.listen(0)
        first.connect(str(path))  # fills the queue: who comes next waits in connect()
        error = refused(Relay(parse_address(f"swtpm:path={path}"), limits=QUICK))
    assert "within 0.2 seconds" in error.message


def test_a_peer_that_never_reads_is_not_waited_for() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
        stream = RawStream(ours)
        with pytest.raises(TpmTransportError, match=r"within 0\.2 seconds"):
            stream.transmit(response(4096) * 64, Deadline(LIMIT_SECONDS))
