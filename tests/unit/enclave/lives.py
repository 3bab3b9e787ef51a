# SPDX-License-Identifier: Apache-2.0
"""Enclaves of several identities on one machine, without processes, and the volumes they make."""

import dataclasses
import hashlib
import os
import shutil
import struct
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar, cast

from strongroom.boundary import calls
from strongroom.boundary.calls import Call, Purpose, Sealed, SealPolicy, Terms
from strongroom.boundary.channel import Received
from strongroom.boundary.schema import encode_message
from strongroom.enclave.session import Session, Surroundings
from strongroom.errors import StrongroomError
from strongroom.host.sealing import RecoveryKeyReceiver
from strongroom.tee.identity import Identity
from strongroom.tee.process.provider import ProcessTee
from tests.honest import HonestClient
from tests.hostile.boundary.evil import CHEAP, NO_TERMS, PASSPHRASE, creation, opened
from tests.system.identity.truth_table import YES
from tests.unit.tee.scene import enclave

ResultT = TypeVar("ResultT")

SMALL_BYTES: Final = 17 << 20
SECOND: Final = b"second passphrase"
BOTH: Final[calls.Factors] = ("enclave", "passphrase")
WHO: Final[dict[str, dict[str, Any]]] = {
    "1": {"name": "version 1", "security_version": 1},
    "2": {"name": "version 2", "security_version": 2},
    "other": {"name": "other", "signer": "other", "security_version": 2},
    "twin": {"name": "twin", "security_version": 1},
    "product": {"name": "product", "product_id": 2, "security_version": 2},
    "debug": {"name": "debug", "security_version": 2, "debug": True},
    "machine": {"name": "version 1", "security_version": 1, "root": bytes(32)},
    "boot": {"name": "version 2", "security_version": 2, "boot_id": bytes(16)},
}
"""Enclaves by name; all but ``machine`` share a root secret."""


class Life:
    """One session of an enclave."""

    def __init__(self, who: str | ProcessTee) -> None:
        self.tee = enclave(**WHO[who]) if isinstance(who, str) else who
        self.client = HonestClient()
        self.session = Session(Surroundings((), "fd"), self.tee, lambda *_: None)
        weakref.finalize(self, self.session.erase)

    @property
    def identity(self) -> Identity:
        return self.tee.identity

    def ask(self, request: Call[ResultT]) -> ResultT:
        """Make a call; its answer must be one that can cross the boundary."""
        answer = self.session.answer(Received(self.client.bound(request), ()))
        self.client.notice(answer)
        encode_message(answer)
        assert isinstance(answer, request.result)
        return cast("ResultT", answer)

    def sealed(self, purpose: Purpose, data: bytes = PASSPHRASE, terms: Terms = NO_TERMS) -> Sealed:
        key = self.ask(calls.NewRecipient(purpose)).public_key
        return self.client.sealed(key, purpose, data, terms)

    def existing(self, data: bytes = PASSPHRASE, terms: Terms = NO_TERMS) -> Sealed:
        return self.sealed("existing passphrase", data, terms)

    def load(self, image: Path, *, read_only: bool = False) -> calls.DiskFacts:
        with opened(image) as descriptor:
            return self.ask(calls.LoadDisk(descriptor, None, read_only=read_only))

    def unlock(self, data: bytes = PASSPHRASE, terms: Terms = NO_TERMS) -> calls.Unlocked:
        return self.ask(calls.Unlock(self.sealed("unlock", data, terms), discard=False))

    def hand_over(
        self,
        successor: calls.Successor,
        named: bytes | None = None,
        data: bytes = PASSPHRASE,
        policy: SealPolicy = "signer",
    ) -> calls.Handover:
        terms = dataclasses.replace(NO_TERMS, next_enclave=named)
        return self.ask(calls.HandOver(self.existing(data, terms), successor, policy))

    def reseal(
        self, policy: SealPolicy, data: bytes = PASSPHRASE, *, adopt: bool = False
    ) -> calls.Resealed:
        return self.ask(calls.Reseal(self.existing(data), policy, adopt))


@dataclasses.dataclass(frozen=True, slots=True)
class Made:
    """A volume with two sealed keyslots, 0 and 2, and a recovery key in keyslot 1."""

    image: Path
    recovery_key: bytes

    def copy(self, place: Path) -> Path:
        """Return a copy that a test may change."""
        return Path(shutil.copy(self.image, place / f"copy{len(list(place.iterdir()))}"))


def make(image: Path, who: str, policy: SealPolicy, factors: calls.Factors = BOTH) -> Made:
    """Make a volume of 17 MiB."""
    image.touch()
    os.truncate(image, SMALL_BYTES)
    life, written = Life(who), image.with_name(f"{image.name}.recovery")
    written.touch()
    with opened(image) as descriptor, opened(written) as output:
        client = RecoveryKeyReceiver(output)
        made = life.ask(
            creation(
                descriptor,
                life.sealed("format"),
                factors=factors,
                seal_policy=policy,
                recovery_key_to=client.public_key,
            )
        )
        assert made.recovery_key is not None
        client.deliver(made.recovery_key)
    if factors == BOTH:
        add_passphrase(image, who, SECOND, keyslot=2)
    return Made(image, written.read_bytes().strip())


def add_passphrase(
    image: Path, who: str, new: bytes, *, keyslot: int, existing: bytes = PASSPHRASE
) -> calls.KeyslotWritten:
    """Add a sealed keyslot."""
    life = Life(who)
    life.load(image)
    return life.ask(
        calls.AddKeyslot(
            existing=life.existing(existing),
            new=life.sealed("new passphrase", new),
            factors=BOTH,
            kdf=CHEAP,
            keyslot=keyslot,
            recovery_key_to=None,
        )
    )


def outcome(attempt: Callable[..., object], *arguments: object, **options: object) -> int:
    """Return the exit code of an attempt."""
    try:
        attempt(*arguments, **options)
    except StrongroomError as err:
        return err.exit_code
    return YES


def opens(image: Path, who: str, data: bytes = PASSPHRASE) -> int:
    """Return as which exit code an enclave opens a volume."""
    life = Life(who)
    life.load(image)
    try:
        return outcome(life.unlock, data)
    finally:
        life.session.erase()


def rewrite(image: Path, change: Callable[[bytearray], None]) -> None:
    """Change both copies of a header, whose checksums are right afterwards."""
    with image.open("r+b") as file:
        (size,) = struct.unpack_from(">Q", file.read(16), 8)
        for start in (0, size):
            file.seek(start)
            content = bytearray(file.read(size))
            before = bytes(content)
            change(content)
            assert content != before
            content[448:512] = bytes(64)
            content[448:480] = hashlib.sha256(content).digest()
            file.seek(start)
            file.write(content)


def relabel(content: bytearray) -> None:
    """Change the label, as stock tools do for their user."""
    content[24:72] = b"another label".ljust(48, b"\0")


def relabel_otherwise(content: bytearray) -> None:
    """Change the label to another one."""
    content[24:72] = b"a third label".ljust(48, b"\0")


def shrink_sectors(content: bytearray) -> None:
    """Change the sector size, as nobody does for anybody."""
    at = content.index(b'"sector_size":4096')
    content[at : at + 18] = b'"sector_size":2048'
