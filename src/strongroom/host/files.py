# SPDX-License-Identifier: Apache-2.0
"""The open files of a volume: its image, and its detached header if it has one.

Each is opened once. Everything that follows goes through the descriptor: looking at what is there,
locking, and writing. Whoever can write in the directory may exchange the file meanwhile.
"""

import contextlib
import os
from collections.abc import Iterator
from typing import Final

from strongroom.errors import FormatError
from strongroom.host import target
from strongroom.host.contracts import ImageReference
from strongroom.host.starting import StartDisk
from strongroom.values import dataclass

_MARK_BYTES: Final = 4096
"""The binary header of LUKS2: a number of its own for each change, and a checksum of the rest."""


@dataclass(frozen=True, slots=True)
class VolumeFiles:
    """An open image and header, with the names under which they were opened."""

    image: ImageReference
    image_fd: int
    header_fd: int | None
    read_only: bool

    @property
    def descriptors(self) -> tuple[int, int | None]:
        """The image's, and the header's if it is detached."""
        return self.image_fd, self.header_fd

    def start_disk(self) -> StartDisk:
        """Return what an enclave is told that is passed no descriptors."""
        return StartDisk(self.image, read_only=self.read_only, files=self.descriptors)

    def header_lock(self) -> contextlib.AbstractContextManager[object]:
        """Return the lock that cryptsetup too holds while it reads or writes the header."""
        fd = self.image_fd if self.header_fd is None else self.header_fd
        return target.HeaderLock(fd, path=self.image.header or self.image.path)

    def header_mark(self) -> bytes:
        """Return the block of the header that each change of it changes, as it counts them.

        Nothing where it cannot be read: an enclave makes do with the other copy of the header.
        """
        fd = self.image_fd if self.header_fd is None else self.header_fd
        try:
            return os.pread(fd, _MARK_BYTES, 0)
        except OSError:
            return b""

    @contextlib.contextmanager
    def held(self, *, header_shared: bool) -> Iterator[None]:
        """Hold both for the block, so that nothing else uses them.

        Args:
            header_shared: Allow other volumes with the same detached header.

        Raises:
            AlreadyOpenError: One of them is open, or what it stands on.
            MountedError: The system uses one of them.
        """
        with contextlib.ExitStack() as stack:
            path, header = self.image.path, self.image.header
            stack.enter_context(target.Hold(self.image_fd, path=path, shared=self.read_only))
            if self.header_fd is not None and header is not None and not self._is_one_file():
                shared = header_shared or self.read_only
                stack.enter_context(target.Hold(self.header_fd, path=header, shared=shared))
            yield

    @contextlib.contextmanager
    def named(self) -> Iterator[None]:
        """Name the file in errors about its bytes, which come from an enclave that has no names."""
        try:
            yield
        except FormatError as err:
            name = self.image.header or self.image.path
            raise type(err)(f"{name}: {err.message}", hint=err.hint) from err

    def ensure_header_may_change(self) -> None:
        """Refuse to change the header by another way than that by which the volume is open.

        Raises:
            AlreadyOpenError: See :func:`strongroom.host.target.ensure_header_may_change`.
        """
        fd = self.image_fd if self.header_fd is None else self.header_fd
        target.ensure_header_may_change(fd, self.image.header or self.image.path)

    def _is_one_file(self) -> bool:
        assert self.header_fd is not None  # noqa: S101 - asked for detached headers only
        return os.path.samestat(os.fstat(self.image_fd), os.fstat(self.header_fd))


@contextlib.contextmanager
def opened_files(
    image: ImageReference, *, read_only: bool, hint: str = ""
) -> Iterator[VolumeFiles]:
    """Open an image, and its detached header if it has one, for the block.

    Args:
        image: Their names.
        read_only: Open them for reading only.
        hint: How to go on where they may not be written.

    Raises:
        StrongroomError: See :func:`strongroom.host.target.open_image`.
    """
    with contextlib.ExitStack() as stack:
        image_fd = target.open_image(image.path, read_only=read_only, hint=hint)
        stack.callback(os.close, image_fd)
        header_fd = None
        if image.header is not None:
            header_fd = target.open_image(image.header, read_only=read_only, hint=hint)
            stack.callback(os.close, header_fd)
        yield VolumeFiles(image, image_fd, header_fd, read_only)
