# SPDX-License-Identifier: Apache-2.0
"""Headers to test with: made by the product, or taken from the golden files."""

import gzip
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from strongroom.luks2 import (
    HEADER_COPY_BYTES,
    AntiForensic,
    Area,
    Argon2,
    Digest,
    Header,
    Keyslot,
    LoadedHeader,
    Priority,
    Step,
    WriteAt,
    allocate_area,
    area_bytes,
    commit_steps,
    load_header,
    new_header,
    with_keyslot,
)
from strongroom.units import ByteCount

GOLDEN = Path(__file__).parents[2] / "golden" / "headers"
GOLDEN_NAMES = sorted(path.name.removesuffix(".gz") for path in GOLDEN.glob("*.gz"))
UUID = "01234567-89ab-4cde-8f01-23456789abcd"
IMAGE_BYTES = 32 * 1024 * 1024
DIGEST = Digest("sha256", 1000, bytes(32), bytes(range(32)))


@dataclass(frozen=True)
class Golden:
    data: bytes
    image_size_bytes: ByteCount
    detached: bool


def golden(name: str) -> Golden:
    facts = json.loads((GOLDEN / "manifest.json").read_text())["headers"][name]
    data = gzip.decompress((GOLDEN / f"{name}.gz").read_bytes())
    size = min(HEADER_COPY_BYTES, facts["image_size_bytes"])
    return Golden(data.ljust(size, b"\0"), facts["image_size_bytes"], facts["detached"])


def load_golden(name: str) -> LoadedHeader:
    file = golden(name)
    return load_header(file.data, image_size_bytes=file.image_size_bytes, detached=file.detached)


def fresh(*, keyslots: int = 0, label: str = "", detached: bool = False) -> Header:
    header = new_header(
        uuid=UUID,
        salt=b"1" * 64,
        secondary_salt=b"2" * 64,
        digest=DIGEST,
        sector_size_bytes=4096,
        volume_key_bytes=64,
        label=label,
        detached=detached,
    )
    for number in range(keyslots):
        header = with_keyslot(header, number, keyslot_in(header), digest=0)
    return header


def keyslot_in(
    header: Header, *, key_bytes: int = 64, priority: Priority = Priority.NORMAL
) -> Keyslot:
    size = area_bytes(key_bytes, 4000)
    offset = allocate_area(header, size)
    rounded = ByteCount(-(-size // 4096) * 4096)
    return Keyslot(
        key_bytes=key_bytes,
        kdf=Argon2("argon2id", 4, 1024, 2, bytes(32)),
        area=Area(offset, rounded, "aes-xts-plain64", 64),
        af=AntiForensic(4000, "sha256"),
        priority=priority,
    )


def apply(steps: Iterable[Step], data: bytes) -> bytes:
    result = bytearray(data)
    for step in steps:
        if isinstance(step, WriteAt):
            result[step.offset : step.offset + len(step.data)] = step.data
    return bytes(result)


def committed(header: Header, data: bytes = bytes(HEADER_COPY_BYTES)) -> bytes:
    return apply(commit_steps(header), data)


def reload(data: bytes, *, detached: bool = False) -> LoadedHeader:
    return load_header(
        data[:HEADER_COPY_BYTES], image_size_bytes=ByteCount(IMAGE_BYTES), detached=detached
    )
