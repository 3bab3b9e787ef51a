# SPDX-License-Identifier: Apache-2.0
"""``strongroom serve``: open a volume in the foreground."""

import sys
from typing import Unpack

import click

from strongroom.cli.arguments import (
    AttachOptions,
    ImageOptions,
    PassphraseOptions,
    UnlockingOptions,
    attach_options,
    boundary_option,
    header_option,
    image_argument,
    new_name_argument,
    passphrase_option,
    tried_keyslot_option,
    unlocking_options,
)
from strongroom.cli.commands._keys import IMAGE_EXITS, UNLOCKING_EXITS
from strongroom.cli.session import Session
from strongroom.cli.tree import command
from strongroom.errors import (
    AlreadyOpenError,
    UsageError,
)
from strongroom.host.contracts import ImageReference, OpenRequest, Transport


class ServeOptions(ImageOptions, AttachOptions, UnlockingOptions, PassphraseOptions):
    """What the command line gives to ``serve``."""

    name: str
    boundary: Transport
    wait_for_key: bool
    keyslot: int | None


@command(
    "serve",
    examples=(
        "strongroom serve vault.img vault --wait-for-key",
        "strongroom serve vault.img vault --passphrase-file /run/vault/key",
    ),
    exits=(*IMAGE_EXITS, *UNLOCKING_EXITS, AlreadyOpenError),
)
@image_argument
@new_name_argument
@click.option(
    "--wait-for-key",
    is_flag=True,
    help="Ask for nothing; wait until 'strongroom setkey NAME' hands over the passphrase.",
)
@attach_options
@header_option
@unlocking_options
@boundary_option
@passphrase_option
@tried_keyslot_option
def serve_command(session: Session, **options: Unpack[ServeOptions]) -> None:
    """Open a volume and stay in the foreground.

    The same as 'open', for systemd and containers. The volume is closed by SIGTERM, by SIGINT, or
    by 'strongroom close NAME'. This process never holds the passphrase: a short-lived 'strongroom
    setkey' reads it and seals it to the enclave.
    """
    named = [option for option, value in _key_files(options) if value is not None]
    if len(named) > 1 or (named and options["wait_for_key"]):
        first = "--wait-for-key" if options["wait_for_key"] else named.pop(0)
        raise UsageError(
            f"{first} and {named[0]} exclude each other",
            hint="give one file to `strongroom setkey NAME --passphrase-file FILE`",
        )
    if options["wait_for_key"] and options["keyslot"] is not None:
        raise UsageError(
            "--wait-for-key and --keyslot exclude each other",
            hint="give the number to `strongroom setkey NAME --keyslot N`",
        )
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
    waits = options["wait_for_key"]
    command_line = None if waits else key_command(options)
    with session.reporter() as report:
        code = session.volumes.serve_volume(
            request, report, wait_for_key=waits, key_command=command_line
        )
    click.get_current_context().exit(code)


def key_command(options: ServeOptions) -> tuple[str, ...]:
    """Return the command that hands over the passphrase; it inherits standard input.

    ``-I`` keeps Python from importing modules that the current directory or a variable names.
    """
    source = [f"{option}={file}" for option, file in _key_files(options) if file is not None]
    number = options["keyslot"]
    keyslot = () if number is None else (f"--keyslot={number}",)
    accept = ("--accept-header-change",) if options["accept_header_change"] else ()
    program = (sys.executable, "-I", "-m", "strongroom", "setkey")
    return (*program, *source, *accept, *keyslot, "--tee", options["tee"], options["name"])


def _key_files(options: ServeOptions) -> tuple[tuple[str, str | None], ...]:
    return (
        ("--passphrase-file", options["passphrase_file"]),
        ("--key-file", options["key_file"]),
    )
