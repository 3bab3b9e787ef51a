# SPDX-License-Identifier: Apache-2.0
"""The host process of one open volume: takes the name, the image and the locks, and runs it.

It stands beside one enclave and owns what is not secret. ``serve`` runs it in the foreground,
``open`` leaves it in the background.
"""

import contextlib
import json
import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from strongroom.errors import PlatformError, StrongroomError, UsageError
from strongroom.host import target
from strongroom.host.contracts import OpenRequest
from strongroom.host.files import VolumeFiles, opened_files
from strongroom.host.listening import log
from strongroom.host.loading import Loader
from strongroom.host.request import decode_request
from strongroom.host.runtime import Claim, VolumeDirectory, claim

if TYPE_CHECKING:
    from strongroom.host.service import Service

_READ_ONLY_HINT: Final = "open it with --read-only"


class _ProgressRelay:
    """Stands between the enclave, which is started first, and the daemon, which comes later."""

    def __init__(self) -> None:
        self.service: Service | None = None

    def progress(self, stage: str, done: int, total: int) -> None:
        if self.service is not None:
            self.service.relay_progress(stage, done, total)

    def notice(self, text: str) -> None:
        log(text)


def serve(
    request: OpenRequest,
    ready: Callable[[VolumeDirectory], None],
    leash_fd: int | None,
    *,
    claimed: Callable[[Claim], None] = lambda _: None,
) -> None:
    """Run the host process of one volume until it is closed.

    Args:
        request: The volume and its name.
        ready: Called once the header is checked and the control socket answers.
        leash_fd: See :meth:`Service.run`.
        claimed: Called as soon as the volume has its directory.

    Raises:
        StrongroomError: The volume could not be opened, or the enclave died.
    """
    os.umask(0o077)
    with contextlib.ExitStack() as stack:
        files = stack.enter_context(
            opened_files(request.image, read_only=request.read_only, hint=_READ_ONLY_HINT)
        )
        direct_fd = _open_directly(request, files.image_fd, stack)
        stack.enter_context(files.held(header_shared=True))
        owned = stack.enter_context(claim(request.name))
        claimed(owned)
        owned.write_record({"image": str(request.image.path)})
        control = stack.enter_context(owned.listening(owned.directory.control_socket))
        service = _start(request, owned, files, direct_fd)
        try:
            service.write_record()
            ready(owned.directory)
            service.run(control, leash_fd)
        finally:
            service.abandon()


def _start(
    request: OpenRequest,
    owned: Claim,
    files: VolumeFiles,
    direct_fd: int | None,
) -> "Service":
    relay = _ProgressRelay()
    loader = Loader(request, owned, files, direct_fd=direct_fd, report=relay)
    enclave = loader.start()
    try:
        # While the enclave starts, what this process needs once it has.
        from strongroom.host.service import Service  # noqa: PLC0415 - see above

        service = relay.service = Service(request, owned, loader, loader.load(enclave))
    except BaseException:
        enclave.end()
        raise
    return service


def _open_directly(request: OpenRequest, image_fd: int, stack: contextlib.ExitStack) -> int | None:
    if not request.direct:
        return None
    if request.transport != "fd" or request.tee == "gramine":
        raise UsageError(
            "--direct needs an enclave that descriptors can be passed to",
            hint="leave out --direct",
        )
    direct_fd = target.open_directly(image_fd, request.image.path, read_only=request.read_only)
    stack.callback(os.close, direct_fd)
    return direct_fd


def main() -> int:
    """Run as ``python -I -m strongroom.host.daemon LEASH_FD JSON``, started by ``open``.

    One JSON line goes to the leash: ``{}`` when ready for the key, else the error.
    """
    leash_fd, request = int(sys.argv[1]), decode_request(sys.argv[2])
    try:
        serve(request, lambda _: _tell(leash_fd, {}), leash_fd, claimed=_speak_into_log)
    except (StrongroomError, OSError) as failed:
        err = failed if isinstance(failed, StrongroomError) else _unforeseen(failed)
        log(err.message, request.name)
        with contextlib.suppress(OSError):
            _tell(leash_fd, {"error": type(err).__name__, "message": err.message, "hint": err.hint})
        return err.exit_code
    return 0


def _unforeseen(error: OSError) -> StrongroomError:
    """Return an error of the system that was expected nowhere as one of ours."""
    what = "" if error.filename is None else f"{error.filename}: "
    return PlatformError(f"{what}{error.strerror or error}")


def _speak_into_log(owned: Claim) -> None:
    """Have what this process says in the volume's log, as nobody else would read it."""
    with owned.open_log() as log:
        os.dup2(log.fileno(), sys.stderr.fileno())


def _tell(leash_fd: int, message: dict[str, str]) -> None:
    os.write(leash_fd, json.dumps(message).encode() + b"\n")


if __name__ == "__main__":
    sys.exit(main())
