# SPDX-License-Identifier: Apache-2.0
"""The identity of this account is lost, and the enclave that starts next makes another one.

It is said before that, so it is said once: the directory is there afterwards.
"""

import os

from strongroom.errors import StrongroomError
from strongroom.host import known_enclaves
from strongroom.host.contracts import Reporter, TeeName
from strongroom.host.state import state_directory


def warn_of_lost_identity(report: Reporter, tee: TeeName) -> None:
    """Say so if volumes are sealed to an identity whose directory is not there."""
    place = state_directory() / "process"
    if tee != "process" or os.path.lexists(place):
        return
    try:
        known = known_enclaves.everything()
    except StrongroomError:
        return  # what needs the file says what is wrong with it
    sealed = [
        volume
        for volume in known
        if volume.authenticated
        and volume.identity.tee == tee
        and not (volume.sealed_elsewhere or volume.forgotten)
    ]
    if not sealed:
        return
    what = "1 volume, which opens" if len(sealed) == 1 else f"{len(sealed)} volumes, which open"
    report.notice(
        f"{place} is lost, and a new identity is made: the one before had sealed {what} with a "
        f"recovery key only; to have it back, remove {place} and put it back from a backup"
    )
