# SPDX-License-Identifier: Apache-2.0
"""The volumes of the crash tests, and how to tell which state one is in.

Plain ones: many copies of one volume, at all of its epochs, are opened on one machine here, and by
stock tools; and an enclave that is traced is not the one that others are sealed to.
"""

import hashlib
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from strongroom.luks2 import LoadedHeader, describe, load_header
from strongroom.luks2.limits import HEADER_COPY_BYTES
from strongroom.units import ByteCount
from tests.harness import CHEAP_KDF, STOCK, Operator

SIZE = "32M"
DATA_OFFSET_BYTES = 16 << 20
NOT_LUKS = 11
APART = frozenset({"image", "copies", "authentication"})
"""What a dump says beside the header's contents."""
PASSPHRASES = ("old", "new", "stays", "spare")


@dataclass(frozen=True, slots=True)
class Ways:
    """Files with the passphrases: ``old`` in keyslot 0, ``stays`` in 1, ``spare`` in 2."""

    old: Path
    new: Path
    stays: Path
    spare: Path

    @classmethod
    def at(cls, place: Path) -> "Ways":
        place.mkdir(parents=True, exist_ok=True)
        for word in PASSPHRASES:
            (place / word).write_text(f"the passphrase that is {word}")
        return cls(*(place / word for word in PASSPHRASES))


def make_base(operator: Operator, ways: Ways) -> Path:
    """Make a volume with three ways in."""
    image = operator.place / "base"
    operator.format(image, *STOCK, "--passphrase-file", ways.old, size=SIZE)
    for word in (ways.stays, ways.spare):
        operator.strongroom(*add(image, ways.old, word))
    with image.open("r+b") as file:
        file.seek(DATA_OFFSET_BYTES)
        file.write(b"ciphertext of somebody" * 5000)
    return image


def copy_of(base: Path, image: Path) -> Path:
    image.unlink(missing_ok=True)
    shutil.copyfile(base, image)
    return image


def change(image: Path, ways: Ways) -> tuple[str | Path, ...]:
    keys = ("--passphrase-file", ways.old, "--new-passphrase-file", ways.new)
    return ("slot", "change", image, *keys, *CHEAP_KDF)


def add(image: Path, existing: Path, new: Path) -> tuple[str | Path, ...]:
    keys = ("--passphrase-file", existing, "--new-passphrase-file", new)
    return ("slot", "add", image, *keys, *CHEAP_KDF)


def remove(image: Path, ways: Ways) -> tuple[str | Path, ...]:
    return ("slot", "remove", image, "--keyslot", "2", "--passphrase-file", ways.stays)


def opens(operator: Operator, image: Path, key: Path) -> bool:
    """Ask cryptsetup, which changes nothing but broken header copies."""
    done = operator.run(
        *("cryptsetup", "open", "--test-passphrase", "--key-file", key, image), check=False
    )
    assert done.returncode in {0, 2}, f"cryptsetup: {done.stderr}"
    return done.returncode == 0


def dump(operator: Operator, image: Path) -> dict[str, Any]:
    """Return what the program says of a header, apart from how the copies are."""
    facts = operator.facts("dump", image)
    return {key: facts[key] for key in facts if key not in APART}


def broken_copies(image: Path) -> tuple[str, ...]:
    loaded = _load(image)
    return tuple(copy.name for copy in loaded.broken)


def state(image: Path) -> dict[str, Any]:
    """Return the same as :func:`dump`, read in this process.

    Raises:
        StrongroomError: There is no header, or it is damaged.
    """
    loaded = _load(image)
    facts: dict[str, Any] = json.loads(json.dumps(describe(loaded.header, loaded=loaded)))
    return {key: facts[key] for key in facts if key not in APART}


def data_digest(image: Path) -> str:
    """Return the digest of everything behind the header area."""
    with image.open("rb") as file:
        file.seek(DATA_OFFSET_BYTES)
        return hashlib.file_digest(file, "sha256").hexdigest()


def _load(image: Path) -> LoadedHeader:
    with image.open("rb") as file:
        copy = file.read(HEADER_COPY_BYTES)
    size = ByteCount(image.stat().st_size)
    return load_header(copy, image_size_bytes=size, detached=False)
