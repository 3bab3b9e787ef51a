# SPDX-License-Identifier: Apache-2.0
"""The record of a file system, read back: contents, names, syncs and marks, in their order."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias

from cbor2 import CBORDecodeEOF, CBORDecoder

MARKS = "/marks"
"""Lines that a test appends to this file are its own notes in the record."""
_LONGEST_WRITE_BYTES = 1 << 17
"""Writes that follow each other are one again up to here: FUSE cuts calls into pages."""


@dataclass(frozen=True, slots=True)
class Write:
    """Bytes of a file, by its inode number."""

    file: int
    offset: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Resize:
    """A new size, or space for one."""

    file: int
    size: int
    may_shrink: bool


@dataclass(frozen=True, slots=True)
class Clear:
    """A range that reads as zeros from now on."""

    file: int
    offset: int
    size: int


@dataclass(frozen=True, slots=True)
class Sync:
    """All that was written to a file before is durable."""

    file: int


@dataclass(frozen=True, slots=True)
class Name:
    """A path means a file from now on; a directory has the number 0, and nothing ``None``."""

    path: str
    file: int | None


@dataclass(frozen=True, slots=True)
class Rename:
    """A path of a file becomes another, and whatever was there is replaced."""

    old: str
    new: str


@dataclass(frozen=True, slots=True)
class SyncNames:
    """All names so far are durable."""


@dataclass(frozen=True, slots=True)
class Mark:
    """A note of the test: this had been acknowledged by then."""

    text: str


Content: TypeAlias = Write | Resize | Clear
Naming: TypeAlias = Name | Rename
Event: TypeAlias = Content | Naming | Sync | SyncNames | Mark


def read(record: Path) -> list[Event]:
    """Return what happened, with the writes of one call in one piece."""
    events: list[Event] = []
    marks = 0
    for raw in _raw(record):
        match raw:
            case ["name", path, number] if path == MARKS:
                marks = number
            case ["write", number, _, data] if number == marks:
                events += [Mark(line) for line in data.decode().split()]
            case ["size" | "allocate" | "sync", number, *_] if number == marks:
                pass
            case _:
                _append(events, _event(raw))
    return events


def _raw(record: Path) -> Iterator[list[Any]]:
    with record.open("rb") as file:
        decoder = CBORDecoder(file)
        try:
            while True:
                yield decoder.decode()
        except CBORDecodeEOF:
            return


def _event(raw: list[Any]) -> Event:
    kind, *given = raw
    return _KINDS[kind](*given)


def _allocation(number: int, mode: int, offset: int, size: int) -> Content:
    if mode == 0:
        return Resize(number, offset + size, may_shrink=False)
    if mode in {_KEEP_SIZE | _PUNCH_HOLE, _KEEP_SIZE | _ZERO_RANGE}:
        return Clear(number, offset, size)
    raise AssertionError(f"fallocate with mode {mode:#x} is not known")


_KEEP_SIZE, _PUNCH_HOLE, _ZERO_RANGE = 1, 2, 16
_KINDS: Final[dict[str, Callable[..., Event]]] = {
    "write": Write,
    "size": lambda number, size: Resize(number, size, may_shrink=True),
    "allocate": _allocation,
    "sync": Sync,
    "sync names": lambda _: SyncNames(),
    "name": Name,
    "directory": lambda path: Name(path, 0),
    "unname": lambda path: Name(path, None),
    "rename": Rename,
}
"""Of each kind of note that ``filesystem`` makes, how to read the rest of it."""


def _append(events: list[Event], event: Event) -> None:
    last = events[-1] if events else None
    if (
        isinstance(event, Write)
        and isinstance(last, Write)
        and last.file == event.file
        and last.offset + len(last.data) == event.offset
        and len(last.data) + len(event.data) <= _LONGEST_WRITE_BYTES
    ):
        events[-1] = Write(last.file, last.offset, last.data + event.data)
    else:
        events.append(event)
