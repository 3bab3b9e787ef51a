# SPDX-License-Identifier: Apache-2.0
"""The processes of an open volume or a running command, dumped while they work."""

import contextlib
import random
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tests.hostile.memory.needles import Secrets
from tests.hostile.memory.search import Dump, Hit, Search, core_of, memory_of, stopped

IO_PATTERN: Final = b"plaintext of the memory test 07!"
CONNECTIONS: Final = 4
_ROLES: Final = {
    "start.py": "enclave",
    "strongroom.host.daemon": "host",
    "strongroom": "cli",
}


def role_of(pid: int) -> str | None:
    """Tell what a process is by its command line; nothing if it has ended."""
    with contextlib.suppress(OSError):
        words = Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")
        for mark, role in _ROLES.items():
            if any(Path(word).name == mark for word in words):
                return role
    return None


def descendants(pid: int) -> Iterator[int]:
    """Yield a process and all processes below it."""
    yield pid
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in (task / "children").read_text().split():
                yield from descendants(int(child))


@dataclass(slots=True)
class Witness:
    """Takes dumps and keeps them until the secrets are known."""

    directory: Path
    dumps: list[Dump] = field(default_factory=list)

    def look(self, root: int) -> None:
        """Dump a process and all of Strongroom below it: running, then all stopped at once."""
        roles = {pid: role for pid in descendants(root) if (role := role_of(pid))}
        for pid, role in roles.items():
            self.keep(memory_of(pid, role, "running"))
        with stopped(*roles):
            for pid, role in roles.items():
                self.keep(core_of(pid, role, self.directory))
                self.keep(memory_of(pid, role, "stopped"))

    def keep(self, dump: Dump | None) -> None:
        """Keep a dump, if there is one."""
        if dump is not None:
            self.dumps.append(dump)

    def watch(self, command: subprocess.Popen[bytes], *, rounds: int) -> None:
        """Dump a command and its enclave at random moments, from when there is an enclave."""
        while command.poll() is None and "enclave" not in map(role_of, descendants(command.pid)):
            time.sleep(0.02)
        for _ in range(rounds):
            time.sleep(random.uniform(0.02, 0.15))
            if command.poll() is None:
                self.look(command.pid)

    def count(self, role: str, kind: str) -> int:
        """Count dumps."""
        return sum(dump.role == role and dump.kind == kind for dump in self.dumps)

    def of(self, role: str) -> list[Dump]:
        """Return the dumps of a process."""
        return [dump for dump in self.dumps if dump.role == role]

    def hits(self, situation: str, secrets: Secrets) -> list[Hit]:
        """Search everything, and print a line for each kind of process and of dump."""
        search = Search(secrets.needles())
        found = [hit for dump in self.dumps for hit in search.hits(dump)]
        for role, kind in sorted({(dump.role, dump.kind) for dump in self.dumps}):
            count = sum(hit.role == role and hit.kind == kind for hit in found)
            dumps = [dump for dump in self.of(role) if dump.kind == kind]
            size = sum(len(part.content) for dump in dumps for part in dump.parts)
            print(
                f"{situation:32} {role:8} {kind:8} {len(dumps):3} dumps"
                f" {size >> 20:5} MiB {count:4} hits"
            )
        return found


@contextlib.contextmanager
def load(seconds: float, *target: str) -> Iterator[None]:
    """Read and write from four clients until the end of the block, or for so many seconds.

    Args:
        seconds: The most that it may take.
        target: Options of fio that name the target.
    """
    command = [
        *("fio", "--name=load", "--rw=randrw", "--bsrange=4k-1m", "--size=32m", "--iodepth=4"),
        *("--time_based", f"--runtime={seconds:.0f}", f"--numjobs={CONNECTIONS}", "--thread"),
        *("--norandommap", f'--buffer_pattern="{IO_PATTERN.decode()}"', "--randrepeat=0", *target),
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        try:
            time.sleep(1)
            assert process.poll() is None, process.communicate()[0].decode()
            yield
            assert process.poll() is None, "the load ended before the last dump"
        finally:
            process.terminate()
            process.communicate()


def over_nbd(socket: str | Path) -> tuple[str, ...]:
    """Return fio's options for an NBD server."""
    return ("--ioengine=nbd", f"--uri=nbd+unix:///?socket={socket}")
