# SPDX-License-Identifier: Apache-2.0
"""Memory images of processes, and the search for needles in them."""

import contextlib
import mmap
import os
import re
import signal
import struct
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tests.harness import has_ended

PAGE: Final = mmap.PAGESIZE
_PREFIX_BYTES: Final = 8
_DUMP_SECONDS: Final = 60
_NT_PRSTATUS: Final = 1
_PT_NOTE: Final = 4
_NOTES: Final = "notes"
_ELF_MAGIC: Final = b"\x7fELF\x02\x01"


@dataclass(frozen=True, slots=True)
class Part:
    """Neighbouring bytes of an image."""

    name: str
    start: int
    content: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Dump:
    """The memory of a process at a moment."""

    role: str
    """What the process is."""
    kind: str
    """How it was read: ``core``, ``running`` or ``stopped``."""
    parts: tuple[Part, ...]
    threads: int = 0
    """With registers in the image."""

    def holds(self, marker: bytes) -> bool:
        """Tell whether the marker is anywhere in it."""
        return any(marker in part.content for part in self.parts)


@dataclass(frozen=True, slots=True)
class Hit:
    """A needle that was found."""

    role: str
    kind: str
    needle: str
    place: str


@dataclass(slots=True)
class Search:
    """Looks for needles of 8 bytes and more, at every offset.

    Its time does not depend on their number. Pages that were clean once are known again.
    """

    needles: dict[bytes, str]
    _prefixes: dict[int, list[bytes]] = field(init=False, default_factory=dict)
    _clean: set[int] = field(init=False, default_factory=set)

    def __post_init__(self) -> None:
        for needle in self.needles:
            prefix = int.from_bytes(needle[:_PREFIX_BYTES].ljust(_PREFIX_BYTES, b"\0"), "little")
            assert len(needle) >= _PREFIX_BYTES
            self._prefixes.setdefault(prefix, []).append(needle)

    def hits(self, dump: Dump) -> list[Hit]:
        """Return everything that is found, ordered by place."""
        return [
            Hit(dump.role, dump.kind, self.needles[needle], f"{part.name} {part.start + at:#x}")
            for part in dump.parts
            for at, needle in self.found(part.content)
        ]

    def found(self, content: bytes) -> Iterator[tuple[int, bytes]]:
        """Yield offsets and needles."""
        for start in range(0, len(content), PAGE):
            # A needle belongs to the page in which its first byte is.
            page = content[start : start + PAGE + _PREFIX_BYTES - 1]
            fingerprint = hash(page)
            if fingerprint in self._clean:
                continue
            prefixes = self._prefixes_in(page)
            if not prefixes:
                self._clean.add(fingerprint)
            for needle in (each for prefix in prefixes for each in self._prefixes[prefix]):
                at = content.find(needle, start, start + PAGE + len(needle) - 1)
                if at >= 0:
                    yield at, needle

    def _prefixes_in(self, page: bytes) -> set[int]:
        found: set[int] = set()
        for shift in range(min(_PREFIX_BYTES, len(page))):
            count = (len(page) - shift) // _PREFIX_BYTES
            words = struct.unpack_from(f"<{count}Q", page, shift)
            if not self._prefixes.keys().isdisjoint(words):
                found.update(self._prefixes.keys() & words)
        return found


def core_of(pid: int, role: str, directory: Path, *, undumpable: bool = True) -> Dump | None:
    """Dump a process with gcore.

    Args:
        pid: The process.
        role: What it is.
        directory: Where the core file may lie for a while.
        undumpable: Include the mappings that ask not to be dumped, and files.

    Returns:
        Nothing if the process has ended.
    """
    prefix = directory / "core"
    done = subprocess.run(
        ["gcore", *(["-a"] if undumpable else []), "-o", str(prefix), str(pid)],
        check=False,
        capture_output=True,
        text=True,
        timeout=_DUMP_SECONDS,
        env={**os.environ, "DEBUGINFOD_URLS": "", "LC_ALL": "C"},
    )
    path = prefix.with_name(f"core.{pid}")
    if not path.exists():
        assert has_ended(pid), f"gcore failed: {done.stdout}{done.stderr}"
        return None
    content = path.read_bytes()
    path.unlink()
    parts = tuple(segments_of(content))
    return Dump(role, "core", parts, sum(threads_in(part) for part in parts))


def segments_of(core: bytes) -> Iterator[Part]:
    """Yield the notes, with the registers, and the mappings. Spec: System V ABI, ELF-64."""
    assert core.startswith(_ELF_MAGIC)
    (table,) = struct.unpack_from("<Q", core, 32)
    entry_size, entries = struct.unpack_from("<HH", core, 54)
    for entry in range(table, table + entries * entry_size, entry_size):
        kind, _, at, address, _, size = struct.unpack_from("<IIQQQQ", core, entry)
        yield Part(_NOTES if kind == _PT_NOTE else "mapping", address, core[at : at + size])


def threads_in(part: Part) -> int:
    """Count the threads whose registers are in the notes of a core file."""
    at = count = 0
    while part.name == _NOTES and at < len(part.content):
        name_size, content_size, note = struct.unpack_from("<III", part.content, at)
        count += note == _NT_PRSTATUS
        at += 12 + (name_size + 3) // 4 * 4 + (content_size + 3) // 4 * 4
    return count


def memory_of(pid: int, role: str, kind: str) -> Dump | None:
    """Read all that can be read of a process through ``/proc/PID/mem``, as root may.

    Returns:
        Nothing if the process has ended.
    """
    try:
        file = os.open(f"/proc/{pid}/mem", os.O_RDONLY | os.O_CLOEXEC)
    except (FileNotFoundError, ProcessLookupError):
        return None
    try:
        maps = Path(f"/proc/{pid}/maps").read_text()
        parts = tuple(part for line in maps.splitlines() for part in _mapping(file, line))
    finally:
        os.close(file)
    # What was read while the process ended is not all there was.
    return None if has_ended(pid) else Dump(role, kind, parts)


@contextlib.contextmanager
def stopped(*pids: int) -> Iterator[None]:
    """Stop processes until the end of the block."""
    try:
        _signal_all(pids, signal.SIGSTOP)
        yield
    finally:
        _signal_all(pids, signal.SIGCONT)


def _signal_all(pids: tuple[int, ...], number: signal.Signals) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def _mapping(file: int, line: str) -> Iterator[Part]:
    matched = re.match(r"(\w+)-(\w+) (\S+) \S+ \S+ \S+ *(.*)", line)
    assert matched is not None
    start, end, access, name = matched.groups()
    if "r" not in access or name == "[vsyscall]":
        return
    at, stop = int(start, 16), int(end, 16)
    while at < stop:
        try:
            content = os.pread(file, stop - at, at)
        except OSError:
            # Secret memory, and what was unmapped in the meantime.
            return
        if not content:
            return
        yield Part(name or "anonymous", at, content)
        at += len(content)
