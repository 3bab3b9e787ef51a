# SPDX-License-Identifier: Apache-2.0
"""``strongroom tpm nv``: indexes and counters."""

from __future__ import annotations

from typing import TYPE_CHECKING, Unpack

import click

from strongroom.cli.arguments import FilePath, json_option
from strongroom.cli.commands.tpm.options import (
    TPM_EXITS,
    AuthOptions,
    TpmOptions,
    auth_of,
    auth_options,
    choice_of,
    index_argument,
    tpm_options,
    write_output,
)
from strongroom.cli.commands.tpm.secret_file import INDEX_DATA, SecretFile
from strongroom.cli.output import pairs, table
from strongroom.cli.tree import command
from strongroom.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path

    from strongroom.cli.session import Session
    from strongroom.host.tpm.results import NvKind, NvResult


@command("list", examples=("strongroom tpm nv list --json",), exits=TPM_EXITS)
@tpm_options
@json_option
def nv_list_command(session: Session, **options: Unpack[TpmOptions]) -> None:
    """List all NV indexes, with every attribute."""
    from strongroom.host.tpm.using import using  # noqa: PLC0415

    with session.reporter() as report, using(choice_of(options), report) as tpm:
        indexes = tpm.list_nv()
    rows = [
        (item.index, item.type, str(item.size_bytes), item.hash, " ".join(item.attributes))
        for item in indexes
    ]
    header = ("INDEX", "TYPE", "BYTES", "HASH", "ATTRIBUTES")
    session.show(indexes, table(header, rows) if rows else "there is no NV index")


@command(
    "define",
    examples=(
        "strongroom tpm nv define 0x1800001 --counter --protected",
        "strongroom tpm nv define 0x1800002 --size 32 --auth-file value",
    ),
    exits=TPM_EXITS,
)
@index_argument
@click.option("--size", metavar="BYTES", type=click.IntRange(1, 2048), help="For bytes.")
@click.option("--counter", is_flag=True, help="A counter, which never goes back.")
@auth_options
@tpm_options
@json_option
def nv_define_command(
    session: Session,
    *,
    index: str,
    size: int | None,
    counter: bool,
    **options: Unpack[AuthOptions],
) -> None:
    """Make an NV index: for bytes, or a counter."""
    from strongroom.host.tpm.using import using  # noqa: PLC0415

    if counter == (size is not None):
        raise UsageError("an index has a size or is a counter", hint="give --size or --counter")
    kind: NvKind = "counter" if counter else "ordinary"
    number, auth = nv_index(index), auth_of(options)
    with session.reporter() as report, using(choice_of(options), report) as tpm:
        made = tpm.define_nv(number, kind, size or 0, auth)
    session.show(made, _nv_words(made), done=f"the index {made.index} is made")


@command("undefine", examples=("strongroom tpm nv undefine 0x1800002",), exits=TPM_EXITS)
@index_argument
@tpm_options
@json_option
def nv_undefine_command(session: Session, *, index: str, **options: Unpack[TpmOptions]) -> None:
    """Remove an NV index, and what is in it."""
    from strongroom.host.tpm.using import using  # noqa: PLC0415

    number = nv_index(index)
    with session.reporter() as report, using(choice_of(options), report) as tpm:
        tpm.undefine_nv(number)
    session.show(
        {"index": f"{number:#010x}"},
        f"removed {number:#010x}",
        done=f"the index {number:#010x} is removed",
    )


@command(
    "write",
    examples=("strongroom tpm nv write 0x1800002 --data-file secret --auth-file value",),
    exits=TPM_EXITS,
)
@index_argument
@click.option(
    "--data-file",
    metavar="FILE",
    required=True,
    type=click.Path(path_type=str),
    help="What to write is in FILE, at most 2048 bytes; - is standard input. One trailing newline "
    "is dropped.",
)
@click.option(
    "--offset",
    metavar="BYTES",
    type=click.IntRange(0, 2047),
    default=0,
    help="Where in the index to begin.",
)
@auth_options
@tpm_options
@json_option
def nv_write_command(
    session: Session, *, index: str, data_file: str, offset: int, **options: Unpack[AuthOptions]
) -> None:
    """Write bytes into an NV index."""
    from strongroom.host.tpm.using import using  # noqa: PLC0415

    number, auth = nv_index(index), auth_of(options, data_file=data_file)
    with session.reporter() as report, using(choice_of(options), report) as tpm:
        tpm.write_nv(number, offset, SecretFile(data_file, INDEX_DATA), auth)
    session.show(
        {"index": f"{number:#010x}"},
        f"wrote {number:#010x}",
        done=f"the index {number:#010x} is written",
    )


@command(
    "read",
    examples=(
        "strongroom tpm nv read 0x1800002 --auth-file value --output secret",
        "strongroom tpm nv read 0x1800001 --protected --counter",
    ),
    exits=TPM_EXITS,
)
@index_argument
@click.option("--counter", is_flag=True, help="Show where a counter stands.")
@click.option(
    "--offset",
    metavar="BYTES",
    type=click.IntRange(0, 2047),
    help="Where in the index to begin; at its beginning if not given.",
)
@click.option(
    "--size",
    metavar="BYTES",
    type=click.IntRange(1, 2048),
    help="How much to read; all that follows if not given.",
)
@click.option(
    "--output", metavar="FILE", type=FilePath(), help="Write the bytes to FILE, a new one."
)
@auth_options
@tpm_options
@json_option
def nv_read_command(
    session: Session,
    *,
    index: str,
    counter: bool,
    offset: int | None,
    size: int | None,
    output: Path | None,
    **options: Unpack[AuthOptions],
) -> None:
    """Read an NV index, or a counter."""
    from strongroom.host.tpm.results import Span  # noqa: PLC0415
    from strongroom.host.tpm.using import using  # noqa: PLC0415

    if counter and (offset, size, output) != (None, None, None):
        raise UsageError(
            "a counter is shown as a number", hint="leave out --offset, --size and --output"
        )
    number, auth, span = nv_index(index), auth_of(options), Span(offset or 0, size or 0)
    with session.reporter() as report, using(choice_of(options), report) as tpm:
        if counter:
            value = tpm.read_counter(number, auth)
            session.show({"index": f"{number:#010x}", "value": value}, str(value))
            return
        write_output(session, output, lambda fd: tpm.read_nv(number, span, auth, fd))
    if output is not None:
        facts = {"index": f"{number:#010x}", "output": str(output)}
        session.show(facts, f"wrote {output}", done=f"{output} is written")


@command(
    "increment",
    examples=("strongroom tpm nv increment 0x1800001 --protected",),
    exits=TPM_EXITS,
)
@index_argument
@auth_options
@tpm_options
@json_option
def nv_increment_command(session: Session, *, index: str, **options: Unpack[AuthOptions]) -> None:
    """Count a counter one up, and show where it stands."""
    from strongroom.host.tpm.using import using  # noqa: PLC0415

    number, auth = nv_index(index), auth_of(options)
    with session.reporter() as report, using(choice_of(options), report) as tpm:
        value = tpm.increment_nv(number, auth)
    session.show(
        {"index": f"{number:#010x}", "value": value},
        str(value),
        done=f"the counter {number:#010x} is {value} now",
    )


def nv_index(text: str) -> int:
    """Return an NV index. Raises :class:`UsageError` if it is none."""
    from strongroom.tpm.nv import checked  # noqa: PLC0415

    try:
        return checked(int(text, 0))
    except ValueError:
        raise UsageError(f"not an NV index: {text}", hint="write it as 0x1800001") from None


def _nv_words(item: NvResult) -> str:
    return pairs(
        [
            ("index", item.index),
            ("type", item.type),
            ("size", f"{item.size_bytes} bytes"),
            ("attributes", " ".join(item.attributes)),
            ("name", item.name),
        ]
    )
