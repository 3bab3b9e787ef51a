# SPDX-License-Identifier: Apache-2.0
"""What tpm2-tools 5.4 wrote of objects in swtpm 0.7.1.

``tpm2_readpublic -f tss -o PUBLIC -n NAME`` and ``tpm2_nvreadpublic``: the TPM computes the Names.
"""

from typing import Final

from strongroom.tpm import KeyKind, NvPublic, PublicArea

STORAGE: Final = PublicArea(
    bytes.fromhex(
        "0023000b00030072000000060080004300100003001000"
        "20d03fc8e0a434343bfb2e8d1fa1673e00b62d1ef3a9be6ab53a14713d8acc3c92"
        "0020f00a06eb7756a2114f03095a80fbca2fcdae2d040b198c8977ea34f43383876e"
    )
)
STORAGE_NAME: Final = bytes.fromhex(
    "000b98e623bb3efd282b1370ed4bb38cda3136f229e15a293e7ad8bf8d8f34dfeaea"
)
ON_P384: Final = PublicArea(
    bytes.fromhex(
        "0023000c00030072000000060100004300100004001000"
        "303837bf4d23563f96a94021b6ecb8f51d9ee152dc14c2ca6d924fe9e1af373c1f"
        "cc22bbd16427ea838801f18f6239952100"
        "305db74d3cf1b96e0001f605fbbc9e9d5c78dd375baaed99628a075a9e1d5fdbbc"
        "02fcaaed9f21fe95810825a89ca182b3"
    )
)
ON_P384_NAME: Final = bytes.fromhex(
    "000c201033455c0b6d333282f653e1c45fc7f9276d366779bf6b3720f71b0de2d912"
    "60e34c6e1141e26176361f898a07b253"
)
KEYS: Final = ((STORAGE, STORAGE_NAME, KeyKind.P256), (ON_P384, ON_P384_NAME, KeyKind.P384))

INDEX: Final = NvPublic(0x01800042, 0x02040004, 32)
INDEX_NAME: Final = bytes.fromhex(
    "000b49990e18cbab2b4a5f014bd4d7e5d1720dd2f26ad8f938ae3c43d5bb2f914399"
)
COUNTER: Final = NvPublic(0x01800043, 0x00020012, 8, name_algorithm=0x000C)
COUNTER_NAME: Final = bytes.fromhex(
    "000c3dd409039f55c02ee479bbd878d237e92a8b0950d6c2b090d88a2d31e0129a30"
    "12bc9c8555361d8ea9f6419c0954a3f5"
)
WRITTEN_COUNTER_NAME: Final = bytes.fromhex(
    "000caa1bcc4b993eb43c473a090124bd2b308ca50ae95f4c5c616432e9fa9c970fb7"
    "ae746a12bf930703c19114c60372d712"
)
