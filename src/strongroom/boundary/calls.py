# SPDX-License-Identifier: Apache-2.0
"""Every call that crosses the boundary, declared once.

An **ecall** goes from the host into the enclave, an **ocall** from the enclave to the host. Each is
a message class whose ``result`` names the class of its answer. Both proxies and both decoders come
from these declarations; a call that is not in :data:`ECALLS` or :data:`OCALLS` does not exist.

Neither side trusts the other's values: limits are in the types, and the enclave takes no answer of
an ocall for true. Secrets cross only as :class:`Sealed` messages.
"""

from typing import Annotated, ClassVar, Final, Generic, Literal, TypeVar

from strongroom.boundary.schema import Descriptor, Items, Range, Size
from strongroom.values import dataclass

PROTOCOL_VERSION: Final = 4
"""Raised with every incompatible change of this module."""

MAX_TEXT_BYTES: Final = 1024
"""Longest notice, finding, name or label."""

MAX_MESSAGE_BYTES: Final = 16 * 1024
"""Longest message or hint of an error: it may list :data:`MAX_CHANGES` changes."""

MAX_NOTICES: Final = 128
"""Most notices or findings about a header, and more than there are parts that can differ."""

MAX_CHANGES: Final = MAX_NOTICES

MAX_SECRET_BYTES: Final = 64 * 1024
"""Longest passphrase, as :data:`strongroom._core.MAX_PASSPHRASE_BYTES`."""

MAX_REPORT_BYTES: Final = 16 * 1024
"""Longest report or quote of any TEE."""

MOST_ARGON2_MEMORY_KIB: Final = 4 * 1024 * 1024
"""The most that LUKS2 tools write."""

LEAST_ARGON2_MEMORY_KIB: Final = 7 * 1024
"""The least for a new keyslot: that of OWASP's Password Storage Cheat Sheet, for five passes."""

LEAST_MEASURED_MEMORY_KIB: Final = 64 * 1024
LEAST_MEASURED_PASSES: Final = 4
"""The least that is chosen without being asked for. RFC 9106's second choice has three passes."""

Text = Annotated[str, Size(0, MAX_TEXT_BYTES)]
Name = Annotated[str, Size(1, 64)]
Uuid = Annotated[str, Size(0, 40)]
PublicKey = Annotated[bytes, Size(32, 32)]
"""An X25519 public key."""
Bytes64 = Annotated[int, Range(0, 2**63 - 1)]
"""A count of bytes, or an offset in bytes."""
Counter = Annotated[int, Range(0, 2**64 - 1)]
SectorBytes = Annotated[int, Range(512, 4096)]
KeyBits = Annotated[int, Range(0, 512)]
"""Bits of a volume key; 0 when no keyslot holds one."""
KeyslotNumber = Annotated[int, Range(0, 31)]
File = Annotated[int, Descriptor()]
"""An open file descriptor; the receiver owns its copy."""

Challenge = Annotated[bytes, Size(32, 32)]
Identifier = Annotated[bytes, Size(32, 32)]
"""A measurement, or the digest of a signer's public key."""
Digest = Annotated[bytes, Size(32, 32)]
"""A SHA-256 digest."""
Report = Annotated[bytes, Size(0, MAX_REPORT_BYTES)]
"""A TEE's report, in its provider's format."""
Number16 = Annotated[int, Range(0, 65535)]

Purpose = Literal[
    "unlock", "format", "existing passphrase", "new passphrase", "tpm auth", "tpm data"
]
"""What a sealed secret may be used for. It is part of what is authenticated."""

SealPolicy = Literal["signer", "measurement"]
"""To what a volume is sealed: everything its signer signs, or this one measurement."""

Factor = Literal["enclave", "passphrase"]
"""What a keyslot needs; all of its factors together."""

Factors = Annotated[tuple[Factor, ...], Items(4)]

FormerUuids = Annotated[tuple[Uuid, ...], Items(2)]
"""Other UUIDs that a volume had: under which it was authenticated last, and first."""

KdfName = Literal["argon2id", "argon2i", "pbkdf2"]
HashName = Literal["sha1", "sha224", "sha256", "sha384", "sha512"]

ResultT_co = TypeVar("ResultT_co", covariant=True)


class Call(Generic[ResultT_co]):
    """A request; ``result`` is the class of its answer."""

    __slots__ = ()
    result: ClassVar[type[object]]


# --- values ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Done:
    """It worked, and there is nothing to say."""


@dataclass(frozen=True, slots=True)
class Terms:
    """What the operator knows of a volume and agrees to: authenticated with the passphrase.

    The host carries it and cannot change it.

    Attributes:
        volume: Its UUID; empty for one that is not made yet.
        authenticated: The volume is known to have an authenticated header.
        minimum_epoch: That of the newest header that the operator has seen of this volume.
        accepted_changes: What another program changed in the header, and may be authenticated
            anew: :func:`strongroom.boundary.sealed.changes_digest` of what the operator was shown,
            which covers the contents too.
        next_enclave: The measurement of the enclave that secrets may be handed over to.
        keyslot: The only keyslot that the passphrase may be tried on, to unlock the volume; then
            also one of priority ``ignore``.
        request: The one call that the passphrase is for, as
            :func:`strongroom.boundary.sealed.request_digest` gives it; ``None`` for ``Unlock``.
        former_volumes: The UUIDs that the volume had before another program changed it, in lower
            case, as the enclave said them; what is known of those counts too.
    """

    volume: Uuid = ""
    authenticated: bool = False
    minimum_epoch: Counter = 0
    accepted_changes: Digest | None = None
    next_enclave: Identifier | None = None
    keyslot: KeyslotNumber | None = None
    request: Digest | None = None
    former_volumes: FormerUuids = ()


@dataclass(frozen=True, slots=True)
class Sealed:
    """A passphrase, encrypted with HPKE to a key that the enclave made for one purpose.

    ``info`` and ``aad`` are those of :mod:`strongroom.boundary.sealed`.

    Spec: RFC 9180, base mode; ``spec/boundary.md``, "Sealed passphrases".
    """

    public_key: PublicKey
    terms: Terms
    encapsulated_key: PublicKey
    ciphertext: Annotated[bytes, Size(17, MAX_SECRET_BYTES + 16)]


@dataclass(frozen=True, slots=True)
class SealedReply:
    """A recovery key, encrypted with HPKE to a key that the client made for this one answer.

    ``info`` is ``strongroom/1 recovery key``; ``aad`` is the client's public key.
    """

    encapsulated_key: PublicKey
    ciphertext: Annotated[bytes, Size(17, 512)]


@dataclass(frozen=True, slots=True)
class EnclaveIdentity:
    """Who an enclave says that it is; a report is what vouches for it, if anything does."""

    tee: Name
    simulated: bool
    measurement: Identifier
    signer: Identifier
    product_id: Number16
    security_version: Number16
    debug: bool


@dataclass(frozen=True, slots=True)
class Enrolment:
    """What a volume is sealed to."""

    policy: SealPolicy
    identity: EnclaveIdentity


@dataclass(frozen=True, slots=True)
class KdfParameters:
    """How a new keyslot derives its key; ``None`` is measured inside the enclave."""

    algorithm: KdfName
    hash_name: HashName
    memory_kib: Annotated[int, Range(8, MOST_ARGON2_MEMORY_KIB)] | None
    iterations: Annotated[int, Range(1, 2**32 - 1)] | None
    lanes: Annotated[int, Range(1, 16)] | None


@dataclass(frozen=True, slots=True)
class Confinement:
    """One measure of confinement as the enclave found it."""

    name: Text
    active: bool
    detail: Text


@dataclass(frozen=True, slots=True)
class Keyslot:
    """One keyslot, without any secret; ``problem`` says why it cannot be used, if it cannot."""

    number: KeyslotNumber
    kind: Text
    priority: Literal["ignore", "normal", "prefer"]
    kdf: Text
    kdf_hash: Text
    kdf_iterations: Counter
    kdf_memory_kib: Counter
    kdf_lanes: Counter
    cipher: Text
    key_bits: Counter
    area_offset_bytes: Bytes64
    area_size_bytes: Bytes64
    factors: Factors
    problem: Text


@dataclass(frozen=True, slots=True)
class HeaderChange:
    """A change of a header that its operator may accept.

    Attributes:
        words: What was changed.
        content: Tells one content of that part from another.
    """

    words: Text
    content: Digest


@dataclass(frozen=True, slots=True)
class TestResult:
    """One known-answer test."""

    name: Text
    passed: bool


@dataclass(frozen=True, slots=True)
class KnownHeader:
    """What the operator's machine has seen of a volume; nothing authenticates it here.

    Attributes:
        volume: Its UUID.
        authenticated: It had an authenticated header.
        minimum_epoch: That of the newest header seen.
    """

    volume: Uuid
    authenticated: bool
    minimum_epoch: Counter


Authentication = Literal["absent", "verified", "changed", "damaged", "unverified", "tampered"]
"""What this enclave could find out about a header before any passphrase.

``absent``: it carries no codes. ``verified``: the enclave's code is right and nothing was changed.
``changed``: the code is right, and another program changed what an operator may accept.
``damaged``: the code is right, and keyslots are not what they were, so they are never tried.
``unverified``: it is sealed to another enclave. ``tampered``: it must not be used.
"""


# --- answers --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Description:
    """Who the enclave is, and how it is confined. In ``process`` mode nobody vouches for this."""

    protocol: Annotated[int, Range(1, 65535)]
    version: Name
    identity: EnclaveIdentity
    transport: Name
    cipher_backend: Name
    confinement: Annotated[tuple[Confinement, ...], Items(32)]


@dataclass(frozen=True, slots=True)
class Recipient:
    """A fresh public key; its private half opens one message and is gone.

    ``report`` is over :func:`strongroom.boundary.sealed.report_data` of the purpose and the key.
    """

    public_key: PublicKey
    report: Report


@dataclass(frozen=True, slots=True)
class Proof:
    """A report over the challenge of the one who asked."""

    report: Report


@dataclass(frozen=True, slots=True)
class DiskFacts:
    """What the header says, after all checks that need no key."""

    uuid: Uuid
    label: Text
    cipher: Name
    key_bits: KeyBits
    sector_size_bytes: SectorBytes
    data_offset_bytes: Bytes64
    data_size_bytes: Bytes64
    sequence_number: Counter
    discard_allowed: bool
    keyslots: Annotated[tuple[Keyslot, ...], Items(32)]
    notices: Annotated[tuple[Text, ...], Items(MAX_NOTICES)]
    authentication: Authentication
    enrolment: Enrolment | None
    epoch: Counter
    changes: Annotated[tuple[Text, ...], Items(MAX_NOTICES)]
    acceptable: Annotated[tuple[HeaderChange, ...], Items(MAX_CHANGES)]
    """What another program seems to have changed, and the operator may accept: all of it."""
    former_uuids: FormerUuids = ()


@dataclass(frozen=True, slots=True)
class HeaderFacts:
    """What a header says that is only looked at; ``unsupported`` is why it cannot be used."""

    uuid: Uuid
    keyslots: Annotated[tuple[Keyslot, ...], Items(32)]
    notices: Annotated[tuple[Text, ...], Items(MAX_NOTICES)]
    authentication: Authentication
    epoch: Counter
    changes: Annotated[tuple[Text, ...], Items(MAX_NOTICES)]
    unsupported: Annotated[tuple[Text, ...], Items(MAX_NOTICES)]
    former_uuids: FormerUuids = ()


@dataclass(frozen=True, slots=True)
class HeaderDump:
    """The header without secrets, as JSON text."""

    json: Annotated[str, Size(2, 512 * 1024)]


@dataclass(frozen=True, slots=True)
class Created:
    """A new volume."""

    uuid: Uuid
    cipher: Name
    key_bits: KeyBits
    sector_size_bytes: SectorBytes
    data_offset_bytes: Bytes64
    data_size_bytes: Bytes64
    keyslots: Annotated[tuple[Keyslot, ...], Items(32)]
    recovery_keyslot: KeyslotNumber | None
    recovery_key: SealedReply | None
    enrolment: Enrolment | None
    epoch: Counter


@dataclass(frozen=True, slots=True)
class Unlocked:
    """The volume key is in the enclave.

    ``authenticated`` when the header's codes, under the volume key, are right; then
    ``epoch`` is worth remembering. It is 0 when the header may not survive a power cut.
    ``read_only`` also when it was not asked for, as long as the operator has not accepted that
    keyslots are damaged.
    """

    keyslot: KeyslotNumber
    authenticated: bool
    read_only: bool
    epoch: Counter
    notices: Annotated[tuple[Text, ...], Items(MAX_NOTICES)]


@dataclass(frozen=True, slots=True)
class HeaderWritten:
    """A header was committed; ``notices`` say what could not be finished."""

    epoch: Counter
    notices: Annotated[tuple[Text, ...], Items(MAX_NOTICES)]


@dataclass(frozen=True, slots=True)
class KeyslotWritten:
    """A keyslot was added or changed; ``recovery_key`` when the enclave made its secret."""

    keyslot: Keyslot
    recovery_key: SealedReply | None
    epoch: Counter
    notices: Annotated[tuple[Text, ...], Items(MAX_NOTICES)]


@dataclass(frozen=True, slots=True)
class Successor:
    """The next enclave of a volume: the key to hand secrets over to, and the report that binds it.

    ``report`` is over the report data of ``handover`` and the key.
    """

    public_key: PublicKey
    report: Report


@dataclass(frozen=True, slots=True)
class HandoverSlot:
    """The sealed factors of one keyslot, encrypted to the next enclave."""

    keyslot: KeyslotNumber
    share: Annotated[bytes, Size(1, 512)]
    parameters: Annotated[bytes, Size(1, 1024)]


@dataclass(frozen=True, slots=True)
class Handover:
    """What the next enclave needs to seal a volume to itself, for it alone.

    ``ciphertext`` is a transport key in HPKE; the rest is encrypted with that key, and bound to
    ``policy``.
    """

    encapsulated_key: PublicKey
    ciphertext: Annotated[bytes, Size(17, 512)]
    policy: SealPolicy
    header_key: Annotated[bytes, Size(1, 512)]
    slots: Annotated[tuple[HandoverSlot, ...], Items(32)]


@dataclass(frozen=True, slots=True)
class Resealed:
    """A volume is sealed to the next enclave."""

    enrolment: Enrolment
    epoch: Counter
    removed_keyslots: Annotated[tuple[KeyslotNumber, ...], Items(32)]
    notices: Annotated[tuple[Text, ...], Items(MAX_NOTICES)]


@dataclass(frozen=True, slots=True)
class Counters:
    """Running totals since the volume was unlocked."""

    read_bytes: Counter
    written_bytes: Counter
    reads: Counter
    writes: Counter
    flushes: Counter
    trims: Counter
    zeroes: Counter
    errors: Counter
    connections: Counter
    refused_connections: Counter
    """Connections that were closed because there were too many."""
    failed_flushes: Counter
    """Not 0: written data may be lost, and every later flush fails."""
    failed_writes: Counter
    """Not 0: the data of these are lost, unless they were written again."""


@dataclass(frozen=True, slots=True)
class Flushed:
    """Whether what was written before the call is durable now."""

    done: bool


@dataclass(frozen=True, slots=True)
class BackupWritten:
    """A header backup, and what it holds."""

    uuid: Uuid
    sequence_number: Counter
    size_bytes: Bytes64
    epoch: Counter
    notices: Annotated[tuple[Text, ...], Items(MAX_NOTICES)]


@dataclass(frozen=True, slots=True)
class BackupFacts:
    """Of which volume a header backup is; nothing vouches for it."""

    uuid: Uuid
    former_uuids: FormerUuids = ()


@dataclass(frozen=True, slots=True)
class TestResults:
    """All known-answer tests."""

    results: Annotated[tuple[TestResult, ...], Items(128)]


# --- ecalls ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Describe(Call[Description]):
    """Ask for the enclave's description. Allowed at any time."""

    result: ClassVar[type[object]] = Description


@dataclass(frozen=True, slots=True)
class RunSelftest(Call[TestResults]):
    """Run the known-answer tests inside the enclave. Allowed at any time."""

    result: ClassVar[type[object]] = TestResults


@dataclass(frozen=True, slots=True)
class NewRecipient(Call[Recipient]):
    """Make a key to which one passphrase for one purpose is sealed."""

    purpose: Purpose
    result: ClassVar[type[object]] = Recipient


@dataclass(frozen=True, slots=True)
class LoadDisk(Call[DiskFacts]):
    """Take the disk, make one private copy of its header, and check it. Once per enclave.

    Without ``image`` the disk is the file that the enclave was started with. A broken copy of the
    header is rewritten from the good one unless ``read_only``, or it cannot be authenticated yet.
    With ``direct``, the image opened once more with ``O_DIRECT``, data are read and written there.
    """

    image: File | None
    header: File | None
    read_only: bool
    direct: File | None = None
    result: ClassVar[type[object]] = DiskFacts


@dataclass(frozen=True, slots=True)
class LookAtDisk(Call[HeaderFacts]):
    """Take the disk, make one private copy of its header, and say what is known of it.

    Also of a header that cannot be used. Once per enclave, and in place of :class:`LoadDisk`:
    nothing is written to the disk, and all that can be asked afterwards is :class:`DumpHeader` and
    :class:`BackupHeader`.
    """

    image: File | None
    header: File | None
    result: ClassVar[type[object]] = HeaderFacts


@dataclass(frozen=True, slots=True)
class DumpHeader(Call[HeaderDump]):
    """Describe the header in full."""

    result: ClassVar[type[object]] = HeaderDump


@dataclass(frozen=True, slots=True)
class CreateVolume(Call[Created]):
    """Write a new header to a target that the host has found fit to be overwritten.

    Without ``sector_size_bytes`` it is the largest that divides the data area.
    """

    image: File | None
    header: File | None
    label: Annotated[str, Size(0, 47)]
    sector_size_bytes: SectorBytes | None
    key_bits: KeyBits
    factors: Factors
    seal_policy: SealPolicy
    kdf: KdfParameters
    passphrase: Sealed
    recovery_key_to: PublicKey | None
    result: ClassVar[type[object]] = Created


@dataclass(frozen=True, slots=True)
class Unlock(Call[Unlocked]):
    """Open a keyslot of the loaded header and keep the volume key."""

    passphrase: Sealed
    discard: bool
    result: ClassVar[type[object]] = Unlocked


@dataclass(frozen=True, slots=True)
class Serve(Call[Done]):
    """Serve the unlocked volume over NBD to everyone who connects to ``listener``.

    Without ``listener`` the clients come through the boundary's own stream. Structured replies and
    block status are offered to them only with ``structured_replies``.
    """

    listener: File | None
    export_name: Name
    structured_replies: bool
    result: ClassVar[type[object]] = Done


@dataclass(frozen=True, slots=True)
class ServeFuse(Call[Done]):
    """Serve the unlocked volume as the file ``file_name`` of a FUSE file system.

    ``devices`` are descriptors of ``/dev/fuse``: one that is mounted, and clones of it. What comes
    from them is as little trusted as what comes from an NBD client.
    """

    devices: Annotated[tuple[File, ...], Items(4)]
    file_name: Annotated[str, Size(1, 255)]
    result: ClassVar[type[object]] = Done


@dataclass(frozen=True, slots=True)
class ReadCounters(Call[Counters]):
    """Ask for the running totals of the unlocked volume."""

    result: ClassVar[type[object]] = Counters


@dataclass(frozen=True, slots=True)
class ProveWayIn(Call[Done]):
    """Open a keyslot for the change that comes next, with the same ``existing``.

    So a wrong passphrase is refused before a new one is asked for. ``keyslot`` is the one to be
    changed, if one is named.
    """

    existing: Sealed
    keyslot: KeyslotNumber | None
    result: ClassVar[type[object]] = Done


@dataclass(frozen=True, slots=True)
class AddKeyslot(Call[KeyslotWritten]):
    """Add a keyslot for ``new``, or for a recovery key that the enclave makes."""

    existing: Sealed
    new: Sealed | None
    factors: Factors
    kdf: KdfParameters
    keyslot: KeyslotNumber | None
    recovery_key_to: PublicKey | None
    result: ClassVar[type[object]] = KeyslotWritten


@dataclass(frozen=True, slots=True)
class ChangeKeyslot(Call[KeyslotWritten]):
    """Replace the passphrase of the keyslot that ``existing`` opens."""

    existing: Sealed
    new: Sealed
    kdf: KdfParameters
    keyslot: KeyslotNumber | None
    result: ClassVar[type[object]] = KeyslotWritten


@dataclass(frozen=True, slots=True)
class RemoveKeyslot(Call[HeaderWritten]):
    """Remove a keyslot; ``existing`` must open another one, so that a way in is proven to stay."""

    existing: Sealed
    keyslot: KeyslotNumber
    result: ClassVar[type[object]] = HeaderWritten


@dataclass(frozen=True, slots=True)
class ProveIdentity(Call[Proof]):
    """Ask for a report over a challenge. Allowed at any time."""

    challenge: Challenge
    result: ClassVar[type[object]] = Proof


@dataclass(frozen=True, slots=True)
class BecomeSuccessor(Call[Successor]):
    """Ask the next enclave of a volume for the key that secrets are handed over to."""

    result: ClassVar[type[object]] = Successor


@dataclass(frozen=True, slots=True)
class HandOver(Call[Handover]):
    """Check the next enclave's report, and encrypt what opens the loaded volume to it.

    ``policy`` is what the next enclave is to seal it to.
    """

    existing: Sealed
    successor: Successor
    policy: SealPolicy
    result: ClassVar[type[object]] = Handover


@dataclass(frozen=True, slots=True)
class TakeOver(Call[Resealed]):
    """Check a handover against the loaded header, and seal the volume to this enclave."""

    handover: Handover
    result: ClassVar[type[object]] = Resealed


@dataclass(frozen=True, slots=True)
class Reseal(Call[Resealed]):
    """Seal the loaded volume to this enclave as it is now.

    With ``adopt`` also a volume that is sealed to an enclave which is lost. What was sealed to that
    one cannot be had, so the keyslots that need it are removed; another one must open.
    """

    existing: Sealed
    policy: SealPolicy
    adopt: bool
    result: ClassVar[type[object]] = Resealed


@dataclass(frozen=True, slots=True)
class BackupHeader(Call[BackupWritten]):
    """Write the header and its keyslot areas to an empty file."""

    output: File
    result: ClassVar[type[object]] = BackupWritten


@dataclass(frozen=True, slots=True)
class ReadBackup(Call[BackupFacts]):
    """Ask of which volume a header backup is, to look up what is known of that volume."""

    backup: File
    result: ClassVar[type[object]] = BackupFacts


@dataclass(frozen=True, slots=True)
class RestoreHeader(Call[BackupWritten]):
    """Check a backup and write it over the header of a disk.

    Without ``force`` a backup that is older than the header or than ``known``, or of another volume
    than either, is refused.
    """

    image: File | None
    header: File | None
    backup: File
    force: bool
    known: KnownHeader | None = None
    result: ClassVar[type[object]] = BackupWritten


@dataclass(frozen=True, slots=True)
class Flush(Call[Flushed]):
    """Make what was written durable. Answers within about a second, done or not: ask again."""

    result: ClassVar[type[object]] = Flushed


@dataclass(frozen=True, slots=True)
class Erase(Call[Done]):
    """Erase every key at once, without waiting for the disk; clients get errors from then on.

    ``Shutdown`` alone may follow.
    """

    result: ClassVar[type[object]] = Done


@dataclass(frozen=True, slots=True)
class Shutdown(Call[Done]):
    """Stop serving, erase every key, flush. Takes half a minute at most; then the enclave ends."""

    result: ClassVar[type[object]] = Done


# --- ocalls ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ReportProgress(Call[Done]):
    """Tell the operator how far a stage is; ``total`` 0 means that the end is not known."""

    stage: Name
    done: Counter
    total: Counter
    result: ClassVar[type[object]] = Done


ECALLS: Final[tuple[type[Call[object]], ...]] = (
    AddKeyslot,
    BackupHeader,
    BecomeSuccessor,
    ChangeKeyslot,
    CreateVolume,
    Describe,
    DumpHeader,
    Erase,
    Flush,
    HandOver,
    LoadDisk,
    LookAtDisk,
    NewRecipient,
    ProveIdentity,
    ProveWayIn,
    ReadBackup,
    ReadCounters,
    RemoveKeyslot,
    Reseal,
    RestoreHeader,
    RunSelftest,
    Serve,
    ServeFuse,
    Shutdown,
    TakeOver,
    Unlock,
)
"""Every call into the enclave."""

OCALLS: Final[tuple[type[Call[object]], ...]] = (ReportProgress,)
"""Every call out of the enclave."""
