# SPDX-License-Identifier: Apache-2.0
"""What the commands about a TPM have in common: their options, and what those mean."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, TypedDict

import click

from strongroom.cli.arguments import FilePath, Function, tee_option
from strongroom.cli.commands.tpm.secret_file import AUTHORIZATION, SecretFile
from strongroom.cli.new_file import new_file
from strongroom.cli.passphrase import refuse_shared_input
from strongroom.errors import (
    NoSpaceError,
    TpmChangedError,
    TpmError,
    TpmTamperedError,
    TpmTransportError,
    UnavailableError,
    UsageError,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from strongroom.cli.session import Session
    from strongroom.host.contracts import TeeName
    from strongroom.host.tpm.results import Auth, Place, TpmChoice


class TpmOptions(TypedDict):
    """What every command about a TPM is given."""

    tpm: str
    place: Place
    tpm_trace: Path | None
    tpm_timeout: int | None
    tee: TeeName


class AuthOptions(TpmOptions):
    """What a command about a protected thing is given."""

    auth_file: str | None
    protection: str | None


TPM_EXITS = (
    NoSpaceError,
    UnavailableError,
    TpmError,
    TpmTransportError,
    TpmTamperedError,
    TpmChangedError,
)


def tpm_options(function: Function) -> Function:
    """Add the options that say which TPM, and from where it is used."""
    for option in reversed(
        (
            click.option(
                "--tpm",
                metavar="TCTI",
                default="device:/dev/tpmrm0",
                show_default=True,
                help="Which TPM, as in tpm2-tools: device:/dev/tpmrm0, swtpm:path=SOCKET, "
                "swtpm:host=H,port=P, mssim:host=H,port=P, tabrmd:.",
            ),
            click.option(
                "--in",
                "place",
                type=click.Choice(("enclave", "host")),
                default="enclave",
                show_default=True,
                help="Who uses it. The host does it without protection, for comparison.",
            ),
            click.option(
                "--tpm-trace",
                metavar="FILE",
                type=FilePath(),
                help="Record all that is carried, as a pcap file for Wireshark.",
            ),
            click.option(
                "--tpm-timeout",
                metavar="SECONDS",
                type=click.IntRange(1, 310),
                help="Wait at most so long for each answer of the TPM. The default is 130 seconds, "
                "and 310 for commands that may make keys.",
            ),
            tee_option,
            click.option(
                "--simulate", "tee", flag_value="process", help="The same as --tee process."
            ),
        )
    ):
        function = option(function)
    return function


auth_file_option = click.option(
    "--auth-file",
    metavar="FILE",
    type=click.Path(path_type=str),
    help="The authorization value is in FILE, at most 32 bytes; - is standard input. One trailing "
    "newline is dropped. The TPM counts wrong values, and locks itself after some.",
)
"""What a thing is protected by."""


protected_option = click.option(
    "--protected",
    "protection",
    flag_value="enclave",
    help="The authorization value is one that this enclave derives for itself alone.",
)


def auth_options(function: Function) -> Function:
    """Add the options that say what protects an index."""
    return auth_file_option(protected_option(function))


def each_once(
    _context: click.Context, _parameter: click.Parameter, values: tuple[int, ...]
) -> tuple[int, ...]:
    """Return what was given without what was given before: click's callback for several values."""
    return tuple(dict.fromkeys(values))


index_argument = click.argument("index", metavar="INDEX", type=str)


bank_option = click.option(
    "--bank",
    type=click.Choice(("sha1", "sha256", "sha384", "sha512")),
    default="sha256",
    show_default=True,
    help="The bank of PCRs.",
)
"""Which PCRs are meant."""


def auth_of(options: AuthOptions, *, data_file: str | None = None) -> Auth:
    """Return what protects a thing.

    Args:
        options: What the command was given.
        data_file: Where the command reads something else.

    Raises:
        UsageError: Two things are to protect it, or both come from standard input.
    """
    from strongroom.host.tpm.results import Auth  # noqa: PLC0415

    refuse_shared_input(
        data_file,
        options["auth_file"],
        called="of the data and the authorization value",
        remedy="put the other one into a file",
    )
    if options["auth_file"] is not None:
        if options["protection"] is not None:
            raise UsageError(
                "an authorization value is given or derived, not both",
                hint="leave out --auth-file or --protected",
            )
        return Auth("password", SecretFile(options["auth_file"], AUTHORIZATION))
    return Auth("enclave" if options["protection"] else "none")


def choice_of(options: TpmOptions) -> TpmChoice:
    """Return which TPM is to be used, and by whom.

    Raises:
        UsageError: The host is to use it, in an enclave.
    """
    from strongroom.host.tpm.results import TpmChoice  # noqa: PLC0415

    if options["place"] == "host" and options["tee"] != "process":
        raise UsageError(
            f"the host uses a TPM without an enclave: --tee {options['tee']} means nothing then",
            hint="leave out --tee or --in host",
        )

    return TpmChoice(
        options["tpm"],
        options["place"],
        options["tpm_trace"],
        options["tee"],
        options["tpm_timeout"],
    )


def write_output(session: Session, path: Path | None, write: Callable[[int], None]) -> None:
    """Have bytes written to a new file, or to standard output.

    Raises:
        UsageError: A terminal or a line of JSON would have to hold them, or the file exists.
    """
    if path is not None:
        with new_file(path) as descriptor:
            write(descriptor)
        return
    if session.json or sys.stdout is None or sys.stdout.isatty():
        raise UsageError("bytes need somewhere to go", hint="name a file with --output")
    sys.stdout.flush()
    write(sys.stdout.fileno())
