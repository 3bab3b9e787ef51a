# SPDX-License-Identifier: Apache-2.0
"""What no server on this machine can exceed: the AES unit, a socket, a copy in memory."""

import contextlib
import multiprocessing
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Final

from strongroom.bench.comparison import Comparison
from strongroom.bench.machine import cpu_flags
from strongroom.bench.run import Run

REPOSITORY: Final = Path(__file__).parents[1]
CLOCK_SPEED: Final = ("cargo", "run", "--release", "--quiet", "-p", "strongroom-core")
REQUEST_BYTES: Final = 1 << 20
SOCKET_BYTES: Final = 4 << 20
COPY_BYTES: Final = 64 << 20
COPIES: Final = 10
AES_ROUNDS: Final = 14
"""Of AES-256; each takes an instruction for each 16, 32 or 64 bytes."""
AES: Final = "AES-256 units, one core"
SOCKET: Final = "UNIX socket alone, one connection"


def limits(run: Run) -> Iterator[Comparison]:
    """Measure the limits, each with nothing else around it."""
    run.expect(3 * run.rounds)
    alone: dict[str, Callable[[], float]] = {
        AES: aes_speed,
        SOCKET: partial(socket_speed, run.seconds),
        "copy in memory, one core": copy_speed,
    }
    for measure, action in alone.items():
        yield Comparison(run.group, measure, "GB/s", run.in_turn({"limit": action}))


def aes_speed() -> float:
    """Return GB/s of AES-256 at which all AES units of a core are busy in every cycle."""
    return aes_bytes_per_cycle() * clock_ghz()


def aes_bytes_per_cycle() -> float:
    """Return how many bytes the AES units of a core take in a cycle, for AES-256.

    A vector of 64 bytes a cycle, or two of 32, since Ice Lake and Zen 3; two of 64 since Zen 5;
    before VAES two of 16. How many units there are is not a thing that a processor tells.
    """
    flags = cpu_flags()
    width = 64 if "vaes" in flags else 32
    return (2 if is_zen_5() else 1) * width / AES_ROUNDS


def is_zen_5() -> bool:
    """Tell whether both of the vector units take 64 bytes: AMD's family 26."""
    text = Path("/proc/cpuinfo").read_text()
    return "AuthenticAMD" in text and "cpu family\t: 26" in text


def clock_ghz() -> float:
    """Return at how many GHz a core runs under load."""
    command = [*CLOCK_SPEED, "--example", "clock_speed"]
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=REPOSITORY)
    return float(done.stdout)


def socket_speed(seconds: float) -> float:
    """Return GB/s from one process to another that throws away what it gets."""
    ours, theirs = socket.socketpair()
    for end in (ours, theirs):
        for which in (socket.SO_SNDBUF, socket.SO_RCVBUF):
            end.setsockopt(socket.SOL_SOCKET, which, SOCKET_BYTES)
    sender = multiprocessing.Process(target=send_for_ever, args=(theirs, ours))
    sender.start()
    theirs.close()
    buffer, count, start = bytearray(REQUEST_BYTES), 0, time.perf_counter()
    while time.perf_counter() - start < seconds:
        count += ours.recv_into(buffer)
    elapsed = time.perf_counter() - start
    ours.close()
    sender.join()
    return count / elapsed / 1e9


def send_for_ever(end: socket.socket, other: socket.socket) -> None:
    """Send until nobody reads any more."""
    other.close()
    piece = bytes(REQUEST_BYTES)
    with contextlib.suppress(OSError):
        while True:
            end.sendall(piece)


def copy_speed() -> float:
    """Return GB/s of copying what does not fit in a cache."""
    # Views, because a bytearray makes a copy of what it is given first.
    source, target = memoryview(bytes(COPY_BYTES)), memoryview(bytearray(COPY_BYTES))
    best = 0.0
    for _ in range(COPIES):
        start = time.perf_counter()
        target[:] = source
        best = max(best, COPY_BYTES / (time.perf_counter() - start) / 1e9)
    return best
