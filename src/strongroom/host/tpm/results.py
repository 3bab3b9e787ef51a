# SPDX-License-Identifier: Apache-2.0
"""What the ``tpm`` commands tell, in the form that ``--json`` prints; bytes are hexadecimal."""

from pathlib import Path
from typing import Literal, Protocol, TypeAlias

from strongroom.host.contracts import PassphraseSource, TeeName
from strongroom.values import dataclass

Place: TypeAlias = Literal["enclave", "host"]
Bank: TypeAlias = Literal["sha1", "sha256", "sha384", "sha512"]
NvKind: TypeAlias = Literal["ordinary", "counter"]
Protection: TypeAlias = Literal["enclave", "password", "none"]


@dataclass(frozen=True, slots=True)
class TpmChoice:
    """Which TPM, from where it is used, and how long each of its answers is waited for at most."""

    address: str
    place: Place
    trace: Path | None = None
    tee: TeeName = "process"
    timeout_seconds: int | None = None


class SecretSource(PassphraseSource, Protocol):
    """Where a secret comes from: for an enclave, or, only if the operator said so, in the clear."""

    def read_open(self) -> bytes:
        """Return the bytes, for the host. Raises as :meth:`read`."""


@dataclass(frozen=True, slots=True)
class Auth:
    """The authorization value of an index or of sealed data.

    ``enclave``: the enclave derives it, for itself alone. ``password``: it is read from ``source``.
    """

    protection: Protection
    source: SecretSource | None = None


@dataclass(frozen=True, slots=True)
class Span:
    """A part of an NV index; 0 bytes stand for all that follow."""

    offset_bytes: int = 0
    size_bytes: int = 0


@dataclass(frozen=True, slots=True)
class FactsResult:
    """What a TPM says that it is."""

    family: str
    revision: str
    manufacturer: str
    vendor: str
    firmware: str
    lockout_counter: int
    """Wrong authorizations so far: a claim of the TPM, or of the host."""
    lockout_limit: int
    properties: dict[str, int]


@dataclass(frozen=True, slots=True)
class ClockResult:
    """A TPM's times and counters."""

    time_milliseconds: int
    clock_milliseconds: int
    reset_count: int
    restart_count: int
    safe: bool


@dataclass(frozen=True, slots=True)
class NvResult:
    """One NV index, with every attribute."""

    index: str
    name: str
    hash: str
    type: str
    attributes: tuple[str, ...]
    policy: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class SealedResult:
    """Data that only one TPM opens; in hexadecimal, as the TPM writes it."""

    public: str
    private: str
    bank: Bank
    pcrs: tuple[int, ...]
    protection: Protection


@dataclass(frozen=True, slots=True)
class QuoteResult:
    """PCRs as a key of the TPM signed them; in hexadecimal, as the TPM writes it."""

    attested: str
    """The ``TPMS_ATTEST``: what was signed."""
    signature: str
    """The ``TPMT_SIGNATURE``."""
    signer: str
    """The ``TPMT_PUBLIC`` of the key."""
    bank: Bank
    pcrs: dict[str, str]


@dataclass(frozen=True, slots=True)
class EnrolResult:
    """A TPM that was just met."""

    endorsement: str
    certificate: Literal["verified", "unverified", "none"]
    vouched_by: str
    """The root certificate that led to it; empty unless ``verified``."""
    storage_root: str
    attestation: str
    reset_count: int


class Tpm(Protocol):
    """The operations of a TPM, wherever they run. All raise :class:`TpmError` and below."""

    @property
    def has_own_auth(self) -> bool:
        """Whether who runs them has authorization values that nobody else has."""

    def facts(self) -> FactsResult:
        """Return what it says that it is."""

    def clock(self) -> ClockResult:
        """Return its clock."""

    def random(self, size_bytes: int, output_fd: int) -> None:
        """Write random bytes of the TPM to a descriptor."""

    def read_pcrs(self, bank: Bank, pcrs: tuple[int, ...]) -> dict[int, str]:
        """Return PCRs of one bank."""

    def extend_pcr(self, pcr: int, bank: Bank, digest: bytes) -> None:
        """Extend a PCR."""

    def list_nv(self) -> tuple[NvResult, ...]:
        """Return all NV indexes."""

    def define_nv(self, index: int, kind: NvKind, size_bytes: int, auth: Auth) -> NvResult:
        """Make an NV index."""

    def undefine_nv(self, index: int) -> None:
        """Remove an NV index."""

    def write_nv(self, index: int, offset: int, data: SecretSource, auth: Auth) -> None:
        """Write an ordinary index."""

    def read_nv(self, index: int, span: Span, auth: Auth, output_fd: int) -> None:
        """Write the contents of an index to a descriptor."""

    def increment_nv(self, index: int, auth: Auth) -> int:
        """Count one up, and return where the counter stands."""

    def read_counter(self, index: int, auth: Auth) -> int:
        """Return where a counter stands."""

    def seal(
        self, data: SecretSource, auth: Auth, bank: Bank, pcrs: tuple[int, ...]
    ) -> SealedResult:
        """Seal data to an authorization value, and to PCRs as they are."""

    def unseal(self, sealed: SealedResult, auth: Auth, output_fd: int) -> None:
        """Write sealed data to a descriptor."""

    def quote(self, bank: Bank, pcrs: tuple[int, ...], qualifying_data: bytes) -> QuoteResult:
        """Have PCRs signed, together with at most 32 bytes of whoever asks."""
