# SPDX-License-Identifier: Apache-2.0
"""NBD servers side by side: strongroom, and the stock tools that serve a file or a LUKS volume."""

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

STRONGROOM: Final = Path(sys.executable).with_name("strongroom")
PASSPHRASE: Final = "bench"  # noqa: S105 - guards nothing
CHEAP_KDF: Final = ("--kdf", "pbkdf2", "--kdf-iterations", "1000")
LUKS1: Final = ("--type", "luks1", "--cipher", "aes-xts-plain64", "--key-size", "512")
HEADER_MIB: Final = 16
READY_SECONDS: Final = 20
COMMAND_SECONDS: Final = 60


@dataclass(frozen=True, slots=True)
class Server:
    """One server, ready for clients."""

    name: str
    uri: str
    pids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Place:
    """A directory for images, sockets and keys."""

    root: Path

    def run(self, *command: str | Path, check: bool = True) -> str:
        """Run a command with strongroom's runtime directory in this place."""
        done = subprocess.run(
            [str(word) for word in command],
            check=False,
            capture_output=True,
            text=True,
            timeout=COMMAND_SECONDS,
            env={
                **os.environ,
                "PATH": f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin",
                "STRONGROOM_RUNTIME_DIR": str(self.root / "run"),
                "STRONGROOM_STATE_DIR": str(self.root / "state"),
            },
        )
        if check and done.returncode:
            raise RuntimeError(f"{command} exited with {done.returncode}: {done.stderr}")
        return done.stdout

    @property
    def key_file(self) -> Path:
        """The passphrase, without a newline."""
        path = self.root / "key"
        if not path.exists():
            path.touch(mode=0o600)
            path.write_text(PASSPHRASE)
        return path


def make_volume(place: Place, size_mib: int, sector: int = 4096) -> Path:
    """Make a volume with ``size_mib`` of data, whatever its passphrase costs least."""
    image = place.root / f"strongroom-{sector}.img"
    place.run(
        *(STRONGROOM, "format", image, "--size", f"{size_mib + HEADER_MIB}M", "--no-recovery"),
        *("--sector-size", str(sector), "--passphrase-file", place.key_file, *CHEAP_KDF),
    )
    return image


@contextlib.contextmanager
def strongroom(place: Place, size_mib: int, sector: int = 4096) -> Iterator[Server]:
    """Hold a volume open, without a device."""
    image = make_volume(place, size_mib, sector)
    name = f"bench{sector}"
    with opened(place, image, name, "--attach", "none") as facts:
        pids = (int(facts["host_pid"]), int(facts["enclave_pid"]))
        yield Server(f"strongroom ({sector})", facts["uri"], pids)


@contextlib.contextmanager
def opened(place: Place, image: Path, name: str, *options: str) -> Iterator[dict[str, str]]:
    """Open a volume for the length of a block."""
    printed = place.run(
        *(STRONGROOM, "open", image, name, "--json", "--passphrase-file", place.key_file),
        *options,
    )
    try:
        yield json.loads(printed)
    finally:
        place.run(STRONGROOM, "close", name, "--force", check=False)


@contextlib.contextmanager
def background(name: str, socket: Path, *command: str | Path) -> Iterator[Server]:
    """Hold a foreground server that listens on ``socket``."""
    process = subprocess.Popen([str(word) for word in command], stdout=subprocess.DEVNULL)
    try:
        wait_for_export(socket, process)
        yield Server(name, f"nbd+unix:///?socket={socket}", (process.pid,))
    finally:
        process.terminate()
        process.wait(COMMAND_SECONDS)


def wait_for_export(socket: Path, process: subprocess.Popen[bytes]) -> None:
    """Wait until a server answers."""
    end = time.monotonic() + READY_SECONDS
    command = ["nbdinfo", "--size", f"nbd+unix:///?socket={socket}"]
    while subprocess.run(command, check=False, capture_output=True).returncode:
        if time.monotonic() > end or process.poll() is not None:
            raise RuntimeError(f"{process.args!r} does not answer")
        time.sleep(0.05)


def plain_file(place: Place, name: str, size_mib: int) -> Path:
    """Make a file whose blocks are all there."""
    image = place.root / name
    with image.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, size_mib << 20)
    return image


def luks1_file(place: Place, name: str, size_mib: int) -> Path:
    """Make a LUKS1 volume, the only version that nbdkit reads; its sectors have 512 bytes."""
    image = plain_file(place, name, size_mib + HEADER_MIB)
    place.run(
        *("cryptsetup", "luksFormat", "--batch-mode", *LUKS1, "--pbkdf-force-iterations", "1000"),
        *(image, place.key_file),
    )
    return image


@contextlib.contextmanager
def nbdkit_file(place: Place, size_mib: int) -> Iterator[Server]:
    """Serve a file without encryption."""
    image, socket = plain_file(place, "plain.img", size_mib), place.root / "plain.sock"
    with background("nbdkit file", socket, "nbdkit", "-f", "-U", socket, "file", image) as server:
        yield server


@contextlib.contextmanager
def nbdkit_luks(place: Place, size_mib: int) -> Iterator[Server]:
    """Serve a LUKS1 volume through nbdkit's filter."""
    image, socket = luks1_file(place, "luks1.img", size_mib), place.root / "luks1.sock"
    command = ("nbdkit", "-f", "-U", socket, "--filter=luks", "file", image)
    passphrase = f"passphrase=+{place.key_file}"
    with background("nbdkit luks", socket, *command, passphrase) as server:
        yield server


@contextlib.contextmanager
def qemu_nbd_luks(place: Place, size_mib: int) -> Iterator[Server]:
    """Serve a LUKS1 volume through qemu."""
    image, socket = luks1_file(place, "qemu.img", size_mib), place.root / "qemu.sock"
    with background(
        "qemu-nbd luks",
        socket,
        *("qemu-nbd", "--persistent", "--shared=8", "--socket", socket),
        *("--object", f"secret,id=key,file={place.key_file}", "--image-opts"),
        f"driver=luks,key-secret=key,file.driver=file,file.filename={image}",
    ) as server:
        yield server
