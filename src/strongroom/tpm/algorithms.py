# SPDX-License-Identifier: Apache-2.0
"""The algorithms that Strongroom uses with a TPM, and the names of all others.

Spec: TCG Algorithm Registry; TPM 2.0 Part 2, 6.3 "TPM_ALG_ID".
"""

import enum
import hashlib
from typing import Final

from strongroom.errors import TpmError


class Algorithm(enum.IntEnum):
    """A ``TPM_ALG_ID``; names as tpm2-tools writes them, but for the case."""

    RSA = 0x0001
    SHA1 = 0x0004
    HMAC = 0x0005
    AES = 0x0006
    MGF1 = 0x0007
    KEYEDHASH = 0x0008
    XOR = 0x000A
    SHA256 = 0x000B
    SHA384 = 0x000C
    SHA512 = 0x000D
    NULL = 0x0010
    SM3_256 = 0x0012
    SM4 = 0x0013
    RSASSA = 0x0014
    RSAES = 0x0015
    RSAPSS = 0x0016
    OAEP = 0x0017
    ECDSA = 0x0018
    ECDH = 0x0019
    ECDAA = 0x001A
    SM2 = 0x001B
    ECSCHNORR = 0x001C
    ECMQV = 0x001D
    KDF1_SP800_56A = 0x0020
    KDF2 = 0x0021
    KDF1_SP800_108 = 0x0022
    ECC = 0x0023
    SYMCIPHER = 0x0025
    CAMELLIA = 0x0026
    SHA3_256 = 0x0027
    SHA3_384 = 0x0028
    SHA3_512 = 0x0029
    CMAC = 0x003F
    CTR = 0x0040
    OFB = 0x0041
    CBC = 0x0042
    CFB = 0x0043
    ECB = 0x0044


class KeyKind(enum.Enum):
    """What an asymmetric key may be: its algorithm, and its ``TPM_ECC_CURVE`` or length in bits.

    Spec: TPM 2.0 Part 2, 6.4 for the curves.
    """

    P256 = (Algorithm.ECC, 0x0003)
    P384 = (Algorithm.ECC, 0x0004)
    RSA2048 = (Algorithm.RSA, 2048)
    RSA3072 = (Algorithm.RSA, 3072)
    RSA4096 = (Algorithm.RSA, 4096)

    @property
    def algorithm(self) -> Algorithm:
        """Which arithmetic it is of."""
        return self.value[0]

    @property
    def curve_or_bits(self) -> int:
        """What tells it from others of its algorithm, as it is in a public area."""
        return self.value[1]


_HASHES: Final = {
    Algorithm.SHA1: "sha1",
    Algorithm.SHA256: "sha256",
    Algorithm.SHA384: "sha384",
    Algorithm.SHA512: "sha512",
    Algorithm.SHA3_256: "sha3_256",
    Algorithm.SHA3_384: "sha3_384",
    Algorithm.SHA3_512: "sha3_512",
}


def algorithm_name(number: int) -> str:
    """Return the name of an algorithm, or its number in hexadecimal."""
    try:
        return Algorithm(number).name.lower()
    except ValueError:
        return f"{number:#06x}"


def digest(algorithm: int, content: bytes) -> bytes:
    """Hash with an algorithm of the TPM.

    Raises:
        TpmError: It is no hash that this machine computes.
    """
    try:
        name = _HASHES[Algorithm(algorithm)]
    except (KeyError, ValueError):
        raise TpmError(f"the hash {algorithm_name(algorithm)} is not supported") from None
    return hashlib.new(name, content).digest()
