# SPDX-License-Identifier: Apache-2.0
"""``strongroom format``: make a volume."""

import contextlib
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Unpack

import click

from strongroom.cli.arguments import (
    ImageOptions,
    KdfOptions,
    PassphraseOptions,
    Size,
    header_option,
    image_argument,
    json_option,
    kdf_options,
    passphrase_option,
    recovery_file_option,
    seal_policy_option,
    tee_option,
)
from strongroom.cli.commands._keys import kdf_choice, kdf_words, parse_factors, slot_words
from strongroom.cli.commands.reseal import enrolment_words
from strongroom.cli.output import pairs
from strongroom.cli.passphrase import note_dropped_newline, passphrase_source
from strongroom.cli.progress import CommandReporter
from strongroom.cli.recovery import recovery_destination
from strongroom.cli.session import Session
from strongroom.cli.sizes import size_words
from strongroom.cli.tree import command
from strongroom.errors import (
    AlreadyOpenError,
    MountedError,
    NoSpaceError,
    PassphraseInputError,
    ReportError,
    TargetInUseError,
    TeeError,
    UsageError,
)
from strongroom.host.contracts import (
    FormatRequest,
    FormatResult,
    ImageReference,
    SealPolicy,
    TeeName,
)
from strongroom.units import ByteCount

DEFAULT_FACTORS: Final = "enclave,passphrase"
MAX_LABEL_BYTES: Final = 47
"""LUKS2 has 48 bytes for it, the last of which is zero."""


class FormatOptions(ImageOptions, KdfOptions, PassphraseOptions):
    """What the command line gives to ``format``."""

    size: ByteCount | None
    sector_size: str | None
    key_bits: str
    factors: str
    seal_policy: SealPolicy
    tee: TeeName
    label: str
    sparse: bool
    force: bool
    recovery_key_file: Path | None
    no_recovery: bool


@command(
    "format",
    examples=(
        "strongroom format vault.img --size 1G --recovery-key-file vault.key",
        "pass vault | strongroom format /dev/sdb1 --no-recovery --passphrase-file -",
    ),
    exits=(
        UsageError,
        PassphraseInputError,
        TargetInUseError,
        MountedError,
        AlreadyOpenError,
        NoSpaceError,
        ReportError,
        TeeError,
    ),
)
@image_argument
@click.option(
    "--size",
    metavar="SIZE",
    type=Size(),
    help="Create IMAGE with this size: bytes, or a whole number with K, M, G or T (powers of "
    "1024). Without it IMAGE must exist.",
)
@click.option(
    "--sector-size",
    type=click.Choice(("512", "1024", "2048", "4096")),
    help="Unit of encryption in bytes. Default: the largest of which the data area is a multiple.",
)
@click.option(
    "--key-bits",
    type=click.Choice(("256", "512")),
    default="512",
    show_default=True,
    help="Length of the volume key: two AES keys of half of it, for XTS.",
)
@click.option(
    "--factors",
    metavar="LIST",
    default=DEFAULT_FACTORS,
    show_default=True,
    help="What opens the volume, all of it together, separated by commas. With 'passphrase' alone "
    "stock cryptsetup opens it too, and its header is not authenticated.",
)
@seal_policy_option(default="signer")
@tee_option
@recovery_file_option
@click.option("--no-recovery", is_flag=True, help="Make no recovery key.")
@click.option("--force", is_flag=True, help="Overwrite a target that holds data.")
@click.option(
    "--label", metavar="TEXT", default="", help="A label in the header; 47 bytes at most."
)
@header_option
@click.option(
    "--sparse",
    is_flag=True,
    help="With --size, reserve no space; the image grows with use.",
)
@kdf_options
@passphrase_option
@json_option
def format_command(session: Session, **options: Unpack[FormatOptions]) -> None:
    """Make a volume in IMAGE, a file or a block device.

    The volume is LUKS2 with AES-256-XTS. Its passphrase opens it only in the enclave of this
    account, so not of another user or of root under sudo; the header is authenticated to it. It
    also gets a recovery key, which opens it anywhere, with stock cryptsetup too. A target with a
    known signature is refused, and so is one that is mounted or open.
    """
    factors = parse_factors(options["factors"])
    check_label(options["label"])
    _check_combinations(options)
    kdf = kdf_choice(options)
    with session.reporter() as report:
        source = passphrase_source(session, options, report)
        with _recovery(options, report) as recovery_fd:
            request = FormatRequest(
                image=ImageReference(options["image"], options["header"]),
                kdf=kdf,
                size_bytes=options["size"],
                sector_size_bytes=_number(options["sector_size"]),
                key_bits=256 if options["key_bits"] == "256" else 512,
                factors=factors,
                seal_policy=options["seal_policy"],
                tee=options["tee"],
                label=options["label"],
                sparse=options["sparse"],
                force=options["force"],
                recovery_fd=recovery_fd,
            )
            result = session.volumes.format_volume(request, source, report)
        note_dropped_newline(source, result.factors, report)
    session.show(result, _words(result, request.image), done="the volume is made")


def check_label(label: str) -> None:
    """Refuse a label that does not fit into a LUKS2 header.

    Raises:
        UsageError: It is too long, not UTF-8, or has characters that cannot be seen.
    """
    if not label.isprintable():
        raise UsageError("the label has characters that cannot be printed")
    if len(label.encode()) > MAX_LABEL_BYTES:
        raise UsageError("the label is too long", hint=f"{MAX_LABEL_BYTES} bytes at most")


def _number(text: str | None) -> int | None:
    return None if text is None else int(text)


def _check_combinations(options: FormatOptions) -> None:
    if options["no_recovery"] and options["recovery_key_file"] is not None:
        raise UsageError("--no-recovery and --recovery-key-file exclude each other")
    if options["sparse"] and options["size"] is None:
        raise UsageError("--sparse needs --size", hint="an existing image keeps its shape")


@contextlib.contextmanager
def _recovery(options: FormatOptions, report: CommandReporter) -> Iterator[int | None]:
    if options["no_recovery"]:
        yield None
        return
    with recovery_destination(options["recovery_key_file"], report.pause) as descriptor:
        yield descriptor


def _backup_command(image: ImageReference) -> str:
    """Return a command that can be typed as it is."""
    words = ["strongroom", "header", "backup", str(image.path), f"{image.path.name}.header"]
    words += [] if image.header is None else ["--header", str(image.header)]
    return shlex.join(words)


def _words(result: FormatResult, image: ImageReference) -> str:
    facts = [
        ("volume", result.image),
        ("uuid", result.uuid),
        ("cipher", f"{result.cipher}, {result.key_bits}-bit key"),
        ("sectors", f"{result.sector_size_bytes} bytes"),
        ("data", f"{size_words(result.data_size_bytes)} at {size_words(result.data_offset_bytes)}"),
        ("keyslots", ", ".join(str(keyslot) for keyslot in result.keyslots)),
        ("factors", ", ".join(result.factors)),
        ("sealed to", enrolment_words(result.enrolment) if result.enrolment else "no enclave"),
        ("kdf", kdf_words(result.kdf)),
        ("recovery", slot_words(result.recovery_keyslot)),
        ("next", f"keep a header backup: {_backup_command(image)}"),
    ]
    return pairs(facts)
