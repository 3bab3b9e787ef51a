# SPDX-License-Identifier: Apache-2.0
"""What a TPM signs: quotes of PCRs, and certificates of NV contents.

Spec: TPM 2.0 Part 2, 10.12 "TPMS_ATTEST"; Part 3, 18 "Attestation Commands" and 31.16.
"""

from typing import Final, Generic

from strongroom.errors import TpmError, TpmTamperedError
from strongroom.tpm.algorithms import Algorithm
from strongroom.tpm.codes import CommandCode
from strongroom.tpm.commands import Command, Road, SecretT
from strongroom.tpm.device import Clock, Device
from strongroom.tpm.marshal import Reader, sized, u16
from strongroom.tpm.pcrs import PcrSelection, read_selections
from strongroom.tpm.sealing import Key
from strongroom.values import dataclass

_MAGIC: Final = 0xFF544347
_QUOTE: Final = 0x8018
_ECDSA_SHA256: Final = u16(Algorithm.ECDSA) + u16(Algorithm.SHA256)
_NUMBER_BYTES: Final = 32
"""Of each half of a signature by a key on P-256."""


@dataclass(frozen=True, slots=True)
class Signature:
    """An ECDSA signature with SHA-256."""

    r: int
    s: int


@dataclass(frozen=True, slots=True)
class Quote:
    """A signed statement about PCRs. Who relies on it verifies the signature."""

    attested: bytes
    """The ``TPMS_ATTEST`` that was signed."""
    signature: Signature
    signer_name: bytes
    """The qualified Name of the key that signed, as the statement gives it."""
    qualifying_data: bytes
    clock: Clock
    """Without the time since power-on, which a quote does not hold."""
    firmware_version: int
    pcr_digest: bytes


class Attestation(Generic[SecretT]):
    """Statements that a key of the TPM signs."""

    def __init__(self, road: Road[SecretT]) -> None:
        self._road = road

    def quote(
        self, key: Key, auth: SecretT | None, selection: PcrSelection, qualifying_data: bytes
    ) -> Quote:
        """Have PCRs quoted.

        Raises:
            TpmTamperedError: The statement is about something else.
            TpmError: As :meth:`Road.run`.
        """
        command: Command[SecretT] = Command(
            CommandCode.QUOTE,
            (key.entity,),
            1,
            (qualifying_data,),
            _ECDSA_SHA256 + selection.wire,
        )
        reader = Reader(self._road.run(command, auth).parameters)
        attested, signature = reader.sized(), _read_signature(reader)
        quote = read_quote(attested, signature, selection)
        if quote.qualifying_data != qualifying_data:
            raise TpmTamperedError("the quote answers another question")
        return quote

    def quote_with_values(
        self, key: Key, auth: SecretT | None, selection: PcrSelection, qualifying_data: bytes
    ) -> tuple[Quote, dict[int, bytes]]:
        """Have PCRs quoted, and return their values too, which a quote holds the digest of.

        Raises:
            TpmError: They changed meanwhile, or the TPM does not have one; or as :meth:`quote`.
        """
        values = Device(self._road).read_pcrs(selection)
        expected = selection.digest_of(values)
        quote = self.quote(key, auth, selection, qualifying_data)
        if quote.pcr_digest != expected:
            raise TpmError("PCRs changed while they were quoted", hint="ask again")
        return quote, values


def read_quote(attested: bytes, signature: Signature, asked: PcrSelection) -> Quote:
    """Take a quote apart.

    Raises:
        TpmTamperedError: It is no quote, or of other PCRs.
    """
    reader = Reader(attested)
    if reader.u32() != _MAGIC or reader.u16() != _QUOTE:
        raise TpmTamperedError("the TPM signed something that is no quote")
    signer, qualifying_data = reader.sized(), reader.sized()
    clock = Clock(0, reader.u64(), reader.u32(), reader.u32(), reader.u8() == 1)
    firmware = reader.u64()
    banks, digest = read_selections(reader), reader.sized()
    reader.end()
    if banks != ((asked.bank, asked.pcrs),):
        raise TpmTamperedError("the quote is of other PCRs than were asked for")
    return Quote(attested, signature, signer, qualifying_data, clock, firmware, digest)


def _read_signature(reader: Reader) -> Signature:
    if reader.u16() != Algorithm.ECDSA or reader.u16() != Algorithm.SHA256:
        raise TpmTamperedError("the TPM signed with another algorithm than was asked for")
    r, s = reader.sized(), reader.sized()
    reader.end()
    if max(len(r), len(s)) > _NUMBER_BYTES:
        raise TpmTamperedError("the TPM signed with a key of another size than was asked for")
    return Signature(int.from_bytes(r, "big"), int.from_bytes(s, "big"))


def encode_signature(signature: Signature) -> bytes:
    """Return a signature as ``TPMT_SIGNATURE``, for tools that read one."""
    both = (number.to_bytes(_NUMBER_BYTES, "big") for number in (signature.r, signature.s))
    return _ECDSA_SHA256 + b"".join(sized(number) for number in both)
