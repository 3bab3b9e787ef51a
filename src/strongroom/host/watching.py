# SPDX-License-Identifier: Apache-2.0
"""Whether an open volume is well: does its enclave answer, do flushes work, is its image there."""

import contextlib
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

from strongroom import values
from strongroom.boundary import calls
from strongroom.errors import BoundaryError, DiskError
from strongroom.host.attach._bounded import Blocking
from strongroom.host.launch import EnclaveProcess
from strongroom.host.patience import is_stopped, within
from strongroom.host.rates import RateMeter
from strongroom.host.results import OpenVolume
from strongroom.host.target import ImageState, image_state

ANSWER_SECONDS: Final = 2.0
_LOOK_SECONDS: Final = 1.0

FAILING: Final = (
    "written data may be lost: a flush failed, so all later ones fail; "
    "close it with --force and open it again"
)


class Pulse:
    """What was last known of an enclave's counters, and whether it answers. Of any thread."""

    def __init__(
        self,
        enclave: EnclaveProcess,
        volume: OpenVolume,
        image_fd: int,
        say: Callable[[str], None],
    ) -> None:
        self._enclave = enclave
        self._say = say
        self._look = _ImageLook(volume, image_fd)
        self._rates = RateMeter()
        self._state = threading.Lock()
        self._answered_unix = time.time()
        self._is_silent = False
        self.counters: dict[str, int] = {}

    def sample(self) -> None:
        """Ask for the counters, within two seconds, and say what is new and bad."""
        try:
            counters = values.asdict(self._enclave.call(calls.ReadCounters(), self._patience()))
        except BoundaryError:
            with self._state:
                is_new, self._is_silent = not self._is_silent, True
            if is_new:
                self._say("the enclave does not answer")
            return
        with self._state:
            if self._is_silent:
                self._say("the enclave answers again")
            before, self.counters = self.counters, counters
            self._answered_unix, self._is_silent = time.time(), False
            self._rates.sample(counters)
        self._complain(before)

    def rates(self) -> dict[str, float]:
        """Return rates per second."""
        with self._state:
            return self._rates.rates(self.counters) if self.counters else {}

    def state(self, volume: OpenVolume, doing: str) -> tuple[str, tuple[str, ...]]:
        """Return a volume's state in a word or two, and what the operator should know."""
        if doing:
            return doing, ()
        if volume.unlocked is None:
            stopped = is_stopped(self._enclave.pid)
            return ("not answering", (self._silence(),)) if stopped else ("waiting for key", ())
        self.sample()
        problems = []
        state = "open"
        image = self._look.state()
        if image.words:
            problems.append(image.words)
            state = "failing" if image.condition in {"deleted", "replaced", "cut short"} else state
        for problem in (self._failed_flushes(), self.failed_writes()):
            if problem:
                problems.append(problem)
                state = "failing"
        if self._is_silent:
            problems.append(self._silence())
            state = "not answering"
        return state, tuple(problems)

    def failed_writes(self) -> str:
        """Return what is lost because a write failed, as far as is known; empty if nothing is."""
        count = self.counters.get("failed_writes", 0)
        if not count:
            return ""
        writes = "1 write" if count == 1 else f"{count} writes"
        return f"{writes} failed: what was to be written there is lost, unless it was written again"

    def ensure_image(self, name: str) -> None:
        """Make sure that an image has a name yet, as its data are gone with its last descriptor.

        Raises:
            DiskError: It was deleted.
        """
        image = self._look.state()
        if image.condition == "deleted":
            raise DiskError(
                f"still open: {image.words}",
                hint=f"copy them from the device, then `strongroom close --force {name}`",
            )

    def _failed_flushes(self) -> str:
        return FAILING if self.counters.get("failed_flushes") else ""

    def _silence(self) -> str:
        since = datetime.fromtimestamp(self._answered_unix, UTC).isoformat(timespec="seconds")
        why = "; its process is stopped" if is_stopped(self._enclave.pid) else ""
        return f"the enclave does not answer since {since}{why}"

    def _patience(self) -> Callable[[], bool]:
        # What is known to be silent is not waited for again and again.
        return within(ANSWER_SECONDS if not self._is_silent else ANSWER_SECONDS / 4)

    def _complain(self, before: dict[str, int]) -> None:
        for name, words in (
            ("errors", f"the first request failed: see `strongroom status {self._look.name}`"),
            ("failed_flushes", f"a flush failed: {FAILING}"),
        ):
            if self.counters[name] and not before.get(name):
                self._say(words)
        refused = self.counters["refused_connections"] - before.get("refused_connections", 0)
        if refused > 0:
            open_now = self.counters["connections"]
            self._say(f"{refused} NBD connections refused: {open_now} are open, which is the limit")


class _ImageLook:
    """Looks at the image on a thread, as a disk that hangs hangs that too."""

    def __init__(self, volume: OpenVolume, image_fd: int) -> None:
        self.name = volume.request.name
        self._path = volume.request.image.path.absolute()
        self._needed = volume.facts.data_offset_bytes + volume.facts.data_size_bytes
        self._image_fd = image_fd
        self._found = ImageState("in place", "")
        self._looking: Blocking | None = None

    def state(self) -> ImageState:
        """Return what is known within a second."""
        if self._looking is None or self._looking.ended(0):
            self._looking = Blocking(self._look)
        with contextlib.suppress(OSError):
            if not self._looking.ended(_LOOK_SECONDS):
                return ImageState("unknown", f"the disk of {self._path} does not answer")
        return self._found

    def _look(self) -> None:
        self._found = image_state(self._image_fd, self._path, needed_bytes=self._needed)
