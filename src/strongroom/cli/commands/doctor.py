# SPDX-License-Identifier: Apache-2.0
"""``strongroom doctor``: what this machine gives and lacks."""

from pathlib import Path

import click

from strongroom.cli.arguments import FilePath, json_option
from strongroom.cli.output import printable
from strongroom.cli.session import Session
from strongroom.cli.tree import command
from strongroom.errors import UnavailableError
from strongroom.host.contracts import Finding


@command(
    "doctor",
    examples=("strongroom doctor", "strongroom doctor --next /opt/strongroom-2/bin/python"),
    exits=(UnavailableError,),
)
@click.option(
    "--next",
    "successor",
    metavar="PYTHON",
    type=FilePath(),
    help="Start the enclave of another Strongroom too, and say which volumes it would not open: "
    "the Python that it is installed in.",
)
@click.option("--check", is_flag=True, help="Fail with exit code 50 if something is missing.")
@json_option
def doctor_command(session: Session, *, successor: Path | None, check: bool) -> None:
    """Show what this machine gives and lacks.

    Each finding comes with the command that mends it. Volumes that were opened here are named if
    the present enclave does not open them, or if an upgrade could lock them. Nothing is changed,
    and no identity is made. Without --check the exit code is 0 in any case.
    """
    with session.reporter() as report:
        findings = session.volumes.doctor(successor, report)
    session.show(findings, "\n".join(_words(finding) for finding in findings))
    missing = [finding.topic for finding in findings if finding.level == "missing"]
    if check and missing:
        raise UnavailableError(
            f"missing here: {', '.join(missing)}", hint="what is above says what mends each"
        )


def _words(finding: Finding) -> str:
    line = f"{finding.level:<8} {printable(finding.topic)}: {printable(finding.found)}"
    return f"{line}\n         {printable(finding.mend)}" if finding.mend else line
