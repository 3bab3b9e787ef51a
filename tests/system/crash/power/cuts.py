# SPDX-License-Identifier: Apache-2.0
"""What a disk may hold after a power cut, made of the record of what was written to it.

A cut at a moment leaves everything that was synced before it. Of the rest it leaves all, or any
part: each write whole, not at all, or some of its pieces of 512 bytes; and of the names that were
not synced, the first few, as a journal of metadata keeps them. A sync of a file does not make its
name durable.
"""

import hashlib
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.system.crash.power.journal import (
    Clear,
    Content,
    Event,
    Mark,
    Name,
    Naming,
    Rename,
    Resize,
    Sync,
    SyncNames,
    Write,
)

PIECE_BYTES = 512


@dataclass(frozen=True, slots=True)
class Disk:
    """One state of the disk: which path holds what, and what had been acknowledged by then."""

    moment: int
    files: Mapping[str, bytes]
    directories: frozenset[str]
    acknowledged: tuple[str, ...]
    is_prefix: bool

    def digest(self) -> bytes:
        """Tell states apart by what they hold and what must be in them."""
        total = hashlib.sha256(repr((sorted(self.directories), self.acknowledged)).encode())
        for path in sorted(self.files):
            total.update(path.encode() + hashlib.sha256(self.files[path]).digest())
        return total.digest()

    def put(self, place: Path) -> None:
        """Write the state into an empty directory."""
        for path in sorted(self.directories):
            (place / path.lstrip("/")).mkdir(mode=0o700)
        for path, content in self.files.items():
            target = place / path.lstrip("/")
            target.touch(mode=0o600)
            target.write_bytes(content)


@dataclass(slots=True)
class _Names:
    """Which path means which file."""

    found: dict[str, int] = field(default_factory=dict)

    def apply(self, event: Naming) -> None:
        match event:
            case Name(path, number) if number is not None:
                self.found[path] = number
            case Name(path):
                self.found.pop(path, None)
            case Rename(old, new):
                self.found[new] = self.found.pop(old)


class Cutter:
    """Follows a record, and makes states at any moment of it."""

    def __init__(self, base: Path) -> None:
        """Start from what the directory ``base`` holds now: before the record begins."""
        self._durable: dict[int, bytearray] = {}
        self._names = _Names()
        for path in sorted(base.rglob("*")):
            name, number = f"/{path.relative_to(base)}", path.stat().st_ino
            self._names.found[name] = 0 if path.is_dir() else number
            if path.is_file():
                self._durable[number] = bytearray(path.read_bytes())
        self._pending: list[Content] = []
        self._pending_names: list[Naming] = []
        self._acknowledged: list[str] = []

    def states(self, events: list[Event], rng: random.Random, subsets: int) -> Iterator[Disk]:
        """Cut before the first event and after each: the prefix, and some subsets of the rest."""
        yield self._cut(0, self._pending, len(self._pending_names), is_prefix=True)
        for moment, event in enumerate(events, 1):
            self._follow(event)
            whole = len(self._pending_names)
            yield self._cut(moment, self._pending, whole, is_prefix=True)
            if not isinstance(event, Mark):
                for _ in range(subsets if self._pending or self._pending_names else 0):
                    kept = [part for item in self._pending for part in _torn(item, rng)]
                    yield self._cut(moment, kept, rng.randint(0, whole), is_prefix=False)

    def _follow(self, event: Event) -> None:
        match event:
            case Write() | Resize() | Clear():
                self._pending.append(event)
            case Name() | Rename():
                self._pending_names.append(event)
            case Mark(text):
                self._acknowledged.append(text)
            case Sync(number):
                own = [item for item in self._pending if item.file == number]
                self._pending = [item for item in self._pending if item.file != number]
                for item in own:
                    _apply(self._durable.setdefault(number, bytearray()), item)
            case SyncNames():
                for naming in self._pending_names:
                    self._names.apply(naming)
                self._pending_names = []

    def _cut(self, moment: int, kept: list[Content], names_kept: int, *, is_prefix: bool) -> Disk:
        names = _Names(dict(self._names.found))
        for naming in self._pending_names[:names_kept]:
            names.apply(naming)
        changed: dict[int, bytearray] = {}
        for item in kept:
            if item.file not in changed:
                changed[item.file] = bytearray(self._durable.get(item.file, b""))
            _apply(changed[item.file], item)
        contents = {
            path: bytes(changed.get(number, self._durable.get(number, b"")))
            for path, number in names.found.items()
            if number
        }
        directories = frozenset(path for path, number in names.found.items() if not number)
        return Disk(moment, contents, directories, tuple(self._acknowledged), is_prefix)


def _torn(item: Content, rng: random.Random) -> Iterator[Content]:
    """Keep a write, lose it, or keep some of its pieces."""
    fate = rng.random()
    if not isinstance(item, Write):
        if fate < 1 / 2:
            yield item
        return
    if fate < 1 / 6:
        yield item
    elif fate < 5 / 6:
        kept = rng.random()
        for start in range(0, len(item.data), PIECE_BYTES):
            if rng.random() < kept:
                piece = item.data[start : start + PIECE_BYTES]
                yield Write(item.file, item.offset + start, piece)


def _apply(content: bytearray, item: Content) -> None:
    match item:
        case Write(_, offset, data):
            content.extend(bytes(max(0, offset + len(data) - len(content))))
            content[offset : offset + len(data)] = data
        case Clear(_, offset, size):
            end = min(offset + size, len(content))
            content[offset:end] = bytes(max(0, end - offset))
        case Resize(_, size, may_shrink):
            if may_shrink:
                del content[size:]
            content.extend(bytes(max(0, size - len(content))))
