# SPDX-License-Identifier: Apache-2.0
"""``strongroom bench``: measure on this machine, side by side with other tools."""

from pathlib import Path
from typing import Final

import click

from strongroom.bench.groups import GROUPS, usual
from strongroom.cli.arguments import FilePath, Size, json_option
from strongroom.cli.session import Session
from strongroom.cli.tree import command
from strongroom.errors import NoPermissionError, NoSpaceError, NotFoundError, UnavailableError
from strongroom.units import MIB, ByteCount

ROUNDS: Final = 3
SECONDS: Final = 0.25
SIZE: Final = "256M"


@command(
    "bench",
    examples=(
        "strongroom bench",
        "strongroom bench --only nbd --rounds 5 --seconds 1",
        "strongroom bench --only volume-size --json",
    ),
    exits=(NotFoundError, NoSpaceError, NoPermissionError, UnavailableError),
)
@click.option(
    "--only",
    metavar="GROUP",
    type=click.Choice(tuple(GROUPS)),
    multiple=True,
    help="Measure only this; may be repeated. By default: "
    f"{', '.join(usual(GROUPS))}. On demand: "
    f"{', '.join(name for name in GROUPS if name not in usual(GROUPS))}.",
)
@click.option(
    "--rounds",
    metavar="N",
    type=click.IntRange(min=1, max=100),
    default=ROUNDS,
    show_default=True,
    help="How often each has its turn.",
)
@click.option(
    "--seconds",
    metavar="S",
    type=click.FloatRange(min=0.05, max=600),
    default=SECONDS,
    show_default=True,
    help="How long a turn under load takes.",
)
@click.option(
    "--size",
    metavar="SIZE",
    type=Size(),
    default=SIZE,
    show_default=True,
    help="Of each export, of which there are up to five; whole MiB, 16M at least.",
)
@click.option(
    "--directory",
    metavar="DIRECTORY",
    type=FilePath(),
    help="Where the images go, all of them. Default: memory (/dev/shm), so that servers are "
    "measured and not a disk.",
)
@json_option
def bench_command(
    session: Session,
    *,
    only: tuple[str, ...],
    rounds: int,
    seconds: float,
    size: ByteCount,
    directory: Path | None,
) -> None:
    """Measure on this machine, side by side with other tools.

    Strongroom and what is installed of nbdkit, qemu-nbd, gocryptfs and libargon2 take turns at the
    same work, on volumes of their own. What is missing is left out, which is said. The table has
    medians, the extremes, and the median of the ratios within each round: above 1 is better,
    for every unit. It takes about two minutes, and everything is gone afterwards.
    """
    from strongroom.bench.measuring import Settings, measure  # noqa: PLC0415 - help needs neither
    from strongroom.cli.measured import shown  # noqa: PLC0415

    settings = Settings(rounds, seconds, _whole_mib(size), directory)
    names = tuple(dict.fromkeys(only)) or usual(GROUPS)
    with session.reporter() as report:
        results = tuple(measure(names, settings, report))
    known = tuple(one for result in results for one in result.comparisons)
    facts = [result.facts(known) for result in results]
    session.show(facts, shown(results, known))
    if not known:
        reasons = "; ".join(reason for result in results for reason in result.left_out)
        raise UnavailableError("nothing could be measured", hint=reasons)


def _whole_mib(size_bytes: int) -> int:
    least = 16 * MIB
    return max(least, size_bytes // MIB * MIB)
