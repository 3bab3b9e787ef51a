# SPDX-License-Identifier: Apache-2.0
"""Machines: each with a state directory, and with an installation of Strongroom on it."""

import contextlib
import dataclasses
import hashlib
import json
import shutil
import subprocess
import venv
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import click

import strongroom
from strongroom._override import override
from strongroom.tee.process.signature import sign
from tests.harness import Operator
from tests.interop.cryptsetup.foreign import sha256
from tests.unit.tee.scene import secret

PACKAGE: Final = Path(strongroom.__file__).parent
TOUCHED: Final = "units.py"
"""A module that every enclave loads; a comment at its end makes another measurement."""
ENCLAVE_FACTOR, SECURITY_VERSION, IDENTITY = 34, 35, 70
PRODUCT: Final = 1


def install(place: Path, comment: str) -> Path:
    """Install the package once more, different by a comment; return the Python that it is in."""
    sources = place / "lib" / PACKAGE.name
    shutil.copytree(PACKAGE, sources, ignore=shutil.ignore_patterns("__pycache__"))
    with (sources / TOUCHED).open("a") as file:
        file.write(f"# {comment}\n")
    venv.create(place / "venv", symlinks=True, with_pip=False)
    (packages,) = (place / "venv" / "lib").glob("python*/site-packages")
    # The first one wins, and the second has what the command line needs.
    paths = (sources.parent, Path(click.__file__).parents[1])
    (packages / "strongroom.pth").write_text("".join(f"{path}\n" for path in paths))
    return place / "venv" / "bin" / "python"


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine(Operator):
    """An operator of a machine, which is a state directory, with one of its installations."""

    state: Path
    python: Path

    @override
    def strongroom(
        self, *arguments: str | Path, check: bool = True, stdin: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run the strongroom of this installation on this machine."""
        return self.run(self.python, "-I", "-m", "strongroom", *arguments, check=check, stdin=stdin)

    def with_python(self, python: Path) -> "Machine":
        """Return another installation on the same machine."""
        return dataclasses.replace(self, python=python)

    def identity(self) -> dict[str, Any]:
        """Return who the enclave of this installation is."""
        return self.facts("identity")

    def sign(self, measurement: str, seed: bytes, security_version: int) -> str:
        """Let a signer sign for a measurement on this machine; return who the signer is."""
        signatures = self.state / "process" / "signatures"
        signatures.mkdir(mode=0o700, parents=True, exist_ok=True)
        for directory in (self.state, signatures.parent):
            directory.chmod(0o700)
        signed = sign(secret(seed), bytes.fromhex(measurement), PRODUCT, security_version)
        (signatures / f"{measurement}.json").write_bytes(signed.document())
        return hashlib.sha256(signed.public_key).hexdigest()

    def forget(self) -> None:
        """Be an operator who has never seen a volume."""
        (self.state / "known-enclaves").unlink(missing_ok=True)

    def try_open(self, image: Path, key: Path | None = None) -> tuple[int, str]:
        """Open a volume and close it; return the exit code, and the message if it was refused."""
        key_file = ("--passphrase-file", key or self.passphrase_file)
        done = self.strongroom(
            "open", image, "probe", "--attach", "none", "--json", *key_file, check=False
        )
        if done.returncode == 0:
            self.close("probe")
            return 0, ""
        return done.returncode, said(done)

    def reads(self, image: Path, key: Path) -> str:
        """Return the digest of a volume's data as its NBD socket serves it."""
        output = self.place / "read"
        with self.opened(image, "read", "--read-only", "--passphrase-file", key) as facts:
            self.run("nbdcopy", facts["uri"], output)
        return sha256(output)


def machine(place: Path, name: str, python: Path) -> Machine:
    """Return a machine with nothing on it yet but an installation."""
    state = place / f"state of {name}"
    environment = {"STRONGROOM_STATE_DIR": str(state)}
    return Machine(place, environment=environment, state=state, python=python)


def said(done: subprocess.CompletedProcess[str]) -> str:
    """Return all that a failed command said."""
    with contextlib.suppress(ValueError):
        facts = json.loads(done.stdout)
        return f"{facts.get('message', facts)} ({facts.get('hint', '')})"
    return done.stdout + done.stderr


def check_recovery(where: Machine, image: Path, recovery: Path, content: str) -> None:
    """Check that the recovery key opens a volume on a machine, and in stock cryptsetup."""
    assert where.reads(image, recovery) == content
    key = as_key_file(recovery)
    where.run("cryptsetup", "open", "--test-passphrase", "--key-file", key, image)


def as_key_file(recovery: Path) -> Path:
    """Return a recovery key as foreign tools read it, which take all bytes of a file."""
    key = recovery.with_suffix(".key")
    key.write_text(recovery.read_text().strip())
    return key
