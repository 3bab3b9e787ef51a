# SPDX-License-Identifier: Apache-2.0
"""``strongroom identity``: who the enclave is, as others see it."""

from pathlib import Path

import click

from strongroom.cli.arguments import FilePath, json_option, tee_option
from strongroom.cli.output import pairs
from strongroom.cli.session import Session
from strongroom.cli.tree import command
from strongroom.errors import IdentityError, ReportError, TeeError
from strongroom.host.contracts import IdentityResult, TeeName


@command(
    "identity",
    examples=(
        "strongroom identity",
        "strongroom identity --json > expected.json",
        "strongroom identity --expect expected.json",
    ),
    exits=(IdentityError, ReportError, TeeError),
)
@click.option(
    "--expect",
    metavar="FILE",
    type=FilePath(),
    help="Fail unless the enclave is the one in FILE, which holds what --json printed, or a part "
    "of it. A newer security version is as good.",
)
@click.option(
    "--next",
    "successor",
    metavar="PYTHON",
    type=FilePath(),
    help="Ask the enclave of another Strongroom: the Python that it is installed in.",
)
@tee_option
@json_option
def identity_command(
    session: Session, *, expect: Path | None, successor: Path | None, tee: TeeName
) -> None:
    """Show who the enclave is.

    An enclave is started and reports about itself over a fresh challenge: what runs in it, who
    signed for that, and whether hardware stands behind it. Volumes are sealed to this. Where the
    account has no identity yet, one is made.
    """
    with session.reporter() as report:
        result = session.volumes.identity(report, tee=tee, python=successor, expect=expect)
    session.show(result, _words(result))


def _words(result: IdentityResult) -> str:
    return pairs(
        [
            ("tee", f"{result.tee}{', simulated' if result.simulated else ''}"),
            ("measurement", result.measurement),
            ("signer", result.signer),
            ("product", str(result.product_id)),
            ("security version", str(result.security_version)),
            ("debug", "YES: its memory can be read" if result.debug else "no"),
            ("report", "genuine" if result.genuine else "not checked: nothing here can"),
            ("version", result.version),
        ]
    )
