# SPDX-License-Identifier: Apache-2.0
"""What every way of attaching gives: a block device that can be flushed, cut off and taken away."""

from pathlib import Path
from typing import Literal, Protocol

from strongroom.host.attach.record import Record
from strongroom.values import dataclass


class Backend(Protocol):
    """A live block device that is fed from the NBD socket."""

    @property
    def block_device(self) -> Path:
        """The device's node."""

    @property
    def record(self) -> Record:
        """What cleaning up after a crash needs."""

    @property
    def closed(self) -> bool:
        """Whether it has been taken away."""

    def abort(self) -> None:
        """Cut the device off from its server: what waits for it fails at once."""

    def release(self, claim_fd: int | None) -> bool:
        """Take the device away, and say whether it is gone; else it goes with its last user.

        Args:
            claim_fd: Our exclusive descriptor of the device, closed here, or ``None`` when
                somebody else still uses it.
        """


@dataclass(frozen=True, slots=True)
class Attached:
    """How an open volume is attached. Keep it: its devices go when it is forgotten.

    Attributes:
        kind: How.
        device: The link below ``/dev/strongroom``, or the real node if no link could be made.
        block_device: The real node.
        reason: Why this kind, for the operator.
        record: What :func:`clean_stale` needs after a crash, ready for JSON.
        notices: What the operator should know besides.
        backend: The machinery; private to this package.
    """

    kind: Literal["fuse", "nbd", "none"]
    device: Path | None
    block_device: Path | None
    reason: str
    record: Record
    notices: tuple[str, ...] = ()
    backend: Backend | None = None
