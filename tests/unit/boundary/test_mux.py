# SPDX-License-Identifier: Apache-2.0
"""Channels over one stream: everything arrives, nobody waits for anybody, lies end it all."""

import contextlib
import os
import random
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from strongroom.boundary.mux import Multiplexer
from strongroom.boundary.mux.channels import Connection
from strongroom.boundary.mux.frames import (
    HEADER_BYTES,
    MAX_CHANNELS,
    MAX_DATA_BYTES,
    PREFACE,
    WINDOW_BYTES,
    Flow,
    FrameParser,
    Header,
    Kind,
)
from strongroom.boundary.stream import (
    MAX_FRAME_BYTES,
    EndOfStreamError,
    receive_frame,
    send_frame,
)
from strongroom.errors import BoundaryError

pytestmark = pytest.mark.unit

PATIENCE_SECONDS: Final = 20.0


def until(condition: Callable[[], bool]) -> None:
    """Wait for another thread to get somewhere."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.002)


def socket_descriptors() -> tuple[tuple[int, int], tuple[int, int]]:
    one, other = (end.detach() for end in socket.socketpair())
    return (one, one), (other, other)


def pipe_descriptors() -> tuple[tuple[int, int], tuple[int, int]]:
    (their_read, our_write), (our_read, their_write) = os.pipe(), os.pipe()
    return (our_read, our_write), (their_read, their_write)


def tcp_descriptors() -> tuple[tuple[int, int], tuple[int, int]]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        one = socket.create_connection(server.getsockname()).detach()
        other = server.accept()[0].detach()
        return (one, one), (other, other)


@dataclass
class Both:
    """A host end with a listening socket, and an enclave end that keeps what it is given."""

    host: Multiplexer
    enclave: Multiplexer
    address: str
    served: list[socket.socket] = field(default_factory=list)
    clients: list[socket.socket] = field(default_factory=list)

    def client(self) -> socket.socket:
        """Connect; on the enclave's side it appears in ``served``, in order."""
        client = socket.socket(socket.AF_UNIX)
        client.settimeout(PATIENCE_SECONDS)
        client.connect(self.address)
        self.clients.append(client)
        return client

    def connection(self) -> tuple[socket.socket, socket.socket]:
        """Return both ends of a new connection."""
        before = len(self.served)
        client = self.client()
        until(lambda: len(self.served) > before)
        self.served[-1].settimeout(PATIENCE_SECONDS)
        return client, self.served[-1]


@contextlib.contextmanager
def both(
    descriptors: tuple[tuple[int, int], tuple[int, int]] | None = None,
) -> Iterator[Both]:
    host_ends, enclave_ends = descriptors or socket_descriptors()
    with TemporaryDirectory() as place, socket.socket(socket.AF_UNIX) as listener:
        address = str(Path(place) / "s")
        listener.bind(address)
        listener.listen(200)
        ends = Both(
            Multiplexer(*host_ends), Multiplexer(*enclave_ends, pairs=socket.socketpair), address
        )
        ends.enclave.accept(ends.served.append)
        ends.host.start()
        ends.enclave.start()
        ends.host.forward(listener)
        try:
            yield ends
        finally:
            ends.host.close()
            ends.enclave.close()
            for connection in ends.served + ends.clients:
                connection.close()


def send_until_stalled(connection: socket.socket, patience_seconds: float) -> int:
    """Return how much was taken before nothing was."""
    connection.settimeout(patience_seconds)
    sent = 0
    with contextlib.suppress(TimeoutError):
        while True:
            sent += connection.send(bytes(65536))
    return sent


def receive_all(connection: socket.socket, size: int) -> bytes:
    received = bytearray()
    while len(received) < size:
        piece = connection.recv(65536)
        assert piece, f"only {len(received)} of {size} bytes came"
        received += piece
    return bytes(received)


def read_until_end(connection: socket.socket, into: bytearray) -> None:
    while piece := connection.recv(100_000):
        into += piece


def echo(connection: socket.socket) -> None:
    connection.settimeout(PATIENCE_SECONDS)
    with connection:
        while piece := connection.recv(100_000):
            connection.sendall(piece)


def echo_in_a_thread(connection: socket.socket) -> None:
    threading.Thread(target=echo, args=(connection,), daemon=True).start()


# --- frames -------------------------------------------------------------------------------------


def frames() -> st.SearchStrategy[tuple[Header, bytes]]:
    channel = st.integers(1, MAX_CHANNELS)
    control = st.builds(
        lambda kind, number: (Header(kind, number, 0), b""),
        st.sampled_from([Kind.OPEN, Kind.END, Kind.CLOSE]),
        channel,
    )
    credit = st.builds(
        lambda number, size: (Header(Kind.CREDIT, number, size), b""),
        st.integers(0, MAX_CHANNELS),
        st.integers(1, WINDOW_BYTES),
    )
    data = st.builds(
        lambda number, content: (Header(Kind.DATA, number, len(content)), content),
        st.integers(0, MAX_CHANNELS),
        st.binary(min_size=1, max_size=40),
    )
    return control | credit | data


@given(st.lists(frames(), max_size=12), st.lists(st.integers(1, 30)))
def test_frames_are_found_however_the_stream_is_cut(
    sent: list[tuple[Header, bytes]], cuts: list[int]
) -> None:
    stream = PREFACE + b"".join(header.encode() + data for header, data in sent)
    parser, found = FrameParser(), list[tuple[Header, bytes]]()
    while stream:
        size = cuts.pop() if cuts else len(stream)
        for header, piece in parser.feed(memoryview(stream[:size])):
            if piece:
                assert found[-1][0] == header
                found[-1] = (header, found[-1][1] + piece)
            else:
                found.append((header, b""))
        stream = stream[size:]
    assert found == sent


@given(st.binary(min_size=1, max_size=200))
def test_any_bytes_are_frames_or_a_violation(garbage: bytes) -> None:
    parser = FrameParser()
    with contextlib.suppress(BoundaryError):
        for header, _ in parser.feed(memoryview(PREFACE + garbage)):
            assert 0 <= header.channel <= MAX_CHANNELS
            assert header.size <= WINDOW_BYTES


class OneWay:
    """One direction of a channel: two ends, what is between them, and what waits to be consumed."""

    def __init__(self) -> None:
        self.sender, self.receiver = Flow(), Flow()
        self.data: list[int] = []
        self.credit: list[int] = []
        self.buffered = 0

    def send(self, size: int) -> None:
        if size := min(size, self.sender.sendable):
            self.data.append(size)
            self.sender.sendable -= size

    def receive(self, _: int = 0) -> None:
        if self.data:
            self.receiver.receive(Header(Kind.DATA, 1, self.data[0]))
            self.buffered += self.data.pop(0)

    def consume(self, size: int) -> None:
        self.receiver.consume(min(size, self.buffered))
        self.buffered -= min(size, self.buffered)
        if self.receiver.credit_due:
            self.credit.append(self.receiver.grant())

    def take_credit(self, _: int = 0) -> None:
        while self.credit:
            self.sender.receive(Header(Kind.CREDIT, 1, self.credit.pop(0)))


ACTIONS: Final = (OneWay.send, OneWay.receive, OneWay.consume, OneWay.take_credit)


@given(st.lists(st.tuples(st.sampled_from(ACTIONS), st.integers(1, MAX_DATA_BYTES))))
def test_windows_bound_what_is_buffered_and_never_stall(
    actions: list[tuple[Callable[[OneWay, int], None], int]],
) -> None:
    way = OneWay()
    for act, size in actions:
        act(way, size)
        assert way.buffered + sum(way.data) <= WINDOW_BYTES
    while way.data:
        way.receive()
    way.consume(way.buffered)
    way.take_credit()
    assert way.sender.sendable > WINDOW_BYTES * 3 // 4


# --- everything arrives ---------------------------------------------------------------------------


@pytest.mark.parametrize("make", [socket_descriptors, pipe_descriptors, tcp_descriptors])
def test_the_boundary_and_clients_share_each_kind_of_stream(
    make: Callable[[], tuple[tuple[int, int], tuple[int, int]]],
) -> None:
    with both(make()) as ends:
        ends.enclave.accept(echo_in_a_thread)
        content = random.Random(1).randbytes(3 * WINDOW_BYTES + 7)
        with ends.client() as client:
            sending = threading.Thread(target=client.sendall, args=(content,))
            sending.start()
            one, other = ends.host.boundary, ends.enclave.boundary
            for size in (1, 5000, MAX_FRAME_BYTES):
                for source, target in ((one, other), (other, one)):
                    frame = threading.Thread(target=send_frame, args=(source, b"q" * size, []))
                    frame.start()
                    assert receive_frame(target) == (b"q" * size, [])
                    frame.join()
            assert receive_all(client, len(content)) == content
            sending.join()


@settings(max_examples=20, deadline=None)
@given(
    st.lists(st.lists(st.integers(1, 300_000), min_size=1, max_size=5), min_size=1, max_size=5),
    st.integers(0, 2**32),
)
def test_random_interleavings_arrive_whole_and_in_order(
    clients: list[list[int]], seed: int
) -> None:
    source = random.Random(seed)
    with both() as ends, contextlib.ExitStack() as stack:
        ends.enclave.accept(echo_in_a_thread)
        sockets = [stack.enter_context(ends.client()) for _ in clients]
        contents = [[source.randbytes(size) for size in sizes] for sizes in clients]

        def send() -> None:
            left = [list(pieces) for pieces in contents]
            while any(left):
                number = source.choice([n for n, pieces in enumerate(left) if pieces])
                sockets[number].sendall(left[number].pop(0))
                send_frame(ends.host.boundary, bytes([number]) * 20_000, [])
                assert receive_frame(ends.enclave.boundary)[0] == bytes([number]) * 20_000
            for client in sockets:
                client.shutdown(socket.SHUT_WR)

        # In a thread of its own: an echo that nobody reads stops whoever sends.
        sender = threading.Thread(target=send)
        sender.start()
        heard = [bytearray() for _ in clients]
        readers = [
            threading.Thread(target=read_until_end, args=ends_of_one)
            for ends_of_one in zip(sockets, heard, strict=True)
        ]
        for thread in readers:
            thread.start()
        for thread in [sender, *readers]:
            thread.join(PATIENCE_SECONDS)
            assert not thread.is_alive()
        assert heard == [b"".join(pieces) for pieces in contents]


def test_each_direction_ends_by_itself() -> None:
    with both() as ends:
        client, served = ends.connection()
        client.sendall(b"the request")
        client.shutdown(socket.SHUT_WR)
        assert receive_all(served, 11) == b"the request"
        assert served.recv(1) == b""
        served.sendall(b"the answer")
        assert receive_all(client, 10) == b"the answer"
        served.close()
        assert client.recv(1) == b""
        until(lambda: not ends.host._connections and not ends.enclave._connections)
        client.close()


def test_what_a_server_said_before_it_left_still_arrives() -> None:
    with both() as ends:
        client, served = ends.connection()
        content = bytes(WINDOW_BYTES + 100_000)

        def send() -> None:
            served.sendall(content)
            served.close()

        sender = threading.Thread(target=send)
        sender.start()
        until(lambda: len(client.recv(1, socket.MSG_PEEK)) == 1)
        time.sleep(0.05)
        assert receive_all(client, len(content)) == content
        assert client.recv(1) == b""
        sender.join()


def test_a_client_that_leaves_ends_its_server_and_frees_the_number() -> None:
    with both() as ends:
        for _ in range(3 * MAX_CHANNELS):
            client, served = ends.connection()
            client.close()
            assert served.recv(1) == b""
            served.close()
        until(lambda: not ends.host._connections and not ends.enclave._connections)


def test_a_server_that_leaves_ends_its_client() -> None:
    with both() as ends:
        client, served = ends.connection()
        served.close()
        assert client.recv(1) == b""
        until(lambda: not ends.enclave._connections and not ends.host._connections)
        with pytest.raises(OSError):  # noqa: PT011 - whichever the kernel says
            client.sendall(b"anybody there?")


def test_no_more_channels_than_allowed() -> None:
    with both() as ends, contextlib.ExitStack() as stack:
        for _ in range(MAX_CHANNELS):
            stack.enter_context(ends.connection()[0])
        with ends.client() as turned_away:
            assert turned_away.recv(1) == b""
        assert len(ends.served) == MAX_CHANNELS
        ends.served[7].close()
        until(lambda: len(ends.host._connections) == MAX_CHANNELS - 1)
        client, served = ends.connection()
        client.sendall(b"now")
        assert served.recv(3) == b"now"


def test_without_an_acceptor_a_client_is_turned_away() -> None:
    with both() as ends:
        ends.enclave.accept(None)
        with ends.client() as client:
            assert client.recv(1) == b""

        def refuse(_: socket.socket) -> None:
            raise OSError

        ends.enclave.accept(refuse)
        with ends.client() as client:
            assert client.recv(1) == b""


# --- nobody waits for anybody ---------------------------------------------------------------------


@pytest.mark.parametrize("stalled", ["client", "server"])
def test_who_does_not_read_stops_nobody_else(stalled: str) -> None:
    with both() as ends:
        pair = ends.connection()
        sender = pair[stalled == "client"]
        sent = send_until_stalled(sender, 0.3)
        kernel = 4 * sender.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)
        assert WINDOW_BYTES <= sent <= WINDOW_BYTES + kernel

        client, served = ends.connection()
        for _ in range(3):
            client.sendall(b"ping")
            assert receive_all(served, 4) == b"ping"
            served.sendall(b"pong")
            assert receive_all(client, 4) == b"pong"
        send_frame(ends.host.boundary, b"status", [])
        assert receive_frame(ends.enclave.boundary)[0] == b"status"

        # And once it reads again, everything is there.
        receiver = pair[stalled != "client"]
        assert receive_all(receiver, sent) == bytes(sent)


def test_what_comes_never_overtakes_what_waits() -> None:
    ours, theirs = socket.socketpair()
    content = random.Random(2).randbytes(WINDOW_BYTES)
    half = len(content) // 2
    with theirs:
        connection = Connection(ours)
        connection.take(Header(Kind.DATA, 1, half), memoryview(content[:half]))
        assert connection._backlog
        heard = receive_all(theirs, 150_000)
        # There is room in the socket now, before anybody has passed on what waits.
        connection.take(Header(Kind.DATA, 1, half), memoryview(content[half:]))
        while len(heard) < len(content):
            connection.pass_on()
            heard += theirs.recv(len(content))
        connection.close()
    assert heard == content


def test_a_stalled_client_costs_no_processor_time() -> None:
    with both() as ends:
        client, served = ends.connection()
        send_until_stalled(served, 0.1)
        ends.connection()[0].close()
        before = time.process_time()
        time.sleep(0.3)
        assert time.process_time() - before < 0.1
        client.close()


# --- lies ---------------------------------------------------------------------------------------


@dataclass
class Evil:
    """One end of a stream as bare bytes, and an honest multiplexer at the other."""

    wire: socket.socket
    honest: Multiplexer
    served: list[socket.socket] = field(default_factory=list)
    parser: FrameParser = field(default_factory=FrameParser)

    def say(self, *parts: Header | bytes) -> None:
        data = b"".join(part.encode() if isinstance(part, Header) else part for part in parts)
        with contextlib.suppress(OSError):
            self.wire.sendall(data)

    def hear(self, kind: Kind) -> Header:
        """Return the next frame of one kind."""
        while received := self.wire.recv(HEADER_BYTES):
            for header, piece in self.parser.feed(memoryview(received)):
                if header.kind is kind and not piece:
                    return header
        raise AssertionError("the stream ended")


@contextlib.contextmanager
def against(*, enclave: bool) -> Iterator[Evil]:
    theirs, ours = socket.socketpair()
    theirs.settimeout(PATIENCE_SECONDS)
    descriptor = ours.detach()
    honest = Multiplexer(descriptor, descriptor, pairs=socket.socketpair if enclave else None)
    evil = Evil(theirs, honest)
    honest.accept(evil.served.append)
    honest.start()
    with theirs:
        yield evil
    honest.close()
    for connection in evil.served:
        connection.close()


def data(channel: int, content: bytes) -> bytes:
    return Header(Kind.DATA, channel, len(content)).encode() + content


OPEN: Final = Header(Kind.OPEN, 1, 0)
FULL: Final = data(1, bytes(MAX_DATA_BYTES))
LIES: Final[dict[str, list[Header | bytes]]] = {
    "another version": [b"SRMX\x00\x00\x00\x02"],
    "no preface": [OPEN],
    "another protocol": [b"NBDMAGIC"],
    "unknown kind": [PREFACE, b"\x05\x01\x00\x00\x00\x00\x00\x00"],
    "reserved bits": [PREFACE, b"\x02\x01\x00\x01\x00\x00\x00\x00"],
    "channel out of range": [PREFACE, b"\x02\x41\x00\x00\x00\x00\x00\x00"],
    "frame too large": [PREFACE, OPEN, Header(Kind.DATA, 1, MAX_DATA_BYTES + 1)],
    "huge frame": [PREFACE, Header(Kind.DATA, 0, 2**32 - 1)],
    "empty frame": [PREFACE, OPEN, Header(Kind.DATA, 1, 0)],
    "open with a size": [PREFACE, Header(Kind.OPEN, 1, 1)],
    "no credit": [PREFACE, OPEN, Header(Kind.CREDIT, 1, 0)],
    "credit for nothing sent": [PREFACE, OPEN, Header(Kind.CREDIT, 1, 1)],
    "credit of the boundary": [PREFACE, Header(Kind.CREDIT, 0, 1)],
    "too much credit": [PREFACE, Header(Kind.CREDIT, 0, WINDOW_BYTES + 1)],
    "boundary opened": [PREFACE, Header(Kind.OPEN, 0, 0)],
    "boundary ended": [PREFACE, Header(Kind.END, 0, 0)],
    "boundary closed": [PREFACE, Header(Kind.CLOSE, 0, 0)],
    "unknown channel": [PREFACE, data(3, b"hello")],
    "unknown channel ended": [PREFACE, Header(Kind.END, 3, 0)],
    "unknown channel closed": [PREFACE, Header(Kind.CLOSE, 3, 0)],
    "opened twice": [PREFACE, OPEN, OPEN],
    "ended twice": [PREFACE, OPEN, Header(Kind.END, 1, 0), Header(Kind.END, 1, 0)],
    "data after the end": [PREFACE, OPEN, Header(Kind.END, 1, 0), data(1, b"more")],
    "data after close": [PREFACE, OPEN, Header(Kind.CLOSE, 1, 0), data(1, b"more")],
    "credit after close": [PREFACE, OPEN, Header(Kind.CLOSE, 1, 0), Header(Kind.CREDIT, 1, 1)],
    "credit overrun": [PREFACE, OPEN, FULL, FULL, FULL],
    "credit overrun on the boundary": [PREFACE, *[data(0, bytes(MAX_DATA_BYTES))] * 3],
}
"""What a host may not send; the credit that overrun needs is never given as nobody reads."""


@pytest.mark.parametrize("lie", LIES)
def test_a_lie_of_the_host_ends_everything(lie: str) -> None:
    with against(enclave=True) as evil:
        evil.say(*LIES[lie])
        until(lambda: evil.honest._input_over)
        with pytest.raises(BoundaryError) as caught:
            receive_frame(evil.honest.boundary)
        assert not isinstance(caught.value, EndOfStreamError)
        # Connections are over, and the words of the one who gives up still go out.
        for connection in evil.served:
            connection.settimeout(PATIENCE_SECONDS)
            while connection.recv(65536):
                pass
        send_frame(evil.honest.boundary, b"you lied", [])
        assert evil.hear(Kind.DATA) == Header(Kind.DATA, 0, 12)


@pytest.mark.parametrize("frame", [OPEN, Header(Kind.CLOSE, 1, 0), data(1, b"hello")])
def test_the_enclave_opens_nothing(frame: Header | bytes) -> None:
    with against(enclave=False) as evil:
        evil.say(PREFACE, frame)
        with pytest.raises(BoundaryError) as caught:
            receive_frame(evil.honest.boundary)
        assert not isinstance(caught.value, EndOfStreamError)
        assert not evil.honest._connections


def test_what_crosses_a_close_is_no_violation() -> None:
    with against(enclave=True) as evil:
        evil.say(PREFACE, OPEN)
        until(lambda: len(evil.served) == 1)
        evil.served[0].close()
        assert evil.hear(Kind.CLOSE).channel == 1
        # The host sent all this before it heard.
        evil.say(FULL, data(1, b"more"), Header(Kind.END, 1, 0), Header(Kind.CLOSE, 1, 0))
        # And its number is free again.
        evil.say(OPEN, data(1, b"again"))
        until(lambda: len(evil.served) == 2)
        evil.served[1].settimeout(PATIENCE_SECONDS)
        assert evil.served[1].recv(5) == b"again"
        assert not evil.honest._input_over


def test_a_closed_number_is_not_free_before_both_closed() -> None:
    with against(enclave=True) as evil:
        evil.honest.accept(None)
        evil.say(PREFACE, OPEN)
        assert evil.hear(Kind.CLOSE).channel == 1
        evil.say(OPEN)
        with pytest.raises(BoundaryError):
            receive_frame(evil.honest.boundary)


def test_nothing_is_sent_without_credit() -> None:
    with against(enclave=True) as evil:
        evil.say(PREFACE, OPEN)
        until(lambda: len(evil.served) == 1)

        def send() -> None:
            with contextlib.suppress(OSError):
                evil.served[0].sendall(bytes(2 * WINDOW_BYTES))

        sender = threading.Thread(target=send)
        sender.start()
        got = 0
        while got < WINDOW_BYTES:
            got += evil.hear(Kind.DATA).size
        assert got == WINDOW_BYTES
        evil.wire.settimeout(0.2)
        with pytest.raises(TimeoutError):
            evil.hear(Kind.DATA)
        evil.wire.settimeout(PATIENCE_SECONDS)
        evil.say(Header(Kind.CREDIT, 1, 1000))
        assert evil.hear(Kind.DATA).size == 1000
        evil.wire.close()
        evil.honest.close()
        evil.served[0].close()
        sender.join()


def test_a_host_that_never_reads_can_still_be_left() -> None:
    with against(enclave=True) as evil:
        evil.say(PREFACE, *(Header(Kind.OPEN, n, 0) for n in range(1, 9)))
        until(lambda: len(evil.served) == 8)
        for connection in evil.served:
            send_until_stalled(connection, 0.05)
        before = time.monotonic()
        evil.honest.close()
        assert time.monotonic() - before < 2


def test_a_number_is_free_at_once_when_both_have_closed() -> None:
    with against(enclave=True) as evil:
        evil.honest.accept(None)
        evil.say(PREFACE)
        for _ in range(200):
            # Together with what follows: nothing may depend on a thread that runs in between.
            evil.say(OPEN, data(1, b"hello"))
            assert evil.hear(Kind.CLOSE).channel == 1
            evil.say(Header(Kind.CLOSE, 1, 0), OPEN, Header(Kind.CLOSE, 1, 0))
            assert evil.hear(Kind.CLOSE).channel == 1
        assert not evil.honest._input_over


# --- the end ----------------------------------------------------------------------------------


def open_descriptors() -> set[str]:
    return set(os.listdir("/proc/self/fd"))  # noqa: PTH208 - names are all that is asked for


@pytest.mark.parametrize("closing", ["host", "enclave"])
def test_the_end_of_the_stream_ends_everything(closing: str) -> None:
    threads, descriptors = threading.active_count(), open_descriptors()
    with both() as ends:
        client, served = ends.connection()
        client.sendall(b"x")
        assert served.recv(1) == b"x"
        first, second = (
            (ends.host, ends.enclave) if closing == "host" else (ends.enclave, ends.host)
        )
        first.close()
        with pytest.raises(EndOfStreamError):
            receive_frame(second.boundary)
        with pytest.raises(EndOfStreamError):
            receive_frame(first.boundary)
        with pytest.raises(EndOfStreamError):
            send_frame(first.boundary, b"anybody?", [])
        assert served.recv(1) == b""
        assert client.recv(1) == b""
        client.close()
    assert threading.active_count() == threads
    assert open_descriptors() == descriptors


@pytest.mark.parametrize(("said", "expected"), [(PREFACE, 1), (PREFACE + b"\xff" * 8, 0)])
def test_the_end_is_told_once_and_a_violation_is_not_an_end(said: bytes, expected: int) -> None:
    theirs, ours = socket.socketpair()
    told: list[int] = []
    descriptor = ours.detach()
    honest = Multiplexer(descriptor, descriptor, on_end=lambda: told.append(1))
    honest.start()
    with theirs:
        theirs.sendall(said)
    honest._threads[0].join(PATIENCE_SECONDS)
    assert len(told) == expected
    honest.close()
    assert len(told) == expected


def test_descriptors_are_refused() -> None:
    with both() as ends, pytest.raises(BoundaryError, match="no file descriptors"):
        send_frame(ends.host.boundary, b"here", [0])


def test_a_multiplexer_that_never_started_can_be_closed() -> None:
    descriptors = open_descriptors()
    one, other = socket_descriptors()
    Multiplexer(*one).close()
    os.close(other[0])
    assert open_descriptors() == descriptors
