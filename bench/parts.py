# SPDX-License-Identifier: Apache-2.0
"""What is measured of the parts: cipher, key derivation, opening, and a mounted file system."""

import contextlib
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Final

from cryptography.hazmat.backends.openssl import backend
from cryptography.hazmat.primitives.ciphers import Cipher, CipherContext
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import XTS

from bench.pairs import Pair, in_turn
from bench.servers import Place, luks1_file, make_volume, opened
from strongroom._core import cipher_backend

REPOSITORY: Final = Path(__file__).parents[1]
CIPHER_SPEED: Final = ("cargo", "run", "--release", "--quiet", "-p", "strongroom-core")
CIPHER_RUN_BYTES: Final = 1024 * 1024
CIPHER_ROUNDS, CIPHER_CALLS = 60, 8
OPENSSL: Final = ("openssl", "speed", "-seconds", "1", "-bytes", "4096", "-evp", "aes-256-xts")
PASSES, MEMORY_KIB, LANES = 4, 256 * 1024, 2
SALT: Final = "0123456789abcdef"
OUR_ARGON2: Final = """
import os, sys, time
from strongroom._core import argon2, read_secret_file
passes, memory, lanes = map(int, sys.argv[2:])
reader, writer = os.pipe()
os.write(writer, b"bench")
os.close(writer)
secret = read_secret_file(reader)
start = time.perf_counter()
argon2(secret, sys.argv[1].encode(), variant="argon2id", memory_kib=memory, iterations=passes,
       lanes=lanes, length_bytes=32)
print(time.perf_counter() - start)
"""
FILE_BYTES: Final = 128 * 1024 * 1024
PIECE_BYTES: Final = 1024 * 1024


def cipher(*, rounds: int) -> Iterator[Pair]:
    """AES-256-XTS on one core: against both OpenSSLs, and short sectors against long ones."""
    measured = [(cipher_core(), cipher_cryptography(), cipher_program()) for _ in range(rounds)]
    for direction in ("encrypt", "decrypt"):
        name, long, short = f"AES-256-XTS {direction}", (direction, 4096), (direction, 512)
        yield Pair(
            f"{name}, 1 MiB a call",
            *("GB/s", "core, 4096-byte sectors", f"OpenSSL {cipher_version()}, one data unit"),
            tuple((ours[long], theirs[direction]) for ours, theirs, _ in measured),
        )
        yield Pair(
            f"{name}, 4096-byte sectors",
            *("GB/s", "core, 1 MiB a call", "openssl speed, a sector a call"),
            tuple((ours[long], program[direction]) for ours, _, program in measured),
        )
        yield Pair(
            f"{name}, 512-byte sectors",
            *("GB/s", "core, 1 MiB a call", "core, 4096-byte sectors"),
            tuple((ours[short], ours[long]) for ours, _, _ in measured),
        )


def cipher_core() -> dict[tuple[str, int], float]:
    """Return GB/s by direction and sector size, 1 MiB a call, of the best backend of this CPU."""
    done = subprocess.run(
        [*CIPHER_SPEED, "--example", "cipher_speed", "--", cipher_backend()],
        check=True,
        capture_output=True,
        text=True,
        cwd=REPOSITORY,
    )
    return {
        (row["direction"], row["sector_bytes"]): row["gigabytes_per_second"]
        for row in json.loads(done.stdout)["results"]
        if row["batch_bytes"] == CIPHER_RUN_BYTES
    }


def cipher_cryptography() -> dict[str, float]:
    """Return GB/s by direction of the OpenSSL in `cryptography`, its key expanded beforehand."""
    context = Cipher(AES(bytes(range(64))), XTS(bytes(16)))
    return {
        "encrypt": cipher_context_speed(context.encryptor()),
        "decrypt": cipher_context_speed(context.decryptor()),
    }


def cipher_context_speed(context: CipherContext) -> float:
    """Return GB/s in the best of as many short rounds as our own program takes."""
    data, output = bytes(CIPHER_RUN_BYTES), bytearray(CIPHER_RUN_BYTES + 15)
    best = 0.0
    for _ in range(CIPHER_ROUNDS):
        start = time.perf_counter()
        for _ in range(CIPHER_CALLS):
            context.update_into(data, output)
        seconds = time.perf_counter() - start
        best = max(best, CIPHER_CALLS * CIPHER_RUN_BYTES / seconds / 1e9)
    return best


def cipher_version() -> str:
    """Return the version of the OpenSSL in `cryptography`."""
    return backend.openssl_version_text().split()[1]


def cipher_program() -> dict[str, float]:
    """Return GB/s by direction of the installed openssl; it prints 1000 bytes per second."""
    speeds = {}
    for direction, options in (("encrypt", ()), ("decrypt", ("-decrypt",))):
        done = subprocess.run([*OPENSSL, *options], check=True, capture_output=True, text=True)
        speeds[direction] = float(done.stdout.split()[-1].removesuffix("k")) / 1e6
    return speeds


def key_derivation(*, rounds: int) -> Iterator[Pair]:
    """Argon2id with the same parameters, against libargon2's own program."""
    measure = f"Argon2id, {MEMORY_KIB // 1024} MiB, {PASSES} passes, {LANES} lanes"
    values = in_turn(our_argon2, libargon2, rounds)
    yield Pair(measure, "s", "core", "argon2", values, larger_is_better=False)


def our_argon2() -> float:
    """Return the seconds of one derivation."""
    numbers = (str(PASSES), str(MEMORY_KIB), str(LANES))
    done = subprocess.run(
        [sys.executable, "-c", OUR_ARGON2, SALT, *numbers],
        check=True,
        capture_output=True,
        text=True,
    )
    return float(done.stdout)


def libargon2() -> float:
    """Return the seconds of one derivation; its program does a second one to verify."""
    numbers = ("-t", str(PASSES), "-k", str(MEMORY_KIB), "-p", str(LANES), "-l", "32")
    done = subprocess.run(
        ["argon2", SALT, "-id", *numbers],
        check=True,
        capture_output=True,
        text=True,
        input="bench",
    )
    found = re.search(r"([0-9.]+) seconds", done.stdout)
    if found is None:
        raise RuntimeError(f"no time in {done.stdout!r}")
    return float(found[1])


def opening(place: Place, *, rounds: int) -> Iterator[Pair]:
    """From the command to a socket that answers, without the passphrase's cost."""
    image, other = make_volume(place, 16), luks1_file(place, "opening.img", 16)
    values = in_turn(
        partial(our_opening, place, image), partial(qemu_opening, place, other), rounds
    )
    measure = "open to ready, cheapest PBKDF2"
    yield Pair(measure, "s", "strongroom open", "qemu-nbd --fork", values, larger_is_better=False)


def our_opening(place: Place, image: Path) -> float:
    """Return the seconds until the command has returned."""
    start = time.perf_counter()
    with opened(place, image, "opening", "--attach", "none"):
        return time.perf_counter() - start


def qemu_opening(place: Place, image: Path) -> float:
    """Return the seconds until the command has returned; the first client ends the server."""
    socket = place.root / "opening.sock"
    options = f"driver=luks,key-secret=key,file.driver=file,file.filename={image}"
    start = time.perf_counter()
    # Its daemon keeps the standard streams, so they must not be pipes.
    subprocess.run(
        [
            *("qemu-nbd", "--fork", "--socket", socket, "--image-opts", options),
            *("--object", f"secret,id=key,file={place.key_file}"),
        ],
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    seconds = time.perf_counter() - start
    place.run("nbdinfo", "--size", f"nbd+unix:///?socket={socket}")
    return seconds


def file_system(place: Place, *, rounds: int) -> Iterator[Pair]:
    """ext4 on the device that FUSE and loop make, against gocryptfs on the same disk."""
    with device_mounted(place) as ours, gocryptfs_mounted(place) as theirs:
        for measure, action in (("write and fsync", write_file), ("read, not cached", read_file)):
            run: Callable[[Path], float] = action
            values = in_turn(partial(run, ours / "file"), partial(run, theirs / "file"), rounds)
            yield Pair(
                f"one file of 128 MiB, {measure}", "GB/s", "ext4, fuse + loop", "gocryptfs", values
            )


@contextlib.contextmanager
def device_mounted(place: Place) -> Iterator[Path]:
    """Give a file system on an open volume."""
    image, point = make_volume(place, 256), place.root / "ours"
    point.mkdir()
    with opened(place, image, "mounted", "--attach", "fuse") as facts:
        place.run("mkfs.ext4", "-q", facts["device"])
        place.run("mount", facts["device"], point)
        try:
            yield point
        finally:
            place.run("umount", point)


@contextlib.contextmanager
def gocryptfs_mounted(place: Place) -> Iterator[Path]:
    """Give a gocryptfs file system; its scrypt is as cheap as it can be."""
    store, point = place.root / "store", place.root / "theirs"
    for directory in (store, point):
        directory.mkdir()
    key = ("-q", "-passfile", place.key_file)
    place.run("gocryptfs", "-init", "-scryptn", "10", *key, store)
    place.run("gocryptfs", *key, store, point)
    try:
        yield point
    finally:
        place.run("umount", point)


def write_file(path: Path) -> float:
    """Write the file anew, make it durable, and return GB/s."""
    path.unlink(missing_ok=True)
    piece = os.urandom(PIECE_BYTES)
    start = time.perf_counter()
    with path.open("wb", buffering=0) as file:
        for _ in range(FILE_BYTES // PIECE_BYTES):
            file.write(piece)
        os.fsync(file.fileno())
    return FILE_BYTES / (time.perf_counter() - start) / 1e9


def read_file(path: Path) -> float:
    """Read the file after dropping it from the cache of its own file system; return GB/s."""
    with path.open("rb", buffering=0) as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        start = time.perf_counter()
        while file.read(PIECE_BYTES):
            pass
    return FILE_BYTES / (time.perf_counter() - start) / 1e9
