# SPDX-License-Identifier: Apache-2.0
"""What an enclave is told of its disk when it starts, where it can be passed no descriptors."""

from strongroom.host.contracts import ImageReference
from strongroom.values import dataclass


@dataclass(frozen=True, slots=True)
class StartDisk:
    """The disk of an enclave that opens its files itself."""

    image: ImageReference
    read_only: bool

    def arguments(self) -> list[str]:
        """Return the options of the enclave that name the files."""
        header = self.image.header
        return [
            *("--image", str(self.image.path.absolute())),
            *(() if header is None else ("--header", str(header.absolute()))),
        ]
