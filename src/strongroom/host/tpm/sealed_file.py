# SPDX-License-Identifier: Apache-2.0
"""Sealed data as a file: JSON, whose structures tpm2-tools take as well.

``public`` and ``private`` are the ``TPM2B_PUBLIC`` and the ``TPM2B_PRIVATE`` in hexadecimal.
Nothing in it is secret, and nothing is believed: the TPM opens it, or refuses.
"""

import json
from pathlib import Path
from typing import Final, get_args

from strongroom import values
from strongroom.errors import FormatError, NoPermissionError, NotFoundError, PlatformError
from strongroom.host.tpm.results import Bank, Protection, SealedResult

_MAX_FILE_BYTES: Final = 16384
_MAX_STRUCTURE_BYTES: Final = 1024
_LAST_PCR: Final = 23


def encode_sealed(sealed: SealedResult) -> bytes:
    """Return what a file of sealed data holds."""
    facts = values.asdict(sealed)
    for name in ("public", "private"):
        facts[name] = _sized(facts[name])
    return json.dumps(facts, indent=2).encode() + b"\n"


def read_sealed(path: Path) -> SealedResult:
    """Read a file of sealed data.

    Raises:
        NotFoundError: There is none.
        NoPermissionError: It may not be read.
        FormatError: It is something else.
    """
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_FILE_BYTES + 1)
    except FileNotFoundError as err:
        raise NotFoundError(f"no such file: {path}") from err
    except PermissionError as err:
        raise NoPermissionError(f"{path} may not be read") from err
    except OSError as err:
        raise PlatformError(f"cannot read {path}: {(err.strerror or 'failed').lower()}") from err
    try:
        return _decoded(json.loads(content) if len(content) <= _MAX_FILE_BYTES else None)
    except (ValueError, RecursionError) as err:
        raise FormatError(
            f"{path} holds no sealed data",
            hint="it is made by `strongroom tpm seal --data-file FILE --output FILE`",
        ) from err


def _decoded(facts: object) -> SealedResult:
    """Return what a file says. Raises :class:`ValueError` for anything that it cannot say."""
    fields = set(values.field_names(SealedResult))
    if not isinstance(facts, dict) or facts.keys() != fields:
        raise ValueError("not the fields of sealed data")
    bank, protection, pcrs = facts["bank"], facts["protection"], facts["pcrs"]
    if bank not in get_args(Bank) or protection not in get_args(Protection):
        raise ValueError("an unknown bank or protection")
    if not isinstance(pcrs, list) or not all(_is_pcr(item) for item in pcrs):
        raise ValueError("no PCRs")
    public, private = _unsized(facts["public"]), _unsized(facts["private"])
    return SealedResult(public, private, bank, tuple(sorted(set(pcrs))), protection)


def _is_pcr(item: object) -> bool:
    return type(item) is int and 0 <= item <= _LAST_PCR


def _sized(structure: str) -> str:
    return (len(structure) // 2).to_bytes(2, "big").hex() + structure


def _unsized(structure: object) -> str:
    if not isinstance(structure, str):
        raise ValueError("no structure")  # noqa: TRY004 - all of these are one error
    content = bytes.fromhex(structure)
    if not 0 < len(content) - 2 == int.from_bytes(content[:2], "big") <= _MAX_STRUCTURE_BYTES:
        raise ValueError("a structure of another length than it says")
    return content[2:].hex()
