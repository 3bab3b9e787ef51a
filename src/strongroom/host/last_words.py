# SPDX-License-Identifier: Apache-2.0
"""What an enclave that ended said last, how it ended, and whether memory was the reason."""

import contextlib
import os
import re
import select
import signal
from pathlib import Path
from typing import IO, Final, Self

from strongroom.errors import EnclaveGoneError

MAX_WORDS_BYTES: Final = 300
_TAIL_BYTES: Final = 4096
_ENDING_SECONDS: Final = 2.0
_CGROUPS: Final = Path("/sys/fs/cgroup")
_CGROUP_LINE: Final = re.compile(r"\d+:(|(?:.*,)?memory(?:,.*)?):(/.*)")


class LastWords:
    """The log of one enclave, for as long as it runs."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self._start = os.fstat(fd).st_size

    @classmethod
    def nowhere(cls) -> Self:
        """Return a log that is in no file system, and that only this object keeps."""
        return cls(os.memfd_create("enclave log", os.MFD_CLOEXEC))

    @classmethod
    def of(cls, log: IO[bytes]) -> Self:
        """Return a log at the end of an open file."""
        return cls(os.dup(log.fileno()))

    def close(self) -> None:
        """Close the log. Doing it twice is allowed."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)

    def words(self) -> str:
        """Return the last line, printable and short, or nothing."""
        with contextlib.suppress(OSError):
            size = os.fstat(self.fd).st_size
            start = max(self._start, size - _TAIL_BYTES)
            text = os.pread(self.fd, _TAIL_BYTES, start).decode(errors="replace")
            lines = [line.strip() for line in text.splitlines() if line.strip()]
            return _printable(lines[-1]) if lines else ""
        return ""

    def hint(self) -> str:
        """Return the last words as a hint, or nothing."""
        words = self.words()
        return f"it said: {words}" if words else ""


def gone(pidfd: int, doing: str, words: LastWords) -> EnclaveGoneError:
    """Return what to raise when an enclave has ended.

    Args:
        pidfd: Of its process, which is our child, and not waited for yet.
        doing: What it did then, such as ``before it answered``.
        words: Its log.
    """
    how, killed = _ending(pidfd)
    hints = [words.hint(), memory_hint() if killed else ""]
    if killed and not hints[1]:
        hints.append("an operator or the kernel killed it; `dmesg` tells whether memory was short")
    message = f"the enclave ended {doing}"
    return EnclaveGoneError(
        f"{message}: {how}" if how else message, hint="; ".join(filter(None, hints))
    )


def memory_hint() -> str:
    """Say so if the kernel has ended processes of our cgroup for lack of memory."""
    with contextlib.suppress(OSError, ValueError):
        for line in Path("/proc/self/cgroup").read_text().splitlines():
            match = _CGROUP_LINE.fullmatch(line)
            if match is None:
                continue
            if found := _killed_in(match[1], match[2].lstrip("/")):
                return found
    return ""


def _killed_in(hierarchy: str, group: str) -> str:
    if hierarchy:
        place, events, limit = _CGROUPS / "memory" / group, "memory.oom_control", "limit_in_bytes"
    else:
        place, events, limit = _CGROUPS / group, "memory.events", "max"
    with contextlib.suppress(OSError):
        for line in (place / events).read_text().splitlines():
            name, _, count = line.partition(" ")
            if name == "oom_kill" and int(count) > 0:
                allowed = (place / f"memory.{limit}").read_text().strip()
                return f"the memory of its cgroup ran out{_limit_words(allowed)}"
    return ""


def _limit_words(allowed: str) -> str:
    return f" (limit {int(allowed) >> 20} MiB)" if allowed.isdigit() else ""


def _ending(pidfd: int) -> tuple[str, bool]:
    """Return how a process ended, in words, and whether it was killed."""
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    if not poll.poll(_ENDING_SECONDS * 1000):
        return "", False
    try:
        ended = os.waitid(os.P_PIDFD, pidfd, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except OSError:
        return "", False
    if ended is None:
        return "", False
    if ended.si_code == os.CLD_EXITED:
        return f"exit status {ended.si_status}", False
    name = signal.Signals(ended.si_status).name if ended.si_status in set(signal.Signals) else ""
    number = f"signal {ended.si_status}" + (f" ({name})" if name else "")
    return f"killed by {number}", ended.si_status == signal.SIGKILL


def _printable(text: str) -> str:
    shown = "".join(char if char.isprintable() else "?" for char in text)
    return shown.encode(errors="replace")[:MAX_WORDS_BYTES].decode(errors="ignore")
