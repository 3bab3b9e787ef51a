# SPDX-License-Identifier: Apache-2.0
"""Numbers and sized buffers as the TPM writes them: big-endian, to the last byte.

Spec: TPM 2.0 Part 1, 12; Part 2, 10.4 for the ``TPM2B``.
"""

from typing import Final

from strongroom.errors import InternalError, TpmTamperedError

_MAX_SIZED_BYTES: Final = 0xFFFF


def u8(number: int) -> bytes:
    """Return one octet."""
    return number.to_bytes(1, "big")


def u16(number: int) -> bytes:
    """Return two octets."""
    return number.to_bytes(2, "big")


def u32(number: int) -> bytes:
    """Return four octets."""
    return number.to_bytes(4, "big")


def u64(number: int) -> bytes:
    """Return eight octets."""
    return number.to_bytes(8, "big")


def sized(content: bytes) -> bytes:
    """Return a ``TPM2B``: a size of 16 bits and the content.

    Raises:
        InternalError: The content is longer than such a size can say.
    """
    if len(content) > _MAX_SIZED_BYTES:
        raise InternalError("a TPM2B cannot be that long")
    return u16(len(content)) + content


class Reader:
    """Takes an answer apart from the front.

    The response gate has walked every answer before: what fails here is an answer whose content,
    not whose shape, was changed on the way, or a bug.

    Raises:
        TpmTamperedError: From every method, when there is less than was asked for.
    """

    def __init__(self, content: bytes) -> None:
        self._rest = content

    def take(self, count: int) -> bytes:
        """Take exactly ``count`` bytes."""
        taken, self._rest = self._rest[:count], self._rest[count:]
        if len(taken) != count:
            raise TpmTamperedError("a structure of the TPM ends too early")
        return taken

    def u8(self) -> int:
        """Take one octet."""
        return self._number(1)

    def u16(self) -> int:
        """Take two octets."""
        return self._number(2)

    def u32(self) -> int:
        """Take four octets."""
        return self._number(4)

    def u64(self) -> int:
        """Take eight octets."""
        return self._number(8)

    def sized(self) -> bytes:
        """Take the content of a ``TPM2B``."""
        return self.take(self.u16())

    def rest(self) -> bytes:
        """Take all that is left."""
        return self.take(len(self._rest))

    def end(self) -> None:
        """Make sure that nothing is left.

        Raises:
            TpmTamperedError: Something is.
        """
        if self._rest:
            raise TpmTamperedError("a structure of the TPM is followed by something else")

    def _number(self, count: int) -> int:
        return int.from_bytes(self.take(count), "big")
