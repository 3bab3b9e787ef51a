# SPDX-License-Identifier: Apache-2.0
"""``strongroom slot``: the keyslots of a volume, each of which opens it."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Unpack

import click

from strongroom.cli.arguments import (
    ImageOptions,
    KdfOptions,
    NewPassphraseOptions,
    PassphraseOptions,
    UnlockingOptions,
    header_option,
    image_argument,
    json_option,
    kdf_options,
    keyslot_option,
    new_passphrase_option,
    passphrase_option,
    recovery_file_option,
    tee_option,
    unlocking_options,
)
from strongroom.cli.commands._keys import (
    IMAGE_EXITS,
    UNLOCKING_EXITS,
    kdf_choice,
    kdf_words,
    parse_factors,
    unlocking,
)
from strongroom.cli.output import pairs, table
from strongroom.cli.passphrase import (
    new_passphrase_source,
    note_dropped_newline,
    passphrase_source,
    refuse_shared_input,
)
from strongroom.cli.progress import CommandReporter
from strongroom.cli.recovery import recovery_destination
from strongroom.cli.session import Session
from strongroom.cli.sizes import size_words
from strongroom.cli.tree import Group, command
from strongroom.errors import (
    KeyslotStateError,
    LastWayInError,
    UnknownTokenError,
    UsageError,
)
from strongroom.host.contracts import ImageReference, KeyslotResult, TeeName

slot_group = Group(
    "slot",
    about="""Manage the keyslots of a volume.

    Each keyslot opens the volume with its own passphrase or recovery key. The last way in is never
    removed.
    """,
    places={
        name: f"strongroom.cli.commands.slot:{name}_command"
        for name in ("list", "add", "change", "remove")
    },
    options=(),
)


class ChangeOptions(
    ImageOptions, KdfOptions, UnlockingOptions, PassphraseOptions, NewPassphraseOptions
):
    """What the command line gives to ``slot change``."""

    keyslot: int | None


class AddOptions(ChangeOptions):
    """What the command line gives to ``slot add``."""

    recovery: bool
    factors: str | None
    recovery_key_file: Path | None


class RemoveOptions(ImageOptions, UnlockingOptions, PassphraseOptions):
    """What the command line gives to ``slot remove``."""

    keyslot: int


@command("list", examples=("strongroom slot list vault.img",), exits=IMAGE_EXITS)
@image_argument
@header_option
@tee_option
@json_option
def list_command(session: Session, *, image: Path, header: Path | None, tee: TeeName) -> None:
    """List the keyslots of IMAGE.

    Each with its kind and with how it derives its key. A header that was tampered with is named on
    standard error.
    """
    with session.reporter() as report:
        reference = ImageReference(image, header)
        keyslots = session.volumes.list_keyslots(reference, report, tee=tee)
    rows = [
        (
            str(keyslot.keyslot),
            keyslot.kind + (", not used" if keyslot.problem else ""),
            ", ".join(keyslot.factors) or "-",
            keyslot.priority,
            f"{keyslot.cipher}, {keyslot.key_bits} bits",
            kdf_words(keyslot.kdf),
        )
        for keyslot in keyslots
    ]
    header_row = ("KEYSLOT", "KIND", "FACTORS", "PRIORITY", "CIPHER", "KDF")
    session.show(keyslots, table(header_row, rows) if rows else "no keyslot is in use")


@command(
    "add",
    examples=(
        "strongroom slot add vault.img",
        "strongroom slot add vault.img --recovery --recovery-key-file vault.key",
    ),
    exits=(*IMAGE_EXITS, *UNLOCKING_EXITS, KeyslotStateError),
)
@image_argument
@keyslot_option(required=False, about="The keyslot to fill, 0 to 31. Default: the first free one.")
@click.option("--recovery", is_flag=True, help="Add a recovery key instead of a passphrase.")
@click.option(
    "--factors",
    metavar="LIST",
    help="What opens the new keyslot, separated by commas: enclave,passphrase or passphrase. "
    "Default: the enclave too, where the volume is sealed to one.",
)
@recovery_file_option
@header_option
@kdf_options
@unlocking_options
@passphrase_option
@new_passphrase_option
@json_option
def add_command(session: Session, **options: Unpack[AddOptions]) -> None:
    """Add a passphrase, or a recovery key, to IMAGE.

    An existing passphrase or recovery key is asked for first.
    """
    _check_add(options)
    kdf = kdf_choice(options)
    factors = None if options["factors"] is None else parse_factors(options["factors"])
    with session.reporter() as report:
        existing = passphrase_source(session, options, report)
        new = None if options["recovery"] else new_passphrase_source(options, report)
        with _recovery(options, report) as recovery_fd:
            result = session.volumes.add_keyslot(
                ImageReference(options["image"], options["header"]),
                existing,
                new,
                report,
                how=unlocking(options),
                kdf=kdf,
                factors=factors,
                keyslot=options["keyslot"],
                recovery_fd=recovery_fd,
            )
        if new is not None:
            note_dropped_newline(new, result.factors, report)
    session.show(result, _words(result), done=f"keyslot {result.keyslot} was added")


@command(
    "change",
    examples=("strongroom slot change vault.img",),
    exits=(*IMAGE_EXITS, *UNLOCKING_EXITS, KeyslotStateError, UnknownTokenError),
)
@image_argument
@keyslot_option(
    required=False, about="The keyslot to change, 0 to 31. Default: the one that opens."
)
@header_option
@kdf_options
@unlocking_options
@passphrase_option
@new_passphrase_option
@json_option
def change_command(session: Session, **options: Unpack[ChangeOptions]) -> None:
    """Replace a passphrase of IMAGE by a new one.

    The old passphrase opens nothing afterwards, unless somebody kept a copy of the old header.
    """
    _refuse_shared_input(options)
    with session.reporter() as report:
        new = new_passphrase_source(options, report)
        result = session.volumes.change_keyslot(
            ImageReference(options["image"], options["header"]),
            passphrase_source(session, options, report),
            new,
            report,
            how=unlocking(options),
            kdf=kdf_choice(options),
            keyslot=options["keyslot"],
        )
        note_dropped_newline(new, result.factors, report)
    session.show(result, _words(result), done=f"keyslot {result.keyslot} was changed")


@command(
    "remove",
    examples=("strongroom slot remove vault.img --keyslot 2",),
    exits=(
        *IMAGE_EXITS,
        *UNLOCKING_EXITS,
        LastWayInError,
        KeyslotStateError,
        UnknownTokenError,
    ),
)
@image_argument
@keyslot_option(required=True, about="The keyslot to erase, 0 to 31.")
@header_option
@unlocking_options
@passphrase_option
@json_option
def remove_command(session: Session, **options: Unpack[RemoveOptions]) -> None:
    """Erase a keyslot of IMAGE.

    A passphrase or recovery key of another keyslot is asked for, which shows that the volume can
    still be opened afterwards. The last way in is never removed.
    """
    keyslot = options["keyslot"]
    with session.reporter() as report:
        session.volumes.remove_keyslot(
            ImageReference(options["image"], options["header"]),
            passphrase_source(session, options, report),
            report,
            how=unlocking(options),
            keyslot=keyslot,
        )
    facts = {"image": str(options["image"]), "keyslot": keyslot, "removed": True}
    session.show(facts, f"removed keyslot {keyslot}", done=f"keyslot {keyslot} was removed")


def _check_add(options: AddOptions) -> None:
    _refuse_shared_input(options)
    for option, given in (
        ("--new-passphrase-file", options["new_passphrase_file"]),
        ("--new-key-file", options["new_key_file"]),
    ):
        if options["recovery"] and given is not None:
            raise UsageError(
                f"--recovery and {option} exclude each other",
                hint="a recovery key is made, not given",
            )
    if options["recovery"] and options["factors"] is not None:
        raise UsageError(
            "--recovery and --factors exclude each other",
            hint="a recovery key opens the volume alone, and anywhere",
        )
    if options["recovery_key_file"] is not None and not options["recovery"]:
        raise UsageError("--recovery-key-file needs --recovery")


def _refuse_shared_input(options: ChangeOptions) -> None:
    refuse_shared_input(
        options["passphrase_file"] or options["key_file"],
        options["new_passphrase_file"] or options["new_key_file"],
    )


@contextlib.contextmanager
def _recovery(options: AddOptions, report: CommandReporter) -> Iterator[int | None]:
    if not options["recovery"]:
        yield None
        return
    with recovery_destination(options["recovery_key_file"], report.pause) as descriptor:
        yield descriptor


def _words(result: KeyslotResult) -> str:
    return pairs(
        [
            ("keyslot", str(result.keyslot)),
            ("kind", result.kind),
            ("factors", ", ".join(result.factors) or "none but the key"),
            ("kdf", kdf_words(result.kdf)),
            ("area", f"{size_words(result.area_size_bytes)} at {result.area_offset_bytes} bytes"),
        ]
    )
