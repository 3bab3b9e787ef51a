# SPDX-License-Identifier: Apache-2.0
import os
import threading
from contextlib import suppress
from pathlib import Path

import pytest

from strongroom.errors import PlatformError
from strongroom.host.attach import JsonScalar, clean_stale, find_orphans, loop
from strongroom.host.attach import _netlink as netlink
from strongroom.host.attach import record as records
from strongroom.host.attach.link import make_link, remove_link
from strongroom.host.attach.usage import _parse_mount

pytestmark = pytest.mark.unit


@pytest.mark.parametrize("name", ["v", "a" * 34, "b" * 200, "with:colon"])
def test_a_tag_fits_a_loop_device_and_comes_back(tmp_path: Path, name: str) -> None:
    tag = records.new_tag(tmp_path / "root" / name[:50], name)
    assert len(tag.text.encode()) <= loop.TAG_LIMIT
    assert records.parse_tag(tag.text) == tag
    assert records.is_name_of(name, tag.name)
    assert tag.root == records.root_digest(tmp_path / "root")


def test_two_attachments_of_one_volume_have_different_tags(tmp_path: Path) -> None:
    assert records.new_tag(tmp_path, "v") != records.new_tag(tmp_path, "v")


@pytest.mark.parametrize("text", ["", "/var/lib/x.img", "strongroom:a:b", "other:a:b:c"])
def test_what_others_write_is_no_tag(text: str) -> None:
    assert records.parse_tag(text) is None


def test_a_process_has_one_start_and_no_process_has_none() -> None:
    started = records.process_started(os.getpid())
    assert started > 0
    assert records.process_started(os.getpid()) == started
    assert records.process_started(2**22 + 1) == -1


@pytest.mark.parametrize(
    "record",
    [
        {},
        {"kind": "none"},
        {"kind": "fuse"},
        {"kind": 7, "device": 3},
        {"kind": "fuse", "device": "relative", "tag": "", "helper_pid": -5, "helper_started": "x"},
        {"kind": "fuse", "device": "/dev/null", "tag": "strongroom:0:0:v", "helper_pid": 1},
        {"kind": "fuse", "helper_pid": os.getpid(), "helper_started": 1},
        {"kind": "nbd", "index": "0", "tag": "strongroom:0:0:v"},
        {"kind": "nbd", "index": 4000, "tag": "strongroom:0:0:v"},
        {"kind": "fuse", "link": "/dev/null", "device": "/dev/zero"},
        {"kind": "fuse", "fuse_directory": "/proc"},
    ],
)
def test_a_record_that_makes_no_sense_removes_nothing(record: dict[str, JsonScalar]) -> None:
    assert clean_stale(record) == ()


def test_a_stale_link_is_found_and_removed_once(tmp_path: Path) -> None:
    devices = tmp_path / "devices"
    link, notice = make_link(devices, "v", Path("/dev/loop4095"))
    assert (link, notice) == (devices / "v", "")
    (orphan,) = find_orphans(tmp_path / "run", devices)
    assert (orphan.kind, orphan.name) == ("link", "v")
    assert clean_stale(orphan.record) == (f"link {link}",)
    assert clean_stale(orphan.record) == ()
    assert not devices.exists()


def test_a_live_volume_is_no_orphan(tmp_path: Path) -> None:
    make_link(tmp_path, "v", Path("/dev/loop4095"))
    assert find_orphans(tmp_path / "run", tmp_path, live=frozenset({"v"})) == ()


def test_a_link_that_leads_elsewhere_is_left_alone(tmp_path: Path) -> None:
    link, _ = make_link(tmp_path, "v", Path("/dev/loop4094"))
    assert not remove_link(link, Path("/dev/loop4095"))
    assert link.readlink() == Path("/dev/loop4094")


def test_a_file_in_the_place_of_the_link_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "v").write_text("mine")
    device, notice = make_link(tmp_path, "v", Path("/dev/loop4095"))
    assert device == Path("/dev/loop4095")
    assert "left alone" in notice
    assert (tmp_path / "v").read_text() == "mine"


def test_where_no_link_can_be_made_the_node_is_given(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    device, notice = make_link(tmp_path / "file" / "dir", "v", Path("/dev/loop4095"))
    assert device == Path("/dev/loop4095")
    assert "could not be made" in notice


def test_a_link_is_made_while_other_volumes_end(tmp_path: Path) -> None:
    devices, ended = tmp_path / "strongroom", threading.Event()

    def others_end() -> None:
        while not ended.wait(0.0001):
            with suppress(OSError):
                devices.rmdir()

    remover = threading.Thread(target=others_end)
    remover.start()
    try:
        for _ in range(500):
            link, notice = make_link(devices, "v", Path("/dev/loop4095"))
            assert not notice
            assert remove_link(link, Path("/dev/loop4095"))
    finally:
        ended.set()
        remover.join()


def test_mountinfo_is_read_with_its_escapes_and_optional_fields() -> None:
    line = r"36 35 98:0 / /mnt/with\040blank rw,noatime shared:1 master:2 - ext4 /dev/a\134b rw"
    mount = _parse_mount(line)
    assert mount is not None
    assert mount.mount_point == Path("/mnt/with blank")
    assert (mount.device_number, mount.file_system, mount.source) == ("98:0", "ext4", "/dev/a\\b")
    assert _parse_mount("nonsense") is None


def test_netlink_attributes_come_back() -> None:
    nested = netlink.pack_nested(7, netlink.pack_u32(1, 5), netlink.pack(2, b"abc"))
    ((kind, data),) = netlink.parse(nested)
    assert kind == 7
    assert netlink.parse(data) == ((1, b"\x05\0\0\0"), (2, b"abc"))


@pytest.mark.parametrize("data", [b"\x03\0\x01\0", b"\x09\0\x01\0abcd", b"\0\0\0\0"])
def test_a_netlink_attribute_of_impossible_length_is_refused(data: bytes) -> None:
    with pytest.raises(PlatformError):
        netlink.parse(data)
