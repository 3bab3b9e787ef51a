# SPDX-License-Identifier: Apache-2.0
"""What the command line asks of a volume's host process, over its control socket.

The same machinery as the boundary, declared in the same way; the socket belongs to the operator.
"""

from typing import Annotated, ClassVar, Final

from strongroom.boundary.calls import (
    MAX_CHANGES,
    Authentication,
    Call,
    Enrolment,
    FormerUuids,
    HeaderChange,
    Name,
    Recipient,
    ReportProgress,
    Sealed,
    Text,
    Uuid,
)
from strongroom.boundary.schema import Items, Size
from strongroom.values import dataclass

MOST_LEFT: Final = 16
"""Mount points that one answer names."""
_MAX_MOUNT_POINT_BYTES: Final = 32 * 1024
"""A path, each byte of it shown by up to six."""


@dataclass(frozen=True, slots=True)
class JsonText:
    """A result of ``host.contracts``, as JSON text."""

    json: Annotated[str, Size(2, 64 * 1024)]


@dataclass(frozen=True, slots=True)
class Waiting:
    """A volume that waits for its passphrase, and the key to seal that to.

    All of it but the recipient's report is the word of the host process.
    """

    recipient: Recipient
    volume: Uuid
    tee: Name
    authentication: Authentication
    enrolment: Enrolment | None
    acceptable: Annotated[tuple[HeaderChange, ...], Items(MAX_CHANGES)]
    former_volumes: FormerUuids = ()


@dataclass(frozen=True, slots=True)
class AskRecipient(Call[Waiting]):
    """Ask for a key to which the volume's passphrase is sealed."""

    result: ClassVar[type[object]] = Waiting


@dataclass(frozen=True, slots=True)
class SetKey(Call[JsonText]):
    """Unlock, serve and attach the volume. Answers with an ``OpenResult``."""

    passphrase: Sealed
    result: ClassVar[type[object]] = JsonText


@dataclass(frozen=True, slots=True)
class AskStatus(Call[JsonText]):
    """Ask for a ``StatusResult``."""

    result: ClassVar[type[object]] = JsonText


@dataclass(frozen=True, slots=True)
class Closed:
    """A volume that is closed."""

    left: Annotated[tuple[Annotated[str, Size(0, _MAX_MOUNT_POINT_BYTES)], ...], Items(MOST_LEFT)]
    """Where file systems are mounted that give errors now."""
    notices: Annotated[tuple[Text, ...], Items(16)]
    """What else the operator should know."""


@dataclass(frozen=True, slots=True)
class Close(Call[Closed]):
    """Detach, flush, erase the keys and end. Answered when all of it is done.

    With ``force`` it also ends what an earlier call without it waits for.
    """

    force: bool
    result: ClassVar[type[object]] = Closed


CONTROL_CALLS: Final[tuple[type[Call[object]], ...]] = (AskRecipient, AskStatus, Close, SetKey)
"""From the command line to the host process."""

CONTROL_OCALLS: Final[tuple[type[Call[object]], ...]] = (ReportProgress,)
"""From the host process to the command line, while it works."""
