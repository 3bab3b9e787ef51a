# SPDX-License-Identifier: Apache-2.0
"""Platform configuration registers: which, and what is in them.

Spec: TPM 2.0 Part 2, 10.6.1 "TPMS_PCR_SELECTION"; PC Client Platform TPM Profile, 4.6.
"""

import hashlib
from collections.abc import Iterable
from typing import Final

from strongroom.errors import TpmError, TpmTamperedError, UsageError
from strongroom.tpm.algorithms import Algorithm, algorithm_name
from strongroom.tpm.entities import PCR_COUNT
from strongroom.tpm.marshal import Reader, u8, u16, u32
from strongroom.values import dataclass

_SELECTION_BYTES = PCR_COUNT // 8


BANKS: Final = {
    "sha1": Algorithm.SHA1,
    "sha256": Algorithm.SHA256,
    "sha384": Algorithm.SHA384,
    "sha512": Algorithm.SHA512,
}
"""Banks of PCRs, by what tpm2-tools call them."""


@dataclass(frozen=True, slots=True)
class PcrSelection:
    """PCRs of one bank, in ascending order."""

    bank: Algorithm
    pcrs: tuple[int, ...]

    @classmethod
    def of(cls, pcrs: Iterable[int], bank: Algorithm = Algorithm.SHA256) -> "PcrSelection":
        """Return a selection, in order and each once.

        Raises:
            UsageError: A number is no PCR.
        """
        chosen = tuple(sorted(set(pcrs)))
        for pcr in chosen:
            if not 0 <= pcr < PCR_COUNT:
                raise UsageError(f"{pcr} is no PCR", hint=f"they go from 0 to {PCR_COUNT - 1}")
        return cls(bank, chosen)

    @property
    def wire(self) -> bytes:
        """A ``TPML_PCR_SELECTION`` with this one bank."""
        bits = sum(1 << pcr for pcr in self.pcrs).to_bytes(_SELECTION_BYTES, "little")
        return u32(1) + u16(self.bank) + u8(_SELECTION_BYTES) + bits

    def digest_of(self, values: dict[int, bytes]) -> bytes:
        """Return SHA-256 of the values, one after the other: what quotes and policies hold.

        Raises:
            TpmError: A value is missing, because the TPM does not have that PCR in this bank.
        """
        missing = [pcr for pcr in self.pcrs if pcr not in values]
        if missing:
            name = algorithm_name(self.bank)
            raise TpmError(f"the TPM has no PCR {missing[0]} in its bank {name}")
        return hashlib.sha256(b"".join(values[pcr] for pcr in self.pcrs)).digest()


def read_selections(reader: Reader) -> tuple[tuple[int, tuple[int, ...]], ...]:
    """Take a ``TPML_PCR_SELECTION``: each bank, and its PCRs."""
    banks = []
    for _ in range(reader.u32()):
        bank = reader.u16()
        bits = int.from_bytes(reader.take(reader.u8()), "little")
        banks.append((bank, tuple(pcr for pcr in range(bits.bit_length()) if bits >> pcr & 1)))
    return tuple(banks)


def read_values(parameters: bytes, asked: PcrSelection) -> dict[int, bytes]:
    """Take an answer to ``PCR_Read`` apart: values by PCR, perhaps not all.

    Raises:
        TpmTamperedError: The values are not of PCRs that were asked for.
    """
    reader = Reader(parameters)
    reader.u32()  # the update counter
    banks = read_selections(reader)
    values = [reader.sized() for _ in range(reader.u32())]
    reader.end()
    pcrs = [pcr for bank, chosen in banks for pcr in chosen if bank == asked.bank]
    if len(pcrs) != len(values) or not set(pcrs) <= set(asked.pcrs):
        raise TpmTamperedError("the TPM answered with other PCRs than were asked for")
    return dict(zip(pcrs, values, strict=True))
