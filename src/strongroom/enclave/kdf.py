# SPDX-License-Identifier: Apache-2.0
"""From a passphrase to the key of a keyslot, and how costly that should be.

New keyslots take about :data:`TARGET_SECONDS` on the machine that makes them, as with cryptsetup:
measured, unless the operator fixed the figures.
"""

import os
import time
from typing import Final

from strongroom import _core
from strongroom._core import Secret
from strongroom.boundary.calls import KdfName, KdfParameters
from strongroom.errors import LimitError
from strongroom.luks2 import Argon2, Pbkdf2
from strongroom.units import GIB, KIB, MIB, ByteCount, Seconds

TARGET_SECONDS: Final = Seconds(2.0)
SALT_BYTES: Final = 32
MIN_PBKDF2_ITERATIONS: Final = 1000
"""NIST SP 800-132, and cryptsetup's own minimum."""
MIN_ARGON2_PASSES: Final = 4
MAX_LANES: Final = 4

_TRIAL_ITERATIONS: Final = 20_000
_TRIAL_MEMORY_KIB: Final = 64 * MIB // KIB
_MIN_MEMORY_KIB: Final = 32 * MIB // KIB
# Read before confinement: afterwards there is no file system to ask.
_CPUS: Final = len(os.sched_getaffinity(0))
_HALF_MEMORY_KIB: Final = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2 // KIB
_MAX_MEMORY_KIB: Final = max(_MIN_MEMORY_KIB, min(GIB // KIB, _HALF_MEMORY_KIB))


def derive(kdf: Pbkdf2 | Argon2, passphrase: Secret, length: ByteCount) -> Secret:
    """Return the key that a keyslot's area is encrypted with.

    Raises:
        LimitError: A parameter is outside the algorithm's limits.
        PlatformError: There is not enough memory.
    """
    match kdf:
        case Pbkdf2():
            return _core.pbkdf2(
                passphrase,
                kdf.salt,
                hash_name=kdf.hash_name,
                iterations=kdf.iterations,
                length_bytes=length,
            )
        case Argon2():
            return _core.argon2(
                passphrase,
                kdf.salt,
                variant=kdf.variant,
                memory_kib=kdf.memory_kib,
                iterations=kdf.iterations,
                lanes=kdf.lanes,
                length_bytes=length,
            )


def name_of(kdf: Pbkdf2 | Argon2) -> KdfName:
    """Return the name of a KDF, as in the header."""
    if isinstance(kdf, Pbkdf2):
        return "pbkdf2"
    return "argon2i" if kdf.variant == "argon2i" else "argon2id"


def choose(wanted: KdfParameters) -> Pbkdf2 | Argon2:
    """Return complete parameters with a fresh salt; what was left open is measured.

    Raises:
        LimitError: PBKDF2 with fewer than :data:`MIN_PBKDF2_ITERATIONS`.
        PlatformError: There is not enough memory for the measurement.
    """
    salt = os.urandom(SALT_BYTES)
    if wanted.algorithm == "pbkdf2":
        if wanted.iterations is not None and wanted.iterations < MIN_PBKDF2_ITERATIONS:
            raise LimitError(
                f"{wanted.iterations} iterations of pbkdf2 are too few",
                hint=f"use {MIN_PBKDF2_ITERATIONS} at least, or leave the figure out",
            )
        iterations = wanted.iterations or _measure_pbkdf2(wanted.hash_name)
        return Pbkdf2(hash_name=wanted.hash_name, iterations=iterations, salt=salt)
    lanes = wanted.lanes or min(MAX_LANES, _CPUS)
    memory, passes = wanted.memory_kib, wanted.iterations
    if memory is None or passes is None:
        cost = _seconds_per_kib_pass(wanted.algorithm, lanes)
        passes_at_most = int(TARGET_SECONDS / (cost * (memory or _MAX_MEMORY_KIB)))
        chosen = passes or max(MIN_ARGON2_PASSES, passes_at_most)
        affordable = int(TARGET_SECONDS / (cost * chosen))
        memory = memory or max(_MIN_MEMORY_KIB, min(_MAX_MEMORY_KIB, affordable))
        passes = chosen
    return Argon2(
        variant=wanted.algorithm, iterations=passes, memory_kib=memory, lanes=lanes, salt=salt
    )


def minimal() -> Pbkdf2:
    """Return the cheap KDF for secrets that have 256 bits of entropy, as systemd uses it."""
    return Pbkdf2(hash_name="sha512", iterations=MIN_PBKDF2_ITERATIONS, salt=os.urandom(SALT_BYTES))


def _measure_pbkdf2(hash_name: str) -> int:
    trial = Pbkdf2(hash_name=hash_name, iterations=_TRIAL_ITERATIONS, salt=bytes(SALT_BYTES))
    rate = _TRIAL_ITERATIONS / _seconds_of(trial)
    return max(MIN_PBKDF2_ITERATIONS, int(rate * TARGET_SECONDS))


def _seconds_per_kib_pass(variant: str, lanes: int) -> float:
    trial = Argon2(
        variant=variant,
        iterations=1,
        memory_kib=_TRIAL_MEMORY_KIB,
        lanes=lanes,
        salt=bytes(SALT_BYTES),
    )
    return _seconds_of(trial) / _TRIAL_MEMORY_KIB


def _seconds_of(trial: Pbkdf2 | Argon2) -> float:
    passphrase = Secret.random(16)
    started = time.monotonic()
    derive(trial, passphrase, ByteCount(32)).erase()
    elapsed = time.monotonic() - started
    passphrase.erase()
    return max(elapsed, 1e-6)
