# SPDX-License-Identifier: Apache-2.0
"""The binary header and the choice between the two copies, under every kind of damage."""

import hashlib
import random
import time

import pytest

from strongroom.errors import (
    FormatError,
    HeaderBrokenError,
    Luks1Error,
    NotLuksError,
    StrongroomError,
    TruncatedError,
    UnsupportedCipherError,
)
from strongroom.luks2 import (
    HeaderCopy,
    LoadedHeader,
    Sync,
    WriteAt,
    load_header,
    repair_steps,
)
from strongroom.units import ByteCount

from .forge import HDR, IMAGE_BYTES, MIB, forge, forge_copy, text_of, tree

pytestmark = pytest.mark.hostile

PRIMARY, SECONDARY = HeaderCopy.PRIMARY, HeaderCopy.SECONDARY
OTHER_UUID = "ffffffff-89ab-4cde-8f01-23456789abcd"
GOOD = text_of(tree())


def load(private_copy: bytes, size: int = IMAGE_BYTES) -> LoadedHeader:
    return load_header(private_copy, image_size_bytes=ByteCount(size), detached=False)


def image(primary: bytes, secondary: bytes) -> bytes:
    return (primary + secondary).ljust(8 * MIB, b"\0")


def repaired(private_copy: bytes, loaded: LoadedHeader) -> bytes:
    result = bytearray(private_copy)
    for step in repair_steps(loaded):
        if isinstance(step, WriteAt):
            result[step.offset : step.offset + len(step.data)] = step.data
    return bytes(result)


@pytest.mark.parametrize("copy", [PRIMARY, SECONDARY])
def test_every_single_bit_flip_of_a_binary_header_is_survived(copy: HeaderCopy) -> None:
    # A small image, since it is copied thousands of times.
    value = tree()
    value["config"]["keyslots_size"] = "258048"
    value["segments"]["0"]["offset"] = "290816"
    size = 290816 + 4096
    original = forge(value, size=size)
    start = 0 if copy is PRIMARY else HDR
    # All fields bit by bit, and one bit of each padding byte behind them.
    places = [(byte, bit) for byte in range(512) for bit in range(8)]
    places += [(byte, byte % 8) for byte in range(512, 4096, 61)]
    for byte, bit in places:
        damaged = bytearray(original)
        damaged[start + byte] ^= 1 << bit
        loaded = load(bytes(damaged), size)
        # The last 32 bytes of the checksum field are beyond SHA-256, so they do not matter.
        if 480 <= byte < 512:
            assert loaded.broken == ()
        else:
            assert (loaded.used, loaded.broken) == (copy.other, (copy,))


def test_random_damage_of_the_json_area_is_survived_and_repaired() -> None:
    original = forge()
    generator = random.Random(2)
    for _ in range(40):
        start = generator.choice([0, HDR])
        damaged = bytearray(original)
        place = start + 4096 + generator.randrange(HDR - 4096)
        damaged[place] ^= generator.randrange(1, 256)
        loaded = load(bytes(damaged))
        assert len(loaded.broken) == 1
        assert "checksum" in loaded.notices[0]
        again = load(repaired(bytes(damaged), loaded))
        assert (again.broken, again.header.metadata) == ((), loaded.header.metadata)


def test_repair_touches_the_broken_copy_only_and_syncs() -> None:
    damaged = bytes(HDR) + forge()[HDR:]
    steps = repair_steps(load(damaged))
    assert [type(step) for step in steps] == [WriteAt, Sync]
    assert isinstance(steps[0], WriteAt)
    assert (steps[0].offset, len(steps[0].data)) == (0, HDR)
    # The lost salt is made anew, and is not that of the other copy.
    assert steps[0].data[104:168] != damaged[HDR + 104 : HDR + 168]


def test_a_sound_header_needs_no_repair() -> None:
    assert repair_steps(load(forge())) == ()


@pytest.mark.parametrize("size", range(0, 2 * HDR + 4096, 512))
def test_truncated_inside_the_headers(size: int) -> None:
    expected = NotLuksError if size == 0 else TruncatedError
    with pytest.raises(expected):
        load(forge(size=size), size)


@pytest.mark.parametrize("size", [3 * HDR, MIB, 8 * MIB, 16 * MIB - 1, 16 * MIB, 16 * MIB + 4095])
def test_truncated_behind_the_headers(size: int) -> None:
    with pytest.raises(TruncatedError):
        load(forge(size=size), size)


def test_one_sector_is_enough() -> None:
    size = 16 * MIB + 4096
    assert load(forge(size=size), size).header.data_size_bytes(ByteCount(size)) == 4096


def test_an_image_that_shrinks_while_it_is_read() -> None:
    with pytest.raises(TruncatedError, match="shorter"):
        load(forge()[:-1])


@pytest.mark.parametrize("content", [b"", bytes(MIB), b"\xff" * MIB, b"LUKS", b"SKUL\xba\xbe"])
def test_not_luks(content: bytes) -> None:
    with pytest.raises(NotLuksError):
        load(content, len(content))


@pytest.mark.parametrize("size", [8, 592, 8 * MIB])
def test_luks1(size: int) -> None:
    content = b"LUKS\xba\xbe\x00\x01".ljust(size, b"\0")
    with pytest.raises(Luks1Error) as caught:
        load(content, size)
    assert "convert" in caught.value.hint


def test_both_broken() -> None:
    damaged = bytearray(forge())
    damaged[5000] ^= 1
    damaged[HDR + 5000] ^= 1
    with pytest.raises(HeaderBrokenError, match=r"primary header.*checksum.*secondary header"):
        load(bytes(damaged))


@pytest.mark.parametrize("fields", [{"version": 3}, {"version": 0}, {"hdr_size": 2**32}])
@pytest.mark.parametrize("hdr_size", [0, 4096, 16385, 8 * MIB, 2**32, 2**63, 2**64 - 1])
def test_wrong_sizes_and_versions_allocate_nothing(fields: dict[str, int], hdr_size: int) -> None:
    fields = {"hdr_size": hdr_size} | fields
    with pytest.raises(HeaderBrokenError, match=r"version|size"):
        load(image(forge_copy(GOOD, **fields), bytes(HDR)))  # type: ignore[arg-type]


def test_a_copy_that_lies_about_its_place_does_not_count() -> None:
    moved = forge_copy(GOOD, offset=HDR)
    loaded = load(image(moved, forge_copy(GOOD, secondary=True)))
    assert (loaded.used, loaded.broken) == (SECONDARY, (PRIMARY,))
    assert "elsewhere" in loaded.notices[0]


def test_a_copy_without_a_uuid_does_not_count() -> None:
    loaded = load(image(forge_copy(GOOD, uuid="x" * 36), forge_copy(GOOD, secondary=True)))
    assert loaded.used is SECONDARY


@pytest.mark.parametrize("algorithm", ["sha1", "sha224", "sha256", "sha384", "sha512"])
def test_all_checksums_are_read(algorithm: str) -> None:
    loaded = load(forge(algorithm=algorithm))
    assert (loaded.broken, loaded.header.binary.checksum_alg) == ((), algorithm)


@pytest.mark.parametrize("algorithm", ["md5", "crc32", "", "sha256\n", "blake2b-512"])
def test_unknown_checksums_are_named(algorithm: str) -> None:
    with pytest.raises(UnsupportedCipherError, match="checksum"):
        load(forge(algorithm=algorithm))


def test_one_unknown_checksum_is_a_broken_copy() -> None:
    loaded = load(image(forge_copy(GOOD, algorithm="md5"), forge_copy(GOOD, secondary=True)))
    assert loaded.broken == (PRIMARY,)


@pytest.mark.parametrize(
    ("first", "second", "used"), [(5, 4, PRIMARY), (4, 5, SECONDARY), (2**64 - 1, 0, PRIMARY)]
)
def test_the_newer_copy_wins(first: int, second: int, used: HeaderCopy) -> None:
    data = image(forge_copy(GOOD, seqid=first), forge_copy(GOOD, secondary=True, seqid=second))
    loaded = load(data)
    assert (loaded.used, loaded.broken) == (used, (used.other,))
    assert "older" in loaded.notices[0]
    assert loaded.header.binary.salt == b"1" * 64
    assert loaded.header.binary.secondary_salt == b"2" * 64
    assert load(repaired(data, loaded)).broken == ()


def test_equal_versions_with_different_contents() -> None:
    other = GOOD[:-1] + b',"x":1}'
    loaded = load(image(forge_copy(GOOD), forge_copy(other, secondary=True)))
    assert (loaded.used, loaded.broken) == (PRIMARY, (SECONDARY,))
    assert "differ" in loaded.notices[0]


def test_a_newer_copy_that_is_not_understood_is_never_replaced_by_an_older_one() -> None:
    newer = GOOD.replace(b'"config":{', b'"config":{"requirements":{"mandatory":["future"]},')
    for first, second in ((newer, GOOD), (GOOD, newer)):
        data = image(
            forge_copy(first, seqid=4 + (first is newer)),
            forge_copy(second, secondary=True, seqid=4 + (second is newer)),
        )
        with pytest.raises(FormatError, match="future"):
            load(data)


def test_copies_of_two_volumes_are_refused() -> None:
    with pytest.raises(FormatError, match="different volumes"):
        load(image(forge_copy(GOOD), forge_copy(GOOD, secondary=True, uuid=OTHER_UUID)))


def test_a_crash_while_the_uuid_changes_is_survived() -> None:
    data = image(
        forge_copy(GOOD, seqid=4, uuid=OTHER_UUID), forge_copy(GOOD, secondary=True, seqid=3)
    )
    assert load(data).header.binary.uuid == OTHER_UUID


@pytest.mark.parametrize("shift", range(9))
def test_the_secondary_is_found_at_every_legal_place(shift: int) -> None:
    hdr_size = HDR << shift
    value = tree()
    value["config"] = {"json_size": str(hdr_size - 4096), "keyslots_size": "1048576"}
    value["keyslots"]["0"]["area"]["offset"] = str(2 * hdr_size)
    body = bytearray(forge_copy(text_of(value), secondary=True, hdr_size=hdr_size))
    body += bytes(hdr_size - len(body))
    # The checksum covers the whole area, which is larger than what forge_copy fills.
    body[448:512] = bytes(64)
    body[448:480] = hashlib.sha256(body).digest()
    data = bytearray(8 * MIB)
    data[hdr_size : 2 * hdr_size] = body
    loaded = load(bytes(data))
    assert (loaded.used, loaded.broken) == (SECONDARY, (PRIMARY,))
    assert loaded.header.binary.hdr_size == hdr_size


def test_a_false_secondary_does_not_hide_the_true_one() -> None:
    value = tree()
    data = bytearray(forge(value))
    data[:6] = bytes(6)
    data[HDR : HDR + 6] = bytes(6)
    data[4 * HDR : 4 * HDR + 6] = b"SKUL\xba\xbe"
    with pytest.raises(HeaderBrokenError):
        load(bytes(data))


@pytest.mark.parametrize(
    ("offset", "magic", "name"),
    [(0x438, b"\x53\xef", "ext"), (0, b"XFSB", "XFS"), (0x1FE, b"\x55\xaa", "boot sector")],
)
def test_a_file_system_over_the_primary_is_not_repaired_away(
    offset: int, magic: bytes, name: str
) -> None:
    data = bytearray(bytes(HDR) + forge()[HDR:])
    data[offset : offset + len(magic)] = magic
    with pytest.raises(FormatError, match=name):
        load(bytes(data))


def test_a_hostile_label_cannot_reach_the_terminal() -> None:
    label = load(forge(label=b"\x1b]0;x\x07\xff\xfe ok")).header.binary.label
    assert label.isprintable()
    assert label.endswith("ok")


def test_random_images_raise_nothing_but_our_errors() -> None:
    generator = random.Random(7)
    good = forge()[: 2 * HDR]
    start = time.process_time()
    rounds = 300
    for _ in range(rounds):
        data = bytearray(good)
        for _ in range(generator.randrange(1, 40)):
            place = generator.choice([generator.randrange(520), generator.randrange(2 * HDR)])
            data[place] = generator.randrange(256)
        for base in (0, HDR):
            data[base + 448 : base + 512] = bytes(64)
            digest = hashlib.sha256(data[base : base + HDR]).digest()
            data[base + 448 : base + 480] = digest
        try:
            load(bytes(data).ljust(8 * MIB, b"\0"))
        except StrongroomError as err:
            assert err.exit_code >= 10  # noqa: PT017
    assert (time.process_time() - start) / rounds < 0.05
