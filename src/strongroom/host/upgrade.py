# SPDX-License-Identifier: Apache-2.0
"""Which volumes would not open after an upgrade: said while the enclave that opens them is here.

Only volumes that are sealed to an enclave of this machine, as far as this operator's
``known-enclaves`` says: one that was never opened here is not among them. One that was only opened
by a keyslot that needs no enclave is named, as no upgrade changes that.

Spec: ``spec/unlock.md``, "Seal keys".
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, get_args

from strongroom.errors import StrongroomError
from strongroom.host import known_enclaves
from strongroom.host.contracts import Finding, TeeName
from strongroom.host.identity import prove
from strongroom.host.known_enclaves import KnownEnclave
from strongroom.host.silence import Silent
from strongroom.tee.identity import Identity

_TOPIC: Final = "upgrade"
_PRESENT_VERSION_ONLY: Final = "gramine"
"""SGX gives no seal keys of older security versions."""

_RESEAL: Final = "before the upgrade: strongroom reseal IMAGE"
_ELSEWHERE: Final = "sealed to an enclave that is not here: only its recovery key opens it"
_ADOPT: Final = "if that enclave is lost: strongroom reseal IMAGE --adopt"
_STAY: Final = "stay with the present version, or make sure of the recovery key: it opens anywhere"


def upgrade_findings(python: Path | None) -> Iterator[Finding]:
    """Say of the known volumes which one an upgrade locks.

    Args:
        python: The interpreter of the next Strongroom, whose enclave is started and asked. Without
            it only volumes are named that an upgrade could lock.
    """
    try:
        known = known_enclaves.everything()
    except StrongroomError as err:
        yield Finding(_TOPIC, "missing", f"cannot look at known volumes: {err.message}", err.hint)
        return
    authenticated = tuple(volume for volume in known if volume.authenticated)
    sealed = tuple(volume for volume in authenticated if not volume.sealed_elsewhere)
    yield from _could_lock(sealed) if python is None else _asked(sealed, python)
    for volume in authenticated:
        if volume.sealed_elsewhere:
            yield Finding(f"volume {volume.volume}", "warning", _ELSEWHERE, _ADOPT)


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


def _could_lock(sealed: Sequence[KnownEnclave]) -> Iterator[Finding]:
    locked = [volume for volume in sealed if _is_of_one_version(volume)]
    for volume in locked:
        strict = volume.policy == "measurement"
        version = "version" if strict else "security version"
        yield Finding(
            f"volume {volume.volume}",
            "warning",
            f"the next {version} cannot open it: it is sealed to this one",
            f"{_RESEAL} --next PYTHON",
        )
    if not sealed:
        yield Finding(_TOPIC, "ok", "no volume known here is sealed to an enclave", "")
    elif not locked:
        found = f"the next version of the same signer opens the {len(sealed)} volumes known here"
        yield Finding(_TOPIC, "ok", found, "")


def _asked(sealed: Sequence[KnownEnclave], python: Path) -> Iterator[Finding]:
    names: tuple[TeeName, ...] = get_args(TeeName)
    for tee in names:
        volumes = [volume for volume in sealed if volume.identity.tee == tee]
        # Without any volume too, it is worth knowing whether the next enclave starts.
        if volumes or (not sealed and tee == names[0]):
            yield from _asked_of(tee, volumes, python)
    for volume in sealed:
        if volume.identity.tee not in names:
            found = f"cannot tell: it is sealed to an unknown TEE, {volume.identity.tee}"
            yield Finding(f"volume {volume.volume}", "warning", found, f"see {volume.place}")


def _asked_of(tee: TeeName, volumes: Sequence[KnownEnclave], python: Path) -> Iterator[Finding]:
    try:
        attested, version = prove(Silent(), tee=tee, python=python)
    except StrongroomError as err:
        found = f"{python} ({tee}) cannot be asked for {len(volumes)} known volumes: {err.message}"
        yield Finding("next enclave", "missing", found, err.hint)
        return
    following = attested.identity
    found = f"version {version}, security version {following.security_version}, provider {tee}"
    yield Finding("next enclave", "ok", f"{found}, measurement {following.measurement.hex()}", "")
    for volume in volumes:
        yield _verdict(volume, following, python)


def _verdict(volume: KnownEnclave, following: Identity, python: Path) -> Finding:
    topic = f"volume {volume.volume}"
    found = obstacle(volume, following)
    if found is None:
        return Finding(topic, "ok", "the next enclave opens it", "")
    reason, reseal_mends = found
    mend = f"{_RESEAL} --next {python}" if reseal_mends else _STAY
    return Finding(topic, "warning", f"LOCKED for the next enclave: {reason}", mend)
