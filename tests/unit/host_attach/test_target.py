# SPDX-License-Identifier: Apache-2.0
import errno
import os
from pathlib import Path

import pytest

from strongroom.errors import (
    AlreadyOpenError,
    NoSpaceError,
    NotFoundError,
    StrongroomError,
    TargetInUseError,
    UnavailableError,
    UsageError,
)
from strongroom.host.target import (
    HeaderLock,
    OpenLock,
    create_image,
    images,
    open_image,
)
from tests.targets import ensure_formattable, signatures

pytestmark = pytest.mark.unit


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "image"
    path.write_bytes(bytes(1 << 20))
    return path


def put(path: Path, offset: int, data: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(data)


class StoppedError(Exception):
    """Ends a block on purpose."""


# --- what is on it


def test_an_empty_image_may_be_formatted(image: Path) -> None:
    assert signatures(image) == ()
    ensure_formattable(image, force=False)


@pytest.mark.parametrize(
    ("offset", "magic", "name"),
    [
        (0, b"LUKS\xba\xbe\0\x02", "crypto_LUKS"),
        (0x4000, b"SKUL\xba\xbe\0\x02", "crypto_LUKS"),
        (0x400000, b"SKUL\xba\xbe\0\x02", "crypto_LUKS"),
        (0x8000, b"\x01CD001\x01", "iso9660"),
        (0x10040, b"_BHRfS_M", "btrfs"),
        (
            446,
            bytes([0, 0, 2, 0, 131, 1, 1, 1, 1, 0, 0, 0, 9, 0, 0, 0]) + bytes(48) + b"\x55\xaa",
            "dos",
        ),
    ],
)
def test_what_is_there_is_named_and_protected(
    image: Path, offset: int, magic: bytes, name: str
) -> None:
    os.truncate(image, 8 << 20)
    put(image, offset, magic)
    before = image.read_bytes()
    assert name in signatures(image)
    with pytest.raises(TargetInUseError, match=name):
        ensure_formattable(image, force=False)
    ensure_formattable(image, force=True)
    assert image.read_bytes() == before


def test_without_the_tool_luks_is_still_known_and_nothing_is_formatted(
    image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(UnavailableError):
        ensure_formattable(image, force=False)


def test_a_missing_target_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError):
        open_image(tmp_path / "none", read_only=True)


# --- owning it


def test_a_second_writer_is_refused_until_the_first_is_gone(image: Path) -> None:
    first, second = open_image(image, read_only=False), open_image(image, read_only=False)
    lock = OpenLock(first, path=image, read_only=False)
    with pytest.raises(AlreadyOpenError):
        OpenLock(second, path=image, read_only=False)
    lock.release()
    OpenLock(second, path=image, read_only=False)
    os.close(first)
    os.close(second)


def test_readers_share_and_keep_writers_out(image: Path) -> None:
    one, two = open_image(image, read_only=True), open_image(image, read_only=True)
    writer = open_image(image, read_only=False)
    locks = [OpenLock(fd, path=image, read_only=True) for fd in (one, two)]
    with pytest.raises(AlreadyOpenError):
        OpenLock(writer, path=image, read_only=False)
    for lock in locks:
        lock.release()
    with OpenLock(writer, path=image, read_only=False), pytest.raises(AlreadyOpenError):
        OpenLock(one, path=image, read_only=True)
    for fd in (one, two, writer):
        os.close(fd)


def test_the_lock_stays_with_a_copy_of_the_descriptor(image: Path) -> None:
    first, second = open_image(image, read_only=False), open_image(image, read_only=False)
    OpenLock(first, path=image, read_only=False)
    copy = os.dup(first)
    os.close(first)
    with pytest.raises(AlreadyOpenError):
        OpenLock(second, path=image, read_only=False)
    os.close(copy)
    OpenLock(second, path=image, read_only=False)
    os.close(second)


def test_the_header_lock_waits_only_so_long_and_leaves_the_open_lock_alone(image: Path) -> None:
    fd = open_image(image, read_only=False)
    OpenLock(fd, path=image, read_only=False)
    with HeaderLock(fd, path=image), pytest.raises(AlreadyOpenError, match="header"):
        HeaderLock(fd, path=image, wait_seconds=0.03)
    with HeaderLock(fd, path=image, wait_seconds=0.03):
        pass
    os.close(fd)


# --- opening it


def test_only_files_and_block_devices_are_images(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    for path in (fifo, tmp_path, Path("/dev/null")):
        with pytest.raises(UsageError):
            open_image(path, read_only=True)


def test_an_image_is_opened_through_a_link_and_not_inherited(image: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(image)
    fd = open_image(link, read_only=False)
    assert os.path.samestat(os.fstat(fd), image.stat())
    assert not os.get_inheritable(fd)
    assert os.get_blocking(fd)
    os.close(fd)


# --- making it


@pytest.mark.parametrize("sparse", [True, False])
def test_an_image_appears_when_it_is_complete(tmp_path: Path, *, sparse: bool) -> None:
    path = tmp_path / "new"
    with create_image(path, 1 << 20, sparse=sparse) as fd:
        assert list(tmp_path.iterdir()) == []
        os.pwrite(fd, b"data", 0)
    assert path.stat().st_size == 1 << 20
    assert path.stat().st_mode & 0o777 == 0o600
    assert (path.stat().st_blocks * 512 >= 1 << 20) is not sparse
    assert path.read_bytes()[:4] == b"data"


@pytest.mark.parametrize("unnamed", [True, False])
def test_a_failure_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, unnamed: bool
) -> None:
    if not unnamed:
        without_unnamed_files(monkeypatch)
    making = create_image(tmp_path / "new", 1 << 20, sparse=True)
    seen: list[Path] = []
    with pytest.raises(StoppedError), making:
        look_and_stop(tmp_path, seen)
    assert bool(seen) is not unnamed
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("unnamed", [True, False])
@pytest.mark.parametrize("late", [True, False])
def test_an_existing_file_is_never_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, unnamed: bool, late: bool
) -> None:
    if not unnamed:
        without_unnamed_files(monkeypatch)
    path = tmp_path / "new"
    if not late:
        path.write_text("mine")
    making = create_image(path, 1 << 20, sparse=True)
    with pytest.raises(TargetInUseError), making:
        path.write_text("mine")
    assert path.read_text() == "mine"
    assert list(tmp_path.iterdir()) == [path]


def test_where_there_are_no_hard_links_the_file_gets_its_name_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_link(*_: object, **__: object) -> None:
        raise OSError(errno.EPERM, "no hard links")

    without_unnamed_files(monkeypatch)
    monkeypatch.setattr(os, "link", no_link)
    path = tmp_path / "new"
    with create_image(path, 4096, sparse=True) as fd:
        os.pwrite(fd, b"data", 0)
    assert path.read_bytes()[:4] == b"data"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EFBIG, errno.EDQUOT])
def test_no_room_is_said_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def full(_fd: int, _size: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(images, "reserve", full)
    with pytest.raises(NoSpaceError), create_image(tmp_path / "new", 4096, sparse=False):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_file_system_that_cannot_reserve_gives_a_sparse_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unsupported(_fd: int, _size: int) -> None:
        raise OSError(errno.EOPNOTSUPP, "not here")

    monkeypatch.setattr(images, "reserve", unsupported)
    with create_image(tmp_path / "new", 4096, sparse=False):
        pass
    assert (tmp_path / "new").stat().st_size == 4096


def test_a_missing_directory_is_not_found(tmp_path: Path) -> None:
    with (
        pytest.raises(StrongroomError) as caught,
        create_image(tmp_path / "none" / "new", 4096, sparse=True),
    ):
        pass
    assert isinstance(caught.value, NotFoundError)


def look_and_stop(directory: Path, seen: list[Path]) -> None:
    seen.extend(directory.iterdir())
    raise StoppedError


def without_unnamed_files(monkeypatch: pytest.MonkeyPatch) -> None:
    opened = os.open

    def refuse(path: str | Path, flags: int, mode: int = 0o777, **rest: int | None) -> int:
        if flags & os.O_TMPFILE == os.O_TMPFILE:
            raise OSError(errno.EOPNOTSUPP, "no unnamed files")
        return opened(path, flags, mode, dir_fd=rest.get("dir_fd"))

    monkeypatch.setattr(os, "open", refuse)
