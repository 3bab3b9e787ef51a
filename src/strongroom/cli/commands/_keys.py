# SPDX-License-Identifier: Apache-2.0
"""What the commands about keyslots share."""

from collections.abc import Mapping
from typing import Final

from strongroom.cli.arguments import KdfOptions, UnlockingOptions
from strongroom.errors import (
    EmptyPassphraseError,
    EnclaveFactorError,
    HeaderChangedError,
    HeaderTamperedError,
    IdentityError,
    NotFoundError,
    NotLuksError,
    PassphraseInputError,
    ReportError,
    RollbackError,
    SealedBlobError,
    SecurityVersionError,
    StrongroomError,
    TeeError,
    UnavailableError,
    UsageError,
    WrongPassphraseError,
)
from strongroom.host.contracts import (
    LEAST_KDF_MEMORY_KIB,
    MOST_KDF_MEMORY_KIB,
    KdfChoice,
    Unlocking,
)

FACTORS: Final = ("enclave", "passphrase")
"""The factors that this version knows, in their order."""

LATER_FACTORS: Final = ("tpm",)

UNLOCKING_EXITS: Final[tuple[type[StrongroomError], ...]] = (
    RollbackError,
    HeaderTamperedError,
    HeaderChangedError,
    WrongPassphraseError,
    EmptyPassphraseError,
    PassphraseInputError,
    EnclaveFactorError,
    SecurityVersionError,
    SealedBlobError,
    IdentityError,
    ReportError,
    TeeError,
)
"""How a command can end that gives a passphrase to the enclave of a volume."""

IMAGE_EXITS: Final[tuple[type[StrongroomError], ...]] = (NotFoundError, NotLuksError, TeeError)
"""How a command can end that lets an enclave look at an image."""


def kdf_choice(options: KdfOptions) -> KdfChoice:
    """Return the key derivation that the options choose.

    Raises:
        UsageError: Memory was given for PBKDF2, which uses none.
    """
    if options["kdf"] == "pbkdf2" and options["kdf_memory"] is not None:
        raise UsageError("--kdf-memory does not apply to pbkdf2", hint="it has --kdf-iterations")
    memory = options["kdf_memory"]
    if memory is not None and not LEAST_KDF_MEMORY_KIB <= memory <= MOST_KDF_MEMORY_KIB:
        raise UsageError(
            f"--kdf-memory is {memory} KiB, allowed is 7M to 4G",
            hint="leave it out, and it is measured on this machine",
        )
    return KdfChoice(
        algorithm=options["kdf"],
        memory_kib=memory,
        iterations=options["kdf_iterations"],
    )


def unlocking(options: UnlockingOptions, *, keyslot: int | None = None) -> Unlocking:
    """Return to which enclave a passphrase may go, for which keyslot, and what is agreed to."""
    return Unlocking(options["tee"], options["accept_header_change"], keyslot)


def parse_factors(text: str) -> tuple[str, ...]:
    """Return the factors that a comma-separated list names, in their order.

    Raises:
        UsageError: A name is unknown or comes twice, or the passphrase is not among them.
        UnavailableError: A name belongs to a later version.
    """
    factors = tuple(text.split(","))
    for factor in factors:
        if factor in LATER_FACTORS:
            raise UnavailableError(
                f"the factor {factor} comes in a later version",
                hint=f"this version has: {', '.join(FACTORS)}",
            )
        if factor not in FACTORS:
            raise UsageError(
                f"unknown factor: {factor}", hint=f"this version has: {', '.join(FACTORS)}"
            )
    if len(set(factors)) != len(factors):
        raise UsageError("a factor is named twice")
    if "passphrase" not in factors:
        raise UsageError(
            "the factor passphrase is needed in this version", hint="--factors enclave,passphrase"
        )
    return tuple(factor for factor in FACTORS if factor in factors)


def kdf_words(kdf: Mapping[str, int | str]) -> str:
    """Return a key derivation for people, its name first."""
    rest = [f"{name} {value}" for name, value in kdf.items() if name not in {"type", "algorithm"}]
    name = kdf.get("algorithm", kdf.get("type", "unknown"))
    return ", ".join([str(name), *rest])


def slot_words(keyslot: int | None) -> str:
    """Return ``keyslot N``, or ``none``."""
    return "none" if keyslot is None else f"keyslot {keyslot}"
