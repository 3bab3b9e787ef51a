# SPDX-License-Identifier: Apache-2.0
"""What must hold of a header before and after its volume key is there, and its new codes.

Spec: ``spec/unlock.md``, "Header authentication".
"""

from collections.abc import Mapping
from typing import Final

from strongroom import _core
from strongroom._core import Secret
from strongroom.boundary.calls import Terms
from strongroom.boundary.sealed import changes_digest, described
from strongroom.enclave.header_keys import (
    authentication_mark,
    enclave_header_key,
    volume_header_key,
)
from strongroom.enclave.inspection import (
    OLD_UUID_HINT,
    TAMPERED_HINT,
    Inspected,
    judge,
    may_be_renamed,
    tampered,
)
from strongroom.enclave.wording import as_shown
from strongroom.errors import HeaderChangedError, HeaderTamperedError, RollbackError
from strongroom.luks2 import (
    ForeignChange,
    Header,
    HeaderCopy,
    StrongroomToken,
    copy_salt,
    segment_digest_salt,
    volume_authenticated_bytes,
    with_authentication,
)
from strongroom.values import replace

_ACCEPT_HINT: Final = "if that was you, say so with --accept-header-change"


def _listed(uuids: tuple[str, ...]) -> str:
    return " and ".join(uuids) or "never another"


def check_terms(inspected: Inspected, terms: Terms, *, adopting: bool = False) -> None:
    """Refuse, before the passphrase is used, a header that the operator's terms rule out.

    An exchanged volume key is accepted, or not, once it is proven: by :func:`check_opened`.

    Args:
        inspected: The header.
        terms: What was sealed with the passphrase.
        adopting: The operator adopts the volume, and with it another UUID.

    Raises:
        HeaderTamperedError: It was tampered with, lost its codes, or is of another volume.
        HeaderChangedError: Another program changed it, and that was not accepted.
        RollbackError: It is older than the newest one that the operator has seen.
    """
    if terms.volume.lower() != inspected.uuid.lower():
        raise HeaderTamperedError(
            f"the passphrase was meant for the volume {terms.volume}, and this is {inspected.uuid}",
            hint=TAMPERED_HINT,
        )
    if terms.former_volumes != inspected.former_uuids:
        raise HeaderTamperedError(
            f"the UUID of the volume was {_listed(inspected.former_uuids)}, and the operator was "
            f"told {_listed(terms.former_volumes)}",
            hint=TAMPERED_HINT,
        )
    if inspected.state == "tampered":
        raise tampered(inspected.findings, exchanged=inspected.exchanged)
    if terms.authenticated and inspected.token is None:
        raise tampered(("its authentication was removed",))
    if inspected.state == "changed" and not inspected.exchanged:
        _check_accepted(inspected.acceptable, terms, adopting=adopting)
    if inspected.state in {"verified", "changed", "damaged"}:
        _check_epoch(inspected.token, terms)


def check_opened(
    inspected: Inspected, terms: Terms, volume_key: Secret, *, adopting: bool = False
) -> bool:
    """Check a header with the volume key that one of its keyslots gave.

    The arguments are those of :func:`check_terms`.

    Returns:
        Whether the header is authenticated.

    Raises:
        HeaderTamperedError: A code is wrong, or codes that should be there are not.
        HeaderChangedError: As for :func:`check_terms`.
        RollbackError: The same.
    """
    mark = authentication_mark(volume_key)
    if inspected.token is None:
        # Of any digest, as the one that a keyslot opened by need not be the segment's.
        if any(mark == digest.salt for digest in inspected.header.digests.values()):
            raise tampered(("its authentication was removed",))
        return False
    _check_codes(
        inspected,
        inspected.token,
        volume_key,
        is_marked=mark == segment_digest_salt(inspected.header),
    )
    if inspected.state == "unverified" or inspected.exchanged:
        verdict = judge(inspected.loaded, inspected.material, inspected.token)
        if verdict.state == "tampered":
            raise tampered(verdict.findings, exchanged=verdict.exchanged)
        if verdict.state == "changed":
            _check_accepted(verdict.acceptable, terms, adopting=adopting)
        _check_epoch(inspected.token, terms)
    return is_authenticated(inspected)


def is_authenticated(inspected: Inspected) -> bool:
    """Tell whether a code covers a header of which a keyslot was opened, and it was right.

    Of a volume whose key was exchanged, the code of its enclave is left, and nothing on another.
    """
    if inspected.token is None:
        return False
    return not inspected.exchanged or inspected.state != "unverified"


def _check_codes(
    inspected: Inspected, token: StrongroomToken, volume_key: Secret, *, is_marked: bool
) -> None:
    if not inspected.exchanged:
        if not is_marked or not _is_authentic(inspected, token, volume_key):
            raise _wrong_code(inspected, token)
    elif is_marked:
        # A key that was authenticated once, of an older header: no other program makes the mark.
        raise tampered(("the digest of the volume key was changed",))


def _is_authentic(inspected: Inspected, token: StrongroomToken, volume_key: Secret) -> bool:
    key = volume_header_key(volume_key, inspected.sealed_uuid)
    message = volume_authenticated_bytes(inspected.uuid, token)
    try:
        return _core.hmac_sha256_matches(key, message, token.volume_code)
    finally:
        key.erase()


def authenticated(
    header: Header,
    material: Mapping[int, bytes],
    token: StrongroomToken,
    *,
    seal_key: Secret,
    header_key: Secret,
    kept: Mapping[int, bytes],
) -> Header:
    """Return the header with its token and both codes: the last edit before a commit.

    Args:
        header: The header to be written.
        material: What will lie in the area of each keyslot.
        token: Number, epoch, sealing and slots of the token.
        seal_key: The key that ``token.sealing`` describes.
        header_key: From :func:`strongroom.enclave.header_keys.volume_header_key`.
        kept: The digests of the keyslots that are damaged: those that the header had before.
    """
    uuid = token.sealed_under(header.binary.uuid)
    binary = replace(
        header.binary,
        salt=copy_salt(uuid, HeaderCopy.PRIMARY),
        secondary_salt=copy_salt(uuid, HeaderCopy.SECONDARY),
    )
    enclave_key = enclave_header_key(seal_key, uuid)

    def codes(message: bytes) -> tuple[bytes, bytes]:
        enclave_code = _core.hmac_sha256(enclave_key, message)
        return enclave_code, _core.hmac_sha256(header_key, message + enclave_code)

    try:
        return with_authentication(
            replace(header, binary=binary), token, material, codes, kept=kept
        )
    finally:
        enclave_key.erase()


def is_accepted(changes: tuple[ForeignChange, ...], terms: Terms) -> bool:
    """Tell whether the operator accepted just these changes of a header."""
    return terms.accepted_changes == changes_digest(as_shown(changes))


def _wrong_code(inspected: Inspected, token: StrongroomToken) -> HeaderTamperedError:
    problem = "the volume's authentication code is wrong"
    if not may_be_renamed(inspected.loaded, token):
        return tampered((problem,))
    return HeaderTamperedError(
        f"{problem}: the UUID {inspected.uuid} is not the one that the volume was sealed under, "
        "or the header was tampered with",
        hint=OLD_UUID_HINT,
    )


def _check_accepted(changes: tuple[ForeignChange, ...], terms: Terms, *, adopting: bool) -> None:
    shown = as_shown(changes)
    if is_accepted(changes, terms):
        return
    if adopting and all(change.renames for change in changes):
        return
    otherwise = "" if terms.accepted_changes is None else ", and not as it was accepted"
    raise HeaderChangedError(
        f"another program changed the header{otherwise}: {described(shown)}", hint=_ACCEPT_HINT
    )


def _check_epoch(token: StrongroomToken | None, terms: Terms) -> None:
    if token is not None and token.epoch < terms.minimum_epoch:
        raise RollbackError(
            f"the header is of epoch {token.epoch}, and epoch {terms.minimum_epoch} was seen here",
            hint="an older header was put back, and its old passphrases open it. If that was you: "
            "`strongroom header backup IMAGE FILE`, then `strongroom header restore IMAGE FILE "
            "--force`",
        )
