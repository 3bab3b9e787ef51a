# SPDX-License-Identifier: Apache-2.0
"""Progress and notices, on standard error.

Quirk: the bar is redrawn when the host reports and by a timer's signal, never from a thread,
because the process may fork while a bar is shown. A child inherits neither the timer nor the bar.
"""

from __future__ import annotations

import contextlib
import signal
import time
from typing import TYPE_CHECKING, Final, Protocol, Self

from strongroom._override import override
from strongroom.cli.output import complain, printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType, TracebackType

    from rich.progress import Progress, TaskID

REDRAW_SECONDS: Final[float] = 0.1

TICK_SECONDS: Final[float] = 0.25
"""How often a bar moves while nothing is reported, as during a key derivation."""


class CommandReporter(Protocol):
    """A reporter that can be told to leave the terminal alone."""

    def progress(self, stage: str, done: int, total: int) -> None:
        """Say how far a stage is; ``total`` 0 means that the end is not known."""

    def notice(self, text: str) -> None:
        """Say something that the operator should know and that is not an error."""

    def pause(self) -> None:
        """Take the bar off the terminal until the next report."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
        /,
    ) -> None: ...


class PlainReporter:
    """For logs and pipes: notices only."""

    def progress(self, stage: str, done: int, total: int) -> None:
        """Say nothing: a log has no use for percentages."""

    def notice(self, text: str) -> None:
        """Write a notice."""
        complain(f"note: {printable(text)}")

    def pause(self) -> None:
        """Do nothing: there is no bar."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
        /,
    ) -> None:
        self.pause()


class TerminalReporter(PlainReporter):
    """For people: a bar for each stage, gone when the command ends.

    A stage whose end is not known has a bar that moves and the time that it has taken, and no
    percentage.
    """

    def __init__(self) -> None:
        self._bars: Progress | None = None
        self._tasks: dict[str, TaskID] = {}
        self._drawn_at = 0.0
        self._drawing = False
        self._before: Callable[[int, FrameType | None], object] | int | None = None
        self._ticking = False

    @override
    def progress(self, stage: str, done: int, total: int) -> None:
        """Move the bar of a stage; it is drawn at most ten times a second."""
        with self._undisturbed():
            bars = self._bars or self._begin()
            if stage not in self._tasks:
                self._tasks[stage] = bars.add_task(printable(stage), total=None)
                self._drawn_at = 0.0
            bars.update(self._tasks[stage], completed=done, total=total or None)
            now = time.monotonic()
            if now - self._drawn_at >= REDRAW_SECONDS or done == total:
                bars.refresh()
                self._drawn_at = now
        if total and done >= total:
            self._stop_ticking()
        else:
            self._tick()

    @override
    def notice(self, text: str) -> None:
        """Write a notice where the bars were."""
        self.pause()
        super().notice(text)

    @override
    def pause(self) -> None:
        """Erase the bars and give the terminal back."""
        self._stop_ticking()
        if self._bars is not None:
            self._bars.stop()
        self._bars = None
        self._tasks = {}

    @contextlib.contextmanager
    def _undisturbed(self) -> Iterator[None]:
        """Keep the timer's signal from drawing in the middle of a drawing."""
        self._drawing = True
        try:
            yield
        finally:
            self._drawing = False

    def _tick(self) -> None:
        if self._ticking:
            return
        self._before = signal.signal(signal.SIGALRM, self._redraw)
        signal.setitimer(signal.ITIMER_REAL, TICK_SECONDS, TICK_SECONDS)
        self._ticking = True

    def _stop_ticking(self) -> None:
        if not self._ticking:
            return
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, signal.SIG_DFL if self._before is None else self._before)
        self._ticking = False

    def _redraw(self, _number: int, _frame: FrameType | None) -> None:
        if self._bars is not None and not self._drawing:
            with self._undisturbed():
                self._bars.refresh()

    def _begin(self) -> Progress:
        from rich.console import Console  # noqa: PLC0415 - a tenth of a second, for terminals only
        from rich.progress import (  # noqa: PLC0415
            BarColumn,
            Progress,
            TaskProgressColumn,
            TextColumn,
            TimeElapsedColumn,
        )

        self._bars = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TaskProgressColumn(text_format_no_percentage=""),
            TimeElapsedColumn(),
            console=Console(stderr=True),
            auto_refresh=False,
            transient=True,
        )
        self._bars.start()
        return self._bars
