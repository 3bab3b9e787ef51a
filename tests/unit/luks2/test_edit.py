# SPDX-License-Identifier: Apache-2.0
"""New headers and changes to them."""

import json
from dataclasses import replace
from typing import Any

import pytest

from strongroom.errors import (
    BoundsError,
    FormatError,
    KeyslotStateError,
    LimitError,
    UnknownTokenError,
    UnsupportedCipherError,
    UnsupportedRequirementError,
)
from strongroom.luks2 import (
    Header,
    Pbkdf2,
    Priority,
    Sync,
    WriteAt,
    allocate_area,
    commit_steps,
    describe,
    free_keyslot,
    new_header,
    recovery_token,
    unreferenced_areas,
    with_keyslot,
    with_token,
    without_keyslot,
    without_token,
)
from strongroom.luks2.metadata import parse_json_area

from .forge import DIGEST, UUID, committed, fresh, golden, keyslot_in, load_golden, reload

pytestmark = pytest.mark.unit


def json_of(header: Header) -> dict[str, Any]:
    result: dict[str, Any] = json.loads(header.metadata.json_text)
    return result


def with_json(header: Header, value: dict[str, Any]) -> Header:
    text = json.dumps(value, separators=(",", ":")).encode()
    area = text.ljust(header.binary.json_size, b"\0")
    return parse_json_area(header.binary, area, detached=False)


def test_a_new_header_is_laid_out_like_that_of_cryptsetup() -> None:
    """The same JSON as a golden file, but for salts, digest value and KDF cost."""
    theirs = load_golden("argon2id-2048").header
    ours = new_header(
        uuid=UUID,
        salt=theirs.binary.salt,
        secondary_salt=theirs.binary.secondary_salt,
        digest=theirs.digests[0],
        sector_size_bytes=2048,
        volume_key_bytes=64,
    )
    ours = with_keyslot(ours, 0, theirs.keyslots[0], digest=0)
    ours = replace(ours, binary=replace(ours.binary, seqid=theirs.binary.seqid))
    assert committed(ours, golden("argon2id-2048").data) == golden("argon2id-2048").data


def test_allocation_follows_cryptsetup() -> None:
    header = load_golden("slots-and-tokens").header
    areas = [header.keyslots[number].area.offset_bytes for number in range(3)]
    assert areas == [32768, 290816, 548864]
    assert allocate_area(without_keyslot(header, 1), 256000) == 290816
    assert allocate_area(without_keyslot(header, 1), 258049) == 679936
    assert allocate_area(header, 1) == 679936


def test_a_detached_header() -> None:
    header = fresh(detached=True)
    assert header.segment.offset_bytes == 0
    assert header.total_bytes == 16 * 1024 * 1024
    assert reload(committed(header), detached=True).header == header
    assert with_token(header, recovery_token(0) | {"keyslots": []}).tokens[0].keyslots == ()


def test_commit_order() -> None:
    steps = commit_steps(fresh())
    assert [type(step) for step in steps] == [WriteAt, Sync, WriteAt, Sync]
    assert [step.offset for step in steps if isinstance(step, WriteAt)] == [16384, 0]


def test_a_crash_at_any_point_leaves_the_old_or_the_new_header() -> None:
    old, new = fresh(keyslots=1), fresh(keyslots=2)
    before = committed(old)
    writes = [step for step in commit_steps(new) if isinstance(step, WriteAt)]
    disk = bytearray(before)
    for write in writes:
        for start in range(0, len(write.data), 2048):
            part = write.data[start : start + 2048]
            disk[write.offset + start : write.offset + start + 2048] = part
            assert reload(bytes(disk)).header.metadata in (old.metadata, new.metadata)
    assert reload(bytes(disk)).header == new


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"cipher": "aes-cbc-essiv:sha256"}, UnsupportedCipherError),
        ({"cipher": "cipher_null-ecb"}, UnsupportedCipherError),
        ({"volume_key_bytes": 48}, UnsupportedCipherError),
        ({"data_offset_bytes": 28672}, BoundsError),
        ({"data_offset_bytes": 16 * 1024 * 1024 + 512}, BoundsError),
        ({"header_size_bytes": 20480}, BoundsError),
        ({"label": "x" * 48}, LimitError),
        ({"label": "\u2728" * 16}, LimitError),
        ({"label": "a\0b"}, FormatError),
        ({"subsystem": "\ud800"}, FormatError),
        ({"uuid": "x"}, FormatError),
        ({"salt": b""}, FormatError),
        ({"secondary_salt": bytes(65)}, FormatError),
        ({"sector_size_bytes": 520}, FormatError),
        ({"digest": replace(DIGEST, hash_name="md5")}, UnsupportedCipherError),
    ],
)
def test_new_headers_are_checked(changes: dict[str, Any], error: type[Exception]) -> None:
    values: dict[str, Any] = {
        "uuid": UUID,
        "salt": bytes(64),
        "secondary_salt": bytes(64),
        "digest": DIGEST,
        "sector_size_bytes": 4096,
        "volume_key_bytes": 64,
    }
    with pytest.raises(error) as caught:
        new_header(**(values | changes))
    assert type(caught.value) is error


def test_adding_and_removing_a_keyslot() -> None:
    one = fresh(keyslots=1)
    two = with_keyslot(one, free_keyslot(one), keyslot_in(one, priority=Priority.PREFER), digest=0)
    assert two.unlock_order() == (1, 0)
    assert two.binary.seqid == one.binary.seqid + 1
    assert without_keyslot(two, 1).metadata.json_text == one.metadata.json_text
    assert without_keyslot(one, 0).volume_key_bytes is None


def test_an_ignored_keyslot_is_not_tried() -> None:
    header = fresh()
    slot = keyslot_in(header, priority=Priority.IGNORE)
    assert with_keyslot(header, 5, slot, digest=0).unlock_order() == ()


def test_replacing_a_keyslot_keeps_tokens_and_unknown_members() -> None:
    header = with_token(fresh(keyslots=1), recovery_token(0))
    value = json_of(header)
    value["keyslots"]["0"]["note"] = {"kept": 1}
    value["keyslots"]["0"]["priority"] = 2
    header = with_json(header, value)
    slot = replace(keyslot_in(header), kdf=Pbkdf2("sha512", 1000, bytes(32)))
    replaced = with_keyslot(header, 0, slot, digest=0, replacing=True)
    assert replaced.keyslots[0] == slot
    assert replaced.tokens[0].keyslots == (0,)
    assert json_of(replaced)["keyslots"]["0"]["note"] == {"kept": 1}
    assert unreferenced_areas(replaced)[0] == (32768, 258048)


def test_keyslots_that_cannot_be_written() -> None:
    header = fresh(keyslots=1)
    slot = keyslot_in(header)
    with pytest.raises(KeyslotStateError):
        with_keyslot(header, 0, slot, digest=0)
    with pytest.raises(KeyslotStateError):
        with_keyslot(header, 32, slot, digest=0)
    with pytest.raises(KeyslotStateError):
        with_keyslot(header, 1, slot, digest=0, replacing=True)
    with pytest.raises(KeyslotStateError):
        with_keyslot(header, 1, slot, digest=1)
    with pytest.raises(KeyslotStateError):
        without_keyslot(header, 1)
    with pytest.raises(BoundsError):
        with_keyslot(header, 1, header.keyslots[0], digest=0)
    cbc = replace(slot, area=replace(slot.area, cipher="aes-cbc-essiv:sha256", key_bytes=32))
    with pytest.raises(UnsupportedCipherError):
        with_keyslot(header, 1, cbc, digest=0)


def test_all_keyslots_can_be_used_and_no_more() -> None:
    header = fresh(keyslots=32)
    with pytest.raises(KeyslotStateError):
        free_keyslot(header)


def test_the_keyslots_area_fills_up() -> None:
    with pytest.raises(KeyslotStateError):
        allocate_area(fresh(), 16 * 1024 * 1024)
    assert unreferenced_areas(fresh()) == ((32768, 16744448),)


def test_removing_an_unbound_keyslot_removes_its_digest() -> None:
    header = load_golden("slots-and-tokens").header
    removed = without_keyslot(header, 2)
    assert sorted(removed.digests) == [0]
    assert removed.unlock_order() == (1, 0)


def test_tokens_follow_their_keyslot() -> None:
    header = with_token(fresh(keyslots=2), recovery_token(1))
    header = with_token(header, {"type": "luks2-keyring", "keyslots": ["0", "1"]})
    header = with_token(header, {"type": "systemd-recovery", "keyslots": ["0", "1"]})
    removed = without_keyslot(header, 1)
    assert {number: token.keyslots for number, token in removed.tokens.items()} == {
        1: (0,),
        2: (0,),
    }


@pytest.mark.parametrize("kind", ["clevis", "systemd-tpm2", "systemd-fido2", "new"])
def test_unknown_tokens_are_kept_and_protect_their_keyslots(kind: str) -> None:
    token: dict[str, Any] = {"type": kind, "keyslots": ["1"], "x": {"y": [1, None, "\u2728/"]}}
    header = with_token(fresh(keyslots=2), token, number=7)
    with pytest.raises(UnknownTokenError, match=kind):
        without_keyslot(header, 1)
    with pytest.raises(UnknownTokenError, match=kind):
        with_keyslot(header, 1, keyslot_in(header), digest=0, replacing=True)
    with pytest.raises(UnknownTokenError):
        without_token(header, 7)
    with pytest.raises(UnknownTokenError):
        with_token(header, recovery_token(1), number=7)
    changed = without_keyslot(header, 0)
    assert json_of(changed)["tokens"]["7"] == token


def test_tokens_that_cannot_be_written() -> None:
    header = fresh()
    with pytest.raises(FormatError):
        with_token(header, recovery_token(0))
    with pytest.raises(FormatError):
        with_token(header, {"keyslots": []})
    with pytest.raises(KeyslotStateError):
        without_token(header, 0)
    with pytest.raises(LimitError, match="full"):
        with_token(header, {"type": "x", "keyslots": [], "y": "z" * 12288})
    for _ in range(32):
        header = with_token(header, {"type": "x", "keyslots": []})
    with pytest.raises(KeyslotStateError):
        with_token(header, {"type": "x", "keyslots": []})


def test_the_json_area_can_be_filled_to_its_last_byte() -> None:
    room = 12287 - len(
        with_token(fresh(), {"type": "x", "keyslots": [], "y": ""}).metadata.json_text
    )
    full = with_token(fresh(), {"type": "x", "keyslots": [], "y": "z" * room})
    assert reload(committed(full)).header == full
    with pytest.raises(LimitError):
        with_token(fresh(), {"type": "x", "keyslots": [], "y": "z" * (room + 1)})


UNSUPPORTED: dict[str, dict[str, object]] = {
    "type": {"type": "reencrypt", "area": {"type": "checksum"}},
    "cipher": {"area": {"encryption": "serpent-xts-plain64"}},
    "area's type": {"area": {"type": "datashift"}},
    "key of the area": {"area": {"key_size": 16}},
    "KDF": {"kdf": {"type": "scrypt"}},
    "KDF's hash": {"kdf": {"type": "pbkdf2", "hash": "sha3-256", "iterations": 1000}},
    "KDF's cost": {"kdf": {"type": "pbkdf2", "hash": "sha256", "iterations": 2**30}},
    "split": {"af": {"type": "luks9"}},
    "split's hash": {"af": {"hash": "blake2b-512"}},
    "stripes": {"af": {"stripes": 4}},
    "priority": {"priority": 7},
}
"""What another program may have put into a keyslot, by what is not supported of it."""


def with_unsupported(header: Header, changes: dict[str, object]) -> Header:
    """Return the header with keyslot 3, which is keyslot 0 elsewhere and with changes."""
    value = json_of(header)
    keyslot = json.loads(json.dumps(value["keyslots"]["0"]))
    for name, change in changes.items():
        keyslot[name] = {**keyslot[name], **change} if isinstance(change, dict) else change
    keyslot["area"] |= {"offset": "2097152", "size": "258048"}
    value["keyslots"]["3"] = {**keyslot, "future": {"x": [1, None]}}
    value["digests"]["0"]["keyslots"] += ["3"]
    return with_json(header, value)


@pytest.mark.parametrize("changes", UNSUPPORTED.values(), ids=list(UNSUPPORTED))
def test_an_unsupported_keyslot_is_skipped_and_survives_edits(changes: dict[str, object]) -> None:
    header = with_unsupported(fresh(keyslots=2), changes)
    before = json_of(header)["keyslots"]["3"]
    assert header.metadata.refusals == ()
    assert header.unlock_order() == (0, 1)
    assert header.foreign_keyslots[3].refusal.message
    assert describe(header)["keyslots"]["3"]["unsupported"]  # type: ignore[index,call-overload]
    assert free_keyslot(header) == 2
    edited = with_keyslot(header, 2, keyslot_in(header), digest=0)
    edited = without_keyslot(with_token(edited, {"type": "x", "keyslots": []}), 0)
    assert json_of(edited)["keyslots"]["3"] == before
    assert "3" in json_of(edited)["digests"]["0"]["keyslots"]
    gaps = unreferenced_areas(edited)
    assert not any(start < 2097152 + 258048 and start + size > 2097152 for start, size in gaps)


def test_an_unsupported_keyslot_itself_is_left_as_it_is() -> None:
    header = with_unsupported(fresh(keyslots=2), UNSUPPORTED["KDF's hash"])
    with pytest.raises(UnsupportedRequirementError, match="sha3-256"):
        without_keyslot(header, 3)
    with pytest.raises(UnsupportedRequirementError, match="sha3-256"):
        with_keyslot(header, 3, keyslot_in(header), digest=0, replacing=True)
    with pytest.raises(KeyslotStateError, match="taken"):
        with_keyslot(header, 3, keyslot_in(header), digest=0)


def test_the_last_supported_keyslot_is_not_removed() -> None:
    header = with_unsupported(fresh(keyslots=1), UNSUPPORTED["KDF's hash"])
    with pytest.raises(UnsupportedCipherError, match="sha3-256"):
        without_keyslot(header, 0)


def test_unknown_members_survive_edits_in_place_and_order() -> None:
    header = fresh(keyslots=1)
    value = json_of(header)
    value["config"]["future"] = [{"b": 1, "a": -(2**63)}]
    value["segments"]["0"]["flags"] = ["unheard-of"]
    value = {"zero": {}, **value, "last": None}
    value["digests"]["5"] = {"type": "new", "keyslots": [], "segments": []}
    header = with_json(header, value)
    edited = with_keyslot(header, 1, keyslot_in(header), digest=0)
    after = json_of(edited)
    assert list(after) == list(value)
    assert after["config"] == value["config"]
    assert after["segments"] == value["segments"]
    assert after["digests"]["5"] == value["digests"]["5"]
    assert describe(edited)["digests"]["5"]["type"] == "new"  # type: ignore[index,call-overload]


def test_the_version_can_be_used_up() -> None:
    header = fresh()
    header = replace(header, binary=replace(header.binary, seqid=2**64 - 1))
    with pytest.raises(LimitError):
        with_token(header, {"type": "x", "keyslots": []})


def test_a_keyslot_without_a_digest_is_never_tried() -> None:
    header = fresh(keyslots=1)
    value = json_of(header)
    value["digests"]["0"]["keyslots"] = []
    orphan = with_json(header, value)
    with pytest.raises(FormatError, match="no digest"):
        orphan.digest_of(0)
    with pytest.raises(KeyslotStateError):
        orphan.digest_of(1)
    assert orphan.is_unbound(0)
