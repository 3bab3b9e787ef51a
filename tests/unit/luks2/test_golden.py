# SPDX-License-Identifier: Apache-2.0
"""Headers that cryptsetup made: read, understood, and written back byte for byte."""

import pytest

from strongroom.luks2 import (
    Argon2,
    HeaderCopy,
    Pbkdf2,
    Priority,
    WriteAt,
    commit_steps,
    describe,
    repair_steps,
    with_token,
    without_token,
)

from .forge import GOLDEN_NAMES, apply, golden, load_golden, reload

pytestmark = pytest.mark.unit

NAMES = pytest.mark.parametrize("name", GOLDEN_NAMES)


def test_no_golden_file_was_lost() -> None:
    assert len(GOLDEN_NAMES) == 10


@NAMES
def test_writing_what_was_read_changes_no_byte(name: str) -> None:
    data = golden(name).data
    loaded = load_golden(name)
    assert (loaded.used, loaded.broken, loaded.notices) == (HeaderCopy.PRIMARY, (), ())
    for step in commit_steps(loaded.header):
        if isinstance(step, WriteAt):
            assert data[step.offset : step.offset + len(step.data)] == step.data


@NAMES
def test_an_edit_and_its_reversal_leave_the_metadata_alone(name: str) -> None:
    header = load_golden(name).header
    edited = with_token(header, {"type": "strongroom", "keyslots": []}, number=9)
    restored = without_token(edited, 9)
    assert restored.metadata.json_text == header.metadata.json_text
    assert restored.binary.seqid == header.binary.seqid + 2


@NAMES
@pytest.mark.parametrize("copy", HeaderCopy)
def test_either_copy_brings_back_the_other(name: str, copy: HeaderCopy) -> None:
    data = golden(name).data
    header = load_golden(name).header
    start = header.binary.offset_of(copy)
    damaged = data[:start] + bytes(header.binary.hdr_size) + data[start + header.binary.hdr_size :]
    detached = golden(name).detached
    loaded = reload(damaged, detached=detached)
    assert (loaded.used, loaded.broken) == (copy.other, (copy,))
    mended = reload(apply(repair_steps(loaded), damaged), detached=detached)
    assert (mended.broken, mended.header.metadata) == ((), header.metadata)


@NAMES
def test_every_header_can_be_described(name: str) -> None:
    facts = describe(load_golden(name).header, loaded=load_golden(name))
    assert facts["uuid"] == "01234567-89ab-4cde-8f01-23456789abcd"
    assert facts["copies"] == {"used": "primary", "broken": [], "notices": []}


def test_what_the_golden_headers_say() -> None:
    argon2id = load_golden("argon2id-2048").header
    assert argon2id.segment.sector_size_bytes == 2048
    kdf = argon2id.keyslots[0].kdf
    assert isinstance(kdf, Argon2)
    assert (kdf.variant, kdf.iterations, kdf.memory_kib, kdf.lanes) == ("argon2id", 4, 64, 2)
    argon2i = load_golden("argon2i-256-bit").header
    assert (argon2i.volume_key_bytes, argon2i.keyslots[0].key_bytes) == (32, 32)
    sha1 = load_golden("pbkdf2-sha1-512").header.keyslots[0]
    assert isinstance(sha1.kdf, Pbkdf2)
    assert (sha1.kdf.hash_name, sha1.af.hash_name) == ("sha1", "sha1")
    assert load_golden("cbc-essiv").header.segment.cipher == "aes-cbc-essiv:sha256"
    label = load_golden("label").header.binary
    assert (label.label, label.subsystem) == ("golden \u2728", "tests")
    assert load_golden("header-1m").header.binary.hdr_size == 1024 * 1024
    assert load_golden("detached").header.segment.offset_bytes == 0


def test_several_keyslots_and_a_token() -> None:
    header = load_golden("slots-and-tokens").header
    assert sorted(header.keyslots) == [0, 1, 2]
    assert header.keyslots[1].priority is Priority.PREFER
    assert header.unlock_order() == (1, 0)
    assert header.is_unbound(2)
    assert header.digest_of(2).segments == ()
    assert header.digest_of(0) == header.digests[header.segment_digest_number]
    assert (header.tokens[0].kind, header.tokens[0].understood) == ("luks2-keyring", True)
