# SPDX-License-Identifier: Apache-2.0
"""The keys under which a header is authenticated, and the mark that it must be.

Two keys authenticate the same bytes. The enclave's is there before any passphrase, so a changed
header is refused before a KDF runs or a cipher is chosen. The volume key's is there for every way
in, the recovery key included, on every machine.

The mark depends on the volume key alone: a UUID that somebody changed does not hide it.

Spec: ``spec/unlock.md``, "Header authentication".
"""

from typing import Final

from strongroom import _core
from strongroom._core import Secret
from strongroom.uuids import uuid_bytes

_ENCLAVE_KEY: Final = b"strongroom/1 header key of the enclave\0"
_VOLUME_KEY: Final = b"strongroom/1 header key\0"
_KEY_ID: Final = b"strongroom/1 enclave"
_MARK_KEY: Final = b"strongroom/1 header mark"
_MARK: Final = b"strongroom/1 authenticated"
_KEY_BYTES: Final = 32
_KEY_ID_BYTES: Final = 16


def enclave_header_key(seal_key: Secret, volume_uuid: str) -> Secret:
    """Return the key of the enclave's authentication code, 32 bytes."""
    return _derive(seal_key, _ENCLAVE_KEY, volume_uuid)


def volume_header_key(volume_key: Secret, volume_uuid: str) -> Secret:
    """Return the key of the volume's authentication code, 32 bytes."""
    return _derive(volume_key, _VOLUME_KEY, volume_uuid)


def enclave_key_id(header_key: Secret) -> bytes:
    """Return 16 bytes that tell from which seal key the enclave's header key comes.

    Enclaves of one identity have other seal keys on other machines. Without this, a header of
    another machine would look like one that was tampered with.
    """
    return _core.hmac_sha256(header_key, _KEY_ID)[:_KEY_ID_BYTES]


def authentication_mark(volume_key: Secret) -> bytes:
    """Return the salt that the volume-key digest of an authenticated volume has, 32 bytes.

    It is not bound to the UUID, unlike the codes: without a token nothing vouches for the UUID.

    Whoever changes the salt breaks the digest, and nobody without the volume key can make another:
    so a header whose authentication codes were removed still says that it had some.
    """
    key = _core.hkdf_sha256([volume_key], salt=b"", info=_MARK_KEY, length_bytes=_KEY_BYTES)
    try:
        return _core.hmac_sha256(key, _MARK)
    finally:
        key.erase()


def _derive(key: Secret, label: bytes, volume_uuid: str) -> Secret:
    info = label + uuid_bytes(volume_uuid)
    return _core.hkdf_sha256([key], salt=b"", info=info, length_bytes=_KEY_BYTES)
