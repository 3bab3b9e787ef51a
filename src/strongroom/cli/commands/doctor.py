# SPDX-License-Identifier: Apache-2.0
"""``strongroom doctor``: what this machine gives and lacks."""

from strongroom.cli.arguments import json_option
from strongroom.cli.output import printable
from strongroom.cli.session import Session
from strongroom.cli.tree import command
from strongroom.host.contracts import Finding


@command("doctor", examples=("strongroom doctor",))
@json_option
def doctor_command(session: Session) -> None:
    """Show what this machine gives and lacks.

    Each finding comes with the command that mends it. Nothing is changed. The exit code is 0
    whatever is found.
    """
    findings = session.volumes.doctor()
    session.show(findings, "\n".join(_words(finding) for finding in findings))


def _words(finding: Finding) -> str:
    line = f"{finding.level:<8} {printable(finding.topic)}: {printable(finding.found)}"
    return f"{line}\n         {printable(finding.mend)}" if finding.mend else line
