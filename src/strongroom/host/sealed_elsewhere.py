# SPDX-License-Identifier: Apache-2.0
"""Where a volume was sealed that this enclave cannot open, as far as this account can tell.

The enclave knows only that its keys are others. What this account remembers tells an upgrade, a
lost state directory, another account of this machine and another machine apart, for the hint.
"""

import contextlib
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from strongroom.boundary import calls
from strongroom.errors import EnclaveFactorError
from strongroom.host import known_file
from strongroom.host.state import ROOT, invoking_account, state_directory

if TYPE_CHECKING:
    from strongroom.host.trust import VolumeTrust
    from strongroom.tee.identity import Identity

_ADOPT: Final = (
    "`strongroom reseal IMAGE --adopt` with the recovery key seals it to this account, then"
    " `strongroom slot add IMAGE` gives it a passphrase"
)


@contextlib.contextmanager
def explained(trust: "VolumeTrust", enrolment: calls.Enrolment | None) -> Iterator[None]:
    """Say in this block, where a volume is sealed to another enclave, to which one and what to do.

    Args:
        trust: What is known of the volume.
        enrolment: What its header says that it is sealed to.

    Raises:
        EnclaveFactorError: The one of the block, with another hint.
    """
    try:
        yield
    except EnclaveFactorError as err:
        if enrolment is None:
            raise
        raise EnclaveFactorError(err.message, hint=_hint(trust, enrolment)) from err


def _hint(trust: "VolumeTrust", enrolment: calls.Enrolment) -> str:
    running, sealed = trust.running, enrolment.identity
    same_signer = running is not None and _is_of_signer(running, sealed)
    if enrolment.policy == "measurement" and same_signer:
        return (
            "it is sealed strictly, to the program before an upgrade of Strongroom, Python or a"
            f" library. {_ADOPT}; or go back to that program"
        )
    if trust.known is not None and _is_of_signer(trust.known.identity, sealed):
        return (
            f"this account sealed it, and the keys in {state_directory()} are others since. Put"
            f" {state_directory() / 'process'} back from a backup; or {_ADOPT}"
        )
    other = invoking_account()
    if other is not None and known_file.mentions(other.state, trust.volume):
        return (
            f"the enclave of user {other.name} sealed it, and this is root's: open it as"
            f" {other.name}, without sudo; or {_ADOPT}, and no longer to {other.name}"
        )
    with_sudo = "" if os.geteuid() == ROOT else " (use sudo if root made it)"
    return (
        f"another machine sealed it, another account of this machine{with_sudo}, or this account"
        f" before {state_directory()} was lost. Open it there, or with the recovery key. {_ADOPT}"
    )


def _is_of_signer(one: "Identity", sealed: calls.EnclaveIdentity) -> bool:
    return (one.tee, one.signer) == (sealed.tee, sealed.signer)
