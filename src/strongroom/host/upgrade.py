# SPDX-License-Identifier: Apache-2.0
"""Which volumes the present enclave does not open, and which ones an upgrade would lock.

Only volumes that are sealed to an enclave of this account, as far as its ``known-enclaves`` says:
one that was never opened here is not among them. One that was only opened by a keyslot that needs
no enclave is named, as no upgrade changes that. Enclaves are asked who they are; no identity is
made for that.

Spec: ``spec/unlock.md``, "Seal keys".
"""

import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, Literal, get_args

from strongroom.errors import StrongroomError
from strongroom.host import known_enclaves
from strongroom.host.contracts import Finding, TeeName
from strongroom.host.identity import prove
from strongroom.host.known_enclaves import KnownEnclave
from strongroom.host.silence import Silent
from strongroom.tee.identity import Identity
from strongroom.values import replace

_TOPIC: Final = "upgrade"
_PRESENT_VERSION_ONLY: Final = "gramine"
"""SGX gives no seal keys of older security versions."""

_ELSEWHERE: Final = "sealed to an enclave that is not here: only its recovery key opens it"
_FORGOTTEN: Final = "its enclave was forgotten: the next one that opens it is trusted"
_STAY: Final = "stay with the present version, or make sure of the recovery key: it opens anywhere"


def upgrade_findings(python: Path | None) -> Iterator[Finding]:
    """Say of the known volumes which one is locked now, and which one an upgrade locks.

    Args:
        python: The interpreter of the next Strongroom, whose enclave is started and asked. Without
            it only volumes are named that an upgrade could lock.
    """
    try:
        known = known_enclaves.everything()
    except StrongroomError as err:
        yield Finding(_TOPIC, "missing", f"cannot look at known volumes: {err.message}", err.hint)
        return
    newest, formerly = _without_former_names(known)
    for finding in _findings(newest, python):
        yield replace(finding, topic=finding.topic + formerly.get(finding.topic, ""))


def _without_former_names(
    known: Sequence[KnownEnclave],
) -> tuple[tuple[KnownEnclave, ...], dict[str, str]]:
    """Return each volume once, with its newest UUID, and what to add to the name of its finding.

    Of one that another program gave a new UUID there are two lines, the same but for that.
    """
    found: dict[KnownEnclave, list[str]] = {}
    for volume in known:
        same = replace(volume, volume="", place="") if volume.image else volume
        found.setdefault(same, []).append(volume.volume)
    newest = {names[-1] for names in found.values()}
    formerly = {
        f"volume {names[-1]}": f", formerly {', '.join(names[:-1])}"
        for names in found.values()
        if names[1:]
    }
    return tuple(volume for volume in known if volume.volume in newest), formerly


def _findings(known: Sequence[KnownEnclave], python: Path | None) -> Iterator[Finding]:
    authenticated = tuple(volume for volume in known if volume.authenticated)
    sealed = tuple(
        volume for volume in authenticated if not volume.sealed_elsewhere and not volume.forgotten
    )
    locked = _locked_now(sealed)
    if python is None:
        yield from locked.values()
        rest = tuple(volume for volume in sealed if volume.volume not in locked)
        yield from _could_lock(rest, quiet=bool(locked))
    else:
        yield from _asked(sealed, python, locked)
    for volume in authenticated:
        if volume.forgotten:
            mend = f"if it is locked, with its recovery key: {_adopt(volume)}"
            yield _finding(volume, "warning", _FORGOTTEN, mend)
        elif volume.sealed_elsewhere:
            mend = f"if that enclave is lost: {_adopt(volume)}"
            yield _finding(volume, "warning", _ELSEWHERE, mend)


def obstacle(volume: KnownEnclave, following: Identity) -> tuple[str, bool] | None:
    """Return why an enclave does not open a volume, or ``None`` if it does.

    Args:
        volume: What the volume is sealed to.
        following: Who the enclave is, of the same provider.

    Returns:
        The reason, and whether a reseal to that enclave is allowed and mends it.
    """
    sealed, strict = volume.identity, volume.policy == "measurement"
    old, new = sealed.security_version, following.security_version
    obstacles = (
        (new < old, f"a downgrade to security version {new}, and it was sealed by {old}", False),
        (following.debug and not sealed.debug, "the enclave is open to a debugger", False),
        (
            not strict and following.signer != sealed.signer,
            f"it is sealed to signer {sealed.signer.hex()}",
            False,
        ),
        (
            following.product_id != sealed.product_id,
            f"it is sealed to product {sealed.product_id}",
            strict,
        ),
        (
            strict and following.measurement != sealed.measurement,
            f"it is sealed to measurement {sealed.measurement.hex()}",
            True,
        ),
        (following.debug != sealed.debug, "it is sealed to an enclave open to a debugger", True),
        (
            new != old and _is_of_one_version(volume),
            f"it was sealed by security version {old}, whose keys the enclave lacks",
            True,
        ),
    )
    return next(((reason, mends) for is_so, reason, mends in obstacles if is_so), None)


def _is_of_one_version(volume: KnownEnclave) -> bool:
    return volume.policy == "measurement" or volume.identity.tee == _PRESENT_VERSION_ONLY


def _locked_now(sealed: Sequence[KnownEnclave]) -> dict[str, Finding]:
    """Return, by UUID, what is to be said of volumes that the present enclave does not open."""
    found: dict[str, Finding] = {}
    names: tuple[TeeName, ...] = get_args(TeeName)
    for tee in names:
        volumes = [volume for volume in sealed if volume.identity.tee == tee]
        if not volumes:
            continue
        try:
            attested, _ = prove(Silent(), tee=tee, python=None, look_only=True)
        except StrongroomError as err:
            for volume in volumes:
                words = f"the present enclave does not open it: {err.message}"
                found[volume.volume] = _finding(volume, "missing", words, err.hint)
            continue
        for volume in volumes:
            reason = obstacle(volume, attested.identity)
            if reason is not None:
                words = f"LOCKED for the present enclave: {reason[0]}"
                mend = f"with its recovery key: strongroom forget {volume.volume}; {_adopt(volume)}"
                found[volume.volume] = _finding(volume, "warning", words, mend)
    return found


def _could_lock(sealed: Sequence[KnownEnclave], *, quiet: bool) -> Iterator[Finding]:
    locked = [volume for volume in sealed if _is_of_one_version(volume)]
    for volume in locked:
        strict = volume.policy == "measurement"
        version = "version" if strict else "security version"
        words = f"the next {version} cannot open it: it is sealed to this one"
        yield _finding(volume, "warning", words, f"{_reseal(volume)} --next PYTHON")
    if not sealed:
        if not quiet:
            yield Finding(_TOPIC, "ok", "no volume known here is sealed to an enclave", "")
    elif not locked:
        found = f"the next version of the same signer opens the {_counted(sealed)} known here"
        yield Finding(_TOPIC, "ok", found, "")


def _asked(
    sealed: Sequence[KnownEnclave], python: Path, locked: dict[str, Finding]
) -> Iterator[Finding]:
    names: tuple[TeeName, ...] = get_args(TeeName)
    for tee in names:
        volumes = [volume for volume in sealed if volume.identity.tee == tee]
        # Without any volume too, it is worth knowing whether the next enclave starts.
        if volumes or (not sealed and tee == names[0]):
            yield from _asked_of(tee, volumes, python, locked)
    for volume in sealed:
        if volume.identity.tee not in names:
            found = f"cannot tell: it is sealed to an unknown TEE, {volume.identity.tee}"
            yield _finding(volume, "warning", found, f"see {volume.place}")


def _asked_of(
    tee: TeeName, volumes: Sequence[KnownEnclave], python: Path, locked: dict[str, Finding]
) -> Iterator[Finding]:
    try:
        attested, version = prove(Silent(), tee=tee, python=python, look_only=True)
    except StrongroomError as err:
        found = (
            f"{python} ({tee}) cannot be asked for {_counted(volumes)} known here: {err.message}"
        )
        yield Finding("next enclave", "missing", found, err.hint)
        yield from (locked[volume.volume] for volume in volumes if volume.volume in locked)
        return
    following = attested.identity
    found = f"version {version}, security version {following.security_version}, provider {tee}"
    yield Finding("next enclave", "ok", f"{found}, measurement {following.measurement.hex()}", "")
    for volume in volumes:
        reason = obstacle(volume, following)
        if reason is None:
            yield _finding(volume, "ok", "the next enclave opens it", "")
        elif volume.volume in locked:
            yield locked[volume.volume]
        else:
            mend = f"{_reseal(volume)} --next {shlex.quote(str(python))}" if reason[1] else _STAY
            found = f"LOCKED for the next enclave: {reason[0]}"
            yield _finding(volume, "warning", found, mend)


def _finding(
    volume: KnownEnclave, level: Literal["ok", "warning", "missing"], found: str, mend: str
) -> Finding:
    place = f"; last used as {volume.image}" if volume.image else ""
    return Finding(f"volume {volume.volume}", level, found + place, mend)


def _counted(volumes: Sequence[KnownEnclave]) -> str:
    return "1 volume" if len(volumes) == 1 else f"{len(volumes)} volumes"


def _reseal(volume: KnownEnclave) -> str:
    return f"before the upgrade: strongroom reseal {_image(volume)}"


def _adopt(volume: KnownEnclave) -> str:
    return f"strongroom reseal {_image(volume)} --adopt"


def _image(volume: KnownEnclave) -> str:
    """Return where a volume was used last, for a shell. What lies there now is not looked at."""
    return shlex.quote(volume.image) if volume.image else "IMAGE"
