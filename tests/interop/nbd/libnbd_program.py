# SPDX-License-Identifier: Apache-2.0
"""Requests through libnbd, checked against a model; run by the Python that libnbd is installed for.

Usage: ``libnbd_program.py PROGRAM URI [ARGUMENT...]``, see ``PROGRAMS`` at the end. It exits with
a traceback when an answer is wrong. Everything on the export is overwritten.
"""

import errno
import random
import sys
import threading
from collections.abc import Callable

import nbd  # type: ignore[import-not-found]  # belongs to the system's Python

KIB = 1024
MIB = 1024 * KIB
MAX_PAYLOAD = 32 * MIB
ODD = (1, 2, 511, 512, 513, 4095, 4096, 4097, 65536, 65537, 262143, 262145, MIB - 1)
ALL_EXTENTS_ARE_DATA = [0]


def connect(uri: str) -> nbd.NBD:
    """Return a handle that checks nothing itself, so that the server has to."""
    handle = nbd.NBD()
    handle.set_strict_mode(0)
    handle.add_meta_context(nbd.CONTEXT_BASE_ALLOCATION)
    handle.connect_uri(uri)
    return handle


def expect_errno(number: int, action: Callable[..., object], *arguments: object) -> None:
    """Call ``action`` and require that it fails with ``number``."""
    try:
        action(*arguments)
    except nbd.Error as err:
        if err.errnum != number:
            message = f"expected {errno.errorcode[number]}, got {err.errno}"
            raise AssertionError(message) from err
        return
    raise AssertionError(f"expected {errno.errorcode[number]}, it worked")


def with_structured_replies(handle: nbd.NBD) -> tuple[tuple[int, ...], int]:
    """Return the flags that a read may have, and how often to ask for block status."""
    if handle.can_df():
        return (0, nbd.CMD_FLAG_DF), 1
    return (0,), 0


def model(uri: str, seed: str, operations: str) -> None:
    """Random requests against a bytearray; trimmed bytes are undefined until written again."""
    rng = random.Random(int(seed))
    handle = connect(uri)
    size = min(handle.get_size(), 16 * MIB)
    expected = bytearray(handle.pread(size, 0))
    read_flags, status = with_structured_replies(handle)
    for step in range(int(operations)):
        offset = rng.randrange(size)
        longest = rng.choice((16, 600, 5000, 70_000, 300_000))
        length = rng.randint(1, min(longest, size - offset))
        end = offset + length
        flags = nbd.CMD_FLAG_FUA if rng.random() < 0.02 else 0
        kind = rng.choices(
            ("write", "read", "zero", "trim", "flush", "cache", "status"),
            (8, 8, 2, 1, 1, 1, status),
        )[0]
        if kind == "write":
            data = rng.randbytes(length)
            handle.pwrite(data, offset, flags)
            expected[offset:end] = data
        elif kind == "read":
            got = handle.pread(length, offset, rng.choice(read_flags))
            assert got == expected[offset:end], f"step {step}: {length} bytes at {offset} differ"
        elif kind == "zero":
            handle.zero(length, offset, flags | rng.choice((0, nbd.CMD_FLAG_NO_HOLE)))
            expected[offset:end] = bytes(length)
        elif kind == "trim":
            handle.trim(length, offset, flags)
            expected[offset:end] = handle.pread(length, offset)
        elif kind == "flush":
            handle.flush()
        elif kind == "cache":
            handle.cache(length, offset)
        else:
            found = extents(handle, offset, length)
            assert found == [length, *ALL_EXTENTS_ARE_DATA], f"step {step}: {found}"
    assert handle.pread(size, 0) == expected, "the whole export differs at the end"
    handle.shutdown()


def extents(handle: nbd.NBD, offset: int, length: int) -> list[int]:
    """Return lengths and flags, in turn, of the extents in a range."""
    entries: list[int] = []
    handle.block_status(
        length, offset, lambda _context, _offset, found, _error: entries.extend(found)
    )
    return entries


def odd(uri: str) -> None:
    """Every odd length at every odd offset, with neighbours that must not change."""
    handle = connect(uri)
    rng = random.Random(7)
    span = 3 * MIB
    expected = bytearray(rng.randbytes(span))
    handle.pwrite(bytes(expected), 0)
    for offset in (0, *ODD[:-1], MIB - 1, MIB):
        for length in ODD:
            data = rng.randbytes(length)
            handle.pwrite(data, offset)
            expected[offset : offset + length] = data
            assert handle.pread(length, offset) == data, f"{length} bytes at {offset}"
    assert handle.pread(span, 0) == expected, "a neighbour changed"
    if handle.get_size() > MAX_PAYLOAD + 1:
        data = rng.randbytes(MAX_PAYLOAD - 1)
        handle.pwrite(data, 1)
        assert handle.pread(len(data), 1) == data, "32 MiB - 1"
        if handle.can_df():
            assert handle.pread(len(data), 1, nbd.CMD_FLAG_DF) == data, "32 MiB - 1 in one chunk"
        plain = nbd.NBD()
        plain.set_request_structured_replies(False)
        plain.connect_uri(uri)
        for length in (MAX_PAYLOAD - 1, 4 * MIB, 4 * MIB + 1, 300_001, 5):
            assert plain.pread(length, 1) == data[:length], f"{length} bytes as a simple reply"
        plain.shutdown()
    handle.shutdown()


def limits(uri: str) -> None:
    """Requests that must be refused, each with its number, and a connection that survives them."""
    handle = connect(uri)
    size = handle.get_size()
    handle.pwrite(b"\x5a" * 4096, 0)
    expect_errno(errno.EINVAL, handle.pread, 1, size)
    expect_errno(errno.EINVAL, handle.pread, 4096, size - 4095)
    expect_errno(errno.EINVAL, handle.pread, 512, 2**64 - 512)
    expect_errno(errno.EINVAL, handle.pread, 512, 0, nbd.CMD_FLAG_FAST_ZERO)
    expect_errno(errno.ENOSPC, handle.pwrite, b"x", size)
    expect_errno(errno.ENOSPC, handle.pwrite, bytes(200 * KIB), size - 1)
    expect_errno(errno.EINVAL, handle.pwrite, b"x", 0, nbd.CMD_FLAG_DF)
    expect_errno(errno.ENOSPC, handle.zero, 2, size - 1)
    expect_errno(errno.ENOTSUP, handle.zero, 4096, 0, nbd.CMD_FLAG_FAST_ZERO)
    expect_errno(errno.EINVAL, handle.trim, 2, size - 1)
    expect_errno(errno.EINVAL, handle.cache, 2, size - 1)
    assert handle.pread(4096, 0) == b"\x5a" * 4096, "a refused request changed something"
    without = nbd.NBD()
    without.set_strict_mode(0)
    without.connect_uri(uri)
    expect_errno(errno.EINVAL, without.block_status, 512, 0, lambda *_arguments: 0)
    without.shutdown()
    handle.shutdown()


def shared_sector(uri: str) -> None:
    """Four connections change different bytes of the same 4096; no change may be lost."""
    writers, rounds = 4, 400
    setup = connect(uri)
    setup.pwrite(bytes(8192), 0)

    def work(writer: int) -> None:
        handle = connect(uri)
        for value in range(1, rounds + 1):
            for place in range(writer, 64, writers):
                handle.pwrite(bytes([value % 256]), 4096 + 2000 + place)
        handle.shutdown()

    threads = [threading.Thread(target=work, args=(writer,)) for writer in range(writers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    last = bytes([rounds % 256]) * 64
    assert setup.pread(8192, 0) == bytes(4096 + 2000) + last + bytes(4096 - 2000 - 64)
    setup.shutdown()


def pipelined(uri: str, seed: str) -> None:
    """Many small requests in flight at once, in random order and size, on one connection."""
    rng = random.Random(int(seed))
    handle = connect(uri)
    slots, slot_bytes = 64, 64 * KIB
    expected = [b""] * slots
    for _round in range(40):
        cookies = []
        for slot in range(slots):
            length = rng.choice((1, 512, 4096, 4097, 20_000, slot_bytes))
            expected[slot] = rng.randbytes(length)
            buffer = nbd.Buffer.from_bytearray(bytearray(expected[slot]))
            cookies.append(handle.aio_pwrite(buffer, slot * slot_bytes))
        drain(handle, cookies)
        buffers = [
            (slot, nbd.Buffer(len(expected[slot]))) for slot in rng.sample(range(slots), slots)
        ]
        cookies = [handle.aio_pread(buffer, slot * slot_bytes) for slot, buffer in buffers]
        drain(handle, cookies)
        for slot, buffer in buffers:
            assert bytes(buffer.to_bytearray()) == expected[slot], f"slot {slot}"
    handle.shutdown()


def drain(handle: nbd.NBD, cookies: list[int]) -> None:
    """Wait for requests in flight and require success."""
    for cookie in cookies:
        while not handle.aio_command_completed(cookie):
            handle.poll(-1)


def read_only(uri: str) -> None:
    """Everything that changes data is refused with EPERM, everything else works."""
    handle = connect(uri)
    assert handle.is_read_only()
    before = handle.pread(8192, 0)
    expect_errno(errno.EPERM, handle.pwrite, bytes(4096), 0)
    expect_errno(errno.EPERM, handle.pwrite, bytes(MIB), 0)
    expect_errno(errno.EPERM, handle.zero, 4096, 0)
    expect_errno(errno.EPERM, handle.trim, 4096, 0)
    handle.flush()
    assert handle.pread(8192, 0) == before
    handle.shutdown()


def trim(uri: str, offset: str, length: str) -> None:
    """Trim one range and flush."""
    handle = connect(uri)
    handle.trim(int(length), int(offset))
    handle.flush()
    handle.shutdown()


PROGRAMS: dict[str, Callable[..., None]] = {
    "limits": limits,
    "model": model,
    "odd": odd,
    "pipelined": pipelined,
    "read-only": read_only,
    "shared-sector": shared_sector,
    "trim": trim,
}

if __name__ == "__main__":
    PROGRAMS[sys.argv[1]](*sys.argv[2:])
