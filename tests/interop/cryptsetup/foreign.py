# SPDX-License-Identifier: Apache-2.0
"""The installed cryptsetup, without a device mapper, and what both sides need of a volume."""

import hashlib
import json
import os
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tests.harness import Operator

KIB: Final = 1024
MIB: Final = 1024 * KIB
DATA_BYTES: Final = 256 * KIB
"""The size of the data: the independent reader is slow."""
_ROOMY_BYTES: Final = 32 * MIB
DEFAULT_OFFSET_BYTES: Final = 16 * MIB
PBKDF2: Final = ("--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000")
"""cryptsetup's cheapest key derivation."""
ARGON2_COST: Final = ("--pbkdf-memory", "64", "--pbkdf-force-iterations", "4")
OUR_ARGON2_COST: Final = ("--kdf-memory", "9M", "--kdf-iterations", "4")
_NOT_OPENED: Final = {
    1: "No usable keyslot is available.",
    2: "No key available with this passphrase.",
}
"""cryptsetup's exit codes and messages when no keyslot opens. Spec: cryptsetup(8), RETURN CODES."""


@dataclass(frozen=True, slots=True)
class Volume:
    """An image, and its header if that is elsewhere."""

    image: Path
    header: Path | None = None

    @property
    def metadata_file(self) -> Path:
        """The file that holds the header."""
        return self.header or self.image

    @property
    def header_option(self) -> tuple[str | Path, ...]:
        """What both programs take to find the header."""
        return () if self.header is None else ("--header", self.header)


@dataclass(frozen=True, slots=True)
class Cryptsetup:
    """Runs cryptsetup; key files hold passphrases without a newline."""

    operator: Operator

    def run(self, *arguments: str | Path, stdin: str | None = None) -> str:
        """Run it, expecting success; without questions."""
        return self.operator.run("cryptsetup", "--batch-mode", *arguments, stdin=stdin).stdout

    def format(self, volume: Volume, key: Path, *options: str) -> None:
        """Make a LUKS2 volume in a new sparse image with :data:`DATA_BYTES` behind the header."""
        with volume.image.open("wb") as file:
            file.truncate(_ROOMY_BYTES)
        kdf = () if "--pbkdf" in options else PBKDF2
        named = (*volume.header_option, volume.image, key)
        self.run("luksFormat", "--type", "luks2", *kdf, *options, *named)
        offset = int(self.metadata(volume)["segments"]["0"]["offset"])
        os.truncate(volume.image, offset + DATA_BYTES)

    def opens(self, volume: Volume, key: Path, *options: str) -> bool:
        """Tell whether a passphrase opens the volume; any other failure fails the test."""
        done = self.operator.run(
            *("cryptsetup", "open", "--test-passphrase", "--key-file", key),
            *(*options, *volume.header_option, volume.image),
            check=False,
        )
        if done.returncode == 0:
            return True
        assert done.stderr.strip() == _NOT_OPENED.get(done.returncode), done.stderr
        return False

    def dump(self, volume: Volume) -> str:
        """Return what luksDump prints for people."""
        return self.run("luksDump", volume.metadata_file)

    def metadata(self, volume: Volume) -> dict[str, Any]:
        """Return the JSON area as cryptsetup understands it."""
        text = self.run("luksDump", "--dump-json-metadata", volume.metadata_file)
        result: dict[str, Any] = json.loads(text)
        return result

    def volume_key(self, volume: Volume, key: Path) -> bytes:
        """Return the volume key."""
        output = volume.image.with_suffix(".volume-key")
        output.unlink(missing_ok=True)
        named = ("--key-file", key, "--volume-key-file", output, volume.metadata_file)
        self.run("luksDump", "--dump-volume-key", *named)
        return output.read_bytes()


def secret(operator: Operator, name: str, text: str) -> Path:
    """Write a passphrase to a file that both programs read in the same way."""
    path = operator.place / f"{name}.key"
    path.touch(mode=0o600)
    path.write_text(text)
    return path


def random_file(path: Path, size: int = DATA_BYTES, *, seed: int = 1) -> Path:
    """Write random bytes that are the same in every run."""
    path.write_bytes(random.Random(seed).randbytes(size))
    return path


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def we_open(operator: Operator, volume: Volume, key: Path, *options: str) -> dict[str, Any]:
    """Open and close a volume with Strongroom; return what ``open`` said."""
    named = (*volume.header_option, "--passphrase-file", key, *options)
    with operator.opened(volume.image, "probe", *named) as facts:
        return facts


def we_refuse(operator: Operator, volume: Volume, key: Path) -> None:
    """Check that Strongroom does not open a volume with a passphrase, and says why."""
    done = operator.strongroom(
        *("open", volume.image, "probe", "--attach", "none", *volume.header_option),
        *("--passphrase-file", key),
        check=False,
    )
    assert done.returncode == 31, done.stderr
    assert "no keyslot opens with this passphrase" in done.stderr


def write_through_nbd(operator: Operator, volume: Volume, key: Path, data: Path) -> dict[str, Any]:
    """Fill a whole volume through our NBD socket; return what ``open`` said."""
    named = (*volume.header_option, "--passphrase-file", key)
    with operator.opened(volume.image, "filled", *named) as facts:
        assert facts["size_bytes"] == data.stat().st_size
        operator.run("nbdcopy", "--flush", data, facts["uri"])
    return facts


def read_through_nbd(operator: Operator, volume: Volume, key: Path) -> str:
    """Return the SHA-256 of a whole volume as our NBD socket serves it, read-only."""
    output = operator.place / "read-through-nbd"
    named = (*volume.header_option, "--passphrase-file", key, "--read-only")
    with operator.opened(volume.image, "read", *named) as facts:
        operator.run("nbdcopy", facts["uri"], output)
    return sha256(output)
