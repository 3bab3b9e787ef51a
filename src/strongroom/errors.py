# SPDX-License-Identifier: Apache-2.0
"""Every error of Strongroom, by whose fault it is, each with the exit code that scripts rely on.

The first level says who has to act: the caller, the author of the bytes, the holder of the secret,
the machine, or us. Exit codes are an ABI: a number is never reused for another meaning, and a class
keeps its number for ever. ``docs/reference/exit-codes.md`` is generated from this module.

A message is one lower-case sentence without a full stop; a hint says what to do next.
"""

from typing import ClassVar


class StrongroomError(Exception):
    """Base of all errors that Strongroom raises on purpose.

    Attributes:
        exit_code: The process exit code, unique to the class.
        hint: What the operator can do about it, or an empty string.
    """

    exit_code: ClassVar[int] = 1
    summary: ClassVar[str] = "an error of Strongroom"

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class InternalError(StrongroomError):
    """Strongroom broke its own rule: please report it."""

    exit_code = 1
    summary = "a bug in Strongroom"


# --- the caller -----------------------------------------------------------------------------------


class UsageError(StrongroomError):
    """The command or its options make no sense."""

    exit_code = 2
    summary = "wrong command, option or argument"


class NotFoundError(UsageError):
    """A file or volume that was named does not exist."""

    exit_code = 3
    summary = "no such image, volume or file"


class LastWayInError(UsageError):
    """The change would leave a volume that nobody can open."""

    exit_code = 4
    summary = "refused to remove the last way into a volume"


class KeyslotStateError(UsageError):
    """The keyslot that was named does not exist, or is taken, or there is no free one."""

    exit_code = 5
    summary = "the keyslot is missing, taken, or all are in use"


# --- the bytes ------------------------------------------------------------------------------------


class FormatError(StrongroomError):
    """The bytes of a volume are wrong."""

    exit_code = 10
    summary = "the volume's metadata is invalid"


class NotLuksError(FormatError):
    """There is no LUKS header."""

    exit_code = 11
    summary = "not a LUKS volume"


class Luks1Error(FormatError):
    """A LUKS1 volume, which Strongroom does not read."""

    exit_code = 12
    summary = "a LUKS1 volume"


class TruncatedError(FormatError):
    """The image ends before what its header describes."""

    exit_code = 13
    summary = "the image is truncated"


class HeaderBrokenError(FormatError):
    """Both copies of the header are damaged."""

    exit_code = 14
    summary = "both header copies are damaged"


class UnsupportedCipherError(FormatError):
    """A cipher, mode, hash or KDF that is not on the list, the null cipher included."""

    exit_code = 15
    summary = "unknown or refused cipher, hash or KDF"


class UnsupportedRequirementError(FormatError):
    """The header demands a feature that is not implemented, such as reencryption in progress."""

    exit_code = 16
    summary = "the header requires an unknown feature"


class UnknownTokenError(FormatError):
    """The operation would damage a token whose type is not understood."""

    exit_code = 17
    summary = "refused to touch a keyslot that an unknown token uses"


class BoundsError(FormatError):
    """An offset or size in the header lies outside its place, or areas overlap."""

    exit_code = 18
    summary = "an offset is out of bounds, or areas overlap"


class LimitError(FormatError):
    """The header exceeds a limit: size, depth, count or cost."""

    exit_code = 19
    summary = "the header exceeds a limit"


class RollbackError(FormatError):
    """A header is older than, or foreign to, the one it would replace."""

    exit_code = 20
    summary = "refused an older or foreign header"


class HeaderTamperedError(FormatError):
    """An authenticated header does not match its authentication codes."""

    exit_code = 21
    summary = "the header was tampered with"


class HeaderChangedError(FormatError):
    """Another program changed an authenticated header in a way that an operator may accept."""

    exit_code = 22
    summary = "another program changed the header"


# --- the secret -----------------------------------------------------------------------------------


class SecretError(StrongroomError):
    """A secret could not be had, or does not open the volume."""

    exit_code = 30
    summary = "a secret could not be used"


class WrongPassphraseError(SecretError):
    """No keyslot opens with this passphrase."""

    exit_code = 31
    summary = "no keyslot opens with this passphrase"


class EmptyPassphraseError(SecretError):
    """The passphrase is empty."""

    exit_code = 32
    summary = "the passphrase is empty"


class PassphraseInputError(SecretError):
    """The passphrase could not be read: a closed pipe, no terminal, too long, a mismatch."""

    exit_code = 33
    summary = "the passphrase could not be read"


class EnclaveFactorError(SecretError):
    """The volume is sealed to another enclave: another machine, signer or measurement."""

    exit_code = 34
    summary = "the enclave factor failed: sealed to another enclave"


class SecurityVersionError(SecretError):
    """The volume is sealed to a security version that this enclave cannot or may not use."""

    exit_code = 35
    summary = "the enclave factor failed: wrong security version"


class SealedBlobError(SecretError):
    """A sealed blob does not open: it is damaged, was changed, or belongs elsewhere."""

    exit_code = 36
    summary = "a sealed blob was changed or belongs elsewhere"


# --- the target and the machine -------------------------------------------------------------------


class PlatformError(StrongroomError):
    """The machine did not give what was needed; trying again may help."""

    exit_code = 40
    summary = "the machine refused an operation"


class TargetInUseError(PlatformError):
    """The target holds data and ``--force`` was not given."""

    exit_code = 41
    summary = "the target holds data"


class MountedError(PlatformError):
    """The target or the device is mounted, or used by another part of the system."""

    exit_code = 42
    summary = "mounted, or in use by the system"


class AlreadyOpenError(PlatformError):
    """The image is open already or locked, or the name is taken by an open volume."""

    exit_code = 43
    summary = "already open or locked, or the name is taken"


class NoSpaceError(PlatformError):
    """The file system or device has no room."""

    exit_code = 44
    summary = "no space left"


class NoFuseError(PlatformError):
    """FUSE is not available."""

    exit_code = 45
    summary = "FUSE is not available"


class NoLoopError(PlatformError):
    """No loop device is available."""

    exit_code = 46
    summary = "no loop device is available"


class NoKernelNbdError(PlatformError):
    """The kernel has no NBD client."""

    exit_code = 47
    summary = "the kernel has no NBD client"


class NoPermissionError(PlatformError):
    """The operation needs rights that the caller does not have."""

    exit_code = 48
    summary = "permission denied"


class NotOpenError(PlatformError):
    """No open volume has this name."""

    exit_code = 49
    summary = "no open volume has this name"


class UnavailableError(PlatformError):
    """The machine or this version lacks a feature that was asked for."""

    exit_code = 50
    summary = "a feature that was asked for is not available"


class DiskError(PlatformError):
    """Reading or writing the image failed."""

    exit_code = 51
    summary = "reading or writing the image failed"


class SelftestError(PlatformError):
    """A known-answer test failed: this machine must not be trusted with keys."""

    exit_code = 52
    summary = "a self test failed"


class OutputError(PlatformError):
    """The command did what it was asked for, and standard output does not take its result."""

    exit_code = 53
    summary = "done, and standard output cannot be written"


class UnflushedError(PlatformError):
    """The volume is closed, but a write or the last flush failed: written data may be lost."""

    exit_code = 56
    summary = "closed, but written data may be lost"


# --- the other side of the boundary ---------------------------------------------------------------


class BoundaryError(StrongroomError):
    """Enclave and host do not understand each other, or one of them broke the rules."""

    exit_code = 60
    summary = "the enclave's boundary was violated"


class EnclaveGoneError(BoundaryError):
    """The enclave ended before it answered; its keys went with it."""

    exit_code = 61
    summary = "the enclave ended unexpectedly"


class NotAnsweringError(BoundaryError):
    """The enclave, or a volume's host process, lives and does not answer in time."""

    exit_code = 62
    summary = "the enclave or a host process does not answer"


# --- who the enclave is ---------------------------------------------------------------------------


class IdentityError(StrongroomError):
    """The enclave is not the one that was expected."""

    exit_code = 70
    summary = "the enclave is not the one that was expected"


class ReportError(IdentityError):
    """An enclave's report is malformed, of another platform or start, or not about this message."""

    exit_code = 71
    summary = "an enclave's report is not genuine"


class TeeError(IdentityError):
    """The TEE provider cannot say who this enclave is, or lacks its state."""

    exit_code = 72
    summary = "the TEE provider does not work here"


# --- the TPM --------------------------------------------------------------------------------------


class TpmError(StrongroomError):
    """The TPM refused a command. Its refusals are not authenticated: anybody on its wire can.

    Attributes:
        code: The ``TPM_RC`` of a refusal, 0 for everything else. It stays on this side of the
            boundary.
    """

    exit_code = 80
    summary = "the TPM refused"

    def __init__(self, message: str, *, hint: str = "", code: int = 0) -> None:
        super().__init__(message, hint=hint)
        self.code = code


class TpmTransportError(TpmError):
    """The TPM cannot be reached, or did not answer in time."""

    exit_code = 81
    summary = "the TPM cannot be reached"


class TpmTamperedError(TpmError):
    """What came from the TPM is malformed, or is not what the TPM answered to this command."""

    exit_code = 82
    summary = "the TPM's wire was tampered with"


class TpmChangedError(TpmError):
    """It is not the TPM that was enrolled, or that one was cleared or reset."""

    exit_code = 83
    summary = "not the TPM that was enrolled"


class TpmUntrustedError(TpmError):
    """No maker whom the operator trusts vouches for the TPM."""

    exit_code = 84
    summary = "no trusted certificate vouches for the TPM"


class CancelledError(StrongroomError):
    """The operator interrupted the command."""

    exit_code = 130
    summary = "interrupted"
