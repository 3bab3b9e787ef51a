# SPDX-License-Identifier: Apache-2.0
"""``strongroom open``: open a volume in the background."""

from typing import Unpack

from strongroom.cli.arguments import (
    AttachOptions,
    ImageOptions,
    PassphraseOptions,
    UnlockingOptions,
    attach_options,
    boundary_option,
    header_option,
    image_argument,
    json_option,
    new_name_argument,
    passphrase_option,
    tried_keyslot_option,
    unlocking_options,
)
from strongroom.cli.commands._keys import IMAGE_EXITS, UNLOCKING_EXITS, unlocking
from strongroom.cli.output import pairs
from strongroom.cli.passphrase import passphrase_source
from strongroom.cli.session import Session
from strongroom.cli.sizes import size_words
from strongroom.cli.tree import command
from strongroom.errors import AlreadyOpenError, KeyslotStateError
from strongroom.host.contracts import ImageReference, OpenRequest, OpenResult, Transport


class OpenOptions(ImageOptions, AttachOptions, UnlockingOptions, PassphraseOptions):
    """What the command line gives to ``open``."""

    name: str
    boundary: Transport
    keyslot: int | None


@command(
    "open",
    examples=(
        "strongroom open vault.img vault",
        "strongroom open vault.img vault --attach none --read-only --json",
        "strongroom open /dev/nvme0n1 vault --direct",
    ),
    exits=(*IMAGE_EXITS, *UNLOCKING_EXITS, KeyslotStateError, AlreadyOpenError),
)
@image_argument
@new_name_argument
@attach_options
@header_option
@unlocking_options
@boundary_option
@passphrase_option
@tried_keyslot_option
@json_option
def open_command(session: Session, **options: Unpack[OpenOptions]) -> None:
    """Open the volume in IMAGE under NAME.

    Starts an enclave that serves the volume in the background, and returns when it is ready: as
    /dev/strongroom/NAME where the machine can attach a block device, and as an NBD socket in any
    case. A passphrase that is typed may be typed three times.
    """
    request = OpenRequest(
        image=ImageReference(options["image"], options["header"]),
        name=options["name"],
        attach=options["attach"],
        read_only=options["read_only"],
        discard=options["discard"],
        direct=options["direct"],
        structured_replies=options["structured_replies"],
        tee=options["tee"],
        transport=options["boundary"],
    )
    with session.reporter() as report:
        source = passphrase_source(session, options, report)
        result = session.volumes.open_volume(
            request, source, report, how=unlocking(options, keyslot=options["keyslot"])
        )
    session.show(result, open_words(result), done="the volume is open")


def open_words(result: OpenResult) -> str:
    """Return an open volume for people."""
    why = "" if result.device else f": {result.attach_reason}"
    return pairs(
        [
            ("name", result.name),
            ("image", result.image + (", read-only" if result.read_only else "")),
            ("device", f"{result.device or 'none'} ({result.attach}{why})"),
            ("uri", result.uri),
            ("size", size_words(result.size_bytes)),
            ("keyslot", str(result.keyslot)),
            ("header", header_words(result)),
        ]
    )


def header_words(result: OpenResult) -> str:
    """Return whether an open volume's header was authenticated."""
    return f"authenticated, epoch {result.epoch}" if result.authenticated else "not authenticated"
