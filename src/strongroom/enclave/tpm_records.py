# SPDX-License-Identifier: Apache-2.0
"""What the enclave keeps of a TPM from one life to the next: sealed to itself, carried by the host.

::

    version u8 = 1 | security version u16 | blob

The blob holds public areas and handles as JSON, sealed under the policy ``signer``. Nothing in it
is secret; it is sealed so that nobody but this enclave can write one.
"""

import json
from typing import Final

from strongroom import _core
from strongroom._core import Secret
from strongroom.errors import FormatError, SealedBlobError, TpmChangedError
from strongroom.luks2 import JsonValue, canonical_json
from strongroom.tee.provider import Tee
from strongroom.tpm import Key, PublicArea
from strongroom.tpm.enrolment import Enrolment

_VERSION: Final = 1
_HEADER_BYTES: Final = 3
_AAD: Final = b"strongroom/1 tpm record\0"
_AUTH_INFO: Final = b"strongroom/1 tpm auth\0"
AUTH_BYTES: Final = 32
ATTESTATION_LABEL: Final = b"attestation key"


def seal_record(enrolment: Enrolment, tee: Tee, version: int) -> bytes:
    """Return the record of a TPM that was just met.

    Args:
        enrolment: What was met.
        tee: Whose seal key it is.
        version: The security version whose keys protect what is in that TPM; not a later one.
    """
    header = bytes([_VERSION]) + version.to_bytes(2, "big")
    content = canonical_json(
        {
            "endorsement": enrolment.endorsement.wire.hex(),
            "storage_root": _described(enrolment.storage_root),
            "attestation": _described(enrolment.attestation),
        }
    )
    key = tee.seal_key("signer", version)
    try:
        return header + _core.seal_parameters(content, key, aad=_AAD + header)
    finally:
        key.erase()


def open_record(record: bytes, tee: Tee) -> tuple[Enrolment, int]:
    """Return what is known of a TPM, and the security version at which it was met.

    Raises:
        FormatError: It is no record, or one of a later version.
        TpmChangedError: Another enclave, or this one on another machine, has made it.
        SecurityVersionError: A newer version of this enclave has made it.
    """
    header, blob = record[:_HEADER_BYTES], record[_HEADER_BYTES:]
    if len(header) < _HEADER_BYTES or header[0] != _VERSION:
        raise FormatError("the record of the enrolled TPM is none that this version reads")
    version = int.from_bytes(header[1:], "big")
    key = tee.seal_key("signer", version)
    try:
        content = json.loads(_core.unseal_parameters(blob, key, aad=_AAD + header))
    except SealedBlobError as err:
        raise TpmChangedError(
            "the record of the enrolled TPM is not one of this enclave on this machine",
            hint="enrol the TPM again, with `strongroom tpm enrol`",
        ) from err
    finally:
        key.erase()
    enrolment = Enrolment(
        PublicArea(bytes.fromhex(content["endorsement"])),
        _key(content["storage_root"]),
        _key(content["attestation"]),
    )
    return enrolment, version


def derived_auth(tee: Tee, security_version: int, label: bytes) -> Secret:
    """Return an authorization value that this enclave alone has, on this machine: 32 bytes.

    Raises:
        SecurityVersionError: As :meth:`Tee.seal_key`.
    """
    key = tee.seal_key("signer", security_version)
    try:
        return _core.hkdf_sha256([key], salt=b"", info=_AUTH_INFO + label, length_bytes=AUTH_BYTES)
    finally:
        key.erase()


def _described(key: Key) -> dict[str, JsonValue]:
    return {"handle": key.handle, "public": key.public.wire.hex()}


def _key(described: dict[str, object]) -> Key:
    return Key(int(str(described["handle"])), PublicArea(bytes.fromhex(str(described["public"]))))
