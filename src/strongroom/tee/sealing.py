# SPDX-License-Identifier: Apache-2.0
"""From what a platform holds to a seal key, the same for all providers."""

import struct
from typing import Final

from strongroom._core import Secret, hkdf_sha256
from strongroom.tee.identity import SEAL_KEY_BYTES, Identity, SealPolicy

_INFO: Final = b"strongroom/1 seal key\0"


def derive_seal_key(
    platform_key: Secret, identity: Identity, policy: SealPolicy, security_version: int
) -> Secret:
    """Derive the seal key of an identity at a security version; whether it may is checked before.

    The HKDF info is ``strongroom/1 seal key``, a zero byte, the policy, a zero byte, the 32 bytes
    that the policy names, then the product id and the security version, 2 bytes each, big-endian,
    and one byte that is 1 for a debug enclave.
    """
    bound_to = identity.measurement if policy == "measurement" else identity.signer
    info = b"".join(
        (
            _INFO,
            policy.encode() + b"\0",
            bound_to,
            struct.pack(">HHB", identity.product_id, security_version, identity.debug),
        )
    )
    return hkdf_sha256([platform_key], salt=b"", info=info, length_bytes=SEAL_KEY_BYTES)
