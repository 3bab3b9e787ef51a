# SPDX-License-Identifier: Apache-2.0
"""Who an enclave is, in the words that all TEEs share."""

from typing import Final, Literal

from strongroom.values import dataclass

SealPolicy = Literal["signer", "measurement"]
"""To what a seal key is bound: everything its signer signs for this product, or one measurement."""

IDENTIFIER_BYTES: Final = 32
USER_DATA_BYTES: Final = 64
SEAL_KEY_BYTES: Final = 32


@dataclass(frozen=True, slots=True)
class Identity:
    """An enclave's identity.

    Attributes:
        tee: The provider's name.
        simulated: No hardware stands behind it.
        measurement: Digest of what runs; SGX: MRENCLAVE.
        signer: Digest of the key that signed the measurement; SGX: MRSIGNER.
        product_id: Tells the signer's products apart; SGX: ISVPRODID.
        security_version: Raised by its signer when a weakness is mended; SGX: ISVSVN.
        debug: Its memory can be read by a debugger: it must be given no secret.
    """

    tee: str
    simulated: bool
    measurement: bytes
    signer: bytes
    product_id: int
    security_version: int
    debug: bool


@dataclass(frozen=True, slots=True)
class VerifiedReport:
    """What a report says.

    Attributes:
        genuine: Something vouches for it. Where nothing on this machine can, it is ``False``: what
            is in it is then a claim.
    """

    identity: Identity
    user_data: bytes
    genuine: bool
