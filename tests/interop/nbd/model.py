# SPDX-License-Identifier: Apache-2.0
"""A volume beside its model: each request goes to both, and every answer has to agree."""

import contextlib
import os
import random
import struct
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from tests.interop.nbd.tools import SYSTEM_PYTHON

EXECUTOR: Final = Path(__file__).with_name("libnbd_executor.py")
REQUEST: Final = struct.Struct("<BBIQI")
ANSWER: Final = struct.Struct("<II")
READ, WRITE, ZERO, TRIM, FLUSH, CACHE = range(6)
FUA, NO_HOLE, DF = 1, 2, 4
"""Flags of requests. Spec: NBD protocol, "Request flags"."""
KIB: Final = 1024
EXECUTOR_SECONDS: Final = 30


@dataclass(slots=True)
class Connections:
    """Requests through libnbd in a process of its own, one at a time."""

    requests: IO[bytes]
    answers: IO[bytes]
    count: int

    def send(
        self,
        operation: int,
        connection: int,
        *,
        offset: int = 0,
        length: int = 0,
        flags: int = 0,
        payload: bytes = b"",
    ) -> bytes:
        """Execute one request, which must succeed, and return what it read."""
        header = REQUEST.pack(operation, connection % self.count, flags, offset, length)
        self.requests.write(header + payload)
        self.requests.flush()
        number, size = ANSWER.unpack(self.answers.read(ANSWER.size))
        assert number == 0, os.strerror(number)
        return self.answers.read(size)


@contextlib.contextmanager
def connections(uri: str, count: int) -> Iterator[Connections]:
    """Hold ``count`` connections to an export open."""
    with subprocess.Popen(
        [SYSTEM_PYTHON, EXECUTOR, uri, str(count)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            yield Connections(process.stdin, process.stdout, count)
            process.stdin.close()
            assert process.wait(EXECUTOR_SECONDS) == 0
        finally:
            process.kill()


@dataclass(slots=True)
class Modelled:
    """An export, what it must hold, and how many requests it has answered."""

    volume: Connections
    expected: bytearray
    discard: bool
    operations: int = 0

    def fill(self) -> None:
        """Give every run of the machine the same beginning."""
        self.expected[:] = random.Random(len(self.expected)).randbytes(len(self.expected))
        self.volume.send(WRITE, 0, length=len(self.expected), payload=bytes(self.expected))

    def check(self) -> None:
        """Compare everything, over the last connection."""
        found = self.volume.send(READ, self.volume.count - 1, length=len(self.expected))
        assert found == self.expected, "the whole export differs"


def machine(target: Modelled) -> type[RuleBasedStateMachine]:
    """Return a machine whose steps are requests to ``target``."""
    size = len(target.expected)
    grid = st.builds(
        lambda block, shift: min(max(block * 512 + shift, 0), size - 1),
        st.integers(0, size // 512),
        st.sampled_from((0, 0, 0, -1, 1, 511)),
    )
    offsets = st.one_of(grid, st.integers(0, size - 1), st.integers(size - 9000, size - 1))
    blocks = st.integers(1, 64).map(lambda count: count * 4 * KIB)
    lengths = st.one_of(st.integers(1, 700), blocks, st.integers(1, 1500 * KIB))
    connection = st.integers(0, target.volume.count - 1)
    fua = st.sampled_from((0, 0, 0, FUA))

    class Requests(RuleBasedStateMachine):
        """Reads, writes, zeroes, trims, flushes and caches at any place, of any length."""

        @initialize()
        def begin(self) -> None:
            target.fill()

        def send(
            self, operation: int, connection: int, area: slice, flags: int = 0, payload: bytes = b""
        ) -> bytes:
            target.operations += 1
            return target.volume.send(
                operation,
                connection,
                offset=area.start,
                length=area.stop - area.start,
                flags=flags,
                payload=payload,
            )

        @staticmethod
        def area(offset: int, length: int) -> slice:
            return slice(offset, min(offset + length, size))

        @rule(connection=connection, offset=offsets, length=lengths, flags=st.sampled_from((0, DF)))
        def read(self, connection: int, offset: int, length: int, flags: int) -> None:
            area = self.area(offset, length)
            # Only the first connection has structured replies, which the flag belongs to.
            flags = flags if connection == 0 else 0
            assert self.send(READ, connection, area, flags) == target.expected[area]

        @rule(
            connection=connection,
            offset=offsets,
            length=lengths,
            seed=st.integers(0, 2**32 - 1),
            flags=fua,
        )
        def write(self, connection: int, offset: int, length: int, seed: int, flags: int) -> None:
            area = self.area(offset, length)
            data = random.Random(seed).randbytes(area.stop - area.start)
            self.send(WRITE, connection, area, flags, data)
            target.expected[area] = data

        @rule(
            connection=connection,
            offset=offsets,
            length=lengths,
            flags=st.sampled_from((0, NO_HOLE, FUA, NO_HOLE | FUA)),
        )
        def zero(self, connection: int, offset: int, length: int, flags: int) -> None:
            area = self.area(offset, length)
            self.send(ZERO, connection, area, flags)
            target.expected[area] = bytes(area.stop - area.start)

        @rule(connection=connection, offset=offsets, length=lengths, flags=fua)
        def trim(self, connection: int, offset: int, length: int, flags: int) -> None:
            area = self.area(offset, length)
            self.send(TRIM, connection, area, flags)
            if target.discard:
                # Whatever is there now may be anything, but it has to stay.
                target.expected[area] = self.send(READ, connection, area)

        @rule(connection=connection)
        def flush(self, connection: int) -> None:
            self.send(FLUSH, connection, slice(0, 0))

        @rule(connection=connection, offset=offsets, length=lengths)
        def cache(self, connection: int, offset: int, length: int) -> None:
            self.send(CACHE, connection, self.area(offset, length))

        def teardown(self) -> None:
            target.check()

    return Requests
