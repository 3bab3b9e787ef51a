# SPDX-License-Identifier: Apache-2.0
"""What a TPM says about itself: capabilities, clock, randomness and PCRs.

Spec: TPM 2.0 Part 3, 16 "Random Number Generator", 22 "Integrity Collection", 29 "Clocks and
Timers", 30 "Capability Commands".
"""

from collections.abc import Iterator
from typing import Final, Generic

from strongroom.errors import LimitError, TpmTamperedError
from strongroom.tpm.algorithms import Algorithm
from strongroom.tpm.codes import CommandCode
from strongroom.tpm.commands import Command, Road, SecretT
from strongroom.tpm.commands import length_bytes as length_of
from strongroom.tpm.entities import permanent
from strongroom.tpm.marshal import Reader, u16, u32
from strongroom.tpm.pcrs import PcrSelection, read_values
from strongroom.values import dataclass

MOST_RANDOM_BYTES: Final = 32
"""What every TPM gives at once: the length of its longest digest is at least that."""

LOADED_SESSIONS: Final = 0x02000000
SAVED_SESSIONS: Final = 0x03000000
_SESSION_KINDS: Final = frozenset({0x02, 0x03})

_CAP_HANDLES: Final = 1
_CAP_PROPERTIES: Final = 6
_FIXED_PROPERTIES: Final = 0x100
_VARIABLE_PROPERTIES: Final = 0x200
_MOST_AT_ONCE: Final = 64
_MOST_ANSWERS: Final = 64
"""A TPM that gives one at a time still gets through what it has."""
_KIND_SHIFT: Final = 24
_NUMBER: Final = 0x00FFFFFF
"""Of a handle, all but its kind."""
_FAMILY, _REVISION, _MANUFACTURER, _FIRMWARE = 0x100, 0x102, 0x105, 0x10B
_VENDOR_FIRST, _VENDOR_LAST = 0x106, 0x109
_STATE_CLEAR, _LOCKOUT_COUNTER, _MAX_AUTH_FAIL = 0x201, 0x20E, 0x20F


@dataclass(frozen=True, slots=True)
class Clock:
    """A ``TPMS_TIME_INFO``."""

    time_milliseconds: int
    """Since the TPM was last powered."""
    clock_milliseconds: int
    """While the TPM was powered, since it was last cleared."""
    reset_count: int
    restart_count: int
    is_safe: bool
    """No later value of the clock was ever reported."""


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a TPM says that it is. Not proven by anything but that TPM's word."""

    family: str
    revision: int
    """Of the specification, times 100."""
    manufacturer: str
    vendor: str
    firmware: str
    properties: dict[int, int]
    """Every ``TPM_PT``, fixed and variable."""

    @property
    def lockout_counter(self) -> int:
        """Wrong authorizations so far."""
        return self.properties.get(_LOCKOUT_COUNTER, 0)

    @property
    def lockout_limit(self) -> int:
        """Wrong authorizations after which no more are taken."""
        return self.properties.get(_MAX_AUTH_FAIL, 0)


class Device(Generic[SecretT]):
    """One TPM, at the end of a road."""

    def __init__(self, road: Road[SecretT]) -> None:
        self._road = road

    def capabilities(self) -> Capabilities:
        """Return what the TPM says that it is. Raises as :meth:`Road.run`."""
        properties = {
            **dict(self._properties(_FIXED_PROPERTIES)),
            **dict(self._properties(_VARIABLE_PROPERTIES)),
        }

        def text(*numbers: int) -> str:
            content = b"".join(u32(properties.get(number, 0)) for number in numbers)
            return _printable(content.replace(b"\0", b"").decode("ascii", "replace")).strip()

        version = properties.get(_FIRMWARE, 0)
        return Capabilities(
            family=text(_FAMILY),
            revision=properties.get(_REVISION, 0),
            manufacturer=text(_MANUFACTURER),
            vendor=text(*range(_VENDOR_FIRST, _VENDOR_LAST + 1)),
            firmware=f"{version >> 16}.{version & 0xFFFF}",
            properties=properties,
        )

    def handles(self, first: int) -> tuple[int, ...]:
        """Return all handles in use of the kind that ``first`` is of, from there on.

        Of sessions, :data:`LOADED_SESSIONS` are all that are loaded, be they for HMACs or policies,
        and :data:`SAVED_SESSIONS` all others: who asks says where they are, an answer what for.

        Raises:
            TpmError: As :meth:`Road.run`.

        Spec: TPM 2.0 Part 3, 30.2.1, "TPM_CAP_HANDLES".
        """
        found: list[int] = []
        for reader in self._capability(_CAP_HANDLES, first):
            found += [reader.u32() for _ in range(reader.u32())]
        kind = first >> _KIND_SHIFT
        kinds = _SESSION_KINDS if kind in _SESSION_KINDS else {kind}
        return tuple(handle for handle in found if handle >> _KIND_SHIFT in kinds)

    def clock(self) -> Clock:
        """Return the TPM's times and counters. Raises as :meth:`Road.run`."""
        reader = Reader(self._road.run(Command(CommandCode.READ_CLOCK)).parameters)
        clock = Clock(reader.u64(), reader.u64(), reader.u32(), reader.u32(), reader.u8() == 1)
        reader.end()
        return clock

    def random(self, length_bytes: int) -> SecretT:
        """Return random bytes.

        Raises:
            LimitError: More than :data:`MOST_RANDOM_BYTES` were asked for, or none.
            TpmTamperedError: The TPM gave fewer.
            TpmError: As :meth:`Road.run`.
        """
        if not 0 < length_bytes <= MOST_RANDOM_BYTES:
            raise LimitError(f"a TPM gives 1 to {MOST_RANDOM_BYTES} random bytes at once")
        command: Command[SecretT] = Command(
            CommandCode.GET_RANDOM, rest=u16(length_bytes), has_secret_answer=True
        )
        drawn = self._road.run(command).revealed()
        if length_of(drawn) != length_bytes:
            raise TpmTamperedError("the TPM gave another number of random bytes than was asked for")
        return drawn

    def read_pcrs(self, selection: PcrSelection) -> dict[int, bytes]:
        """Return the values of PCRs. Those that the TPM does not have are missing.

        Raises:
            TpmTamperedError: The values are of others.
            TpmError: As :meth:`Road.run`.
        """
        values: dict[int, bytes] = {}
        left = selection
        while left.pcrs:
            command: Command[SecretT] = Command(CommandCode.PCR_READ, rest=left.wire)
            read = read_values(self._road.run(command).parameters, left)
            if not read:
                break
            values |= read
            left = PcrSelection.of(set(left.pcrs) - read.keys(), left.bank)
        return dict(sorted(values.items()))

    def extend_pcr(self, pcr: int, digest: bytes, bank: Algorithm = Algorithm.SHA256) -> None:
        """Extend a PCR with a digest. Raises as :meth:`Road.run`."""
        entity = permanent(PcrSelection.of([pcr], bank).pcrs[0])
        rest = u32(1) + u16(bank) + digest
        self._road.run(Command(CommandCode.PCR_EXTEND, (entity,), 1, None, rest), None)

    def _properties(self, first: int) -> Iterator[tuple[int, int]]:
        for reader in self._capability(_CAP_PROPERTIES, first):
            for _ in range(reader.u32()):
                number, value = reader.u32(), reader.u32()
                # Fixed properties are followed by variable ones.
                if number & ~0xFF == first:
                    yield number, value

    def _capability(self, capability: int, first: int) -> Iterator[Reader]:
        """Ask until there is no more; each answer, from its list on."""
        for _ in range(_MOST_ANSWERS):
            rest = u32(capability) + u32(first) + u32(_MOST_AT_ONCE)
            command: Command[SecretT] = Command(CommandCode.GET_CAPABILITY, rest=rest)
            answer = self._road.run(command).parameters
            reader = Reader(answer)
            has_more = reader.u8() == 1
            if reader.u32() != capability:
                raise TpmTamperedError("the TPM answered with another capability")
            yield reader
            last = _last_of(answer, capability)
            if not has_more or last is None or not first & _NUMBER <= last & _NUMBER < _NUMBER:
                return
            # Of the kind that was asked for, whatever the answer is of.
            first = (first & ~_NUMBER) + (last & _NUMBER) + 1
        raise TpmTamperedError("the TPM's list of what it has does not end")


def _printable(text: str) -> str:
    """Replace what a terminal would take for a command."""
    return "".join(letter if letter.isprintable() else "\ufffd" for letter in text)


def _last_of(answer: bytes, capability: int) -> int | None:
    """Return the last handle or property of a list."""
    reader = Reader(answer)
    reader.take(5)
    last = None
    for _ in range(reader.u32()):
        last = reader.u32()
        if capability == _CAP_PROPERTIES:
            reader.u32()
    return last
