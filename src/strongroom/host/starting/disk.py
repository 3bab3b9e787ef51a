# SPDX-License-Identifier: Apache-2.0
"""What an enclave is told of its disk when it starts, where it can be passed no descriptors."""

import os
from pathlib import Path

from strongroom.errors import PlatformError
from strongroom.host.contracts import ImageReference
from strongroom.values import dataclass


@dataclass(frozen=True, slots=True)
class StartDisk:
    """The disk of an enclave that opens its files itself.

    Attributes:
        image: The names of the files.
        read_only: Open them for reading only.
        files: The image and the header as the host has opened them. A process inherits them and
            opens what they are, whatever the names mean by then. Without them it opens the names.
    """

    image: ImageReference
    read_only: bool
    files: tuple[int, int | None] | None = None

    def arguments(self) -> list[str]:
        """Return the options of an enclave that opens the files by their names."""
        header = self.image.header
        return _options(self.image.path.absolute(), None if header is None else header.absolute())

    def inherited_arguments(self) -> list[str]:
        """Return the options of an enclave that inherits :attr:`descriptors`."""
        if self.files is None:
            return self.arguments()
        image_fd, header_fd = self.files
        return _options(_inherited(image_fd), None if header_fd is None else _inherited(header_fd))

    @property
    def descriptors(self) -> tuple[int, ...]:
        """What an enclave is to inherit."""
        return tuple(fd for fd in self.files or () if fd is not None)

    def ensure_in_place(self) -> None:
        """Check that the names still lead to the open files, for an enclave that has opened names.

        Raises:
            PlatformError: One of them was exchanged.
        """
        if self.files is None:
            return
        for path, fd in zip((self.image.path, self.image.header), self.files, strict=True):
            if path is None or fd is None:
                continue
            try:
                same = os.path.samestat(path.stat(), os.fstat(fd))
            except OSError:
                same = False
            if not same:
                raise PlatformError(
                    f"{path} was exchanged for another file while it was opened",
                    hint="look at who may write in its directory",
                )


def _options(image: Path, header: Path | None) -> list[str]:
    return ["--image", str(image), *([] if header is None else ["--header", str(header)])]


def _inherited(fd: int) -> Path:
    return Path(f"/proc/self/fd/{fd}")
