# SPDX-License-Identifier: Apache-2.0
"""Frames cut anywhere, lengths that lie, and descriptors that must not stay open."""

import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from strongroom.boundary import stream
from strongroom.boundary.stream import (
    MAX_FRAME_BYTES,
    ByteStream,
    EndOfStreamError,
    PipeStream,
    TcpStream,
    UnixStream,
    receive_frame,
    send_frame,
)
from strongroom.errors import BoundaryError

pytestmark = pytest.mark.unit

PAYLOAD = b"some payload"
FRAME = len(PAYLOAD).to_bytes(4, "big") + PAYLOAD


def open_descriptors() -> dict[str, str]:
    """Return what this process has open."""
    found = {}
    for entry in Path("/proc/self/fd").iterdir():
        try:
            found[entry.name] = str(entry.readlink())
        except FileNotFoundError:
            continue  # the directory listing itself
    return found


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, UnixStream]]:
    """The evil side as a bare socket, and our side as a stream."""
    theirs, ours = socket.socketpair()
    with theirs, ours:
        yield theirs, UnixStream(ours)


@pytest.fixture
def files(tmp_path: Path) -> Iterator[list[int]]:
    """Six open descriptors, more than a frame carries."""
    opened = [os.open(tmp_path / str(n), os.O_RDWR | os.O_CREAT) for n in range(6)]
    yield opened
    for descriptor in opened:
        os.close(descriptor)


def tcp_streams() -> tuple[ByteStream, ByteStream]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        one = socket.create_connection(server.getsockname())
        return TcpStream(one), TcpStream(server.accept()[0])


def unix_streams() -> tuple[ByteStream, ByteStream]:
    one, other = socket.socketpair()
    return UnixStream(one), UnixStream(other)


def pipe_streams() -> tuple[ByteStream, ByteStream]:
    (their_read, our_write), (our_read, their_write) = os.pipe(), os.pipe()
    return (
        PipeStream(read_fd=our_read, write_fd=our_write),
        PipeStream(read_fd=their_read, write_fd=their_write),
    )


@pytest.mark.parametrize("make", [unix_streams, tcp_streams, pipe_streams])
@pytest.mark.parametrize("size", [1, 2, 255, 65536, MAX_FRAME_BYTES])
def test_a_frame_arrives_whole_over_each_stream(make: object, size: int) -> None:
    assert callable(make)
    before = open_descriptors()
    sender, receiver = make()
    payload = os.urandom(size)
    thread = threading.Thread(target=send_frame, args=(sender, payload, []))
    thread.start()

    assert receive_frame(receiver) == (payload, [])

    thread.join()
    sender.close()
    with pytest.raises(EndOfStreamError):
        receive_frame(receiver)
    receiver.close()
    assert open_descriptors() == before


@pytest.mark.parametrize("cut", range(1, len(FRAME)))
def test_a_frame_in_two_pieces_arrives(cut: int, pair: tuple[socket.socket, UnixStream]) -> None:
    theirs, ours = pair
    theirs.sendall(FRAME[:cut])
    thread = threading.Timer(0.001, theirs.sendall, (FRAME[cut:],))
    thread.start()

    assert receive_frame(ours) == (PAYLOAD, [])
    thread.join()


@pytest.mark.parametrize("cut", range(len(FRAME)))
def test_a_frame_cut_anywhere_is_refused_and_its_descriptors_are_closed(
    cut: int, pair: tuple[socket.socket, UnixStream], files: list[int]
) -> None:
    theirs, ours = pair
    if cut:
        socket.send_fds(theirs, [FRAME[:cut]], files[:4])
    theirs.shutdown(socket.SHUT_WR)
    before = open_descriptors()

    with pytest.raises(BoundaryError) as refused:
        receive_frame(ours)

    assert isinstance(refused.value, EndOfStreamError) == (cut == 0)
    assert open_descriptors() == before


@pytest.mark.parametrize("claimed", [0, MAX_FRAME_BYTES + 1, 2**31, 2**32 - 1])
def test_a_length_that_lies_is_refused_before_anything_is_read(
    claimed: int, pair: tuple[socket.socket, UnixStream], files: list[int]
) -> None:
    theirs, ours = pair
    socket.send_fds(theirs, [claimed.to_bytes(4, "big") + b"more"], files[:2])
    before = open_descriptors()

    with pytest.raises(BoundaryError, match="claims"):
        receive_frame(ours)

    assert open_descriptors() == before
    assert theirs.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0
    assert ours.receive(100) == (b"more", [])


def test_descriptors_arrive_as_copies_that_are_closed_on_exec(
    pair: tuple[socket.socket, UnixStream], files: list[int]
) -> None:
    theirs, ours = pair
    send_frame(UnixStream(theirs), PAYLOAD, files[:4])

    payload, came = receive_frame(ours)

    assert payload == PAYLOAD
    assert [os.fstat(fd).st_ino for fd in came] == [os.fstat(fd).st_ino for fd in files[:4]]
    assert not set(came) & set(files)
    assert not any(os.get_inheritable(fd) for fd in came)
    stream.close_all(came)


def test_a_fifth_descriptor_closes_all_five(
    pair: tuple[socket.socket, UnixStream], files: list[int]
) -> None:
    theirs, ours = pair
    socket.send_fds(theirs, [FRAME], files[:5])
    before = open_descriptors()

    with pytest.raises(BoundaryError, match="too many"):
        receive_frame(ours)

    assert open_descriptors() == before


def test_descriptors_spread_over_a_frame_are_counted_together(
    pair: tuple[socket.socket, UnixStream], files: list[int]
) -> None:
    theirs, ours = pair
    socket.send_fds(theirs, [FRAME[:2]], files[:3])
    socket.send_fds(theirs, [FRAME[2:]], files[3:6])
    before = open_descriptors()

    with pytest.raises(BoundaryError, match="too many"):
        receive_frame(ours)

    assert open_descriptors() == before


def test_a_frame_that_is_too_large_is_not_sent(pair: tuple[socket.socket, UnixStream]) -> None:
    theirs, ours = pair
    with pytest.raises(BoundaryError, match="too large"):
        send_frame(ours, bytes(MAX_FRAME_BYTES + 1), [])
    theirs.settimeout(0.0)
    with pytest.raises(BlockingIOError):
        theirs.recv(1)


@pytest.mark.parametrize("make", [tcp_streams, pipe_streams])
def test_a_stream_without_descriptors_refuses_to_send_them(make: object, files: list[int]) -> None:
    assert callable(make)
    sender, receiver = make()
    assert not sender.carries_descriptors

    with pytest.raises(BoundaryError, match="no file descriptors"):
        send_frame(sender, PAYLOAD, files[:1])

    sender.close()
    receiver.close()


@pytest.mark.parametrize("make", [unix_streams, tcp_streams, pipe_streams])
def test_sending_to_nobody_is_the_end_of_the_stream(make: object) -> None:
    assert callable(make)
    sender, receiver = make()
    receiver.close()

    def send_often() -> None:
        for _ in range(100):
            send_frame(sender, bytes(1024), [])

    with pytest.raises(EndOfStreamError, match="gone"):
        send_often()
    sender.close()


def test_a_frame_that_arrived_whole_was_sent_though_its_receiver_left(
    pair: tuple[socket.socket, UnixStream], files: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs, ours = pair
    send_fds = socket.send_fds

    def slow(sender: socket.socket, buffers: list[bytes], fds: list[int]) -> int:
        sent = send_fds(sender, buffers, fds)
        theirs.close()
        return sent

    monkeypatch.setattr(socket, "send_fds", slow)
    send_frame(ours, PAYLOAD, files[:1])


def test_a_stream_that_stalls_ends(pair: tuple[socket.socket, UnixStream]) -> None:
    theirs, ours = pair
    theirs.sendall(FRAME[:5])
    ours._socket.settimeout(0.01)

    with pytest.raises(stream.StalledError, match="in the middle of a message"):
        receive_frame(ours)


def test_a_stream_with_a_limit_does_not_wait_for_who_reads_nothing() -> None:
    one, other = socket.socketpair()
    with other:
        ours = UnixStream(one, stall_seconds=1)
        assert not ours.wait_readable(0)
        with pytest.raises(stream.StalledError):
            send_frame(ours, bytes(stream.MAX_FRAME_BYTES), [])
        other.sendall(FRAME[:5])
        assert ours.wait_readable(1)
        with pytest.raises(stream.StalledError):
            receive_frame(ours)
        ours.close()


def test_closing_what_is_closed_is_allowed(files: list[int]) -> None:
    copy = os.dup(files[0])
    stream.close_all([copy, copy, -1])
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(copy)
