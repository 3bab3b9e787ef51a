# SPDX-License-Identifier: Apache-2.0
"""Header backups: what may be restored, and what may not."""

from dataclasses import replace

import pytest

from strongroom.errors import (
    BoundsError,
    FormatError,
    HeaderBrokenError,
    NotLuksError,
    RollbackError,
    TruncatedError,
    UnsupportedRequirementError,
)
from strongroom.luks2 import (
    Header,
    Sync,
    WriteAt,
    backup_size_bytes,
    check_backup,
    restore_steps,
    with_token,
)

from .forge import apply, committed, fresh, reload

pytestmark = pytest.mark.unit

TOTAL = 16 * 1024 * 1024
OTHER_UUID = "ffffffff-89ab-4cde-8f01-23456789abcd"


def backup_of(header: Header) -> bytes:
    return committed(header, (b"\0" * 32768).ljust(TOTAL, b"k"))


def test_a_backup_is_restored_area_first() -> None:
    header = fresh(keyslots=1)
    backup = check_backup(header, backup_of(header))
    steps = restore_steps(backup)
    kinds = [type(step) for step in steps]
    assert kinds == [WriteAt, Sync, WriteAt, Sync, WriteAt, Sync]
    assert [step.offset for step in steps if isinstance(step, WriteAt)] == [32768, 16384, 0]
    disk = apply(steps, bytes(TOTAL))
    assert disk == backup_of(header)
    assert backup_size_bytes(header) == TOTAL
    assert reload(disk).header == header


def test_padding_to_a_page_is_allowed_and_ignored() -> None:
    backup = check_backup(None, backup_of(fresh()) + bytes(4096))
    assert len(backup.keyslots_area) == TOTAL - 32768


def test_older_and_foreign_backups_are_refused() -> None:
    old = fresh(keyslots=1)
    new = with_token(old, {"type": "x", "keyslots": []})
    with pytest.raises(RollbackError, match=r"version 2.*has 3"):
        check_backup(new, backup_of(old))
    foreign = replace(old, binary=replace(old.binary, uuid=OTHER_UUID))
    with pytest.raises(RollbackError, match=OTHER_UUID):
        check_backup(old, backup_of(foreign))
    assert check_backup(old, backup_of(new)).loaded.header == new
    assert check_backup(None, backup_of(old)).loaded.header == old


def test_another_geometry_is_refused() -> None:
    with pytest.raises(FormatError, match="another way"):
        check_backup(fresh(), backup_of(fresh(detached=True)))


def test_a_detached_header_is_not_restored_over_data() -> None:
    backup = backup_of(fresh(detached=True))
    assert check_backup(None, backup, detached=True).loaded.header.segment.offset_bytes == 0
    with pytest.raises(BoundsError):
        check_backup(None, backup, detached=False)


def test_what_is_no_backup() -> None:
    with pytest.raises(NotLuksError):
        check_backup(None, b"")
    with pytest.raises(TruncatedError):
        check_backup(None, backup_of(fresh())[:-1])
    with pytest.raises(FormatError, match="has 16842753 bytes"):
        check_backup(None, backup_of(fresh()) + bytes(65537))
    with pytest.raises(HeaderBrokenError):
        check_backup(None, b"LUKS\xba\xbe\x00\x02".ljust(TOTAL, b"x"))


def test_a_backup_with_one_broken_copy_is_restored_whole() -> None:
    header = fresh()
    damaged = bytes(16384) + backup_of(header)[16384:]
    backup = check_backup(header, damaged)
    restored = reload(apply(restore_steps(backup), bytes(TOTAL)))
    assert (restored.broken, restored.header.metadata) == ((), header.metadata)


def test_a_backup_with_a_requirement_is_refused() -> None:
    header = fresh()
    text = header.metadata.json_text
    asking = text.replace(b'"json_size"', b'"requirements":{"mandatory":["x"]},"json_size"')
    forged = replace(header, metadata=replace(header.metadata, json_text=asking))
    with pytest.raises(UnsupportedRequirementError):
        check_backup(header, backup_of(forged))
