# SPDX-License-Identifier: Apache-2.0
"""The limits and the allow-lists of the LUKS2 profile, each with its reason.

The limits are cryptsetup's own where it has one, so that no volume it makes is refused for size.
The table of ``spec/volume.md`` repeats this module.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from strongroom.units import GIB, KIB, MIB, ByteCount, ByteOffset

BINARY_HEADER_BYTES: Final = 4096
"""The binary header, with its padding, in front of each JSON area. Spec: LUKS2 2.1."""

HEADER_SIZES: Final = tuple(16 * KIB << shift for shift in range(9))
"""What one header copy may measure, 16 KiB to 4 MiB; also where the secondary may start."""

HEADER_COPY_BYTES: Final = ByteCount(8 * MIB)
"""How much of a device the caller reads, once: two copies of the largest size."""

DEFAULT_HEADER_BYTES: Final = ByteCount(16 * KIB)
DEFAULT_DATA_OFFSET_BYTES: Final = ByteOffset(16 * MIB)
"""What ``luksFormat`` picks, and so do we."""

MAX_KEYSLOTS_BYTES: Final = 128 * MIB
MAX_BACKUP_SLACK_BYTES: Final = 64 * KIB
"""A header backup is padded to a page, which is 64 KiB at most."""

AREA_GRID_BYTES: Final = 4096
"""Keyslot areas that are written start and end on this grid."""

SECTOR_BYTES: Final = 512
"""The grid of keyslot areas that are read, and the unit of ``iv_tweak``."""

MAX_JSON_DEPTH: Final = 32
"""The depth at which json-c, and so cryptsetup, gives up."""

MAX_JSON_VALUES: Final = 65536
"""Strings, numbers and brackets in a JSON area; bounds the memory a hostile one can take."""

MAX_INTEGER_DIGITS: Final = 20
UINT64_MAX: Final = 2**64 - 1
INT64_MIN: Final = -(2**63)

MAX_KEYSLOTS: Final = 32
MAX_TOKENS: Final = 32
MAX_SEGMENTS: Final = 32
MAX_DIGESTS: Final = 8

MAX_NAME_CHARACTERS: Final = 256
"""Longest name of a type, cipher, hash, flag or requirement."""

STRIPES: Final = 4000
"""The only count of anti-forensic stripes that cryptsetup writes or uses."""

MIN_SALT_BYTES: Final = 8
"""Argon2's own minimum. Spec: RFC 9106, 3.1."""
MAX_SALT_BYTES: Final = 64
MIN_DIGEST_BYTES: Final = 20
"""A shorter digest would confirm wrong keys; 20 is what LUKS1 had."""
MAX_DIGEST_BYTES: Final = 64

MAX_PBKDF2_ITERATIONS: Final = 2**29
"""Minutes of work on a fast machine: more can only be meant to hang us."""
MAX_ARGON2_MEMORY_KIB: Final = 4 * GIB // KIB
MAX_ARGON2_LANES: Final = 16
MAX_ARGON2_WORK_KIB: Final = 2**30
"""Memory times iterations, in KiB: 1 TiB of memory traffic is many minutes of work."""
ARGON2_BLOCKS_PER_LANE: Final = 8
"""Argon2 needs eight blocks of 1 KiB per lane. Spec: RFC 9106, 3.1."""

SECTOR_SIZES: Final = (512, 1024, 2048, 4096)

HASHES: Final[Mapping[str, int]] = MappingProxyType(
    {"sha1": 20, "sha224": 28, "sha256": 32, "sha384": 48, "sha512": 64}
)
"""Hash names and their length in bytes."""

CIPHER_KEY_BYTES: Final[Mapping[str, tuple[int, ...]]] = MappingProxyType(
    {"aes-xts-plain64": (32, 64), "aes-cbc-essiv:sha256": (16, 32)}
)
"""Ciphers of segments and keyslot areas, and their key lengths in bytes."""

WRITABLE_CIPHER: Final = "aes-xts-plain64"

UNDERSTOOD_TOKENS: Final = frozenset({"luks2-keyring", "systemd-recovery", "strongroom"})
"""Token types whose keyslots may be changed without breaking what the token is for."""

OWNED_TOKENS: Final = frozenset({"systemd-recovery"})
"""Token types that mean nothing without a keyslot, and go with their last one."""

STRONGROOM_TOKEN: Final = "strongroom"  # noqa: S105 -- a type, not a secret
"""The type of the token that seals keyslots and authenticates the header."""

SEALED_FACTORS: Final = ("enclave", "passphrase", "tpm")
"""What a sealed keyslot may need, in the order in which a token lists it."""

MAX_SAFE_INTEGER: Final = 2**53 - 1
"""The largest integer that every JSON reader represents. Spec: RFC 8785, 3.2.2.3."""

SEALED_SHARE_BYTES: Final = 81
"""A version byte, a salt of 32 bytes, a secret of 32, and a tag of 16."""
MIN_SEALED_PARAMETERS_BYTES: Final = 50
MAX_SEALED_PARAMETERS_BYTES: Final = 512
"""The same around the parameters of a KDF, which take about 120 bytes."""

IDENTIFIER_BYTES: Final = 32
"""A measurement, or the digest of a signer's key."""
KEY_ID_BYTES: Final = 16
"""What tells one machine's seal key from another's."""
CODE_BYTES: Final = 32
"""An authentication code, and a digest of a part of the header: HMAC-SHA256 and SHA-256."""
SEQUENCE_BYTES: Final = 8
UINT16_MAX: Final = 2**16 - 1
