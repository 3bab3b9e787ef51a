# SPDX-License-Identifier: Apache-2.0
"""The calls about a TPM: declared apart, because only an enclave that is given one knows them.

Secrets cross as in :mod:`strongroom.boundary.calls`: sealed to a key that the other side made for
this one message. What comes back about a TPM is what the enclave has checked, as far as its result
says so; the enclave believes nothing that the host adds.
"""

from typing import Annotated, Final, Literal

from strongroom.boundary.calls import (
    Call,
    Counter,
    Done,
    Name,
    PublicKey,
    Sealed,
    Text,
)
from strongroom.boundary.schema import Items, Range, Size
from strongroom.values import dataclass

MAX_TPM_MESSAGE_BYTES: Final = 4096
"""Longest command and response, as the gate has it."""

Message = Annotated[bytes, Size(10, MAX_TPM_MESSAGE_BYTES)]
MaybeMessage = Annotated[bytes, Size(0, MAX_TPM_MESSAGE_BYTES)]
Structure = Annotated[bytes, Size(0, 1024)]
"""A structure of the TPM, as it is on the wire."""
TpmName = Annotated[bytes, Size(2, 66)]
Number32 = Annotated[int, Range(0, 2**32 - 1)]
NvIndex = Annotated[int, Range(0x01000000, 0x01FFFFFF)]
NvBytes = Annotated[int, Range(0, 2048)]
RandomBytes = Annotated[int, Range(1, 4096)]
Pcr = Annotated[int, Range(0, 23)]
Pcrs = Annotated[tuple[Pcr, ...], Items(24)]
Bank = Literal["sha1", "sha256", "sha384", "sha512"]
TpmDigest = Annotated[bytes, Size(20, 64)]
Qualifying = Annotated[bytes, Size(0, 32)]
Record = Annotated[bytes, Size(0, 4096)]
"""What the enclave keeps of a TPM, sealed to itself."""
Protection = Literal["enclave", "password", "none"]
"""What an authorization value is: derived by this enclave, given with the call, or empty."""
Vouched = Literal["enrolled", "first use"]
Replacement = Literal["nothing", "the same TPM", "another TPM", "an unreadable record"]
"""Whose key the sessions are salted to: one that was pinned, or whoever answers."""


# --- the ocall ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Transmitted:
    """What came back: an answer, or why there is none."""

    response: MaybeMessage
    problem: Text


@dataclass(frozen=True, slots=True)
class Transmit(Call[Transmitted]):
    """Carry one command to the TPM."""

    result = Transmitted

    command: Message


# --- results --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class TpmReply:
    """Bytes that are nobody else's, encrypted with HPKE to a key that the client made for them.

    ``info`` is ``strongroom/1 tpm answer``; ``aad`` is the client's public key.
    """

    encapsulated_key: PublicKey
    ciphertext: Annotated[bytes, Size(16, 4096 + 16)]


@dataclass(frozen=True, slots=True)
class ClockFacts:
    """The TPM's times and counters."""

    time_milliseconds: Counter
    clock_milliseconds: Counter
    reset_count: Number32
    restart_count: Number32
    is_safe: bool


@dataclass(frozen=True, slots=True)
class TpmKey:
    """A key of the TPM: where it is, its Name, and its public area."""

    handle: Number32
    name: TpmName
    public: Structure


@dataclass(frozen=True, slots=True)
class TpmMet:
    """A TPM at its enrolment.

    Attributes:
        record: What was pinned, sealed to the enclave.
        replaces: What the earlier record that came with the call was of.
        endorsement: Its endorsement key, without a handle.
        certificate: Of that key, X.509 in DER as the TPM gave it; empty if it has none.
        storage_root: Its storage root key.
        attestation: The attestation key that was made.
        clock: Its clock.
    """

    record: Record
    replaces: Replacement
    endorsement: TpmKey
    certificate: Annotated[bytes, Size(0, 4096)]
    storage_root: TpmKey
    attestation: TpmKey
    clock: ClockFacts


@dataclass(frozen=True, slots=True)
class TpmKnown:
    """The TPM that is used from now on."""

    vouched: Vouched
    salt_key: TpmKey


@dataclass(frozen=True, slots=True)
class Property:
    """One ``TPM_PT``."""

    number: Number32
    value: Number32


@dataclass(frozen=True, slots=True)
class TpmFacts:
    """What a TPM says that it is."""

    family: Text
    revision: Number32
    manufacturer: Text
    vendor: Text
    firmware: Text
    properties: Annotated[tuple[Property, ...], Items(256)]


@dataclass(frozen=True, slots=True)
class PcrValue:
    """One PCR of one bank."""

    pcr: Pcr
    value: TpmDigest


@dataclass(frozen=True, slots=True)
class PcrValues:
    """The PCRs that the TPM has, of those that were asked for."""

    values: Annotated[tuple[PcrValue, ...], Items(24)]


@dataclass(frozen=True, slots=True)
class NvFacts:
    """A ``TPMS_NV_PUBLIC``, taken apart."""

    index: NvIndex
    name: TpmName
    name_algorithm: Name
    type: Name
    attributes: Annotated[tuple[Name, ...], Items(32)]
    policy: Annotated[bytes, Size(0, 64)]
    size_bytes: NvBytes


@dataclass(frozen=True, slots=True)
class NvIndexes:
    """All NV indexes of a TPM."""

    indexes: Annotated[tuple[NvFacts, ...], Items(128)]


@dataclass(frozen=True, slots=True)
class Count:
    """Where a counter stands."""

    value: Counter


@dataclass(frozen=True, slots=True)
class SealedObject:
    """Data that only this TPM opens."""

    public: Structure
    private: Structure


@dataclass(frozen=True, slots=True)
class QuoteFacts:
    """What the attestation key signed, and its signature, for others to verify."""

    attested: Structure
    signature: Structure
    signer: TpmKey
    values: Annotated[tuple[PcrValue, ...], Items(24)]


# --- the calls ------------------------------------------------------------------------------------


class TpmCall:
    """A call that needs a TPM."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class MeetTpm(TpmCall, Call[TpmMet]):
    """Enrol the TPM: pin its keys, and make an attestation key.

    With an earlier record, what that enrolment protected stays of use.
    """

    result = TpmMet

    earlier: Record | None


@dataclass(frozen=True, slots=True)
class KnowTpm(TpmCall, Call[TpmKnown]):
    """Use the TPM that a record is of, or without one whichever answers."""

    result = TpmKnown

    record: Record | None


@dataclass(frozen=True, slots=True)
class ForgetTpm(TpmCall, Call[Done]):
    """Remove what the enrolment that a record is of left in the TPM."""

    result = Done

    record: Record


@dataclass(frozen=True, slots=True)
class ReadTpmFacts(TpmCall, Call[TpmFacts]):
    """Ask for capabilities."""

    result = TpmFacts


@dataclass(frozen=True, slots=True)
class ReadTpmClock(TpmCall, Call[ClockFacts]):
    """Ask for the clock."""

    result = ClockFacts


@dataclass(frozen=True, slots=True)
class DrawRandom(TpmCall, Call[TpmReply]):
    """Ask for random bytes, of the TPM alone."""

    result = TpmReply

    size_bytes: RandomBytes
    reply_to: PublicKey


@dataclass(frozen=True, slots=True)
class ReadPcrs(TpmCall, Call[PcrValues]):
    """Ask for PCRs of one bank."""

    result = PcrValues

    bank: Bank
    pcrs: Pcrs


@dataclass(frozen=True, slots=True)
class ExtendPcr(TpmCall, Call[Done]):
    """Extend a PCR."""

    result = Done

    pcr: Pcr
    bank: Bank
    digest: TpmDigest


@dataclass(frozen=True, slots=True)
class ListNv(TpmCall, Call[NvIndexes]):
    """Ask what NV indexes there are."""

    result = NvIndexes


@dataclass(frozen=True, slots=True)
class DefineNv(TpmCall, Call[NvFacts]):
    """Make an NV index."""

    result = NvFacts

    index: NvIndex
    type: Literal["ordinary", "counter"]
    size_bytes: NvBytes
    protection: Protection
    auth: Sealed | None


@dataclass(frozen=True, slots=True)
class UndefineNv(TpmCall, Call[Done]):
    """Remove an NV index."""

    result = Done

    index: NvIndex


@dataclass(frozen=True, slots=True)
class WriteNv(TpmCall, Call[Done]):
    """Write an ordinary NV index."""

    result = Done

    index: NvIndex
    offset: NvBytes
    data: Sealed
    protection: Protection
    auth: Sealed | None


@dataclass(frozen=True, slots=True)
class ReadNv(TpmCall, Call[TpmReply]):
    """Read an NV index."""

    result = TpmReply

    index: NvIndex
    offset: NvBytes
    size_bytes: NvBytes
    protection: Protection
    auth: Sealed | None
    reply_to: PublicKey


@dataclass(frozen=True, slots=True)
class IncrementNv(TpmCall, Call[Count]):
    """Count one up."""

    result = Count

    index: NvIndex
    protection: Protection
    auth: Sealed | None


@dataclass(frozen=True, slots=True)
class ReadCounter(TpmCall, Call[Count]):
    """Ask where a counter stands."""

    result = Count

    index: NvIndex
    protection: Protection
    auth: Sealed | None


@dataclass(frozen=True, slots=True)
class SealToTpm(TpmCall, Call[SealedObject]):
    """Seal data to PCRs as they are, and to an authorization value."""

    result = SealedObject

    data: Sealed
    protection: Protection
    auth: Sealed | None
    bank: Bank
    pcrs: Pcrs


@dataclass(frozen=True, slots=True)
class UnsealFromTpm(TpmCall, Call[TpmReply]):
    """Open sealed data."""

    result = TpmReply

    object: SealedObject
    protection: Protection
    auth: Sealed | None
    bank: Bank
    pcrs: Pcrs
    reply_to: PublicKey


@dataclass(frozen=True, slots=True)
class QuotePcrs(TpmCall, Call[QuoteFacts]):
    """Have PCRs signed by the attestation key."""

    result = QuoteFacts

    bank: Bank
    pcrs: Pcrs
    qualifying_data: Qualifying


TPM_ECALLS: Final[tuple[type[Call[object]], ...]] = (
    MeetTpm,
    KnowTpm,
    ForgetTpm,
    ReadTpmFacts,
    ReadTpmClock,
    DrawRandom,
    ReadPcrs,
    ExtendPcr,
    ListNv,
    DefineNv,
    UndefineNv,
    WriteNv,
    ReadNv,
    IncrementNv,
    ReadCounter,
    SealToTpm,
    UnsealFromTpm,
    QuotePcrs,
)
TPM_OCALLS: Final[tuple[type[Call[object]], ...]] = (Transmit,)
