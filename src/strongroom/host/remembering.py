# SPDX-License-Identifier: Apache-2.0
"""What a change of a volume has to do with what is known of it.

Whether something can be remembered is found out before the change. Once a header is on the disk,
nothing that goes wrong here may take back, hide or interrupt what was done.
"""

import contextlib
from collections.abc import Iterator

from strongroom.boundary import calls
from strongroom.errors import StrongroomError
from strongroom.host import known_enclaves
from strongroom.host.contracts import Reporter


def ensure_rememberable(facts: calls.DiskFacts) -> None:
    """Check that what a change makes of a volume can be remembered, if that has to be.

    A volume that carries no codes and is known already stays as it is known.

    Raises:
        StrongroomError: As :func:`strongroom.host.known_enclaves.ensure_writable`.
    """
    if facts.enrolment is not None or known_enclaves.find(facts.uuid) is None:
        known_enclaves.ensure_writable()


@contextlib.contextmanager
def after_change(report: Reporter) -> Iterator[None]:
    """Remember something in this block; what fails there is a notice.

    Not an error: a command that fails is taken for one that changed nothing, and a recovery key
    that it made would be thrown away. The next open remembers what was missed.
    """
    try:
        yield
    except StrongroomError as err:
        report.notice(f"the change was made, but it could not be remembered: {err.message}")
