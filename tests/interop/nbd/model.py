# SPDX-License-Identifier: Apache-2.0
"""A volume beside its model: each request goes to both, and every answer has to agree."""

import contextlib
import os
import random
import struct
import subprocess
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, ClassVar, Final

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from tests.interop.nbd.tools import SYSTEM_PYTHON

if TYPE_CHECKING:
    from typing_extensions import override
else:

    def override(method):  # noqa: ANN001, ANN201 - Python 3.11 has none; what checkers see is above
        return method


EXECUTOR: Final = Path(__file__).with_name("libnbd_executor.py")
REQUEST: Final = struct.Struct("<BBIQI")
ANSWER: Final = struct.Struct("<II")
READ, WRITE, ZERO, TRIM, FLUSH, CACHE = range(6)
FUA, NO_HOLE, DF = 1, 2, 4
"""Flags of requests. Spec: NBD protocol, "Request flags"."""
KIB: Final = 1024
DATA_BYTES: Final = 4 * KIB * KIB
EXECUTOR_SECONDS: Final = 30


@dataclass(slots=True)
class Connections:
    """Requests through libnbd in a process of its own, one at a time."""

    requests: IO[bytes]
    answers: IO[bytes]
    count: int
    sent: Counter[int] = field(default_factory=Counter)
    """How many requests of each kind."""

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
        self.sent[operation] += 1
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
    """An export, what it must hold, and how many random requests it has answered."""

    volume: Connections
    beginning: bytes
    discard: bool
    expected: bytearray = field(default_factory=bytearray)
    operations: int = 0

    def begin(self) -> None:
        """Give every run of the machine the same beginning."""
        self.expected[:] = self.beginning
        self.volume.send(WRITE, 0, length=len(self.beginning), payload=self.beginning)

    def send(
        self, operation: int, connection: int, area: slice, *, flags: int = 0, payload: bytes = b""
    ) -> bytes:
        """Execute one random request."""
        self.operations += 1
        length = area.stop - area.start
        return self.volume.send(
            operation, connection, offset=area.start, length=length, flags=flags, payload=payload
        )

    def check(self) -> None:
        """Compare everything, over the last connection."""
        found = self.volume.send(READ, self.volume.count - 1, length=len(self.expected))
        assert found == self.expected, "the whole export differs"


def area(offset: int, length: int) -> slice:
    """Return the part of a request that lies within the export."""
    return slice(offset, min(offset + length, DATA_BYTES))


def near_grid(block: int, shift: int) -> int:
    """Return an offset at a sector's border or beside it."""
    return min(max(block * 512 + shift, 0), DATA_BYTES - 1)


SHIFTS: Final = st.sampled_from((0, 0, 0, -1, 1, 511))
OFFSETS: Final = st.one_of(
    st.builds(near_grid, st.integers(0, DATA_BYTES // 512), SHIFTS),
    st.integers(0, DATA_BYTES - 1),
    st.integers(DATA_BYTES - 9000, DATA_BYTES - 1),
)
LENGTHS: Final = st.one_of(
    st.integers(1, 700),
    st.integers(1, 64).map(lambda count: count * 4 * KIB),
    st.integers(1, 1500 * KIB),
)
AREAS: Final = st.builds(area, OFFSETS, LENGTHS)
CONNECTIONS: Final = st.integers(0, 1)
SEEDS: Final = st.integers(0, 2**32 - 1)
FUA_OR_NOT: Final = st.sampled_from((0, 0, 0, FUA))


class Requests(RuleBasedStateMachine):
    """Reads, writes, zeroes, trims, flushes and caches at any place, of any length."""

    target: ClassVar[Modelled]

    @initialize()
    def begin(self) -> None:
        self.target.begin()

    @rule(connection=CONNECTIONS, area=AREAS, flags=st.sampled_from((0, DF)))
    def read(self, connection: int, area: slice, flags: int) -> None:
        # Only the first connection has structured replies, which the flag belongs to.
        flags = flags if connection == 0 else 0
        found = self.target.send(READ, connection, area, flags=flags)
        assert found == self.target.expected[area]

    @rule(connection=CONNECTIONS, area=AREAS, seed=SEEDS, flags=FUA_OR_NOT)
    def write(self, connection: int, area: slice, seed: int, flags: int) -> None:
        data = random.Random(seed).randbytes(area.stop - area.start)
        self.target.send(WRITE, connection, area, flags=flags, payload=data)
        self.target.expected[area] = data

    @rule(
        connection=CONNECTIONS,
        area=AREAS,
        flags=st.sampled_from((0, NO_HOLE, FUA, NO_HOLE | FUA)),
    )
    def zero(self, connection: int, area: slice, flags: int) -> None:
        self.target.send(ZERO, connection, area, flags=flags)
        self.target.expected[area] = bytes(area.stop - area.start)

    @rule(connection=CONNECTIONS, area=AREAS, flags=FUA_OR_NOT)
    def trim(self, connection: int, area: slice, flags: int) -> None:
        self.target.send(TRIM, connection, area, flags=flags)
        if self.target.discard:
            # Whatever is there now may be anything, but it has to stay.
            self.target.expected[area] = self.target.send(READ, connection, area)

    @rule(connection=CONNECTIONS)
    def flush(self, connection: int) -> None:
        self.target.send(FLUSH, connection, slice(0, 0))

    @rule(connection=CONNECTIONS, area=AREAS)
    def cache(self, connection: int, area: slice) -> None:
        self.target.send(CACHE, connection, area)

    @override
    def teardown(self) -> None:
        # A run that stopped before its first step has nothing to compare.
        if self.target.expected:
            self.target.check()


def machine(target: Modelled) -> type[Requests]:
    """Return a machine whose steps are requests to ``target``."""

    class Bound(Requests):
        pass

    Bound.target = target
    return Bound
