# SPDX-License-Identifier: Apache-2.0
"""``strongroom tpm capabilities``, ``clock``, ``random`` and ``pcr``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Unpack

import click

from strongroom.cli.arguments import FilePath, json_option
from strongroom.cli.commands.tpm.options import (
    TPM_EXITS,
    TpmOptions,
    bank_option,
    choice_of,
    each_once,
    tpm_options,
    write_output,
)
from strongroom.cli.output import pairs
from strongroom.cli.tree import command
from strongroom.errors import TpmError, UsageError

if TYPE_CHECKING:
    from pathlib import Path

    from strongroom.cli.session import Session
    from strongroom.host.tpm.results import Bank


@command("capabilities", examples=("strongroom tpm capabilities",), exits=TPM_EXITS)
@tpm_options
@json_option
def capabilities_command(session: Session, **options: Unpack[TpmOptions]) -> None:
    """Show what the TPM says that it is."""
    from strongroom.host.tpm.using import using  # noqa: PLC0415

    with session.reporter() as report, using(choice_of(options), report) as tpm:
        facts = tpm.facts()
    session.show(
        facts,
        pairs(
            [
                ("family", facts.family),
                ("revision", facts.revision),
                ("manufacturer", facts.manufacturer),
                ("vendor", facts.vendor),
                ("firmware", facts.firmware),
                ("wrong authorizations", f"{facts.lockout_counter} of {facts.lockout_limit}"),
            ]
        ),
    )


@command("clock", examples=("strongroom tpm clock",), exits=TPM_EXITS)
@tpm_options
@json_option
def clock_command(session: Session, **options: Unpack[TpmOptions]) -> None:
    """Show the TPM's times and counters."""
    from strongroom.host.tpm.using import using  # noqa: PLC0415

    with session.reporter() as report, using(choice_of(options), report) as tpm:
        clock = tpm.clock()
    session.show(
        clock,
        pairs(
            [
                ("time", f"{clock.time_milliseconds} ms"),
                ("clock", f"{clock.clock_milliseconds} ms"),
                ("resets", str(clock.reset_count)),
                ("restarts", str(clock.restart_count)),
                ("safe", "yes" if clock.safe else "no"),
            ]
        ),
    )


@command("random", examples=("strongroom tpm random 32 --output key",), exits=TPM_EXITS)
@click.argument("size", metavar="BYTES", type=click.IntRange(1, 4096))
@click.option("--output", metavar="FILE", type=FilePath(), help="Write them to FILE, a new one.")
@tpm_options
@json_option
def random_command(
    session: Session, *, size: int, output: Path | None, **options: Unpack[TpmOptions]
) -> None:
    """Give random bytes of the TPM."""
    from strongroom.host.tpm.using import using  # noqa: PLC0415

    with session.reporter() as report, using(choice_of(options), report) as tpm:
        write_output(session, output, lambda fd: tpm.random(size, fd))
    if output is not None:
        session.show(
            {"output": str(output), "size_bytes": size},
            f"wrote {output}",
            done=f"{output} is written",
        )


@command(
    "read",
    examples=("strongroom tpm pcr read", "strongroom tpm pcr read 0 7 --json"),
    exits=TPM_EXITS,
)
@click.argument(
    "pcrs", metavar="[PCR]...", type=click.IntRange(0, 23), nargs=-1, callback=each_once
)
@bank_option
@tpm_options
@json_option
def pcr_read_command(
    session: Session, *, pcrs: tuple[int, ...], bank: Bank, **options: Unpack[TpmOptions]
) -> None:
    """Show PCRs: those that are named, or all."""
    from strongroom.host.tpm.using import using  # noqa: PLC0415

    with session.reporter() as report, using(choice_of(options), report) as tpm:
        values = tpm.read_pcrs(bank, pcrs or tuple(range(24)))
    _require(values, pcrs or tuple(values) or (0,), bank)
    session.show(
        {bank: {str(pcr): value for pcr, value in values.items()}},
        "\n".join(f"{pcr:2}  {value}" for pcr, value in values.items()),
    )


@command(
    "extend",
    examples=(f"strongroom tpm pcr extend 16 {'11' * 4}...",),
    exits=TPM_EXITS,
)
@click.argument("pcr", metavar="PCR", type=click.IntRange(0, 23))
@click.argument("digest", metavar="DIGEST")
@bank_option
@tpm_options
@json_option
def pcr_extend_command(
    session: Session, *, pcr: int, digest: str, bank: Bank, **options: Unpack[TpmOptions]
) -> None:
    """Extend a PCR with a digest, given in hexadecimal."""
    from strongroom.host.tpm.using import using  # noqa: PLC0415

    content = pcr_digest(digest, bank)
    with session.reporter() as report, using(choice_of(options), report) as tpm:
        # A TPM takes a digest for a bank that it does not have, and does nothing.
        _require(tpm.read_pcrs(bank, (pcr,)), (pcr,), bank)
        tpm.extend_pcr(pcr, bank, content)
        value = tpm.read_pcrs(bank, (pcr,))[pcr]
    session.show(
        {"pcr": pcr, "bank": bank, "value": value},
        f"{pcr:2}  {value}",
        done=f"PCR {pcr} is extended",
    )


def _require(values: dict[int, str], pcrs: tuple[int, ...], bank: Bank) -> None:
    """Make sure that the TPM has PCRs. Raises :class:`TpmError` if it does not."""
    for pcr in pcrs:
        if pcr not in values:
            raise TpmError(
                f"the TPM has no PCR {pcr} in its bank {bank}",
                hint="the firmware sets which banks there are; --bank names another",
            )


def pcr_digest(text: str, bank: Bank) -> bytes:
    """Return a digest of a bank. Raises :class:`UsageError` if it is none."""
    sizes = {"sha1": 20, "sha256": 32, "sha384": 48, "sha512": 64}
    try:
        content = bytes.fromhex(text)
    except ValueError:
        content = b""
    if len(content) != sizes[bank]:
        raise UsageError(
            f"not a {bank} digest: {text[:140]}", hint=f"{2 * sizes[bank]} hexadecimal digits"
        )
    return content
