# SPDX-License-Identifier: Apache-2.0
"""NBD servers side by side: ours, and stock tools that serve a file or a LUKS volume."""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

from strongroom.bench.place import (
    END_SECONDS,
    HOLD,
    STRONGROOM,
    CommandError,
    Place,
    ended_in_order,
    find,
)
from strongroom.units import MIB

if TYPE_CHECKING:
    from collections.abc import Iterator

CHEAP_KDF: Final = ("--kdf", "pbkdf2", "--kdf-iterations", "1000")
LUKS1: Final = ("--type", "luks1", "--cipher", "aes-xts-plain64", "--key-size", "512")
HEADER_BYTES: Final = 16 * MIB
READY_SECONDS: Final = 20
POLL_SECONDS: Final = 0.01
OURS: Final = "strongroom"
PLAIN: Final = "nbdkit file"
NBDKIT_LUKS: Final = "nbdkit luks"
QEMU: Final = "qemu-nbd raw"
QEMU_LUKS: Final = "qemu-nbd luks"


@dataclass(frozen=True, slots=True)
class Server:
    """One server, ready for clients. ``size_bytes`` is the export's."""

    name: str
    uri: str
    pids: tuple[int, ...]
    size_bytes: int

    def cpu_seconds(self) -> float:
        """Return the processor time that all its processes took so far, in user and kernel mode.

        It is counted in ticks, usually of 10 ms.
        """
        ticks = 0
        for pid in self.pids:
            # The name in parentheses may hold anything; fields 14 and 15 follow it.
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
        return ticks / os.sysconf("SC_CLK_TCK")

    def memory_mib(self) -> float:
        """Return its memory: each process's own, and its share of what is shared."""
        rollups = [Path(f"/proc/{pid}/smaps_rollup").read_text() for pid in self.pids]
        found = [re.search(r"^Pss: +(\d+) kB", rollup, re.MULTILINE) for rollup in rollups]
        return sum(int(match[1]) for match in found if match) / 1024


class Prepare(Protocol):
    """Makes an image, a new file with ``size_bytes`` of data; ``sparse`` reserves no space."""

    def __call__(
        self, place: Place, image: Path, size_bytes: int, /, *, sparse: bool = False
    ) -> None:
        """Make it, at a path where there is nothing."""


class Serve(Protocol):
    """Serves an image for the length of a block."""

    def __call__(
        self, place: Place, image: Path, size_bytes: int, /
    ) -> AbstractContextManager[Server]:
        """Return what starts it when it is entered, and ends it when it is left."""
        ...


def make_volume(
    place: Place, image: Path, size_bytes: int, /, *options: str, sparse: bool = False
) -> None:
    """Make a volume of ours, whose passphrase costs as little as it may."""
    reserve = ("--sparse",) if sparse else ()
    place.run(
        *(*STRONGROOM, "format", image, "--size", str(size_bytes + HEADER_BYTES), "--no-recovery"),
        *("--passphrase-file", place.key_file, *CHEAP_KDF, *reserve, *options),
    )


def make_small_sectors(
    place: Place, image: Path, size_bytes: int, /, *, sparse: bool = False
) -> None:
    """Make a volume of ours with sectors of 512 bytes."""
    make_volume(place, image, size_bytes, "--sector-size", "512", sparse=sparse)


def make_plain(place: Place, image: Path, size_bytes: int, /, *, sparse: bool = False) -> None:
    """Make a file, which is not encrypted."""
    del place
    with image.open("wb") as file:
        if sparse:
            file.truncate(size_bytes)
        else:
            os.posix_fallocate(file.fileno(), 0, size_bytes)


def make_luks1(place: Place, image: Path, size_bytes: int, /, *, sparse: bool = False) -> None:
    """Make a LUKS1 volume, the only version that nbdkit reads; its sectors have 512 bytes."""
    make_plain(place, image, size_bytes + HEADER_BYTES, sparse=sparse)
    place.run(
        *("cryptsetup", "luksFormat", "--batch-mode", *LUKS1, "--pbkdf-force-iterations", "1000"),
        *(image, place.key_file),
    )


@contextmanager
def opened(place: Place, image: Path, name: str, *options: str) -> Iterator[dict[str, Any]]:
    """Open a volume of ours for the length of a block."""
    try:
        printed = place.run(
            *(*STRONGROOM, "open", image, name, "--json", "--passphrase-file", place.key_file),
            *options,
        )
        facts: dict[str, Any] = json.loads(printed.stdout)
        yield facts
    finally:
        # Also when it was interrupted while it opened, and then there may be nothing to close.
        with HOLD:
            place.run(*STRONGROOM, "close", name, "--force", check=False)


@contextmanager
def serve_volume(
    place: Place, image: Path, size_bytes: int, /, label: str = OURS
) -> Iterator[Server]:
    """Hold a volume of ours open, without a device."""
    with opened(place, image, image.stem, "--attach", "none") as facts:
        pids = (int(facts["host_pid"]), int(facts["enclave_pid"]))
        yield Server(label, facts["uri"], pids, size_bytes)


@contextmanager
def serve_by(
    place: Place, image: Path, size_bytes: int, /, *, name: str, command: tuple[str, ...]
) -> Iterator[Server]:
    """Hold a foreground server; its command line has places for image, socket and key.

    Raises:
        CommandError: It ended, or does not answer.
    """
    socket = place.root / f"{image.stem}.sock"
    words = [word.format(image=image, socket=socket, key=place.key_file) for word in command]
    with ended_in_order() as ends:
        with HOLD:
            process = subprocess.Popen(
                words,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env=place.environment(),
                process_group=0,
            )
            ends.callback(end, process, socket)
        wait_for_export(place, name, socket, process)
        yield Server(name, f"nbd+unix:///?socket={socket}", (process.pid,), size_bytes)


def wait_for_export(
    place: Place, name: str, socket: Path, process: subprocess.Popen[bytes]
) -> None:
    """Wait until a server answers."""
    deadline = time.monotonic() + READY_SECONDS
    command = ("nbdinfo", "--size", f"nbd+unix:///?socket={socket}")
    while not socket.exists() or place.run(*command, check=False).returncode:
        if time.monotonic() > deadline or process.poll() is not None:
            raise CommandError(f"{name} does not answer")
        time.sleep(POLL_SECONDS)


def end(process: subprocess.Popen[bytes], socket: Path) -> None:
    """Ask a server to end, and kill it when it does not; its socket goes too."""
    process.terminate()
    try:
        process.wait(END_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    socket.unlink(missing_ok=True)


NBDKIT: Final = ("nbdkit", "-f", "-U", "{socket}")
QEMU_NBD: Final = ("qemu-nbd", "--persistent", "--shared=16", "--socket", "{socket}")
LUKS_FILE: Final = "driver=luks,key-secret=key,file.driver=file,file.filename={image}"


@dataclass(frozen=True, slots=True)
class Contestant:
    """A server that can be measured, if its programs are installed."""

    name: str
    prepare: Prepare
    serve: Serve
    needs: tuple[str, ...] = ()

    @classmethod
    def by_command(
        cls, name: str, prepare: Prepare, needs: tuple[str, ...], *command: str
    ) -> Contestant:
        """Return one that is a stock tool."""
        return cls(name, prepare, partial(serve_by, name=name, command=command), needs)

    @property
    def missing(self) -> tuple[str, ...]:
        """The programs that are not installed."""
        return tuple(program for program in self.needs if find(program) is None)


STRONGROOM_NBD: Final = Contestant(OURS, make_volume, serve_volume)
SMALL_SECTORS: Final = Contestant(
    f"{OURS} (512)", make_small_sectors, partial(serve_volume, label=f"{OURS} (512)")
)
NBDKIT_FILE: Final = Contestant.by_command(
    PLAIN, make_plain, ("nbdkit",), *NBDKIT, "file", "{image}"
)
NBDKIT_ON_LUKS: Final = Contestant.by_command(
    *(NBDKIT_LUKS, make_luks1, ("nbdkit", "cryptsetup"), *NBDKIT),
    *("--filter=luks", "file", "{image}", "passphrase=+{key}"),
)
QEMU_RAW: Final = Contestant.by_command(
    QEMU, make_plain, ("qemu-nbd",), *QEMU_NBD, "--format", "raw", "{image}"
)
QEMU_ON_LUKS: Final = Contestant.by_command(
    *(QEMU_LUKS, make_luks1, ("qemu-nbd", "cryptsetup"), *QEMU_NBD),
    *("--object", "secret,id=key,file={key}", "--image-opts", LUKS_FILE),
)
CONTESTANTS: Final = (STRONGROOM_NBD, NBDKIT_FILE, NBDKIT_ON_LUKS, QEMU_RAW, QEMU_ON_LUKS)
UNDER_PLAIN: Final = (STRONGROOM_NBD, NBDKIT_FILE)
