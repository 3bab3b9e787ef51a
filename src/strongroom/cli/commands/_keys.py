# SPDX-License-Identifier: Apache-2.0
"""What the commands about keyslots share."""

from collections.abc import Mapping

from strongroom.cli.arguments import KdfOptions
from strongroom.errors import UsageError
from strongroom.host.contracts import KdfChoice


def kdf_choice(options: KdfOptions) -> KdfChoice:
    """Return the key derivation that the options choose.

    Raises:
        UsageError: Memory was given for PBKDF2, which uses none.
    """
    if options["kdf"] == "pbkdf2" and options["kdf_memory"] is not None:
        raise UsageError("--kdf-memory does not apply to pbkdf2", hint="it has --kdf-iterations")
    return KdfChoice(
        algorithm=options["kdf"],
        memory_kib=options["kdf_memory"],
        iterations=options["kdf_iterations"],
    )


def kdf_words(kdf: Mapping[str, int | str]) -> str:
    """Return a key derivation for people, its name first."""
    rest = [f"{name} {value}" for name, value in kdf.items() if name not in {"type", "algorithm"}]
    name = kdf.get("algorithm", kdf.get("type", "unknown"))
    return ", ".join([str(name), *rest])


def slot_words(keyslot: int | None) -> str:
    """Return ``keyslot N``, or ``none``."""
    return "none" if keyslot is None else f"keyslot {keyslot}"
