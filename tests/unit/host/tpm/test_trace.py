# SPDX-License-Identifier: Apache-2.0
"""A trace is the owner's alone, replaces nothing, and is whole up to its last packet."""

import os
import resource
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from strongroom.errors import NoPermissionError, PlatformError, UsageError
from strongroom.host.tpm import Trace
from tests.unit.host.tpm.peers import GET_RANDOM, response, without_rights

pytestmark = pytest.mark.unit


def packets(path: Path) -> Iterator[tuple[float, bytes]]:
    """Return the time and the bytes from IP on of each packet. Written from the format alone."""
    data = path.read_bytes()
    assert data[:24] == struct.pack("<IHHiIII", 0xA1B23C4D, 2, 4, 0, 0, 65535, 101)
    at = 24
    while at < len(data):
        seconds, nanoseconds, held, size = struct.unpack_from("<IIII", data, at)
        assert held == size, "nothing is cut off"
        assert nanoseconds < 10**9
        yield seconds + nanoseconds / 10**9, data[at + 16 : at + 16 + size]
        at += 16 + size
    assert at == len(data)


def test_only_the_owner_reads_it(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        Trace(tmp_path / "trace").close()
    finally:
        os.umask(old)
    assert (tmp_path / "trace").stat().st_mode & 0o7777 == 0o600


def test_nothing_is_replaced(tmp_path: Path) -> None:
    there, link, dangling = (tmp_path / name for name in ("there", "link", "dangling"))
    there.write_bytes(b"precious")
    link.symlink_to(there)
    dangling.symlink_to(tmp_path / "elsewhere")
    for path in (there, link, dangling):
        with pytest.raises(UsageError) as caught:
            Trace(path)
        assert "never overwritten" in caught.value.hint
    assert there.read_bytes() == b"precious"
    assert not (tmp_path / "elsewhere").exists()


def test_a_directory_that_may_not_be_written_is_no_place(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with without_rights(), pytest.raises(NoPermissionError):
        Trace(tmp_path / "trace")


def test_every_byte_is_in_order_and_in_time(tmp_path: Path) -> None:
    carried = [GET_RANDOM, response(4096), GET_RANDOM, response(11), b"", bytes(4096)]
    before = time.time()
    trace = Trace(tmp_path / "trace")
    for number, data in enumerate(carried):
        (trace.response if number % 2 else trace.command)(data)
    trace.close()
    found = list(packets(tmp_path / "trace"))
    assert [packet[40:] for _, packet in found] == carried
    times = [when for when, _ in found]
    assert times == sorted(times)
    assert before - 0.001 <= times[0]
    assert times[-1] <= time.time() + 0.001
    expected = {50000: 1, 2321: 1}
    for number, (_, packet) in enumerate(found):
        source, destination, sequence, acknowledged = struct.unpack_from(">HHII", packet, 20)
        assert (source, destination) == ((2321, 50000) if number % 2 else (50000, 2321))
        assert (sequence, acknowledged) == (expected[source], expected[destination])
        expected[source] += len(packet) - 40
        assert _sums_to_zero(packet[:20])
        assert _sums_to_zero(packet[12:20] + b"\0\6" + (len(packet) - 20).to_bytes(2) + packet[20:])


def test_a_killed_process_leaves_whole_packets(tmp_path: Path) -> None:
    path = tmp_path / "trace"
    program = (
        "import sys, pathlib, strongroom.host.tpm as tpm\n"
        "trace = tpm.Trace(pathlib.Path(sys.argv[1]))\n"
        "for _ in range(1000): trace.command(bytes(100))\n"
        "print('written', flush=True)\n"
        "sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"written\n"
        process.kill()
    assert len(list(packets(path))) == 1000


def test_after_a_failed_write_nothing_is_written(tmp_path: Path) -> None:
    trace = Trace(tmp_path / "trace")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
    try:
        with pytest.raises(PlatformError, match="cannot write the TPM trace"):
            trace.command(bytes(200))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, ignored)
    torn = (tmp_path / "trace").read_bytes()
    assert len(torn) == 100
    with pytest.raises(PlatformError):
        trace.response(bytes(10))
    assert (tmp_path / "trace").read_bytes() == torn
    trace.close()
    trace.close()


def _sums_to_zero(data: bytes) -> bool:
    padded = data + b"\0" * (len(data) % 2)
    total: int = sum(struct.unpack(f">{len(padded) // 2}H", padded))
    return total % 0xFFFF == 0
