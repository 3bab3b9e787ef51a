# SPDX-License-Identifier: Apache-2.0
"""What figures belong to: the machine, its load, and the versions of what was measured."""

from __future__ import annotations

import os
import platform
import subprocess
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

from strongroom import __version__
from strongroom.bench.place import SYSTEM_PATH, find

if TYPE_CHECKING:
    from collections.abc import Mapping

FLAGS: Final = ("aes", "vaes", "pclmulqdq", "vpclmulqdq", "avx2", "sha_ni", "gfni")
VERSIONS: Final = {
    "nbdkit": ("nbdkit", "--version"),
    "qemu-nbd": ("qemu-nbd", "--version"),
    "fio": ("fio", "--version"),
    "libnbd": ("nbdcopy", "--version"),
    "gocryptfs": ("gocryptfs", "-version"),
    "cryptsetup": ("cryptsetup", "--version"),
    "openssl": ("openssl", "version"),
    "hdparm": ("hdparm", "-V"),
}
SECONDS: Final = 10


def machine(
    directory: Path | None = None, versions: Mapping[str, tuple[str, ...]] = VERSIONS
) -> dict[str, str]:
    """Describe the machine as it is now; ``directory`` is where images go."""
    found = {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "cpu": _of_cpu("model name") or platform.machine(),
        "cpus": str(os.cpu_count()),
        "cpu MHz, as the kernel says": _of_cpu("cpu MHz"),
        "cpu flags": " ".join(cpu_flags()),
        "memory": f"{_memory_gib():.1f} GiB",
        "load": load(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "strongroom": __version__,
    }
    if directory is not None:
        found["images"] = f"{file_system_of(directory)} at {directory}"
    installed = {name: command for name, command in versions.items() if find(command[0])}
    return found | {name: version(*command) for name, command in installed.items()}


def load() -> str:
    """Return how many tasks wanted to run in the last 1, 5 and 15 minutes."""
    return " ".join(f"{average:.1f}" for average in os.getloadavg())


@dataclass(frozen=True, slots=True)
class Ticks:
    """What the processors did since the machine was started."""

    stolen: int
    total: int

    @classmethod
    def now(cls) -> Self:
        """Read the counters of the kernel."""
        line = Path("/proc/stat").read_text().partition("\n")[0]
        # user, nice, system, idle, iowait, irq, softirq, steal; guest time is in user already.
        counts = [int(field) for field in line.split()[1:9]]
        return cls(counts[7], sum(counts))

    def stolen_since(self, earlier: Self) -> float:
        """Return the share of time in which a hypervisor let other machines run instead."""
        return (self.stolen - earlier.stolen) / max(self.total - earlier.total, 1)


def cpu_flags() -> tuple[str, ...]:
    """Return what the processor has of what ciphers use."""
    has = _of_cpu("flags").split()
    wide = sorted(flag for flag in has if flag.startswith("avx512"))
    return (*(flag for flag in FLAGS if flag in has), *wide)


def version(*command: str) -> str:
    """Return the first line that a program prints about itself."""
    try:
        done = subprocess.run(
            command,
            check=False,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            stdin=subprocess.DEVNULL,
            env={**os.environ, "PATH": SYSTEM_PATH},
        )
    except (OSError, subprocess.TimeoutExpired):
        return "unknown"
    lines = (done.stdout or done.stderr).strip().splitlines()
    return lines[0].removeprefix(f"{Path(command[0]).name} ") if lines else "unknown"


def file_system_of(path: Path) -> str:
    """Return the type of the file system that a path is on."""
    best, kind = Path("/"), "unknown"
    real = path.resolve()
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, point, found, *_ = line.split()
        if real.is_relative_to(point) and len(Path(point).parts) >= len(best.parts):
            best, kind = Path(point), found
    return kind


def _of_cpu(field: str) -> str:
    """Return a field of the first processor."""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() == field:
            return value.strip()
    return ""


def _memory_gib() -> float:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30


def words(facts: dict[str, str]) -> str:
    """Return the description as one paragraph."""
    return "; ".join(f"{name} {value}" for name, value in facts.items() if value)
