# SPDX-License-Identifier: Apache-2.0
"""What the command line needs of the host: the shape of :mod:`strongroom.host.volumes`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from strongroom.cli.output import JsonValue
from strongroom.host.contracts import (
    Finding,
    ForgetResult,
    FormatRequest,
    FormatResult,
    IdentityResult,
    ImageReference,
    KdfChoice,
    KeyslotResult,
    ListedVolume,
    OpenRequest,
    OpenResult,
    PassphraseSource,
    Reporter,
    ResealResult,
    SealPolicy,
    StatusResult,
    TeeName,
    Unlocking,
)


class Volumes(Protocol):
    """The operations of the host. Every one raises only :class:`StrongroomError`."""

    def format_volume(
        self, request: FormatRequest, passphrase: PassphraseSource, report: Reporter, /
    ) -> FormatResult:
        """Make a volume."""

    def open_volume(
        self,
        request: OpenRequest,
        passphrase: PassphraseSource,
        report: Reporter,
        /,
        *,
        how: Unlocking,
    ) -> OpenResult:
        """Open a volume in the background; return when it is ready."""

    def serve_volume(
        self,
        request: OpenRequest,
        report: Reporter,
        /,
        *,
        wait_for_key: bool,
        key_command: tuple[str, ...] | None,
    ) -> int:
        """Serve a volume in this process until it is closed; return the exit code.

        ``key_command`` is run once the enclave listens: it hands over the passphrase.
        """

    def set_key(
        self, name: str, passphrase: PassphraseSource, how: Unlocking, report: Reporter, /
    ) -> OpenResult:
        """Hand a passphrase to a volume that waits for it."""

    def close_volume(self, name: str, /, *, force: bool, report: Reporter) -> None:
        """Flush, detach and erase the keys."""

    def list_volumes(self, report: Reporter, /) -> tuple[ListedVolume, ...]:
        """Name the open volumes."""

    def status(self, name: str, report: Reporter, /) -> StatusResult:
        """Tell everything about an open volume that is not secret."""

    def dump(
        self, image: ImageReference, report: Reporter, /, *, tee: TeeName
    ) -> Mapping[str, JsonValue]:
        """Tell what a header says."""

    def list_keyslots(
        self, image: ImageReference, report: Reporter, /, *, tee: TeeName
    ) -> tuple[KeyslotResult, ...]:
        """Name the keyslots of an image."""

    def add_keyslot(  # noqa: PLR0913 - the host's signature
        self,
        image: ImageReference,
        existing: PassphraseSource,
        new: PassphraseSource | None,
        report: Reporter,
        /,
        *,
        how: Unlocking,
        kdf: KdfChoice,
        factors: tuple[str, ...] | None,
        keyslot: int | None,
        recovery_fd: int | None,
    ) -> KeyslotResult:
        """Add a passphrase, or a recovery key when ``recovery_fd`` is given."""

    def change_keyslot(
        self,
        image: ImageReference,
        existing: PassphraseSource,
        new: PassphraseSource,
        report: Reporter,
        /,
        *,
        how: Unlocking,
        kdf: KdfChoice,
        keyslot: int | None,
    ) -> KeyslotResult:
        """Replace the passphrase of the keyslot that ``existing`` opens."""

    def remove_keyslot(
        self,
        image: ImageReference,
        existing: PassphraseSource,
        report: Reporter,
        /,
        *,
        how: Unlocking,
        keyslot: int,
    ) -> None:
        """Erase a keyslot, never the last way in."""

    def identity(
        self, report: Reporter, /, *, tee: TeeName, python: Path | None, expect: Path | None
    ) -> IdentityResult:
        """Tell who an enclave is, and fail unless it is the expected one."""

    def forget(
        self,
        volume: str,
        report: Reporter,
        /,
        *,
        header: Path | None,
        tee: TeeName,
        everything: bool,
    ) -> ForgetResult:
        """Let the next enclave of a volume be trusted anew."""

    def reseal(
        self,
        image: ImageReference,
        passphrase: PassphraseSource,
        report: Reporter,
        /,
        *,
        how: Unlocking,
        policy: SealPolicy | None,
        successor: Path | None,
        adopt: bool,
    ) -> ResealResult:
        """Seal a volume to another enclave."""

    def backup_header(
        self, image: ImageReference, file: Path, report: Reporter, /, *, tee: TeeName
    ) -> Mapping[str, JsonValue]:
        """Write the header to a new file."""

    def restore_header(
        self,
        image: ImageReference,
        file: Path,
        report: Reporter,
        /,
        *,
        tee: TeeName,
        force: bool,
    ) -> Mapping[str, JsonValue]:
        """Put a backed-up header back, unless it is older or foreign."""

    def selftest(self, *, tee: TeeName) -> tuple[tuple[str, bool], ...]:
        """Run the known-answer tests inside an enclave."""

    def doctor(self, python: Path | None, report: Reporter, /) -> tuple[Finding, ...]:
        """Look at what this machine gives and lacks, and at what an upgrade would lock."""
