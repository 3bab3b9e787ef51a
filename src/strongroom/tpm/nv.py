# SPDX-License-Identifier: Apache-2.0
"""NV indexes: what they are, and what is in them.

An index is used under the Name of the public area that the caller knows, never of one that was
read through the host: then another index in its place does not answer.

Spec: TPM 2.0 Part 1, 37; Part 2, 13; Part 3, 31.
"""

import enum
from typing import Final, Generic

from strongroom import values
from strongroom.errors import TpmTamperedError, UsageError
from strongroom.tpm.algorithms import Algorithm, digest
from strongroom.tpm.codes import CommandCode
from strongroom.tpm.commands import Answer, Command, Road, SecretT, length_bytes
from strongroom.tpm.entities import OWNER, Entity
from strongroom.tpm.marshal import Reader, sized, u16, u32
from strongroom.values import dataclass

COUNTER_BYTES: Final = 8
MOST_BYTES_AT_ONCE: Final = 512
"""What every TPM takes and gives in one command; larger contents go in pieces."""
_INDEX_FIRST: Final = 0x01000000
_INDEX_LAST: Final = 0x01FFFFFF


class NvAttribute(enum.IntFlag):
    """A bit of ``TPMA_NV``. Spec: TPM 2.0 Part 2, 13.4."""

    PPWRITE = 1 << 0
    OWNERWRITE = 1 << 1
    AUTHWRITE = 1 << 2
    POLICYWRITE = 1 << 3
    POLICY_DELETE = 1 << 10
    WRITELOCKED = 1 << 11
    WRITEALL = 1 << 12
    WRITEDEFINE = 1 << 13
    WRITE_STCLEAR = 1 << 14
    GLOBALLOCK = 1 << 15
    PPREAD = 1 << 16
    OWNERREAD = 1 << 17
    AUTHREAD = 1 << 18
    POLICYREAD = 1 << 19
    NO_DA = 1 << 25
    ORDERLY = 1 << 26
    CLEAR_STCLEAR = 1 << 27
    READLOCKED = 1 << 28
    WRITTEN = 1 << 29
    PLATFORMCREATE = 1 << 30
    READ_STCLEAR = 1 << 31


class NvType(enum.IntEnum):
    """A ``TPM_NT``: bits 4 to 7 of ``TPMA_NV``. Spec: TPM 2.0 Part 2, 13.2."""

    ORDINARY = 0
    COUNTER = 1
    BITS = 2
    EXTEND = 4
    PIN_FAIL = 8
    PIN_PASS = 9


_TYPE_SHIFT: Final = 4
_OWN: Final = NvAttribute.AUTHREAD | NvAttribute.AUTHWRITE | NvAttribute.NO_DA


@dataclass(frozen=True, slots=True)
class NvPublic:
    """A ``TPMS_NV_PUBLIC``: all that makes up an index, but its contents and its secret."""

    index: int
    attributes: int
    """``TPMA_NV``, with the type."""
    size_bytes: int
    policy: bytes = b""
    name_algorithm: int = Algorithm.SHA256

    @classmethod
    def ordinary(cls, index: int, size_bytes: int) -> "NvPublic":
        """Return an index for bytes, read and written with its authorization value."""
        return cls(checked(index), int(_OWN), size_bytes)

    @classmethod
    def counter(cls, index: int) -> "NvPublic":
        """Return an index that counts upwards, and never back, not even when it is made anew."""
        kind = NvType.COUNTER << _TYPE_SHIFT
        return cls(checked(index), int(_OWN) | kind, COUNTER_BYTES)

    def counting_guesses(self) -> "NvPublic":
        """Return the index as one of which the TPM counts wrong authorization values.

        For values that a person chose. After some wrong ones the TPM locks itself for a while.

        Spec: TPM 2.0 Part 1, 19.8 "Dictionary Attack Protection"; Part 2, 13.4, ``TPMA_NV_NO_DA``.
        """
        return values.replace(self, attributes=self.attributes & ~int(NvAttribute.NO_DA))

    @property
    def type(self) -> int:
        """The ``TPM_NT``."""
        return self.attributes >> _TYPE_SHIFT & 0xF

    @property
    def flags(self) -> NvAttribute:
        """The attributes without the type."""
        return NvAttribute(self.attributes & ~(0xF << _TYPE_SHIFT))

    @property
    def wire(self) -> bytes:
        """The structure itself."""
        return (
            u32(self.index)
            + u16(self.name_algorithm)
            + u32(self.attributes)
            + sized(self.policy)
            + u16(self.size_bytes)
        )

    @property
    def entity(self) -> Entity:
        """The index, under the Name that all of this makes."""
        name = u16(self.name_algorithm) + digest(self.name_algorithm, self.wire)
        return Entity(self.index, name)

    def written(self) -> "NvPublic":
        """Return the index as it is after its first write: that changes its Name."""
        return values.replace(self, attributes=self.attributes | NvAttribute.WRITTEN)


def type_name(number: int) -> str:
    """Return the name of a ``TPM_NT``, or its number in hexadecimal."""
    try:
        return NvType(number).name.lower()
    except ValueError:
        return f"{number:#x}"


def check_range(public: NvPublic, offset_bytes: int, count_bytes: int) -> None:
    """Make sure that bytes are within an index, before the first of them is read or written.

    Raises:
        UsageError: They are not.
    """
    if offset_bytes < 0 or count_bytes < 0 or offset_bytes + count_bytes > public.size_bytes:
        raise UsageError(
            f"{public.index:#010x} has no {count_bytes} bytes from byte {offset_bytes} on",
            hint=f"it holds {public.size_bytes} bytes",
        )


def _check_type(public: NvPublic, wanted: NvType) -> None:
    if public.type != wanted:
        found = type_name(public.type)
        raise UsageError(f"{public.index:#010x} is of type {found}, not {wanted.name.lower()}")


def attribute_names(flags: NvAttribute) -> tuple[str, ...]:
    """Return the names of all attributes that are set, as tpm2-tools writes them."""
    return tuple((flag.name or "").lower() for flag in NvAttribute if flag & flags)


def checked(index: int) -> int:
    """Return an NV index if it is one.

    Raises:
        UsageError: It is not.
    """
    if not _INDEX_FIRST <= index <= _INDEX_LAST:
        raise UsageError(f"{index:#x} is no NV index", hint="they go from 0x1000000 to 0x1ffffff")
    return index


def read_public(wire: bytes) -> NvPublic:
    """Take a ``TPMS_NV_PUBLIC`` apart. Raises :class:`TpmTamperedError` if it is none."""
    reader = Reader(wire)
    index, name_algorithm, attributes = reader.u32(), reader.u16(), reader.u32()
    policy, size_bytes = reader.sized(), reader.u16()
    reader.end()
    return NvPublic(index, attributes, size_bytes, policy, name_algorithm)


def _described(answer: Answer[SecretT], index: int) -> NvPublic:
    reader = Reader(answer.parameters)
    public, name = read_public(reader.sized()), reader.sized()
    reader.end()
    if public.index != index or name != public.entity.name:
        raise TpmTamperedError("an NV index and its Name do not belong together")
    return public


class Nv(Generic[SecretT]):
    """NV indexes of one TPM."""

    def __init__(self, road: Road[SecretT]) -> None:
        self._road = road

    def define(self, public: NvPublic, auth: SecretT | None) -> None:
        """Make an index, with its authorization value. Raises as :meth:`Road.run`."""
        first: tuple[bytes | SecretT, ...] = () if auth is None else (auth,)
        code, area = CommandCode.NV_DEFINE_SPACE, sized(public.wire)
        self._road.run(Command(code, (OWNER,), 1, first, area), None)

    def undefine(self, public: NvPublic) -> None:
        """Remove an index; its owner needs no secret of it. Raises as :meth:`Road.run`."""
        command: Command[SecretT] = Command(
            CommandCode.NV_UNDEFINE_SPACE, (OWNER, public.entity), 1
        )
        self._road.run(command, None)

    def describe(self, index: int) -> NvPublic:
        """Return what the TPM says an index is: to be shown, or compared with what is known.

        Raises:
            TpmTamperedError: What it says does not fit together.
            TpmError: As :meth:`Road.run`.
        """
        # A command is authenticated under the Name of what it is about. Somebody says what that is,
        # and the TPM is asked again under it.
        code, unknown = CommandCode.NV_READ_PUBLIC, Entity(checked(index), b"")
        said = _described(self._road.hearsay(Command(code, (unknown,))), index)
        return _described(self._road.run(Command(code, (said.entity,))), index)

    def write(
        self, public: NvPublic, data: SecretT, auth: SecretT | None, *, offset: int = 0
    ) -> None:
        """Write an ordinary index, in one piece.

        Raises:
            UsageError: It is another index, or too small.
            TpmError: As :meth:`Road.run`.
        """
        _check_type(public, NvType.ORDINARY)
        check_range(public, offset, length_bytes(data))
        about = (public.entity, public.entity)
        command = Command(CommandCode.NV_WRITE, about, 1, (data,), u16(offset))
        self._road.run(command, auth)

    def read(
        self, public: NvPublic, auth: SecretT | None, size_bytes: int, offset: int = 0
    ) -> SecretT:
        """Return contents, in one piece. Raises as :meth:`Road.run`."""
        about = (public.entity, public.entity)
        rest = u16(size_bytes) + u16(offset)
        command: Command[SecretT] = Command(
            CommandCode.NV_READ, about, 1, None, rest, has_secret_answer=True
        )
        return self._road.run(command, auth).revealed()

    def read_open(self, public: NvPublic, size_bytes: int, offset: int = 0) -> bytes:
        """Return contents that everybody may read, and that are no secret.

        Raises:
            TpmError: As :meth:`Road.run`.
        """
        about = (public.entity, public.entity)
        rest = u16(size_bytes) + u16(offset)
        command: Command[SecretT] = Command(CommandCode.NV_READ, about, 1, None, rest)
        reader = Reader(self._road.run(command, None).parameters)
        contents = reader.sized()
        reader.end()
        return contents

    def increment(self, public: NvPublic, auth: SecretT | None) -> None:
        """Count one up.

        Raises:
            UsageError: It is no counter.
            TpmError: As :meth:`Road.run`.
        """
        _check_type(public, NvType.COUNTER)
        about = (public.entity, public.entity)
        command: Command[SecretT] = Command(CommandCode.NV_INCREMENT, about, 1)
        self._road.run(command, auth)

    def count(self, public: NvPublic, auth: SecretT | None) -> int:
        """Return where a counter stands. Raises as :meth:`increment`."""
        _check_type(public, NvType.COUNTER)
        about = (public.entity, public.entity)
        rest = u16(COUNTER_BYTES) + u16(0)
        command: Command[SecretT] = Command(CommandCode.NV_READ, about, 1, None, rest)
        reader = Reader(self._road.run(command, auth).parameters)
        value = int.from_bytes(reader.sized(), "big")
        reader.end()
        return value
