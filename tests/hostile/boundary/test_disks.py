# SPDX-License-Identifier: Apache-2.0
"""Descriptors that are no disks, and disks that change behind the enclave's back."""

import contextlib
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest

from strongroom.boundary import calls
from strongroom.errors import (
    BoundaryError,
    DiskError,
    FormatError,
    NoPermissionError,
    PlatformError,
    StrongroomError,
    TruncatedError,
    WrongPassphraseError,
)
from tests.hostile.boundary.evil import (
    CHEAP,
    DATA_OFFSET_BYTES,
    Enclave,
    creation,
    is_served,
    opened,
    serve,
)

pytestmark = pytest.mark.hostile

Descriptors = contextlib.AbstractContextManager[int]


@contextlib.contextmanager
def pipe() -> Iterator[int]:
    reader, writer = os.pipe()
    os.write(writer, b"LUKS\xba\xbe")
    yield reader
    os.close(reader)
    os.close(writer)


@contextlib.contextmanager
def unix_socket() -> Iterator[int]:
    one, other = socket.socketpair()
    with one, other:
        yield one.fileno()


@contextlib.contextmanager
def memory() -> Iterator[int]:
    descriptor = os.memfd_create("empty")
    yield descriptor
    os.close(descriptor)


NO_DISKS: Final[dict[str, tuple[Callable[[Path], Descriptors], type[StrongroomError]]]] = {
    "a pipe": (lambda _: pipe(), DiskError),
    "a socket": (lambda _: unix_socket(), DiskError),
    "a directory": (lambda path: opened(path.parent, os.O_RDONLY), DiskError),
    "endless zeros": (lambda _: opened(Path("/dev/zero")), FormatError),
    "endless noise": (lambda _: opened(Path("/dev/urandom")), FormatError),
    "nothing": (lambda _: opened(Path("/dev/null")), FormatError),
    "an empty file": (lambda _: memory(), FormatError),
    "a file for writing only": (lambda path: opened(path, os.O_WRONLY), NoPermissionError),
    "a path and no file": (lambda path: opened(path, os.O_PATH), NoPermissionError),
    "a kernel file": (lambda _: opened(Path("/proc/self/mem"), os.O_RDONLY), StrongroomError),
}


@pytest.mark.parametrize(("make", "error"), NO_DISKS.values(), ids=NO_DISKS.keys())
def test_what_is_no_disk_is_refused_and_harms_nothing(
    make: Callable[[Path], Descriptors], error: type[StrongroomError], enclave: Enclave, image: Path
) -> None:
    before = image.read_bytes()
    with make(image) as descriptor:
        with pytest.raises(error):
            enclave.call(calls.LoadDisk(descriptor, None, read_only=False))
        with pytest.raises(error):
            enclave.call(calls.LoadDisk(descriptor, descriptor, read_only=True))
        with pytest.raises((PlatformError, FormatError)):
            enclave.call(calls.RestoreHeader(descriptor, None, descriptor, force=True))

    # The refused ones left no trace: a good disk is still taken.
    assert enclave.load(image).key_bits == 512
    assert image.read_bytes() == before


NO_DATA: Final[dict[str, Callable[[Path], Descriptors]]] = {
    "a pipe": lambda _: pipe(),
    "a socket": lambda _: unix_socket(),
    "a directory": lambda path: opened(path.parent, os.O_RDONLY),
    "an empty file": lambda _: memory(),
    "a file for writing only": lambda path: opened(path, os.O_WRONLY),
    "a path and no file": lambda path: opened(path, os.O_PATH),
}


@pytest.mark.parametrize("make", NO_DATA.values(), ids=NO_DATA.keys())
def test_what_holds_no_data_is_refused_before_the_passphrase(
    make: Callable[[Path], Descriptors], enclave: Enclave, image: Path
) -> None:
    before = image.read_bytes()
    with opened(image) as descriptor, make(image) as direct:
        with pytest.raises((DiskError, TruncatedError)):
            enclave.call(calls.LoadDisk(descriptor, None, read_only=False, direct=direct))
        with pytest.raises((DiskError, TruncatedError)):
            enclave.call(calls.LoadDisk(descriptor, descriptor, read_only=True, direct=direct))
    assert enclave.load(image).key_bits == 512
    assert image.read_bytes() == before


@pytest.mark.parametrize("make", [pipe, unix_socket])
def test_a_new_volume_is_not_made_on_what_is_no_disk(
    make: Callable[[], Descriptors], enclave: Enclave
) -> None:
    with make() as descriptor, pytest.raises(DiskError):
        enclave.call(creation(descriptor, enclave.sealed("format")))
    assert enclave.is_alive()


@pytest.mark.parametrize("make", [pipe, memory, lambda: opened(Path("/dev/null"))])
def test_a_listener_that_is_none_serves_nobody(
    make: Callable[[], Descriptors], enclave: Enclave, image: Path, tmp_path: Path
) -> None:
    enclave.load(image)
    enclave.unlock()
    with make() as descriptor, pytest.raises(BoundaryError, match="no socket"):
        enclave.call(calls.Serve(descriptor, "volume", structured_replies=False))

    serve(enclave, tmp_path / "nbd")
    assert is_served(tmp_path / "nbd")


def test_the_header_is_read_once(enclave: Enclave, image: Path) -> None:
    facts = enclave.load(image)
    dumped = enclave.call(calls.DumpHeader())
    with image.open("r+b") as file:
        # Both header copies; the keyslot areas stay.
        file.write(os.urandom(2 * 16384))

    assert enclave.call(calls.DumpHeader()) == dumped
    assert facts.uuid in dumped.json
    assert enclave.unlock().keyslot == 0


def test_key_material_that_changes_after_the_check_has_no_effect(
    enclave: Enclave, image: Path
) -> None:
    area = enclave.load(image).keyslots[0]
    with image.open("r+b") as file:
        file.seek(area.area_offset_bytes)
        file.write(os.urandom(4096))

    assert enclave.unlock().keyslot == 0


@pytest.mark.parametrize("size", [0, 4096, 32768, 100_000, DATA_OFFSET_BYTES - 1])
def test_an_image_that_shrinks_after_the_check_is_refused(
    size: int, enclave: Enclave, image: Path
) -> None:
    enclave.load(image)
    os.truncate(image, size)

    with pytest.raises((FormatError, PlatformError, WrongPassphraseError)) as refused:
        enclave.unlock()

    assert refused.value.message
    assert enclave.is_alive()
    assert image.stat().st_size == size


def test_an_image_without_room_for_data_leaves_the_enclave_fresh(
    enclave: Enclave, image: Path, pristine: Path
) -> None:
    os.truncate(image, DATA_OFFSET_BYTES - 4096)
    with pytest.raises(TruncatedError):
        enclave.load(image)
    with pytest.raises(BoundaryError, match="no disk"):
        enclave.call(calls.DumpHeader())

    assert enclave.load(pristine, read_only=True).key_bits == 512


def test_a_disk_that_cannot_be_written_changes_no_keyslot(enclave: Enclave, image: Path) -> None:
    before = image.read_bytes()
    with opened(image, os.O_RDONLY) as descriptor:
        enclave.call(calls.LoadDisk(descriptor, None, read_only=False))
    with pytest.raises(NoPermissionError):
        enclave.call(
            calls.AddKeyslot(
                existing=enclave.sealed("existing passphrase"),
                new=enclave.sealed("new passphrase", b"another"),
                factors=("enclave", "passphrase"),
                kdf=CHEAP,
                keyslot=None,
                recovery_key_to=None,
            )
        )
    assert image.read_bytes() == before
    assert len(enclave.call(calls.DumpHeader()).json) > 100
