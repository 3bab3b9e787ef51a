# SPDX-License-Identifier: Apache-2.0
"""Is this the enclave that the volume was enrolled with? Asked before anything is sent to it.

What vouches for a report is the provider's business (:mod:`strongroom.tee`); what is known of a
volume is in :mod:`strongroom.host.known_enclaves`. This is where the two meet.
"""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final, TypeAlias

from strongroom.boundary import calls
from strongroom.boundary.sealed import report_data
from strongroom.errors import (
    IdentityError,
    NoPermissionError,
    NotFoundError,
    PlatformError,
    ReportError,
    UsageError,
)
from strongroom.host import known_enclaves
from strongroom.host.known_enclaves import KnownEnclave
from strongroom.host.state import state_directory
from strongroom.tee import verify_report
from strongroom.tee.identity import IDENTIFIER_BYTES, Identity, SealPolicy
from strongroom.values import dataclass

Fact: TypeAlias = str | int | bool

MAX_EXPECTATION_BYTES: Final = 64 * 1024
"""Longest file of an expected identity; one with all keys has some 400 bytes."""

_SHORT_DIGITS: Final = 12
_MAX_NUMBER16: Final = 2**16 - 1


@dataclass(frozen=True, slots=True)
class Attested:
    """An enclave that may be used.

    Attributes:
        identity: What its report says.
        genuine: Something vouches for the report; if not, the identity is a claim.
        notices: What the operator should be told, one sentence each.
    """

    identity: Identity
    genuine: bool
    notices: tuple[str, ...]


def check(
    report: bytes, about: str, subject: bytes, *, tee: str, known: KnownEnclave | None
) -> Attested:
    """Check an enclave's report, what it is about, and that the enclave is the known one.

    Without ``known``, or where the operator had it forgotten, every enclave of this TEE passes. A
    later security version passes, and so does one that can no longer be debugged. That a report
    cannot be vouched for on this machine does not make it fail: see ``genuine``.

    Args:
        report: From the enclave, through the host.
        about: What it must be about, as for :func:`strongroom.boundary.sealed.report_data`.
        subject: What must be bound to the enclave by it, such as a public key.
        tee: The provider that it must be of.
        known: What is known of the volume.

    Raises:
        ReportError: It is malformed, of another platform or boot, or about something else.
        IdentityError: It is another enclave: what differs is named, with both values.
        TeeError: There is no such provider, or what it checks reports with cannot be read.
    """
    verified = verify_report(tee, report, state_directory())
    identity = verified.identity
    if identity.tee != tee:
        raise IdentityError(f"the enclave's TEE is {identity.tee}, not {tee}")
    if verified.user_data != report_data(about, subject):
        raise ReportError(
            f"the enclave's report is not about this {about}",
            hint="somebody may stand between you and the enclave: nothing was sent",
        )
    if known is not None and not known.forgotten:
        _check_known(identity, known)
    notices = tuple(_notices(identity, genuine=verified.genuine))
    return Attested(identity, verified.genuine, notices)


def first_use(identity: Identity, *, enrolled: bool) -> str:
    """Return what an operator is told where nothing is known of a volume yet.

    Args:
        identity: The enclave that runs.
        enrolled: The volume is sealed to an enclave.
    """
    if not enrolled:
        return (
            "first use of this volume here: it is sealed to no enclave, and nothing authenticates "
            "its header"
        )
    signer = identity.signer.hex()[:_SHORT_DIGITS]
    return (
        f"first use of this volume here: trusting enclave signer {signer}...,"
        f" which {known_enclaves.path()} remembers once it opens"
    )


def trusted_anew(identity: Identity, known: KnownEnclave) -> str:
    """Return what an operator is told where the enclave of a volume was forgotten."""
    signer = identity.signer.hex()[:_SHORT_DIGITS]
    return (
        f"the enclave of this volume was forgotten: trusting enclave signer {signer}..., which"
        f" {known_enclaves.path()} remembers once it opens; a header older than epoch {known.epoch}"
        " is still refused"
    )


def check_enrolment(enrolled: Identity, policy: SealPolicy, running: Identity | None) -> None:
    """Check what the host says that a volume is sealed to against the enclave that unseals it.

    Args:
        enrolled: What the volume is said to be sealed to.
        policy: How.
        running: The enclave whose report was checked, which is said to be that enclave, or the
            next one of it; ``None`` where no passphrase was asked for.

    Raises:
        IdentityError: It cannot be.
    """
    if running is None:
        return
    same = (
        (enrolled.tee, enrolled.product_id, enrolled.signer)
        == (running.tee, running.product_id, running.signer)
        and enrolled.security_version <= running.security_version
        and (policy == "signer" or enrolled.measurement == running.measurement)
    )
    if not same:
        raise IdentityError(
            "the host says that the volume is sealed to an enclave that is not the one which opened"
            " it",
            hint="nothing was remembered; do not trust this host",
        )


def from_boundary(identity: calls.EnclaveIdentity) -> Identity:
    """Return an identity as it crossed the boundary: a claim, until a report says the same."""
    return Identity(
        tee=identity.tee,
        simulated=identity.simulated,
        measurement=identity.measurement,
        signer=identity.signer,
        product_id=identity.product_id,
        security_version=identity.security_version,
        debug=identity.debug,
    )


def as_facts(identity: Identity) -> dict[str, Fact]:
    """Return an identity for JSON: the digests as 64 lower-case hex digits."""
    return {
        "tee": identity.tee,
        "simulated": identity.simulated,
        "measurement": identity.measurement.hex(),
        "signer": identity.signer.hex(),
        "product_id": identity.product_id,
        "security_version": identity.security_version,
        "debug": identity.debug,
    }


def load_expectation(path: Path) -> dict[str, Fact]:
    """Read an expected identity: what ``strongroom identity --json`` prints, or a part of it.

    Returns:
        The keys that were given, with values of their types; digests in lower case.

    Raises:
        NotFoundError: There is no such file.
        NoPermissionError: It may not be read.
        UsageError: It is a directory, too long, not such JSON, or a value has the wrong type.
        PlatformError: It could not be read for another reason.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MAX_EXPECTATION_BYTES + 1)
    except (FileNotFoundError, NotADirectoryError) as err:
        raise NotFoundError(f"{path} does not exist") from err
    except IsADirectoryError as err:
        raise UsageError(f"{path} is a directory") from err
    except PermissionError as err:
        raise NoPermissionError(f"no permission to read {path}") from err
    except OSError as err:
        raise PlatformError(f"cannot read {path}: {err.strerror}") from err
    if len(content) > MAX_EXPECTATION_BYTES:
        raise UsageError(f"{path} is longer than {MAX_EXPECTATION_BYTES} bytes")
    try:
        pairs = json.loads(content.decode(), object_pairs_hook=_Pairs)
    except (ValueError, RecursionError) as err:
        raise UsageError(f"{path} is not JSON", hint=_EXPECTATION_HINT) from err
    if not isinstance(pairs, _Pairs) or not pairs:
        raise UsageError(f"{path} says nothing of an identity", hint=_EXPECTATION_HINT)
    return _expectation(pairs, path)


def check_expectation(facts: Mapping[str, Fact], expected: dict[str, Fact], path: Path) -> None:
    """Check who an enclave is against what :func:`load_expectation` returned.

    ``security_version`` is the lowest that passes; every other value must be equal.

    Args:
        facts: As ``strongroom identity --json`` prints them.
        expected: What is not in it is not compared.
        path: The file, for the message.

    Raises:
        IdentityError: Something differs; all of it is named, with both values.
    """
    differences = [
        _difference(key, facts[key], value, at_least=key == _AT_LEAST)
        for key, value in expected.items()
        if not _passes(key, facts[key], value)
    ]
    if differences:
        raise IdentityError(
            f"the enclave is not the one of {path}: {'; '.join(differences)}",
            hint="do not give it a passphrase unless you know why",
        )


# --- what is known of a volume --------------------------------------------------------------------


def _check_known(identity: Identity, known: KnownEnclave) -> None:
    facts, enrolled = as_facts(identity), as_facts(known.identity)
    keys = ["tee", "simulated"]
    if known.policy == "signer":
        keys += ["signer", "product_id", _AT_LEAST]
    else:
        keys += ["measurement"]
    if identity.debug:
        keys += ["debug"]
    differences = [
        _difference(key, facts[key], enrolled[key], at_least=key == _AT_LEAST)
        for key in keys
        if not _passes(key, facts[key], enrolled[key])
    ]
    if differences:
        other_tee = (
            f" It was enrolled with --tee {known.identity.tee}."
            if identity.tee != known.identity.tee
            else ""
        )
        raise IdentityError(
            f"not the enclave of volume {known.volume}: {'; '.join(differences)}",
            hint=f"nothing was sent.{other_tee} If you know the reason, such as an upgrade or a"
            f" lost state directory: `strongroom forget {known.volume}`, then use the recovery key."
            " It goes to the enclave that runs now",
        )


def _notices(identity: Identity, *, genuine: bool) -> Iterator[str]:
    if identity.debug:
        yield "the enclave can be debugged: whoever debugs it reads its keys"
    if not genuine:
        yield f"nothing on this machine vouches for the enclave's report (TEE {identity.tee})"


# --- what differs ---------------------------------------------------------------------------------

_AT_LEAST: Final = "security_version"


def _passes(key: str, found: Fact, wanted: Fact) -> bool:
    if key == _AT_LEAST:
        return int(found) >= int(wanted)
    return found == wanted


def _difference(key: str, found: Fact, wanted: Fact, *, at_least: bool) -> str:
    name = key.replace("_", " ")
    more = " or later" if at_least else ""
    return f"{name} is {_shown(found)}, expected {_shown(wanted)}{more}"


def _shown(value: Fact) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)


# --- the file of an expected identity -------------------------------------------------------------

_EXPECTATION_HINT: Final = "it should be what `strongroom identity --json` prints, or a part of it"
_IDENTIFIER: Final = re.compile(f"[0-9a-fA-F]{{{2 * IDENTIFIER_BYTES}}}")
_KINDS: Final = {
    "tee": "a name",
    "simulated": "true or false",
    "measurement": "64 hex digits",
    "signer": "64 hex digits",
    "product_id": "a number up to 65535",
    "security_version": "a number up to 65535",
    "debug": "true or false",
    "genuine": "true or false",
    "version": "a text",
}


class _Pairs(list[tuple[str, object]]):
    """A JSON object with its order and duplicates; a JSON array is a plain list."""


def _expectation(pairs: _Pairs, path: Path) -> dict[str, Fact]:
    expected: dict[str, Fact] = {}
    for key, value in pairs:
        if key in expected:
            raise UsageError(f"{path} has two values of {key!r}")
        expected[key] = _fact(key, value, path)
    return expected


def _fact(key: str, value: object, path: Path) -> Fact:
    if key not in _KINDS:
        raise UsageError(
            f"{path} has an unknown key {key!r}", hint=f"there are {', '.join(_KINDS)}"
        )
    match key, value:
        case (("simulated" | "debug" | "genuine"), bool()):
            return value
        # True is an int, but no number.
        case (("product_id" | "security_version"), int()) if (
            not isinstance(value, bool) and 0 <= value <= _MAX_NUMBER16
        ):
            return value
        case (("measurement" | "signer"), str()) if _IDENTIFIER.fullmatch(value):
            return value.lower()
        case (("tee" | "version"), str()) if value:
            return value
        case _:
            raise UsageError(f"{key!r} in {path} is not {_KINDS[key]}", hint=_EXPECTATION_HINT)
