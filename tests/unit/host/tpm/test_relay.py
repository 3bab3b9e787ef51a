# SPDX-License-Identifier: Apache-2.0
"""One command at a time, each sent once, and an end that waits for nobody."""

import select
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from strongroom.errors import (
    InternalError,
    NotFoundError,
    PlatformError,
    TpmTransportError,
    UnavailableError,
)
from strongroom.host.tpm import Relay, Trace, parse_address
from strongroom.host.tpm.limits import (
    MAX_BYTES,
    SILENCE_SECONDS,
    Deadline,
    TimeLimits,
    command_code,
)
from tests.unit.host.tpm.peers import (
    CREATE_PRIMARY,
    GET_RANDOM,
    QUICK,
    SLACK_SECONDS,
    Peer,
    answers,
    answers_and_ends,
    never_answers,
    peer,
    refused,
    response,
)

pytestmark = pytest.mark.unit


def test_threads_take_turns() -> None:
    inside = threading.Semaphore(1)

    def behave(it: Peer, connected: socket.socket) -> None:
        while True:
            command = it.read_command(connected)
            assert inside.acquire(blocking=False), "two commands at once"
            time.sleep(0.002)
            assert not select.select([connected], [], [], 0)[0]
            inside.release()
            connected.sendall(response(14, fill=command[-1:]))

    def command(number: int) -> bytes:
        return GET_RANDOM[:-1] + bytes([number])

    with peer(behave) as it, Relay(parse_address(it.address)) as relay:
        with ThreadPoolExecutor(8) as threads:
            answered = list(threads.map(lambda n: relay.transmit(command(n)), range(100)))
        assert answered == [response(14, fill=bytes([n])) for n in range(100)]
        assert it.connections == 1
        assert sorted(it.commands) == [command(n) for n in range(100)]


@pytest.mark.parametrize(
    "command",
    [
        b"",
        GET_RANDOM[:9],
        GET_RANDOM[:-1],
        GET_RANDOM + b"\0",
        GET_RANDOM + GET_RANDOM,
        (b"\x80\x01" + (MAX_BYTES + 1).to_bytes(4) + b"\0\0\x01\x7b").ljust(MAX_BYTES + 1, b"\0"),
    ],
)
def test_what_is_not_one_command_is_not_sent(command: bytes, tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    with peer(answers(response())) as it:
        with Relay(parse_address(it.address), trace=Trace(trace), limits=QUICK) as relay:
            with pytest.raises(InternalError):
                relay.transmit(command)
            empty = trace.stat().st_size
            assert relay.transmit(CREATE_PRIMARY) == response()
        assert it.commands == [CREATE_PRIMARY]
        assert trace.stat().st_size > empty


def test_the_largest_command_is_sent_whole() -> None:
    largest = (b"\x80\x01" + MAX_BYTES.to_bytes(4) + b"\0\0\x01\x7b").ljust(MAX_BYTES, b"c")
    with peer(answers(response())) as it, Relay(parse_address(it.address)) as relay:
        assert relay.transmit(largest) == response()
        assert it.commands == [largest]


def test_making_a_key_may_take_longer() -> None:
    limits = TimeLimits()
    for slow in (0x131, 0x153, 0x191, 0x177):
        assert limits.of(slow) > 300, "longer than the kernel's driver"
    assert 120 < limits.of(command_code(GET_RANDOM)) < 300
    short = TimeLimits(slow_seconds=30, other_seconds=0.2, connect_seconds=5)

    def behave(it: Peer, connected: socket.socket) -> None:
        it.read_command(connected)
        it.over.wait(0.5)
        connected.sendall(response(16))

    with peer(behave) as it:
        with Relay(parse_address(it.address), limits=short) as relay:
            refused(relay)
        with Relay(parse_address(it.address), limits=short) as relay:
            assert relay.transmit(CREATE_PRIMARY) == response(16)


def test_who_waits_behind_a_stuck_command_is_told_so_in_time() -> None:
    limits = TimeLimits(slow_seconds=0.3, other_seconds=5, connect_seconds=5)
    with peer(never_answers) as it:
        relay = Relay(parse_address(it.address), limits=limits)
        stuck = threading.Thread(target=_fails, args=(relay,))
        stuck.start()
        while not it.commands:
            time.sleep(0.001)
        with pytest.raises(TpmTransportError, match="still busy"):
            relay.transmit(CREATE_PRIMARY)
        it.over.set()
        stuck.join(30)
        relay.close()


def test_closing_does_not_wait_for_the_command_in_flight(tmp_path: Path) -> None:
    with peer(never_answers) as it:
        relay = Relay(
            parse_address(it.address),
            trace=Trace(tmp_path / "trace"),
            limits=TimeLimits(other_seconds=30),
        )
        thread = threading.Thread(target=_fails, args=(relay,))
        thread.start()
        while not it.commands:
            time.sleep(0.001)
        start = time.monotonic()
        relay.close()
        assert time.monotonic() - start < SLACK_SECONDS
        it.over.set()  # the peer ends the connection
        thread.join(30)
        assert not thread.is_alive()
        assert it.connections == 1
    with pytest.raises(TpmTransportError, match="was closed"):
        relay.transmit(GET_RANDOM)
    relay.close()


def test_the_command_in_flight_closes_what_was_closed(tmp_path: Path) -> None:
    ended = threading.Event()

    def behave(it: Peer, connected: socket.socket) -> None:
        it.read_command(connected)
        it.over.wait(30)
        connected.sendall(response(20))
        assert connected.recv(1) == b""
        ended.set()

    trace = Trace(tmp_path / "trace")
    answered: list[bytes] = []
    with peer(behave) as it:
        relay = Relay(parse_address(it.address), trace=trace)
        thread = threading.Thread(target=lambda: answered.append(relay.transmit(GET_RANDOM)))
        thread.start()
        while not it.commands:
            time.sleep(0.001)
        relay.close()
        it.over.set()
        thread.join(30)
        assert answered == [response(20)]
        assert ended.wait(30), "the connection is still open"
    with pytest.raises(PlatformError):
        trace.command(GET_RANDOM)


def test_nothing_is_connected_before_it_is_used() -> None:
    with peer(answers(response())) as it:
        Relay(parse_address(it.address)).close()
        assert not it.connections


def test_a_lost_command_is_in_the_trace_and_a_lost_answer_is_not(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    with peer(answers_and_ends(response(4096)[:-1])) as it:
        relay = Relay(parse_address(it.address), trace=Trace(trace), limits=QUICK)
        refused(relay)
        relay.close()
    assert GET_RANDOM in trace.read_bytes()
    assert response(4096)[:100] not in trace.read_bytes()


def test_what_cannot_be_recorded_is_not_sent(tmp_path: Path) -> None:
    trace = Trace(tmp_path / "trace")
    with (
        peer(answers(response())) as it,
        Relay(parse_address(it.address), trace=trace, limits=QUICK) as relay,
    ):
        trace.close()
        with pytest.raises(Exception, match="cannot write the TPM trace"):
            relay.transmit(GET_RANDOM)
        assert not it.commands


def test_windows_way_is_not_there_on_linux() -> None:
    with pytest.raises(UnavailableError, match="Windows"):
        Relay(parse_address("tbs")).transmit(GET_RANDOM)


def test_a_trace_needs_its_directory(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError):
        Trace(tmp_path / "missing" / "trace")


def test_a_deadline_never_says_zero() -> None:
    deadline = Deadline(30)
    assert 0 < deadline.left() <= 30
    assert 0 < deadline.sooner(10).left() <= 10
    missed = Deadline(0.01)
    time.sleep(0.02)
    with pytest.raises(TpmTransportError, match=r"within 0\.01 seconds"):
        missed.left()


def test_a_part_of_a_deadline_does_not_change_what_is_said() -> None:
    deadline = Deadline(30)
    time.sleep(0.2)
    assert "within 30 seconds" in deadline.sooner(30).missed().message
    assert "within 10 seconds" in deadline.sooner(10).missed().message


def _fails(relay: Relay) -> None:
    with pytest.raises(TpmTransportError):
        relay.transmit(GET_RANDOM)


def test_a_tpm_that_takes_long_is_said_to_be_silent_once() -> None:
    said: list[str] = []
    limits = TimeLimits(other_seconds=SILENCE_SECONDS + 0.2)
    with (
        peer(never_answers) as it,
        Relay(parse_address(it.address), limits=limits, notice=said.append) as relay,
    ):
        assert "within 2.2 seconds" in refused(relay).message
        assert "within 0.5 seconds" in refused(relay).message
    assert len(said) == 1
    assert "waits up to 2.2 seconds" in said[0]


def test_a_tpm_that_answers_again_has_all_its_time_again() -> None:
    waits = iter((1.0, 0.0, 0.7))

    def behave(it: Peer, connected: socket.socket) -> None:
        while True:
            it.read_command(connected)
            it.over.wait(next(waits))
            connected.sendall(response())

    with (
        peer(behave) as it,
        Relay(parse_address(it.address), limits=TimeLimits(30, 0.9, 30)) as relay,
    ):
        refused(relay)
        time.sleep(0.3)  # until the other end has seen that it was given up
        assert relay.transmit(GET_RANDOM) == response()
        assert relay.transmit(GET_RANDOM) == response()


def test_a_tpm_that_answers_is_not_said_to_be_silent() -> None:
    said: list[str] = []
    with (
        peer(answers(response())) as it,
        Relay(parse_address(it.address), notice=said.append) as relay,
    ):
        assert relay.transmit(GET_RANDOM) == response()
        time.sleep(SILENCE_SECONDS + 0.2)
    assert said == []


def test_no_limit_is_longer_than_what_was_chosen() -> None:
    assert TimeLimits().at_most(None) == TimeLimits()
    assert TimeLimits().at_most(20) == TimeLimits(20, 20, 10)
    assert TimeLimits().at_most(3) == TimeLimits(3, 3, 3)
