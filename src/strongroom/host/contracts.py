# SPDX-License-Identifier: Apache-2.0
"""What the command line asks of the host, and what it gets back.

Values only: no behaviour, no secrets. Every result is a value whose fields are the
``--json`` output of its command, so renaming one is a breaking change.
"""

from pathlib import Path
from typing import Final, Literal, Protocol

from strongroom._core import Secret
from strongroom.values import dataclass

Attachment = Literal["auto", "nbd", "ublk", "fuse", "none"]
TeeName = Literal["process", "gramine"]
Transport = Literal["fd", "stdio", "tcp"]
"""How the host reaches the enclave: a UNIX socket, standard input and output, TCP on loopback."""
SealPolicy = Literal["signer", "measurement"]
Identity = dict[str, str | int | bool]
"""Who an enclave is: ``tee``, ``simulated``, ``measurement``, ``signer``, ``product_id``,
``security_version`` and ``debug``; digests in hexadecimal."""


class PassphraseSource(Protocol):
    """Where a passphrase comes from: a terminal, a file, standard input."""

    @property
    def attempts(self) -> int:
        """How often it is worth asking: 3 for a person, 1 for a file."""

    def read(self, prompt: str, *, confirm: bool) -> Secret:
        """Return one passphrase; ``confirm`` asks twice where a person types.

        Raises:
            SecretError: None could be read, it is empty, or the two differ.
        """


class Reporter(Protocol):
    """Where progress and notices go while a long operation runs."""

    def progress(self, stage: str, done: int, total: int) -> None:
        """Say how far a stage is; ``total`` 0 means that the end is not known."""

    def notice(self, text: str) -> None:
        """Say something that the operator should know and that is not an error."""


class FuseServing(Protocol):
    """Has the enclave serve the volume as the one file of a mounted FUSE file system."""

    def __call__(self, devices: tuple[int, ...], file_name: str) -> None:
        """Pass copies of the descriptors of ``/dev/fuse``; return when it serves.

        Raises:
            StrongroomError: What the enclave raised.
        """


@dataclass(frozen=True, slots=True)
class ImageReference:
    """An image file or block device, and its detached header if it has one."""

    path: Path
    header: Path | None = None


LEAST_KDF_MEMORY_KIB: Final = 7 * 1024
MOST_KDF_MEMORY_KIB: Final = 4 * 1024 * 1024
"""What an operator may give: the limits of :mod:`strongroom.boundary.calls`, without its import."""


@dataclass(frozen=True, slots=True)
class KdfChoice:
    """How a new keyslot derives its key; ``None`` means measured on this machine for 2 seconds."""

    algorithm: Literal["argon2id", "argon2i", "pbkdf2"] = "argon2id"
    memory_kib: int | None = None
    iterations: int | None = None
    lanes: int | None = None
    hash_name: str = "sha256"


@dataclass(frozen=True, slots=True)
class Enrolment:
    """The enclave that a volume is sealed to."""

    policy: SealPolicy
    identity: Identity


@dataclass(frozen=True, slots=True)
class Unlocking:
    """What an operator says beside a passphrase; both are sealed together.

    ``accept_header_change``: what another program changed in the header was meant, or what is
    damaged of it is known. ``keyslot``: the only one to try, to open a volume.
    """

    tee: TeeName = "process"
    accept_header_change: bool = False
    keyslot: int | None = None


@dataclass(frozen=True, slots=True)
class FormatRequest:
    """A new volume. ``size_bytes`` creates the image file, which must not exist yet."""

    image: ImageReference
    kdf: KdfChoice
    size_bytes: int | None = None
    sector_size_bytes: int | None = None
    """``None`` is the largest of which the data area is a multiple."""
    key_bits: Literal[256, 512] = 512
    factors: tuple[str, ...] = ("enclave", "passphrase")
    seal_policy: SealPolicy = "signer"
    tee: TeeName = "process"
    label: str = ""
    sparse: bool = False
    force: bool = False
    recovery_fd: int | None = None
    """Where the recovery key is written, by the kernel, once; ``None`` makes none."""


@dataclass(frozen=True, slots=True)
class FormatResult:
    """What ``format`` made."""

    image: str
    uuid: str
    cipher: str
    key_bits: int
    sector_size_bytes: int
    data_offset_bytes: int
    data_size_bytes: int
    keyslots: tuple[int, ...]
    recovery_keyslot: int | None
    kdf: dict[str, int | str]
    factors: tuple[str, ...]
    """What the passphrase's keyslot needs."""
    enrolment: Enrolment | None
    """``None`` for a volume without the factor ``enclave``: its header is not authenticated."""
    epoch: int


@dataclass(frozen=True, slots=True)
class OpenRequest:
    """A volume to open under a name."""

    image: ImageReference
    name: str
    attach: Attachment = "auto"
    read_only: bool = False
    discard: bool = False
    direct: bool = False
    structured_replies: bool = False
    tee: TeeName = "process"
    transport: Transport = "fd"


@dataclass(frozen=True, slots=True)
class OpenResult:
    """A volume that is open. ``device`` is ``None`` when it is attached to nothing."""

    name: str
    image: str
    socket: str
    uri: str
    device: str | None
    attach: str
    attach_reason: str
    read_only: bool
    host_pid: int
    enclave_pid: int
    size_bytes: int
    sector_size_bytes: int
    keyslot: int
    authenticated: bool
    """The header's codes were checked; ``False`` for a volume that has none."""
    epoch: int
    notices: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class MeasureResult:
    """One measure of confinement."""

    name: str
    active: bool
    detail: str


@dataclass(frozen=True, slots=True)
class StatusResult:
    """Everything about an open volume that is not secret."""

    name: str
    image: str
    state: str
    """``waiting for key``, ``unlocking``, ``open`` or ``closing``; ``failing`` when written data
    may be lost, ``not answering`` when the enclave is silent."""
    problems: tuple[str, ...]
    """A sentence for each thing that the operator should see to."""
    uuid: str
    socket: str
    uri: str
    device: str | None
    attach: str
    read_only: bool
    discard: bool
    direct: bool
    host_pid: int
    enclave_pid: int
    size_bytes: int
    sector_size_bytes: int
    cipher: str
    cipher_backend: str
    opened_at: str
    uptime_seconds: float
    tee: str
    simulated: bool
    identity: Identity
    transport: str
    authentication: str
    """``absent``, ``verified``, ``changed``, ``damaged``, ``unverified`` or ``tampered``."""
    enrolment: Enrolment | None
    epoch: int
    confinement: tuple[MeasureResult, ...]
    counters: dict[str, int]
    rates: dict[str, float]


@dataclass(frozen=True, slots=True)
class ListedVolume:
    """One line of ``list``.

    A process id is 0, and the image empty, as long as the volume's processes have not said.
    """

    name: str
    image: str
    state: str
    """That of :class:`StatusResult`, or ``starting``, or ``enclave ended``."""
    device: str | None
    host_pid: int
    enclave_pid: int


@dataclass(frozen=True, slots=True)
class KeyslotResult:
    """One keyslot, without any secret."""

    keyslot: int
    kind: str
    """``passphrase``, ``recovery``, ``unbound``, ``unsupported``, the type of the token that uses
    it, or its own type where that is not known."""
    factors: tuple[str, ...]
    """All of what opens it; empty where that is a recovery key, or another program's business."""
    priority: str
    kdf: dict[str, int | str]
    cipher: str
    key_bits: int
    area_offset_bytes: int
    area_size_bytes: int
    problem: str = ""
    """Why it is never tried: not supported, or damaged; empty for the others."""


@dataclass(frozen=True, slots=True)
class ResealResult:
    """A volume that is sealed to another enclave, or to the same one at a newer version."""

    image: str
    uuid: str
    before: Enrolment
    after: Enrolment
    removed_keyslots: tuple[int, ...]
    epoch: int


@dataclass(frozen=True, slots=True)
class ForgetResult:
    """What ``forget`` took out of the memory of this account, and what stays in it."""

    uuid: str
    image: str
    """Where the volume was used last, as far as that is known; else empty."""
    enclave: Enrolment | None
    """The enclave that was known; ``None`` if the memory was damaged."""
    epoch: int
    """The newest epoch seen; 0 if the memory was damaged."""
    epoch_kept: bool
    """An older header is still refused."""


@dataclass(frozen=True, slots=True)
class IdentityResult:
    """Who the enclave is, as its report says."""

    tee: str
    simulated: bool
    measurement: str
    signer: str
    product_id: int
    security_version: int
    debug: bool
    genuine: bool
    """Something on this machine vouches for the report."""
    version: str


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of ``doctor``: what was looked at, what was found, what mends it."""

    topic: str
    level: Literal["ok", "warning", "missing"]
    found: str
    mend: str
