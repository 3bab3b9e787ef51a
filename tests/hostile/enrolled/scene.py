# SPDX-License-Identifier: Apache-2.0
"""An enrolled volume that an enclave made, two ways to open it, and what an attack came to.

The keyslots area is as small as it can be, since most attacks here load all of it again.
"""

import contextlib
import functools
import hashlib
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Final, TypeVar, cast

import pytest

from strongroom._core import HpkeReceiver
from strongroom.boundary import calls
from strongroom.boundary.calls import Call, Purpose, Sealed, Terms
from strongroom.boundary.channel import Received
from strongroom.enclave import create
from strongroom.enclave.session import Session, Surroundings
from strongroom.errors import StrongroomError
from strongroom.luks2 import Header, new_header
from strongroom.tee.process.provider import ProcessTee
from strongroom.units import ByteOffset
from tests.honest import HonestClient, revealed
from tests.hostile.boundary.evil import CHEAP, NO_TERMS, PASSPHRASE, creation
from tests.unit.tee.scene import enclave

ResultT = TypeVar("ResultT")

# JSON trees are edited freely here, so their type is of no use.
Tree = dict[str, Any]

HDR: Final = 16384
AREA_BYTES: Final = 258048
MATERIAL_BYTES: Final = 256000
GAP_BYTES: Final = 4096
DATA_OFFSET_BYTES: Final = 2 * HDR + 2 * AREA_BYTES + GAP_BYTES
ROOMY_OFFSET_BYTES: Final = 2 * HDR + 4 * AREA_BYTES
DATA_BYTES: Final = 16384
_ROOM_BYTES: Final = 17 << 20
_CHECKSUM: Final = slice(448, 512)

PRIMARY, SECONDARY = slice(0, HDR), slice(HDR, 2 * HDR)


def enrolled_enclave() -> ProcessTee:
    """The enclave that the volume is sealed to."""
    return enclave("enrolled")


def foreign_enclave() -> ProcessTee:
    """An enclave of somebody else, on another machine."""
    return enclave("foreign", signer="another signer", root=bytes(32))


class Life:
    """One life of an enclave, without a process around it."""

    def __init__(self, tee: ProcessTee) -> None:
        self.session = Session(Surroundings((), "fd"), tee, lambda *_: None)
        self.client = HonestClient()

    def ask(self, request: Call[ResultT]) -> ResultT:
        answer = self.session.answer(Received(self.client.bound(request), ()))
        self.client.notice(answer)
        return cast("ResultT", answer)

    def sealed(self, purpose: Purpose, data: bytes, terms: Terms = NO_TERMS) -> Sealed:
        key = self.ask(calls.NewRecipient(purpose)).public_key
        return self.client.sealed(key, purpose, data, terms)

    def load(self, image: int, *, read_only: bool = False) -> calls.DiskFacts:
        return self.ask(calls.LoadDisk(image, None, read_only))

    def unlock(self, data: bytes, terms: Terms = NO_TERMS) -> calls.Unlocked:
        return self.ask(calls.Unlock(self.sealed("unlock", data, terms), discard=False))

    def add_recovery(self, data: bytes) -> bytes:
        """Add a keyslot for a recovery key, and return that key."""
        client = HpkeReceiver()
        existing = self.sealed("existing passphrase", data)
        request = calls.AddKeyslot(existing, None, (), CHEAP, None, client.public_key)
        return revealed(client, self.ask(request).recovery_key)


@contextlib.contextmanager
def living(tee: ProcessTee) -> Iterator[Life]:
    life = Life(tee)
    try:
        yield life
    finally:
        life.session.erase()


@contextlib.contextmanager
def on_disk(image: bytes) -> Iterator[int]:
    """A disk with these bytes, which may be written."""
    descriptor = os.memfd_create("image")
    try:
        os.pwrite(descriptor, image, 0)
        yield descriptor
    finally:
        os.close(descriptor)


def contents(descriptor: int) -> bytes:
    return os.pread(descriptor, os.fstat(descriptor).st_size, 0)


@dataclass(frozen=True)
class Volume:
    """A volume with a sealed keyslot 0 and the recovery keyslot 1."""

    image: bytes
    recovery_key: bytes
    passphrase: bytes = PASSPHRASE

    def tree(self) -> Tree:
        """Return its metadata, to be changed."""
        return tree_of(self.image)


def new_volume(
    *,
    passphrase: bytes = PASSPHRASE,
    tee: Callable[[], ProcessTee] = enrolled_enclave,
    data_offset_bytes: int = DATA_OFFSET_BYTES,
    factors: calls.Factors = ("enclave", "passphrase"),
) -> Volume:
    """Make a volume as ``CreateVolume`` does, with a smaller keyslots area."""
    client = HpkeReceiver()
    small = functools.partial(new_header, data_offset_bytes=ByteOffset(data_offset_bytes))
    with living(tee()) as life, on_disk(b"") as image, pytest.MonkeyPatch.context() as patch:
        patch.setattr(create, "new_header", small)
        os.ftruncate(image, _ROOM_BYTES)
        request = creation(
            image,
            life.sealed("format", passphrase),
            factors=factors,
            recovery_key_to=client.public_key,
        )
        recovery_key = revealed(client, life.ask(request).recovery_key)
        os.ftruncate(image, data_offset_bytes + DATA_BYTES)
        return Volume(contents(image), recovery_key, passphrase)


# --- forging --------------------------------------------------------------------------------------


def text_of(image: bytes) -> bytes:
    """Return the JSON text of the primary copy."""
    return image[4096:HDR].rstrip(b"\0")


def tree_of(image: bytes) -> Tree:
    """Return the metadata of the primary copy, to be changed."""
    return cast("Tree", json.loads(text_of(image)))


def resummed(image: bytes, *, secondary: bool) -> bytes:
    """Give a copy the right checksum for the size and the hash that it claims."""
    start = HDR if secondary else 0
    size = int.from_bytes(image[start + 8 : start + 16], "big")
    if not 4096 <= size <= len(image) - start:
        size = HDR
    name = image[start + 72 : start + 104].rstrip(b"\0").decode("ascii", "replace")
    whole = bytearray(image[start : start + size])
    rest = bytes(whole[_CHECKSUM])
    whole[_CHECKSUM] = bytes(64)
    digest = hashlib.new(name if name in hashlib.algorithms_available else "sha256", whole).digest()
    whole[_CHECKSUM] = digest + rest[len(digest) :]
    return image[:start] + bytes(whole) + image[start + size :]


def both_resummed(image: bytes) -> bytes:
    return resummed(resummed(image, secondary=False), secondary=True)


def rewritten(image: bytes, tree: Tree | bytes) -> bytes:
    """Put other metadata into both copies, with right checksums."""
    text = tree if isinstance(tree, bytes) else dumped(tree)
    area = text.ljust(HDR - 4096, b"\0")
    assert len(area) == HDR - 4096
    forged = image[:4096] + area + image[HDR : HDR + 4096] + area + image[2 * HDR :]
    return both_resummed(forged)


def dumped(tree: Tree) -> bytes:
    return json.dumps(tree, separators=(",", ":"), ensure_ascii=False).encode()


def patched(image: bytes, offset: int, data: bytes) -> bytes:
    return image[:offset] + data + image[offset + len(data) :]


def in_both(image: bytes, offset: int, data: bytes) -> bytes:
    """Put bytes at an offset of both copies, with right checksums."""
    return both_resummed(patched(patched(image, offset, data), HDR + offset, data))


# --- opening --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Way:
    """A secret, and the enclave that it is given to."""

    name: str
    tee: Callable[[], ProcessTee]
    data: bytes


def ways_into(volume: Volume) -> tuple[Way, Way]:
    return (
        Way("passphrase, enrolled", enrolled_enclave, volume.passphrase),
        Way("recovery key, foreign", foreign_enclave, volume.recovery_key),
    )


@dataclass(frozen=True)
class Attempt:
    """What loading and unlocking a disk came to.

    Attributes:
        facts: What was said at loading, if it loaded.
        unlocked: What was said at unlocking, if it unlocked.
        header: What was acted upon.
        error: Why it did not unlock.
        after: The disk afterwards.
    """

    facts: calls.DiskFacts | None
    unlocked: calls.Unlocked | None
    header: Header | None
    error: StrongroomError | None
    after: bytes

    @property
    def refusal(self) -> str:
        """The name of the error's class, or nothing when it unlocked."""
        return "" if self.error is None else type(self.error).__name__


def attempt(image: bytes, way: Way, terms: Terms = NO_TERMS) -> Attempt:
    """Load and unlock a disk in a new life of an enclave."""
    facts = unlocked = header = error = None
    with living(way.tee()) as life, on_disk(image) as disk:
        try:
            facts = life.load(disk)
            assert life.session._inspected is not None
            header = life.session._inspected.header
            unlocked = life.unlock(way.data, terms)
            # Accepting a change replaces the header, so this is the one that was used.
            header = life.session._inspected.header
        except StrongroomError as err:
            error = err
        return Attempt(facts, unlocked, header, error, contents(disk))


def _only_reads(attacked: bytes, found: Attempt, sound: Attempt) -> bool:
    """Say whether a keyslot is named as damaged, and all else is as it was."""
    assert found.header is not None
    assert sound.header is not None
    assert found.facts is not None
    assert found.unlocked is not None
    assert sound.unlocked is not None
    words = [change.words for change in found.facts.acceptable]
    named = [each for each in words if "is damaged" in each]
    return (
        len(named) == len(words) > 0
        and f"keyslot {found.unlocked.keyslot} " not in "".join(named)
        and found.unlocked.keyslot == sound.unlocked.keyslot
        and found.unlocked.authenticated
        and found.unlocked.epoch == sound.unlocked.epoch
        and found.header.segment == sound.header.segment
        and found.after == attacked
    )


def verdict(attacked: bytes, found: Attempt, sound: Attempt) -> str:
    """Say what came of an attack; ``SILENT`` is what must never come.

    ``repaired``: one copy was bad, that was said, and mended from the good one; ``said``: the
    same, and left as it is, by an enclave that cannot authenticate; ``unused``: nothing that was
    changed is ever looked at; ``read only``: another keyslot than the one under attack opened, and
    the same data can be read and not written.
    """
    if found.error is not None:
        return found.refusal
    assert found.facts is not None
    assert sound.facts is not None
    if found.unlocked is not None and found.unlocked.read_only:
        return "read only" if _only_reads(attacked, found, sound) else "SILENT"
    same = (
        found.header == sound.header
        and found.unlocked == sound.unlocked
        and replace(found.facts, notices=()) == sound.facts
    )
    if not same:
        return "SILENT"
    if not found.facts.notices:
        unused = attacked[: 2 * HDR] == sound.after[: 2 * HDR]
        return "unused" if unused else "SILENT"
    if found.after == sound.after:
        return "repaired"
    return (
        "said" if found.after == attacked and found.facts.authentication != "verified" else "SILENT"
    )
