# SPDX-License-Identifier: Apache-2.0
"""The main job, end to end, on real files: make a volume, fill it, close it, prove it is all there.

Everything happens in a temporary directory and is taken away again. With root, FUSE and loop
devices the files go through a real file system on the kernel device; without, the same file system
is copied through the socket.
"""

import hashlib
import json
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.table import Table

STRONGROOM: Final = Path(sys.executable).with_name("strongroom")
SOURCES: Final = (Path("/usr/share/doc"), Path("/usr/lib/python3"))
VOLUME_SIZE: Final = "512M"
MOST_FILES: Final = 4000
MOST_BYTES: Final = 256 * 1024 * 1024
NAME: Final = "demo"


class Demo:
    """One run, in one temporary directory."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.image = place / "volume.img"
        self.passphrase = place / "passphrase"
        self.recovery_key = place / "recovery-key"
        self.environment = {
            **os.environ,
            "STRONGROOM_RUNTIME_DIR": str(place / "run"),
            "STRONGROOM_STATE_DIR": str(place / "state"),
        }
        self.rows: list[tuple[str, str, float]] = []

    @contextmanager
    def step(self, what: str) -> Iterator[list[str]]:
        """Time one step and remember what it showed."""
        shown: list[str] = []
        started = time.monotonic()
        yield shown
        seconds = time.monotonic() - started
        self.rows.append((what, "; ".join(shown), seconds))
        print(f"  {what}: {'; '.join(shown)} ({seconds:.1f} s)", flush=True)

    def run(self, *command: str | Path) -> str:
        """Run a command and return its output; its failure ends the demo."""
        path = f"{self.environment.get('PATH', '')}:/usr/sbin:/sbin"
        done = subprocess.run(
            [str(part) for part in command],
            check=False,
            capture_output=True,
            text=True,
            env={**self.environment, "PATH": path},
        )
        if done.returncode:
            raise SystemExit(
                f"demo: {' '.join(map(str, command))} failed ({done.returncode}):\n{done.stderr}"
            )
        return done.stdout

    def strongroom(self, *arguments: str | Path) -> dict[str, object]:
        """Run strongroom and return its JSON."""
        output = self.run(STRONGROOM, *arguments)
        result: dict[str, object] = json.loads(output) if output.strip() else {}
        return result

    def open(self, attach: str, *options: str) -> dict[str, object]:
        """Open the volume."""
        key = ("--passphrase-file", self.passphrase)
        return self.strongroom(
            "open", self.image, NAME, "--attach", attach, *key, *options, "--json"
        )


def main() -> int:
    """Run the demo and print what it showed."""
    with tempfile.TemporaryDirectory(prefix="strongroom-demo-") as directory:
        demo = Demo(Path(directory))
        with_device = os.geteuid() == 0 and Path("/dev/fuse").exists()
        files = collect_files()
        make_volume(demo)
        if with_device:
            digests = fill_device(demo, files)
            check_device(demo, digests)
        else:
            fill_and_check_socket(demo, files)
        check_with_cryptsetup(demo)
        print_table(demo)
    return 0


def collect_files() -> list[Path]:
    """Return a few thousand real files of this machine."""
    chosen: list[Path] = []
    size = 0
    for source in SOURCES:
        for path in sorted(source.rglob("*")):
            if not path.is_file() or path.is_symlink() or not os.access(path, os.R_OK):
                continue
            size += path.stat().st_size
            if len(chosen) >= MOST_FILES or size > MOST_BYTES:
                return chosen
            chosen.append(path)
    return chosen


def make_volume(demo: Demo) -> None:
    """Format a volume with a random passphrase and a recovery key."""
    demo.passphrase.touch(mode=0o600)
    demo.passphrase.write_text(secrets.token_urlsafe(24))
    with demo.step("format") as shown:
        made = demo.strongroom(
            *("format", demo.image, "--size", VOLUME_SIZE, "--json"),
            *("--passphrase-file", demo.passphrase, "--recovery-key-file", demo.recovery_key),
        )
        shown.append(f"{VOLUME_SIZE}, {made['cipher']}, keyslots {made['keyslots']}")


def fill_device(demo: Demo, files: list[Path]) -> dict[str, str]:
    """Put ext4 with real files on the kernel device and return the digest of each file."""
    with demo.step("open") as shown:
        opened = demo.open("auto")
        shown.append(f"{opened['device']} ({opened['attach_reason']})")
    device = str(opened["device"])
    with demo.step("mkfs.ext4") as shown:
        demo.run("mkfs.ext4", "-q", device)
        shown.append("a real file system")
    with demo.step("copy files") as shown, mounted(demo, device) as mount_point:
        digests = copy_files(files, mount_point)
        shown.append(f"{len(digests)} files")
    with demo.step("close") as shown:
        demo.run(STRONGROOM, "close", NAME)
        shown.append("flushed, keys erased")
    return digests


def check_device(demo: Demo, digests: dict[str, str]) -> None:
    """Open the volume again and compare every file."""
    with demo.step("open again") as shown:
        device = str(demo.open("auto", "--read-only")["device"])
        shown.append("read-only")
    with demo.step("compare") as shown, mounted(demo, device, "-o", "ro") as mount_point:
        different = [
            name for name, digest in digests.items() if sha256_of(mount_point / name) != digest
        ]
        if different:
            raise SystemExit(f"demo: {len(different)} files differ, such as {different[0]}")
        shown.append(f"SHA-256 of {len(digests)} files identical")
    demo.run(STRONGROOM, "close", NAME)


def fill_and_check_socket(demo: Demo, files: list[Path]) -> None:
    """Without a kernel device: the same file system, copied through the socket and back."""
    tree, plain, back = demo.place / "tree", demo.place / "plain.ext4", demo.place / "back.ext4"
    tree.mkdir()
    with demo.step("build ext4") as shown:
        digests = copy_files(files, tree)
        shown.append(f"{len(digests)} files, no kernel device: root or /dev/fuse is missing")
    opened = demo.open("none")
    demo.run("truncate", "-s", str(opened["size_bytes"]), plain)
    demo.run("mkfs.ext4", "-q", "-d", tree, plain)
    with demo.step("copy through the socket") as shown:
        demo.run("nbdcopy", "--flush", plain, str(opened["uri"]))
        demo.run(STRONGROOM, "close", NAME)
        shown.append("nbdcopy, closed")
    with demo.step("compare") as shown:
        opened = demo.open("none", "--read-only")
        demo.run("nbdcopy", str(opened["uri"]), back)
        demo.run(STRONGROOM, "close", NAME)
        if sha256_of(plain) != sha256_of(back):
            raise SystemExit("demo: the file system came back different")
        demo.run("e2fsck", "-fn", back)
        shown.append("SHA-256 of the whole file system identical, e2fsck clean")


def check_with_cryptsetup(demo: Demo) -> None:
    """Open the same volume with the stock tool and the recovery key."""
    with demo.step("cryptsetup") as shown:
        # The file ends in a newline, which cryptsetup would take as a part of the key.
        recovery_key = demo.place / "recovery-key.exact"
        recovery_key.write_text(demo.recovery_key.read_text().rstrip("\n"))
        demo.run(
            *("cryptsetup", "open", "--test-passphrase", "--key-file", recovery_key, demo.image)
        )
        demo.run("cryptsetup", "luksDump", demo.image)
        shown.append("opens with the recovery key, without Strongroom")


@contextmanager
def mounted(demo: Demo, device: str, *options: str) -> Iterator[Path]:
    """Mount a device, and unmount it whatever happens."""
    mount_point = demo.place / "mnt"
    mount_point.mkdir(exist_ok=True)
    demo.run("mount", *options, device, mount_point)
    try:
        yield mount_point
        os.sync()
    finally:
        demo.run("umount", mount_point)


def copy_files(files: list[Path], target: Path) -> dict[str, str]:
    """Copy files under their whole paths and return the digests of the originals."""
    digests: dict[str, str] = {}
    for source in files:
        name = str(source.relative_to("/"))
        place = target / name
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, place)
        digests[name] = sha256_of(source)
    return digests


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file's content."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def print_table(demo: Demo) -> None:
    """Print what was shown."""
    table = Table(title="What this showed")
    table.add_column("step")
    table.add_column("shown")
    table.add_column("seconds", justify="right")
    for what, shown, seconds in demo.rows:
        table.add_row(what, shown, f"{seconds:.1f}")
    Console(width=110).print(table)


if __name__ == "__main__":
    sys.exit(main())
