# SPDX-License-Identifier: Apache-2.0
"""Choose how to attach a volume, do it, and say why."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, assert_never

from strongroom.errors import (
    NoFuseError,
    NoKernelNbdError,
    NoLoopError,
    NoPermissionError,
    StrongroomError,
    UnavailableError,
)
from strongroom.host.attach import loop
from strongroom.host.attach.backend import Attached, Backend
from strongroom.host.attach.fuse import attach_fuse, check_fuse
from strongroom.host.attach.link import DEVICE_DIRECTORY, make_link
from strongroom.host.attach.nbd import attach_nbd, check_nbd
from strongroom.host.attach.nbdfuse import attach_nbdfuse, check_nbdfuse
from strongroom.host.attach.plan import AttachPlan
from strongroom.host.attach.record import new_tag
from strongroom.values import dataclass

if TYPE_CHECKING:
    # It needs the Rust core at run time, which this package does not.
    from strongroom.host.contracts import Attachment, FuseServing

_MACHINE_LACKS: Final = (NoKernelNbdError, NoFuseError, NoLoopError, NoPermissionError)
"""Errors after which ``auto`` tries the next way; any other error is one of the volume."""


@dataclass(frozen=True, slots=True)
class FuseWay:
    """Which of the two ways to attach by FUSE goes with an enclave."""

    serve: "FuseServing | None"
    discard: bool

    @property
    def words(self) -> str:
        """Say which, for the operator."""
        if self.serve is None:
            return "through nbdfuse, as this boundary carries no descriptors"
        return "the enclave answers FUSE itself"

    def lack(self) -> StrongroomError | None:
        """Return what the machine lacks for it."""
        if self.serve is None and self.discard:
            # It has holes punched where a file system wants zeroes, and would leave what was there.
            return NoFuseError(
                "nbdfuse does not go with discards: it takes zeroes for trims",
                hint="use --boundary fd, --attach none, or the kernel's nbd",
            )
        return _lack_of(check_nbdfuse if self.serve is None else check_fuse)

    @property
    def notices(self) -> tuple[str, ...]:
        """Say what does not go this way."""
        if not self.discard:
            return ()
        return ("discards do not reach the image by FUSE: use --attach nbd, or an NBD client",)

    def attach(self, plan: AttachPlan) -> Backend:
        """See :func:`attach_fuse` and :func:`attach_nbdfuse`."""
        return attach_nbdfuse(plan) if self.serve is None else attach_fuse(plan, self.serve)


def attach(  # noqa: PLR0913 - one argument for each thing to know
    choice: "Attachment",
    *,
    name: str,
    socket: Path,
    runtime: Path,
    size_bytes: int,
    sector_size_bytes: int,
    read_only: bool,
    discard: bool,
    serve_fuse: "FuseServing | None",
    device_directory: Path = DEVICE_DIRECTORY,
) -> Attached:
    """Attach an open volume as a block device and return when the device is usable.

    Call it on the main thread, which must live as long as the device (see ``attach_nbdfuse``). Keep
    the result until :func:`detach`: it holds the device open.

    Args:
        choice: ``auto`` takes the kernel's NBD client, else FUSE and a loop device, else nothing.
        name: The volume's name; becomes the name of the link.
        socket: The UNIX socket on which the volume is served by NBD.
        runtime: The volume's own runtime directory, which exists.
        size_bytes: The volume's size; the server must agree.
        sector_size_bytes: The device's logical block size, 512 to 4096.
        read_only: Refuse writes, whatever the server allows.
        discard: The volume passes trims on to its image.
        serve_fuse: Has the enclave serve it by FUSE; ``None`` where no descriptor can be passed to
            it, and nbdfuse has to stand between.
        device_directory: Where the link is made.

    Raises:
        UnavailableError: ``ublk``, which this version does not have.
        NoKernelNbdError: ``nbd``, and the kernel has no NBD client.
        NoFuseError: ``fuse``, and FUSE, or nbdfuse where it is needed, is missing or failed.
        NoLoopError: ``fuse``, and no loop device could be had.
        NoPermissionError: The caller lacks the rights.
        PlatformError: The server or the kernel did not answer, or refused.
        BoundaryError: The server broke the NBD protocol.
        InternalError: The server's export has another size.
    """
    plan = AttachPlan(
        name=name,
        socket=socket,
        runtime=runtime,
        size_bytes=size_bytes,
        sector_size_bytes=sector_size_bytes,
        read_only=read_only,
        tag=new_tag(runtime, name),
    )
    return _attach_as(choice, plan, FuseWay(serve_fuse, discard=discard), device_directory)


def _attach_as(
    choice: "Attachment", plan: AttachPlan, by_fuse: FuseWay, device_directory: Path
) -> Attached:
    match choice:
        case "none":
            return _nothing("no device was asked for")
        case "ublk":
            raise UnavailableError(
                "this version does not attach by ublk",
                hint="use --attach nbd, fuse or none",
            )
        case "nbd":
            return _made("nbd", attach_nbd(plan), "nbd was asked for", device_directory)
        case "fuse":
            # Before anything is started, which says less of why it fails.
            if (lack := by_fuse.lack()) is not None:
                raise lack
            reason = f"fuse was asked for; {by_fuse.words}"
            return _made(
                "fuse", by_fuse.attach(plan), reason, device_directory, notices=by_fuse.notices
            )
        case "auto":
            return _automatic(plan, by_fuse, device_directory)
        case _:
            assert_never(choice)


def _automatic(plan: AttachPlan, by_fuse: FuseWay, device_directory: Path) -> Attached:
    try:
        backend: Backend = attach_nbd(plan)
    except _MACHINE_LACKS as err:
        no_nbd = err.message
    else:
        return _made("nbd", backend, "the kernel has an NBD client", device_directory)
    if (lack := by_fuse.lack()) is not None:
        return _nothing(f"{no_nbd}; {lack.message}")
    try:
        backend = by_fuse.attach(plan)
    except _MACHINE_LACKS as err:
        return _nothing(f"{no_nbd}; {err.message}")
    reason = f"{no_nbd}; FUSE and loop devices are available; {by_fuse.words}"
    return _made("fuse", backend, reason, device_directory, notices=by_fuse.notices)


def _made(
    kind: Literal["fuse", "nbd"],
    backend: Backend,
    reason: str,
    device_directory: Path,
    *,
    notices: tuple[str, ...] = (),
) -> Attached:
    node = backend.block_device
    device, notice = make_link(device_directory, str(backend.record["name"]), node)
    record = backend.record | {"link": None if notice else str(device)}
    notices += (notice,) if notice else ()
    return Attached(kind, device, node, reason, record, notices, backend)


def _nothing(reason: str) -> Attached:
    return Attached("none", None, None, reason, {"kind": "none"})


def survey() -> tuple[tuple[str, StrongroomError | None], ...]:
    """Return each way of attaching and why this machine lacks it, for ``doctor``."""
    return (("nbd", _lack_of_nbd()), ("fuse", _lack_of(check_fuse)))


def _lack_of_nbd() -> StrongroomError | None:
    try:
        check_nbd()
    except _MACHINE_LACKS as err:
        return err
    return None


def _lack_of(check: Callable[[], None]) -> StrongroomError | None:
    try:
        check()
    except _MACHINE_LACKS as err:
        return err
    if not loop.CONTROL.exists():
        return NoLoopError(f"{loop.CONTROL} is missing", hint="load the driver: `modprobe loop`")
    if not os.access(loop.CONTROL, os.R_OK | os.W_OK):
        return NoPermissionError(f"no permission to use {loop.CONTROL}", hint="run as root")
    return None
