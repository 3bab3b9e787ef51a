# SPDX-License-Identifier: Apache-2.0
"""``open``: a host process and an enclave in the background, and the passphrase for them."""

from strongroom.host import runtime
from strongroom.host.background import Background
from strongroom.host.contracts import (
    OpenRequest,
    OpenResult,
    PassphraseSource,
    Reporter,
    Unlocking,
)
from strongroom.host.lost_identity import warn_of_lost_identity


def open_volume(
    request: OpenRequest,
    passphrase: PassphraseSource,
    report: Reporter,
    *,
    how: Unlocking,
) -> OpenResult:
    """Start a host process and an enclave in the background, and give it the passphrase.

    Returns when the device is ready. Whatever fails, nothing is left running.

    Raises:
        StrongroomError: The header, the passphrase or the device was refused.
    """
    runtime.check_name(request.name)
    runtime.sweep(report)
    warn_of_lost_identity(report, request.tee)
    with Background(request) as background:
        # While that starts, what the passphrase needs.
        from strongroom.host import unlocking  # noqa: PLC0415 - see above

        background.await_ready()
        result = unlocking.set_key_in(background.directory, passphrase, how, report)
        background.keep()
    for notice in result.notices:
        report.notice(notice)
    return result
