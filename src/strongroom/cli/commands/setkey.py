# SPDX-License-Identifier: Apache-2.0
"""``strongroom setkey``: hand a passphrase to a volume that waits for it."""

from typing import Unpack

from strongroom.cli.arguments import (
    PassphraseOptions,
    UnlockingOptions,
    json_option,
    open_name_argument,
    passphrase_option,
    tried_keyslot_option,
    unlocking_options,
)
from strongroom.cli.commands._keys import UNLOCKING_EXITS, unlocking
from strongroom.cli.commands.open import open_words
from strongroom.cli.passphrase import passphrase_source
from strongroom.cli.session import Session
from strongroom.cli.tree import command
from strongroom.errors import NotOpenError


class SetkeyOptions(UnlockingOptions, PassphraseOptions):
    """What the command line gives to ``setkey``."""

    name: str
    keyslot: int | None


@command(
    "setkey",
    examples=(
        "strongroom setkey vault",
        "pass show vault | strongroom setkey vault --passphrase-file -",
    ),
    exits=(*UNLOCKING_EXITS, NotOpenError),
)
@open_name_argument
@unlocking_options
@passphrase_option
@tried_keyslot_option
@json_option
def setkey_command(session: Session, **options: Unpack[SetkeyOptions]) -> None:
    """Hand the passphrase to the volume NAME, which waits for it.

    The enclave that serves NAME proves first that it is the one that the volume was enrolled with.
    The passphrase is sealed to it; no other process can read it.
    """
    with session.reporter() as report:
        source = passphrase_source(session, options, report)
        how = unlocking(options, keyslot=options["keyslot"])
        result = session.volumes.set_key(options["name"], source, how, report)
        for notice in result.notices:
            report.notice(notice)
    session.show(result, open_words(result), done="the volume is open")
