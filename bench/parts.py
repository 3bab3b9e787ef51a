# SPDX-License-Identifier: Apache-2.0
"""What is measured of the cipher alone."""

import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from cryptography.hazmat.backends.openssl import backend
from cryptography.hazmat.primitives.ciphers import Cipher, CipherContext
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import XTS

from bench.pairs import Pair
from strongroom._core import cipher_backend

REPOSITORY: Final = Path(__file__).parents[1]
CIPHER_SPEED: Final = ("cargo", "run", "--release", "--quiet", "-p", "strongroom-core")
CIPHER_RUN_BYTES: Final = 1024 * 1024
CIPHER_ROUNDS, CIPHER_CALLS = 60, 8
OPENSSL: Final = ("openssl", "speed", "-seconds", "1", "-bytes", "4096", "-evp", "aes-256-xts")


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
