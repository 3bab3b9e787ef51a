# SPDX-License-Identifier: Apache-2.0
"""``strongroom tpm seal``, ``unseal`` and ``quote``."""

from __future__ import annotations

import os
from contextlib import ExitStack
from typing import TYPE_CHECKING, Final, Unpack

import click

from strongroom.cli.arguments import FilePath, json_option
from strongroom.cli.commands.tpm.options import (
    TPM_EXITS,
    AuthOptions,
    TpmOptions,
    auth_of,
    auth_options,
    bank_option,
    choice_of,
    each_once,
    tpm_options,
    write_output,
)
from strongroom.cli.commands.tpm.secret_file import SEALED_DATA, SecretFile
from strongroom.cli.new_file import new_file
from strongroom.cli.tree import command
from strongroom.errors import FormatError, UsageError

if TYPE_CHECKING:
    from pathlib import Path

    from strongroom.cli.session import Session
    from strongroom.host.tpm.results import Auth, Bank, QuoteResult, SealedResult

_MAX_QUALIFYING_BYTES = 32

pcr_option = click.option(
    "--pcr",
    "pcrs",
    metavar="N",
    type=click.IntRange(0, 23),
    multiple=True,
    callback=each_once,
    help="A PCR; may be given several times.",
)


@command(
    "seal",
    examples=(
        "strongroom tpm seal --data-file secret --protected --pcr 7 --output out",
        "strongroom tpm seal --data-file - --auth-file value --output out < secret",
    ),
    exits=TPM_EXITS,
)
@click.option(
    "--data-file",
    metavar="FILE",
    required=True,
    type=click.Path(path_type=str),
    help="What to seal is in FILE, at most 128 bytes; - is standard input. One trailing newline is "
    "dropped.",
)
@click.option(
    "--output", metavar="FILE", required=True, type=FilePath(), help="Where the sealed data goes."
)
@pcr_option
@bank_option
@auth_options
@tpm_options
@json_option
def seal_command(
    session: Session,
    *,
    data_file: str,
    output: Path,
    pcrs: tuple[int, ...],
    bank: Bank,
    **options: Unpack[AuthOptions],
) -> None:
    """Seal data such that only this TPM opens it.

    With --pcr only while the PCRs are as they are now; with --protected only from this enclave.
    """
    from strongroom.host.tpm.sealed_file import encode_sealed  # noqa: PLC0415 - only this command
    from strongroom.host.tpm.using import using  # noqa: PLC0415

    auth = auth_of(options, data_file=data_file)
    chosen = tuple(sorted(set(pcrs)))
    with new_file(output) as file, session.reporter() as report:
        with using(choice_of(options), report) as tpm:
            sealed = tpm.seal(SecretFile(data_file, SEALED_DATA), auth, bank, chosen)
        os.write(file, encode_sealed(sealed))
    session.show(
        {"output": str(output), "bank": bank, "pcrs": chosen, "protection": sealed.protection},
        f"sealed into {output}",
        done=f"{output} is written",
    )


@command(
    "unseal",
    examples=(
        "strongroom tpm unseal sealed.json --protected --output secret",
        "strongroom tpm unseal sealed.json --auth-file value --output secret",
    ),
    exits=(FormatError, *TPM_EXITS),
)
@click.argument("sealed", metavar="FILE", type=FilePath())
@click.option(
    "--output", metavar="FILE", type=FilePath(), help="Write the data to FILE, a new one."
)
@auth_options
@tpm_options
@json_option
def unseal_command(
    session: Session,
    *,
    sealed: Path,
    output: Path | None,
    **options: Unpack[AuthOptions],
) -> None:
    """Open sealed data.

    The file says how the data was sealed, and others may have exchanged the file: any program that
    can use the TPM can seal data without --protected. With --protected only data that this enclave
    sealed with --protected is opened.
    """
    from strongroom.host.tpm.sealed_file import read_sealed  # noqa: PLC0415 - only this command
    from strongroom.host.tpm.using import using  # noqa: PLC0415

    found = read_sealed(sealed)
    auth = _auth_for(found, options)
    with session.reporter() as report, using(choice_of(options), report) as tpm:
        if auth.protection == "none":
            report.notice("any program that can use this TPM could have sealed this data")
        write_output(session, output, lambda fd: tpm.unseal(found, auth, fd))
    if output is not None:
        session.show({"output": str(output)}, f"wrote {output}", done=f"{output} is written")


@command(
    "quote",
    examples=(
        "strongroom tpm quote --pcr 0 --pcr 7 --qualifying-data 1f2e3d --json",
        "strongroom tpm quote --message message --signature signature --public key",
    ),
    exits=TPM_EXITS,
)
@pcr_option
@bank_option
@click.option(
    "--qualifying-data",
    metavar="HEX",
    default="",
    help="At most 32 bytes from the verifier, which make the quote a fresh one.",
)
@click.option("--message", metavar="FILE", type=FilePath(), help="Write what was signed to FILE.")
@click.option("--signature", metavar="FILE", type=FilePath(), help="Write the signature to FILE.")
@click.option("--public", metavar="FILE", type=FilePath(), help="Write the public key to FILE.")
@tpm_options
@json_option
def quote_command(
    session: Session,
    *,
    pcrs: tuple[int, ...],
    bank: Bank,
    qualifying_data: str,
    message: Path | None,
    signature: Path | None,
    public: Path | None,
    **options: Unpack[TpmOptions],
) -> None:
    """Have PCRs signed by the attestation key.

    Those that are named, or all. The files are those of tpm2_checkquote.
    """
    from strongroom.host.tpm.using import using  # noqa: PLC0415

    asked, chosen = _qualifying(qualifying_data), pcrs or tuple(range(24))
    with ExitStack() as files, session.reporter() as report:
        places = [
            None if path is None else files.enter_context(new_file(path))
            for path in (message, signature, public)
        ]
        with using(choice_of(options), report) as tpm:
            quote = tpm.quote(bank, chosen, asked)
        for place, content in zip(places, _parts(quote), strict=True):
            if place is not None:
                os.write(place, content)
        if not session.json and (message is None or signature is None):
            report.notice(
                "the signature was not kept: --message, --signature and --public FILE keep it, and "
                "--json prints it"
            )
    session.show(quote, "\n".join(f"{pcr:>2}  {value}" for pcr, value in quote.pcrs.items()))


def _parts(quote: QuoteResult) -> tuple[bytes, bytes, bytes]:
    """Return message, signature and public key as tpm2-tools write them."""
    public = bytes.fromhex(quote.signer)
    return (
        bytes.fromhex(quote.attested),
        bytes.fromhex(quote.signature),
        len(public).to_bytes(2, "big") + public,
    )


def _qualifying(text: str) -> bytes:
    try:
        content = bytes.fromhex(text)
    except ValueError:
        raise UsageError(f"not hexadecimal: {text[:70]}") from None
    if len(content) > _MAX_QUALIFYING_BYTES:
        raise UsageError(f"more than {_MAX_QUALIFYING_BYTES} bytes of qualifying data")
    return content


def _auth_for(sealed: SealedResult, options: AuthOptions) -> Auth:
    """Return what opens sealed data: the file's word is taken only where the operator gave none.

    Raises:
        FormatError: The file says that another protection was used than the operator says.
        UsageError: It needs a value, and none was given.
    """
    from strongroom.host.tpm.results import Auth  # noqa: PLC0415

    given = auth_of(options)
    if given.protection == "none":
        if sealed.protection == "password":
            raise UsageError(
                "the data was sealed with an authorization value", hint="give --auth-file FILE"
            )
        return Auth(sealed.protection)
    if given.protection != sealed.protection:
        raise FormatError(
            f"the data was sealed {_SEALED[sealed.protection]}, "
            f"and not {_SEALED[given.protection]}",
            hint="the file may have been exchanged: do not use what is in it",
        )
    return given


_SEALED: Final = {
    "enclave": "with --protected",
    "password": "with --auth-file",
    "none": "without --protected and --auth-file",
}
"""By :data:`strongroom.host.tpm.results.Protection`."""
