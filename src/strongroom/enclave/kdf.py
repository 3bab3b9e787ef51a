# SPDX-License-Identifier: Apache-2.0
"""From a passphrase to the key of a keyslot, and how costly that should be.

New keyslots take about :data:`TARGET_SECONDS` on the machine that makes them, as with cryptsetup:
measured, unless the operator fixed the figures. What is measured is the time of the processor, and
the best of several trials counts: a keyslot stays as it was made, and a machine is often busy just
then.
"""

import os
import time
from typing import Final

from strongroom import _core
from strongroom._core import Secret
from strongroom.boundary.calls import (
    LEAST_ARGON2_MEMORY_KIB,
    LEAST_MEASURED_MEMORY_KIB,
    LEAST_MEASURED_PASSES,
    KdfName,
    KdfParameters,
)
from strongroom.enclave import memory
from strongroom.errors import LimitError, PlatformError
from strongroom.luks2 import Argon2, Pbkdf2
from strongroom.units import GIB, KIB, MIB, ByteCount, Seconds

TARGET_SECONDS: Final = Seconds(2.0)
SALT_BYTES: Final = 32
MIN_PBKDF2_ITERATIONS: Final = 1000
"""NIST SP 800-132, and cryptsetup's own minimum."""
LEAST_MEASURED_PBKDF2_ITERATIONS: Final = 600_000
"""What OWASP's Password Storage Cheat Sheet asks of PBKDF2-HMAC-SHA256."""
MAX_LANES: Final = 4

LEAST_ARGON2_WORK_KIB: Final = LEAST_ARGON2_MEMORY_KIB * 5
"""Memory times passes: the weakest choice of OWASP's Password Storage Cheat Sheet."""
LEAST_MEASURED_WORK_KIB: Final = LEAST_MEASURED_MEMORY_KIB * LEAST_MEASURED_PASSES

_TRIALS: Final = 5
_TRIAL_ITERATIONS: Final = 20_000
_TRIAL_MEMORY_KIB: Final = 64 * MIB // KIB
# Read before confinement: afterwards there is no file system to ask.
_CPUS: Final = len(os.sched_getaffinity(0))
_MAX_MEMORY_KIB: Final = max(LEAST_MEASURED_MEMORY_KIB, min(GIB // KIB, memory.OWN.ram_kib // 2))


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


def memory_obstacle(kdf: Pbkdf2 | Argon2) -> str:
    """Say so if the KDF needs more memory than this process can have; empty if it does not.

    The kernel would end the enclave, and with it all that it could have said.
    """
    if isinstance(kdf, Pbkdf2) or kdf.memory_kib <= memory.OWN.total_kib:
        return ""
    needs, has = kdf.memory_kib * KIB // MIB, memory.OWN.total_kib * KIB // MIB
    limit = "the limit of the control group" if memory.OWN.grouped else "all that the machine has"
    return f"{needs} MiB of memory, and {limit} is {has} MiB"


def choose(wanted: KdfParameters) -> Pbkdf2 | Argon2:
    """Return complete parameters with a fresh salt; what was left open is measured.

    What is measured is never weaker than :data:`LEAST_MEASURED_WORK_KIB` of Argon2 or
    :data:`LEAST_MEASURED_PBKDF2_ITERATIONS`, however long that takes.

    Raises:
        LimitError: The figures that were given are too weak.
        PlatformError: There is not enough memory.
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
    memory_kib, passes = wanted.memory_kib, wanted.iterations
    if memory_kib is None or passes is None:
        memory_kib, passes = _measure_argon2(wanted, lanes)
    chosen = Argon2(
        variant=wanted.algorithm, iterations=passes, memory_kib=memory_kib, lanes=lanes, salt=salt
    )
    _refuse_weak(chosen)
    _refuse_too_large(chosen)
    return chosen


def _refuse_weak(chosen: Argon2) -> None:
    if chosen.memory_kib * chosen.iterations >= LEAST_ARGON2_WORK_KIB and (
        chosen.memory_kib >= LEAST_ARGON2_MEMORY_KIB
    ):
        return
    raise LimitError(
        f"Argon2 with {chosen.memory_kib} KiB and {chosen.iterations} passes is too weak",
        hint="use 7 MiB and 5 passes at least, or more memory and fewer passes, or leave the "
        "figures out",
    )


def _refuse_too_large(chosen: Argon2) -> None:
    obstacle = memory_obstacle(chosen)
    if obstacle:
        raise PlatformError(
            f"the key derivation needs {obstacle}",
            hint="use less with --kdf-memory, or --kdf pbkdf2",
        )


def minimal() -> Pbkdf2:
    """Return the cheap KDF for secrets that have 256 bits of entropy, as systemd uses it."""
    return Pbkdf2(hash_name="sha512", iterations=MIN_PBKDF2_ITERATIONS, salt=os.urandom(SALT_BYTES))


def _measure_pbkdf2(hash_name: str) -> int:
    trial = Pbkdf2(hash_name=hash_name, iterations=_TRIAL_ITERATIONS, salt=bytes(SALT_BYTES))
    rate = _TRIAL_ITERATIONS / _seconds_of(trial)
    return max(LEAST_MEASURED_PBKDF2_ITERATIONS, int(rate * TARGET_SECONDS))


def _measure_argon2(wanted: KdfParameters, lanes: int) -> tuple[int, int]:
    """Return memory and passes: what was given, and for the rest what the target allows."""
    trial = Argon2(
        variant=wanted.algorithm,
        iterations=1,
        memory_kib=_TRIAL_MEMORY_KIB,
        lanes=lanes,
        salt=bytes(SALT_BYTES),
    )
    _refuse_too_large(trial)
    affordable_kib = int(TARGET_SECONDS / _seconds_of(trial) * _TRIAL_MEMORY_KIB)
    work_kib = max(LEAST_MEASURED_WORK_KIB, affordable_kib)
    memory_kib, passes = wanted.memory_kib, wanted.iterations
    if passes is None:
        passes = max(LEAST_MEASURED_PASSES, -(-work_kib // (memory_kib or _MAX_MEMORY_KIB)))
    if memory_kib is None:
        memory_kib = max(LEAST_MEASURED_MEMORY_KIB, min(_MAX_MEMORY_KIB, work_kib // passes))
    return memory_kib, passes


def _seconds_of(trial: Pbkdf2 | Argon2) -> float:
    """Return how long a derivation takes if it has the processor to itself: the best of several."""
    passphrase = Secret.random(16)
    threads = min(trial.lanes, _CPUS) if isinstance(trial, Argon2) else 1
    try:
        return min(_one_trial(trial, passphrase) for _ in range(_TRIALS)) / threads
    finally:
        passphrase.erase()


def _one_trial(trial: Pbkdf2 | Argon2, passphrase: Secret) -> float:
    started = time.process_time()
    derive(trial, passphrase, ByteCount(32)).erase()
    return max(time.process_time() - started, 1e-6)
