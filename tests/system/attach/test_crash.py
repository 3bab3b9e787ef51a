# SPDX-License-Identifier: Apache-2.0
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from strongroom.host.attach import JsonScalar, clean_stale, detach, find_orphans, loop

from .conftest import SIZE, Bench, nbdfuses, run, wait_for

pytestmark = pytest.mark.system

STANDIN = Path(__file__).with_name("standin.py")
SOURCE = Path(__file__).parents[3] / "src"


@contextmanager
def host(bench: Bench, *stop: str) -> Iterator[subprocess.Popen[bytes]]:
    arguments = ["fuse", "vol", bench.socket, bench.runtime, SIZE, bench.devices, *stop]
    process = subprocess.Popen(
        [sys.executable, str(STANDIN), *map(str, arguments)],
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": str(SOURCE)},
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait(10)
        if process.stdout is not None:
            process.stdout.close()


def record_of(process: subprocess.Popen[bytes]) -> dict[str, JsonScalar]:
    assert process.stdout is not None
    record: dict[str, JsonScalar] = json.loads(process.stdout.readline())
    return record


def is_stopped(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


def clean_orphans(bench: Bench) -> None:
    for orphan in find_orphans(bench.runtime.parent, bench.devices):
        clean_stale(orphan.record)


def test_a_killed_host_leaves_only_a_link_even_before_cleaning(bench: Bench) -> None:
    bench.serve()
    with host(bench) as process:
        record = record_of(process)
        device = Path(str(record["device"]))
        assert loop.is_bound(device)
    wait_for(lambda: not loop.is_bound(device), "the loop device's end")
    wait_for(lambda: nbdfuses(str(bench.root)) == [], "nbdfuse's end")
    assert [orphan.kind for orphan in find_orphans(bench.runtime.parent, bench.devices)] == ["link"]
    assert clean_stale(record) == (f"link {bench.devices / 'vol'}",)
    assert clean_stale(record) == ()
    assert bench.leftovers() == []


@pytest.mark.parametrize("busy", [True, False])
@pytest.mark.parametrize("server_too", [True, False])
def test_a_killed_host_with_a_mounted_device_is_cleaned_up(
    bench: Bench, *, busy: bool, server_too: bool
) -> None:
    bench.serve()
    with host(bench) as process:
        record = record_of(process)
        device = Path(str(record["device"]))
        run("mkfs.ext4", "-q", device)
        point = bench.root / "mnt"
        point.mkdir()
        run("mount", device, point)
        (point / "file").write_bytes(b"x" * 100_000)
    if server_too:
        bench.kill_server()
    opened = (point / "file").open("rb") if busy else None
    began = time.monotonic()
    removed = clean_stale(record)
    assert time.monotonic() - began < 20
    assert any(f"the file system at {point} has lost its device" in line for line in removed)
    assert os.path.ismount(point)
    with pytest.raises(OSError, match="Input/output"):
        (point / "more").write_bytes(b"in clear?")
    if opened is not None:
        with pytest.raises(OSError, match="Input/output"):
            opened.read()
        opened.close()
    assert not any("link" in line or "process" in line for line in clean_stale(record))
    run("umount", point)
    assert list(point.iterdir()) == []
    wait_for(lambda: not loop.is_bound(device), "the loop device's end")
    assert clean_stale(record) == ()
    assert bench.leftovers() == []


@pytest.mark.parametrize("place", ["start", "bind", "loop", "link"])
def test_a_host_killed_while_attaching_is_cleaned_up_without_a_record(
    bench: Bench, place: str
) -> None:
    bench.serve()
    with host(bench, place) as process:
        wait_for(lambda: is_stopped(process.pid), f"the stop after {place}")
    wait_for(lambda: nbdfuses(str(bench.root)) == [], "nbdfuse's end")
    clean_orphans(bench)
    assert bench.leftovers() == []


def test_a_host_killed_at_any_time_leaves_nothing_after_cleaning(bench: Bench) -> None:
    bench.serve()
    with host(bench) as process:
        began = time.monotonic()
        record_of(process)
        whole = time.monotonic() - began
    clean_orphans(bench)
    for step in range(12):
        with host(bench) as process:
            time.sleep(whole * (0.5 + step / 20))
            process.send_signal(signal.SIGKILL)
            process.wait(10)
        wait_for(lambda: nbdfuses(str(bench.root)) == [], "nbdfuse's end")
        clean_orphans(bench)
        assert bench.leftovers() == []


def test_the_record_of_a_dead_host_does_not_touch_the_volume_opened_again(bench: Bench) -> None:
    bench.serve()
    with host(bench) as process:
        record = record_of(process)
        device = Path(str(record["device"]))
    wait_for(lambda: not loop.is_bound(device), "the loop device's end")
    attached = bench.attach()
    assert attached.block_device == device, "the point is that the number is the same"
    assert clean_stale(record | {"helper_pid": attached.record["helper_pid"]}) == ()
    device.read_bytes()
    assert attached.device is not None
    assert attached.device.readlink() == device
    assert find_orphans(bench.runtime.parent, bench.devices, live=frozenset({"vol"})) == ()
    detach(attached, force=False)
    assert bench.leftovers() == []
