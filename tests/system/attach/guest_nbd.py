# SPDX-License-Identifier: Apache-2.0
"""Runs inside the guest: the kernel's NBD client, from attaching to nothing left.

Every line that it prints names what was shown; any failure ends it with an exception.
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Literal

from strongroom.errors import DiskError, MountedError
from strongroom.host.attach import (
    Attached,
    attach,
    clean_stale,
    detach,
    find_orphans,
    io_flusher,
    nbd,
)

SIZE = 128 << 20
RUNTIME = Path("/run/strongroom/vol")
SOCKET = RUNTIME / "nbd.sock"
DEVICES = Path("/dev/strongroom")
POINT = Path("/run/point")


def serve() -> subprocess.Popen[bytes]:
    # Written when it listens; the socket's name is there before that.
    ready = RUNTIME / "server.pid"
    for path in (SOCKET, ready):
        path.unlink(missing_ok=True)
    log = f"logfile={RUNTIME / 'log'}"
    server = subprocess.Popen(
        [
            "nbdkit",
            "-f",
            "-P",
            str(ready),
            "-U",
            str(SOCKET),
            "--filter=log",
            "memory",
            str(SIZE),
            log,
        ]
    )
    while not ready.exists():
        time.sleep(0.01)
    return server


def run(*command: str) -> None:
    subprocess.run(command, check=True, timeout=60)


def ensure(condition: object, what: str) -> None:
    if not condition:
        raise RuntimeError(f"not so: {what}")
    print("shown:", what, flush=True)


def nothing_left() -> bool:
    orphans = find_orphans(RUNTIME.parent, DEVICES)
    mounted = "nbd" in Path("/proc/mounts").read_text()
    return not orphans and not mounted and not DEVICES.exists() and not nbd.is_connected(0)


def attach_by(choice: Literal["auto", "nbd"], *, sector: int, read_only: bool = False) -> Attached:
    return attach(
        choice,
        name="vol",
        socket=SOCKET,
        runtime=RUNTIME,
        size_bytes=SIZE,
        sector_size_bytes=sector,
        read_only=read_only,
        discard=False,
        serve_fuse=None,
    )


def geometry() -> None:
    server = serve()
    for sector, read_only in ((512, False), (4096, True)):
        attached = attach_by("auto", sector=sector, read_only=read_only)
        ensure(attached.kind == "nbd", f"auto picks nbd: {attached.reason}")
        queue = Path("/sys/block/nbd0")
        ensure(int((queue / "queue/logical_block_size").read_text()) == sector, f"sector {sector}")
        ensure((queue / "ro").read_text().strip() == str(int(read_only)), f"ro {read_only}")
        detach(attached, force=False)
        ensure(nothing_left(), "nothing is left after detaching")
    server.kill()
    server.wait()


def file_system() -> None:
    server = serve()
    attached = attach_by("nbd", sector=4096)
    run("mkfs.ext4", "-q", "/dev/strongroom/vol")
    run("mount", "/dev/strongroom/vol", str(POINT))
    with (POINT / "file").open("wb") as file:
        file.write(os.urandom(8 << 20))
        before = (RUNTIME / "log").read_text().count("Flush")
        file.flush()
        os.fsync(file.fileno())
    flushes = (RUNTIME / "log").read_text().count("Flush")
    ensure(flushes > before, "fsync reaches the server as a flush")
    refused = ""
    try:
        detach(attached, force=False)
    except MountedError as err:
        refused = err.message
    ensure(str(POINT) in refused, f"refused: {refused}")
    run("umount", str(POINT))
    run("e2fsck", "-f", "-n", "/dev/strongroom/vol")
    detach(attached, force=False)
    ensure(nothing_left(), "nothing is left after the file system")
    attached = attach_by("nbd", sector=4096)
    run("mount", "/dev/strongroom/vol", str(POINT))
    left = detach(attached, force=True)
    ensure(left == (str(POINT),), f"force says what gives errors: {left}")
    ended()
    server.kill()
    server.wait()


def ended() -> None:
    ensure(os.path.ismount(POINT), "what is mounted stays mounted")
    refused = ""
    try:
        (POINT / "more").write_bytes(b"x")
    except OSError as err:
        refused = str(err)
    ensure("Input/output" in refused, f"it refuses to be written to: {refused}")
    run("umount", str(POINT))
    ensure(not list(POINT.iterdir()), "nothing is below the mount point")
    end = time.monotonic() + 10
    while nbd.is_connected(0) and time.monotonic() < end:
        time.sleep(0.01)
    ensure(nothing_left(), "the device goes with its mount")


def host_killed(*, mounted: bool) -> None:
    server = serve()
    standin = Path(__file__).with_name("standin.py")
    arguments = ["nbd", "vol", str(SOCKET), str(RUNTIME), str(SIZE), str(DEVICES)]
    host = subprocess.Popen([sys.executable, str(standin), *arguments], stdout=subprocess.PIPE)
    if host.stdout is None:
        raise RuntimeError("no pipe")
    record = json.loads(host.stdout.readline())
    if mounted:
        run("mkfs.ext4", "-q", "/dev/strongroom/vol")
        run("mount", "/dev/strongroom/vol", str(POINT))
    host.kill()
    host.wait()
    if mounted:
        server.kill()
        server.wait()
        kinds = {orphan.kind for orphan in find_orphans(RUNTIME.parent, DEVICES)}
        ensure("nbd" in kinds, "a device without a host is found by its tag")
    else:
        end = time.monotonic() + 10
        while nbd.is_connected(0) and time.monotonic() < end:
            time.sleep(0.01)
        ensure(not nbd.is_connected(0), "an unused device goes with its host")
    began = time.monotonic()
    print(clean_stale(record), f"{time.monotonic() - began:.1f} s", flush=True)
    if mounted:
        ended()
    ensure(nothing_left(), f"nothing is left after cleaning, mounted {mounted}")
    ensure(clean_stale(record) == (), "cleaning twice is harmless")
    server.kill()
    server.wait()


def server_hangs() -> None:
    server = serve()
    attached = attach_by("nbd", sector=512)
    fd = os.open("/dev/nbd0", os.O_RDWR)
    os.pwrite(fd, b"lost", 0)
    os.close(fd)
    server.send_signal(signal.SIGSTOP)
    began = time.monotonic()
    detach(attached, force=True)
    ensure(time.monotonic() - began < 40, f"force ends in {time.monotonic() - began:.1f} s")
    server.kill()
    server.wait()
    ensure(nothing_left(), "nothing is left after a server that hung")


def server_dies() -> None:
    server = serve()
    attached = attach_by("nbd", sector=512)
    fd = os.open("/dev/nbd0", os.O_RDWR)
    os.pwrite(fd, b"lost", 0)
    os.close(fd)
    server.kill()
    server.wait()
    refused = ""
    try:
        detach(attached, force=False)
    except DiskError as err:
        refused = err.message
    ensure(refused, f"refused: {refused}")
    detach(attached, force=True)
    ensure(nothing_left(), "nothing is left after a server that died")


def children_are_marked() -> None:
    asked = "import ctypes; print(ctypes.CDLL(None).prctl(58, 0, 0, 0, 0))"
    with io_flusher() as marked:
        inside = subprocess.run([sys.executable, "-c", asked], check=True, stdout=subprocess.PIPE)
    outside = subprocess.run([sys.executable, "-c", asked], check=True, stdout=subprocess.PIPE)
    ensure(marked, "the I/O mark can be set")
    ensure((inside.stdout, outside.stdout) == (b"1\n", b"0\n"), "children keep the I/O mark")


def main() -> None:
    RUNTIME.mkdir(parents=True)
    POINT.mkdir()
    geometry()
    file_system()
    host_killed(mounted=False)
    host_killed(mounted=True)
    server_dies()
    server_hangs()
    children_are_marked()
    print("all shown")


if __name__ == "__main__":
    main()
