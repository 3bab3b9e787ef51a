# SPDX-License-Identifier: Apache-2.0
"""``strongroom status``: everything about an open volume that is not secret."""

from typing import Final

from strongroom.cli.arguments import json_option, open_name_argument
from strongroom.cli.commands.reseal import enrolment_words
from strongroom.cli.output import pairs, table
from strongroom.cli.session import Session
from strongroom.cli.sizes import size_words
from strongroom.cli.tree import command
from strongroom.errors import NotAnsweringError, NotOpenError
from strongroom.host.contracts import StatusResult

_AUTHENTICATION: Final = {
    "absent": "not authenticated",
    "verified": "authenticated",
    "changed": "changed by another program",
    "damaged": "a keyslot is damaged",
    "unverified": "sealed to another enclave",
    "tampered": "TAMPERED WITH",
}


@command("status", examples=("strongroom status vault",), exits=(NotOpenError, NotAnsweringError))
@open_name_argument
@json_option
def status_command(session: Session, *, name: str) -> None:
    """Show the state of the volume NAME.

    Whether it works, and what is wrong if it does not; processes, cipher, counters since it was
    opened, rates, and each measure of confinement with whether the kernel granted it. A simulated
    enclave is called so.
    """
    with session.reporter() as report:
        result = session.volumes.status(name, report)
    session.show(result, "\n\n".join(part for part in _parts(result) if part))


def _parts(result: StatusResult) -> tuple[str, ...]:
    counters = [(key.replace("_", " "), str(value)) for key, value in result.counters.items()]
    rates = [(key.replace("_", " "), f"{value:.1f}") for key, value in result.rates.items()]
    measures = [
        (measure.name, "yes" if measure.active else "NO", measure.detail)
        for measure in result.confinement
    ]
    return (
        pairs(_facts(result)),
        pairs(counters + rates) if counters or rates else "",
        table(("CONFINEMENT", "ACTIVE", "DETAIL"), measures) if measures else "",
    )


def _facts(result: StatusResult) -> list[tuple[str, str]]:
    chosen = (
        ("read-only", result.read_only),
        ("discard", result.discard),
        ("direct", result.direct),
    )
    modes = [word for word, on in chosen if on]
    return [
        ("name", result.name),
        ("state", ", ".join([result.state, *modes])),
        *(("problem", problem) for problem in result.problems),
        ("image", result.image),
        ("uuid", result.uuid),
        ("device", f"{result.device or 'none'} ({result.attach})"),
        ("uri", result.uri),
        ("size", f"{size_words(result.size_bytes)}, {result.sector_size_bytes}-byte sectors"),
        ("cipher", f"{result.cipher} ({result.cipher_backend})"),
        ("enclave", f"{result.tee}{', simulated' if result.simulated else ''}"),
        ("measurement", str(result.identity["measurement"])),
        ("signer", str(result.identity["signer"])),
        ("sealed to", enrolment_words(result.enrolment) if result.enrolment else "no enclave"),
        ("header", _header_words(result)),
        ("processes", f"host {result.host_pid}, enclave {result.enclave_pid}"),
        ("boundary", result.transport),
        ("opened", f"{result.opened_at}, {result.uptime_seconds:.0f} s ago"),
    ]


def _header_words(result: StatusResult) -> str:
    words = _AUTHENTICATION[result.authentication]
    return words if result.authentication == "absent" else f"{words}, epoch {result.epoch}"
