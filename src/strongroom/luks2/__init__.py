# SPDX-License-Identifier: Apache-2.0
"""LUKS2 metadata: bytes in, values out.

Reads and checks a header, edits it, and says what to write where. It opens no file, asks no clock,
makes no randomness and sees no secret; keys are the business of ``strongroom._core``.

The way through: :func:`load_header`, :func:`repair_steps` when a copy is broken, then edits such
as :func:`with_keyslot`, and :func:`commit_steps`. ``spec/volume.md`` has the profile and limits.

Spec: LUKS2 on-disk format 1.1.
"""

from strongroom.luks2._json import JsonValue
from strongroom.luks2.authentication import (
    Differences,
    ForeignChange,
    differences,
    sealed_slots,
)
from strongroom.luks2.backup import Backup, backup_size_bytes, check_backup, restore_steps
from strongroom.luks2.binary import BinaryHeader, HeaderCopy, copy_salt
from strongroom.luks2.canonical import canonical_json
from strongroom.luks2.codes import (
    authenticated_bytes,
    segment_digest_salt,
    volume_authenticated_bytes,
    with_authentication,
)
from strongroom.luks2.commit import Step, Sync, WriteAt, commit_steps, repair_steps
from strongroom.luks2.create import new_header
from strongroom.luks2.describe import describe
from strongroom.luks2.edit import (
    free_keyslot,
    free_token,
    recovery_token,
    with_digest,
    with_keyslot,
    with_token,
    without_keyslot,
    without_token,
)
from strongroom.luks2.keyslots import kdf_json, parse_kdf_text
from strongroom.luks2.layout import allocate_area, largest_sector_size, unreferenced_areas
from strongroom.luks2.limits import HEADER_COPY_BYTES
from strongroom.luks2.load import LoadedHeader, load_header, look_at_header
from strongroom.luks2.model import (
    AntiForensic,
    Area,
    Argon2,
    Config,
    CryptSegment,
    Digest,
    ForeignDigest,
    ForeignKeyslot,
    ForeignSegment,
    Header,
    Keyslot,
    Metadata,
    Pbkdf2,
    Priority,
    Refusal,
    Token,
    area_bytes,
)
from strongroom.luks2.parts import header_digests
from strongroom.luks2.token import SealedSlot, Sealing, StrongroomToken, strongroom_token

__all__ = [
    "HEADER_COPY_BYTES",
    "AntiForensic",
    "Area",
    "Argon2",
    "Backup",
    "BinaryHeader",
    "Config",
    "CryptSegment",
    "Differences",
    "Digest",
    "ForeignChange",
    "ForeignDigest",
    "ForeignKeyslot",
    "ForeignSegment",
    "Header",
    "HeaderCopy",
    "JsonValue",
    "Keyslot",
    "LoadedHeader",
    "Metadata",
    "Pbkdf2",
    "Priority",
    "Refusal",
    "SealedSlot",
    "Sealing",
    "Step",
    "StrongroomToken",
    "Sync",
    "Token",
    "WriteAt",
    "allocate_area",
    "area_bytes",
    "authenticated_bytes",
    "backup_size_bytes",
    "canonical_json",
    "check_backup",
    "commit_steps",
    "copy_salt",
    "describe",
    "differences",
    "free_keyslot",
    "free_token",
    "header_digests",
    "kdf_json",
    "largest_sector_size",
    "load_header",
    "look_at_header",
    "new_header",
    "parse_kdf_text",
    "recovery_token",
    "repair_steps",
    "restore_steps",
    "sealed_slots",
    "segment_digest_salt",
    "strongroom_token",
    "unreferenced_areas",
    "volume_authenticated_bytes",
    "with_authentication",
    "with_digest",
    "with_keyslot",
    "with_token",
    "without_keyslot",
    "without_token",
]
