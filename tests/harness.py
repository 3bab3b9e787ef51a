# SPDX-License-Identifier: Apache-2.0
"""The installed program, driven as an operator drives it, in a directory of the test's own."""

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

STRONGROOM: Final = Path(sys.executable).with_name("strongroom")
SYSTEM_PATH: Final = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
CHEAP_KDF: Final = ("--kdf", "pbkdf2", "--kdf-iterations", "1000")
"""For tests in which the passphrase's cost does not matter."""
STOCK: Final = ("--factors", "passphrase")
"""For volumes that stock tools open with the passphrase."""
RUN_SECONDS: Final = 120 * int(os.environ.get("STRONGROOM_TEST_PATIENCE", "1"))
"""A machine that is emulated needs more."""


def has_ended(pid: int) -> bool:
    """Tell whether a process is gone, or nobody has asked yet how it went."""
    try:
        facts = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return True
    return facts.rpartition(")")[2].split()[0] in {"Z", "X"}


def open_files(pid: int) -> set[str]:
    """Return what a process has open, without what it closes while we look."""
    targets = set()
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            targets.add(str(link.readlink()))
    return targets


@dataclass(frozen=True, slots=True)
class Operator:
    """Runs strongroom and foreign tools with a runtime directory below ``place``."""

    place: Path
    passphrase: str = "correct horse battery staple"  # noqa: S105 - a test needs one
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def runtime(self) -> Path:
        """Where this operator's open volumes leave their traces."""
        return self.place / "run"

    @property
    def passphrase_file(self) -> Path:
        """The passphrase with a newline, as an editor would leave it."""
        path = self.place / "passphrase"
        if not path.exists():
            path.touch(mode=0o600)
            path.write_text(self.passphrase + "\n")
        return path

    @property
    def key_file(self) -> Path:
        """The passphrase without a newline, as cryptsetup wants it."""
        path = self.place / "key"
        path.write_text(self.passphrase)
        return path

    def run(
        self,
        *command: str | Path,
        check: bool = True,
        stdin: str | None = None,
        timeout: float = RUN_SECONDS,
    ) -> subprocess.CompletedProcess[str]:
        """Run any command; a failure shows what it printed."""
        done = subprocess.run(
            [str(part) for part in command],
            check=False,
            capture_output=True,
            text=True,
            input="" if stdin is None else stdin,
            timeout=timeout,
            env={
                **os.environ,
                "PATH": SYSTEM_PATH,
                "STRONGROOM_RUNTIME_DIR": str(self.runtime),
                **self.environment,
            },
        )
        if check and done.returncode:
            raise AssertionError(
                f"{' '.join(map(str, command))} exited with {done.returncode}\n"
                f"{done.stdout}{done.stderr}"
            )
        return done

    def strongroom(
        self, *arguments: str | Path, check: bool = True, stdin: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run strongroom."""
        return self.run(STRONGROOM, *arguments, check=check, stdin=stdin)

    def facts(self, *arguments: str | Path) -> dict[str, Any]:
        """Run strongroom with ``--json`` and return what it printed."""
        result: dict[str, Any] = json.loads(self.strongroom(*arguments, "--json").stdout)
        return result

    def format(self, image: Path, *options: str | Path, size: str | None = "64M") -> dict[str, Any]:
        """Make a volume without a recovery key, with a cheap KDF unless told otherwise."""
        sized = () if size is None else ("--size", size)
        recovery = () if "--recovery-key-file" in options else ("--no-recovery",)
        kdf = () if "--kdf" in options else CHEAP_KDF
        key = ("--passphrase-file", self.passphrase_file)
        return self.facts("format", image, *sized, *recovery, *kdf, *key, *options)

    def open(self, image: Path, name: str, *options: str | Path) -> dict[str, Any]:
        """Open a volume; without a device unless told otherwise."""
        attach = () if "--attach" in options else ("--attach", "none")
        given = {"--passphrase-file", "--key-file"}.intersection(options)
        key = () if given else ("--passphrase-file", self.passphrase_file)
        return self.facts("open", image, name, *attach, *key, *options)

    def close(self, name: str, *options: str, check: bool = True) -> None:
        """Close a volume."""
        self.strongroom("close", name, *options, check=check)

    @contextlib.contextmanager
    def opened(self, image: Path, name: str, *options: str | Path) -> Iterator[dict[str, Any]]:
        """Open a volume for the length of a block, and close it whatever happens."""
        facts = self.open(image, name, *options)
        try:
            yield facts
        finally:
            self.close(name, "--force", check=False)
