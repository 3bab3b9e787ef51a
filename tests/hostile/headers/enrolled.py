# SPDX-License-Identifier: Apache-2.0
"""Small authenticated headers to attack, and one place that says how an attack was noticed."""

import hashlib
import hmac
from collections import Counter
from dataclasses import replace

from strongroom.errors import FormatError
from strongroom.luks2 import (
    AntiForensic,
    Area,
    Digest,
    Header,
    HeaderCopy,
    Keyslot,
    LoadedHeader,
    Pbkdf2,
    SealedSlot,
    Sealing,
    StrongroomToken,
    allocate_area,
    area_bytes,
    authenticated_bytes,
    commit_steps,
    copy_salt,
    differences,
    load_header,
    new_header,
    recovery_token,
    strongroom_token,
    with_authentication,
    with_keyslot,
    with_token,
)
from strongroom.luks2.commit import WriteAt
from strongroom.units import ByteCount, ByteOffset

UUID = "01234567-89ab-4cde-8f01-23456789abcd"
DATA_OFFSET = ByteOffset(512 * 1024)
IMAGE_BYTES = ByteCount(DATA_OFFSET + 4096)
KEY_BYTES = 32
HDR = 16384

Areas = dict[int, bytes]


def codes(message: bytes) -> tuple[bytes, bytes]:
    """Codes under two fixed keys: here it only matters that nobody else has them."""
    enclave_code = hmac.digest(b"enclave", message, "sha256")
    return enclave_code, hmac.digest(b"volume", message + enclave_code, "sha256")


def sealing() -> Sealing:
    return Sealing(
        tee="process",
        simulated=True,
        policy="signer",
        measurement=bytes(range(32)),
        signer=bytes(32),
        product_id=1,
        security_version=2,
        debug=False,
        key_id=bytes(16),
    )


def sealed_slot(mark: int = 0) -> SealedSlot:
    return SealedSlot(("enclave", "passphrase"), bytes([mark]) * 81, bytes([mark]) * 50)


def token_body(*sealed: int, number: int = 0, epoch: int = 1) -> StrongroomToken:
    return StrongroomToken(
        number=number,
        keyslots=sealed,
        epoch=epoch,
        sealing=sealing(),
        slots={slot: sealed_slot(slot + 1) for slot in sealed},
    )


def plain_header(keyslots: int = 2) -> Header:
    header = new_header(
        uuid=UUID,
        salt=copy_salt(UUID, HeaderCopy.PRIMARY),
        secondary_salt=copy_salt(UUID, HeaderCopy.SECONDARY),
        digest=Digest("sha256", 1000, bytes(32), bytes(range(32))),
        sector_size_bytes=4096,
        volume_key_bytes=KEY_BYTES,
        label="work",
        data_offset_bytes=DATA_OFFSET,
    )
    for number in range(keyslots):
        size = area_bytes(KEY_BYTES, 4000)
        area = Area(
            allocate_area(header, size), ByteCount(-(-size // 4096) * 4096), "aes-xts-plain64", 64
        )
        kdf = Pbkdf2("sha512", 1000, bytes(32))
        keyslot = Keyslot(KEY_BYTES, kdf, area, AntiForensic(4000, "sha256"))
        header = with_keyslot(header, number, keyslot, digest=0)
    return header


def material(header: Header) -> Areas:
    """Key material of every keyslot: what it is does not matter, as it is only digested."""
    return {
        number: hashlib.sha256(bytes([number])).digest() * (area_bytes(KEY_BYTES, 4000) // 32)
        for number in header.keyslots
    }


def enrolled(*sealed: int, keyslots: int = 2) -> Header:
    """Keyslot 0 is sealed, unless it is said otherwise, and the last one has a recovery key."""
    header = plain_header(keyslots)
    header = with_token(header, recovery_token(keyslots - 1), number=1)
    return with_authentication(header, token_body(*(sealed or (0,))), material(header), codes)


def written(header: Header) -> bytes:
    image = bytearray(IMAGE_BYTES)
    for step in commit_steps(header):
        if isinstance(step, WriteAt):
            image[step.offset : step.offset + len(step.data)] = step.data
    return bytes(image)


def load(image: bytes) -> LoadedHeader:
    return load_header(image, image_size_bytes=IMAGE_BYTES, detached=False)


def resummed(copy: bytearray) -> bytes:
    """Give a copy the checksum that whoever changes it will give it."""
    copy[448:480] = bytes(32)
    tail = bytes(copy[480:512])
    copy[480:512] = bytes(32)
    copy[448:480] = hashlib.sha256(copy).digest()
    copy[480:512] = tail
    return bytes(copy)


def verdict(image: bytes, areas: Areas | None = None) -> str:
    """Say how a reader notices that a header is not the one that was authenticated, if it does."""
    try:
        loaded = load(image)
        token = strongroom_token(loaded.header)
        if token is None:
            return "no token"
        message = authenticated_bytes(loaded.header.binary.uuid, token)
        if (token.enclave_code, token.volume_code) != codes(message):
            return "wrong code"
        found = differences(
            loaded.header, token, material(loaded.header) if areas is None else areas
        )
    except FormatError:
        return "refused"
    verdicts = {
        "tampered": bool(found.tampered),
        "not canonical": not loaded.canonical,
        "foreign change": bool(found.foreign_changes or loaded.rewritten),
        "damaged": bool(found.damaged),
    }
    return next((verdict for verdict, it_is in verdicts.items() if it_is), "unnoticed")


def report(title: str, verdicts: Counter[str]) -> None:
    print(f"{title}: {dict(sorted(verdicts.items()))}")


def with_code(header: Header, token: StrongroomToken, areas: Areas) -> Header:
    """Authenticate anew, as the owner does after a change."""
    return with_authentication(header, replace(token, epoch=token.epoch + 1), areas, codes)
