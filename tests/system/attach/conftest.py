# SPDX-License-Identifier: Apache-2.0
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent))

from strongroom.boundary import calls
from strongroom.host.attach import (
    Attached,
    attach,
    clean_stale,
    detach,
    find_orphans,
    loop,
)
from tests.hostile.boundary.evil import Enclave, new_volume
from tests.system.crash.remains import descendants, loop_devices

if TYPE_CHECKING:
    from strongroom.host.contracts import Attachment, FuseServing

SIZE = 64 << 20


def require(*tools: str, root: bool = True, nodes: tuple[str, ...] = ()) -> None:
    """Skip, or fail in CI, with the reason why a test cannot run on this machine."""
    missing = [f"{tool} is not installed" for tool in tools if shutil.which(tool) is None]
    missing += [f"{node} is missing" for node in nodes if not Path(node).exists()]
    if root and os.geteuid() != 0:
        missing.append("needs root")
    if not missing:
        return
    if os.environ.get("CI") == "true":
        pytest.fail("; ".join(missing))
    pytest.skip("; ".join(missing))


def wait_for(condition: Callable[[], bool], what: str, seconds: float = 10) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"{what} did not happen within {seconds} seconds"
        time.sleep(0.01)


def run(*command: str | Path) -> str:
    done = subprocess.run(
        [str(part) for part in command],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout


@dataclass
class Bench:
    """One volume's worth of world: an NBD server, a runtime directory, a place for links."""

    root: Path
    server: subprocess.Popen[bytes] | None = None
    made: list[Attached] = field(default_factory=list)

    size: int = SIZE
    serve_fuse: "FuseServing | None" = None

    @property
    def runtime(self) -> Path:
        return self.root / "run" / "vol"

    @property
    def devices(self) -> Path:
        return self.root / "dev"

    @property
    def socket(self) -> Path:
        return self.runtime / "nbd.sock"

    @property
    def log(self) -> str:
        return (self.root / "log").read_text(errors="replace")

    def serve(self, *options: str) -> subprocess.Popen[bytes]:
        self.runtime.mkdir(parents=True, exist_ok=True)
        # Written when it listens; the socket's name is there before that.
        ready = self.root / "server.pid"
        for path in (self.socket, ready):
            path.unlink(missing_ok=True)
        image = self.root / "image"
        if not image.exists():
            image.touch()
            os.truncate(image, SIZE)
        command = [
            "nbdkit",
            "-f",
            "-P",
            str(ready),
            "-U",
            str(self.socket),
            *options,
            "--filter=log",
            "file",
        ]
        command += [str(image), f"logfile={self.root / 'log'}"]
        self.server = subprocess.Popen(command, start_new_session=True)
        wait_for(ready.exists, "the server's readiness")
        return self.server

    def attach(
        self, choice: "Attachment" = "fuse", *, sector: int = 4096, read_only: bool = False
    ) -> Attached:
        attached = attach(
            choice,
            name="vol",
            socket=self.socket,
            runtime=self.runtime,
            size_bytes=self.size,
            sector_size_bytes=sector,
            read_only=read_only,
            discard=False,
            serve_fuse=self.serve_fuse,
            device_directory=self.devices,
        )
        self.made.append(attached)
        return attached

    def mount(self, attached: Attached) -> Path:
        point = self.root / "mnt"
        point.mkdir(exist_ok=True)
        run("mount", str(attached.device), point)
        return point

    def dirty(self, attached: Attached, *, mounted: bool) -> None:
        """Write what is lost when nobody answers the kernel any more."""
        device = attached.block_device
        assert device is not None
        if mounted:
            run("mkfs.ext4", "-q", device)
            (self.mount(attached) / "file").write_bytes(b"lost")
        else:
            fd = os.open(device, os.O_RDWR)
            os.pwrite(fd, b"lost", 0)
            os.close(fd)

    def leftovers(self) -> list[str]:
        """Everything that must not be there when no volume is open."""
        root = str(self.root)
        found = [line for line in Path("/proc/mounts").read_text().splitlines() if root in line]
        found += [str(orphan) for orphan in find_orphans(self.runtime.parent, self.devices)]
        found += [f"loop device {device}" for device in loop_devices(self.runtime.parent)]
        found += [f"link {path}" for path in self.devices.glob("*")]
        found += [f"directory {path}" for path in self.runtime.glob("fuse*")]
        return found + [f"process {pid}" for pid in nbdfuses(root)]

    def ended(self, attached: Attached, point: Path) -> None:
        """Check that a file system is there and refuses everything; unmount it, and all is gone."""
        assert os.path.ismount(point)
        for attempt in (write_more, read_file):
            with pytest.raises(OSError, match=r"Input/output|Read-only|not connected"):
                attempt(point)
        run("umount", point)
        assert list(point.iterdir()) == [], "nothing was written below the mount point"
        device = attached.block_device
        assert device is not None
        wait_for(lambda: not loop.is_bound(device), "the loop device's end")
        assert self.leftovers() == []

    def kill_server(self) -> None:
        if self.server is not None:
            self.server.send_signal(signal.SIGCONT)
            self.server.kill()
            self.server.wait(10)
            self.server = None


@dataclass
class EnclaveBench(Bench):
    """The same, but an enclave serves the volume, by FUSE alone."""

    enclave: Enclave | None = None

    @property
    def image(self) -> Path:
        return self.root / "image"

    def start(self) -> Enclave:
        """Start an enclave, make the volume if there is none, and unlock it."""
        self.runtime.mkdir(parents=True, exist_ok=True)
        if not self.image.exists():
            maker = Enclave(self.root / "maker.log")
            new_volume(maker, self.image, factors=("passphrase",))
            maker.close()
        self.enclave = enclave = Enclave(self.root / "enclave.log")
        self.size = enclave.load(self.image).data_size_bytes
        enclave.unlock()
        self.serve_fuse = self._serve_fuse
        return enclave

    def signal(self, number: signal.Signals) -> None:
        """Signal the process that serves."""
        assert self.enclave is not None
        for process in descendants(self.enclave.process.pid):
            process.kill(number)

    def end(self) -> None:
        """End the enclave, whatever it does."""
        if self.enclave is not None:
            self.signal(signal.SIGCONT)
            self.enclave.close()

    def counters(self) -> calls.Counters:
        assert self.enclave is not None
        return self.enclave.call(calls.ReadCounters())

    def _serve_fuse(self, devices: tuple[int, ...], file_name: str) -> None:
        assert self.enclave is not None
        self.enclave.call(calls.ServeFuse(devices, file_name))


def write_more(point: Path) -> None:
    (point / "more").write_bytes(b"x")


def read_file(point: Path) -> None:
    (point / "file").read_bytes()


def nbdfuses(root: str) -> list[int]:
    """Return the living nbdfuse processes that serve below ``root``."""
    found = []
    for directory in Path("/proc").glob("[0-9]*"):
        try:
            command = (directory / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if command[0] == b"nbdfuse" and any(root.encode() in part for part in command):
            found.append(int(directory.name))
    return found


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    require("nbdkit", "nbdfuse", "mkfs.ext4", nodes=("/dev/fuse", "/dev/loop-control"))
    made = Bench(tmp_path)
    yield made
    if made.server is not None:
        made.server.send_signal(signal.SIGCONT)
    for attached in made.made:
        detach(attached, force=True)
        clean_stale(attached.record)
    made.kill_server()
    for orphan in find_orphans(made.runtime.parent, made.devices):
        clean_stale(orphan.record)


@pytest.fixture
def served(tmp_path: Path) -> Iterator[EnclaveBench]:
    require("mkfs.ext4", nodes=("/dev/fuse", "/dev/loop-control"))
    made = EnclaveBench(tmp_path)
    made.start()
    yield made
    made.signal(signal.SIGCONT)
    for attached in made.made:
        detach(attached, force=True)
        clean_stale(attached.record)
    made.end()
    for orphan in find_orphans(made.runtime.parent, made.devices):
        clean_stale(orphan.record)
