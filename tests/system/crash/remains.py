# SPDX-License-Identifier: Apache-2.0
"""What a volume leaves in the system: processes, mounts, devices, sockets, files, links.

Everything is found without asking Strongroom, by the test's own directory, which is in the path of
every image, socket and mount point of the test.
"""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from strongroom.host.attach import loop
from strongroom.host.attach.record import parse_tag, root_digest


@dataclass(frozen=True, slots=True)
class Process:
    """A living process; zombies are none."""

    pid: int
    parent: int
    command: str

    @property
    def is_enclave(self) -> bool:
        return "strongroom/enclave/start.py" in self.command

    @property
    def is_host(self) -> bool:
        return "strongroom.host.daemon" in self.command

    def kill(self, number: signal.Signals = signal.SIGKILL) -> None:
        with suppress(ProcessLookupError):
            os.kill(self.pid, number)


def processes() -> Iterator[Process]:
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            stat = (entry / "stat").read_text(errors="replace").rpartition(")")[2].split()
            if stat[0] not in {"Z", "X"}:
                yield Process(int(entry.name), int(stat[1]), command)


def descendants(pid: int) -> list[Process]:
    """Return the processes below ``pid``, without itself."""
    every = list(processes())
    found: list[Process] = []
    parents = {pid}
    while parents:
        below = [process for process in every if process.parent in parents]
        found += below
        parents = {process.pid for process in below}
    return found


def processes_of(place: Path) -> list[Process]:
    """Return processes that were told of ``place`` or have a file below it open."""
    return [
        process
        for process in processes()
        if process.pid != os.getpid()
        and (str(place) in process.command or _holds(process.pid, str(place)))
    ]


def remains(place: Path, *names: str) -> list[str]:
    """Return all that must not be there when no volume below ``place`` is open."""
    text = str(place)
    found = [
        f"mount {line}" for line in Path("/proc/mounts").read_text().splitlines() if text in line
    ]
    found += [f"loop device {device}" for device in loop_devices(place / "run")]
    found += [
        f"socket {line.split()[-1]}"
        for line in Path("/proc/net/unix").read_text().splitlines()
        if text in line
    ]
    found += [
        f"file {path}"
        for path in sorted((place / "run").glob("**/*"))
        if not (path.name.startswith(".") and path.suffix == ".log")  # kept until an end in order
    ]
    for name in names:
        links = [Path("/dev/strongroom") / name, *Path("/dev/strongroom").glob(f".{name}.*")]
        found += [f"link {link}" for link in links if link.is_symlink()]
    return found + [f"process {process}" for process in processes_of(place)]


def loop_devices(runtime_root: Path) -> list[Path]:
    """Return the bound loop devices whose tag names this runtime directory."""
    digest = root_digest(runtime_root)
    found = []
    for entry in Path("/sys/block").glob("loop*"):
        device = Path("/dev") / entry.name
        tag = parse_tag(loop.tag_of(device)) if loop.is_bound(device) else None
        if tag is not None and tag.root == digest:
            found.append(device)
    return found


def unmount_dead(point: Path) -> None:
    """Unmount a file system whose volume ended: it is still there, and took nothing since.

    What is written to its path in the meantime must not be found in the directory below.
    """
    assert os.path.ismount(point), "a file system was unmounted that programs may be using"
    device = next(
        Path(line.split()[0])
        for line in Path("/proc/mounts").read_text().splitlines()
        if line.split()[1] == str(point)
    )
    try:
        with (point / "diary").open("wb") as file:
            file.write(b"in clear?")
            file.flush()
            os.fsync(file.fileno())
    except OSError:
        pass
    else:
        raise AssertionError("a file system without a device took what was written to it")
    subprocess.run(["umount", point], check=True, timeout=60)
    assert list(point.iterdir()) == [], "something was written below the mount point"
    await_true(lambda: not loop.is_bound(device.resolve()), "the end of the device")


def await_true(condition: Callable[[], bool], what: str, seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"{what}: not within {seconds} seconds"
        time.sleep(0.005)


def end_all(place: Path) -> None:
    """End what a failed test left behind, and unmount it."""
    for process in processes_of(place):
        process.kill()
    for line in reversed(Path("/proc/mounts").read_text().splitlines()):
        point = line.split()[1]
        if str(place) in point:
            subprocess.run(["umount", "--lazy", point], check=False, timeout=60)


def _holds(pid: int, place: str) -> bool:
    with suppress(OSError):
        for entry in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(OSError):
                if str(entry.readlink()).startswith(place):
                    return True
    return False
