# SPDX-License-Identifier: Apache-2.0
"""``strongroom setkey``: hand a passphrase to a volume that waits for it."""

from strongroom.cli.arguments import json_option, open_name_argument, passphrase_option
from strongroom.cli.commands.open import open_words
from strongroom.cli.passphrase import passphrase_source
from strongroom.cli.session import Session
from strongroom.cli.tree import command
from strongroom.errors import (
    EmptyPassphraseError,
    NotOpenError,
    PassphraseInputError,
    WrongPassphraseError,
)


@command(
    "setkey",
    examples=(
        "strongroom setkey vault",
        "pass show vault | strongroom setkey vault --passphrase-file -",
    ),
    exits=(WrongPassphraseError, EmptyPassphraseError, PassphraseInputError, NotOpenError),
)
@open_name_argument
@passphrase_option
@json_option
def setkey_command(session: Session, *, name: str, passphrase_file: str | None) -> None:
    """Hand the passphrase to the volume NAME, which waits for it.

    The passphrase is sealed to the enclave that serves NAME; no other process can read it.
    """
    with session.reporter() as report:
        source = passphrase_source(passphrase_file, report.pause)
        result = session.volumes.set_key(name, source, report)
        for notice in result.notices:
            report.notice(notice)
    session.show(result, open_words(result))
