# SPDX-License-Identifier: Apache-2.0
"""One run of a group: how long and how often, what is left out, how far it is."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, TypeVar

from strongroom.bench.comparison import in_turn
from strongroom.bench.place import PACKAGES, CommandError, Place

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from strongroom.bench.servers import Contestant, Server

Value = TypeVar("Value")


class Reporter(Protocol):
    """Where progress and notices go."""

    def progress(self, stage: str, done: int, total: int) -> None:
        """Say how far a stage is."""

    def notice(self, text: str) -> None:
        """Say something that whoever reads the figures should know."""


@dataclass(slots=True)
class Run:
    """What every group gets.

    Attributes:
        group: Its name.
        place: Where its files are.
        rounds: How often every contestant has its turn.
        seconds: How long a turn under load takes.
        size_bytes: Of each export.
        report: Where progress and notices go.
        left_out: What was not measured, and why, in words.
    """

    group: str
    place: Place
    rounds: int
    seconds: float
    size_bytes: int
    report: Reporter
    left_out: list[str] = field(default_factory=list)
    _done: int = 0
    _total: int = 0

    def leave_out(self, what: str, why: str, hint: str = "") -> None:
        """Say that something is not measured."""
        text = f"{what} is left out: {why}"
        self.left_out.append(text)
        self.report.notice(f"{text} ({hint})" if hint else text)

    def expect(self, turns: int) -> None:
        """Say how many turns there will be, for progress."""
        self._done, self._total = 0, turns
        self.report.progress(self.group, 0, turns)

    def step(self) -> None:
        """Say that a turn is done."""
        self._done = min(self._done + 1, self._total)
        self.report.progress(self.group, self._done, self._total)

    def in_turn(
        self, actions: Mapping[str, Callable[[], Value]], rounds: int | None = None
    ) -> dict[str, list[Value]]:
        """Let all take turns in all rounds."""
        return in_turn(actions, rounds or self.rounds, self.step)

    def present(self, contestants: Iterable[Contestant]) -> tuple[Contestant, ...]:
        """Return those whose programs are installed, and say which are left out."""
        contestants = tuple(contestants)
        for contestant in contestants:
            for program in contestant.missing[:1]:
                hint = f"apt-get install {PACKAGES[program]}"
                self.leave_out(contestant.name, f"{program} is not installed", hint)
        return tuple(one for one in contestants if not one.missing)

    @contextmanager
    def serving(self, contestants: Iterable[Contestant]) -> Iterator[dict[str, Server]]:
        """Hold all servers that can be had; ours, the first, must be among them."""
        with ExitStack() as stack:
            servers: dict[str, Server] = {}
            for number, contestant in enumerate(self.present(contestants)):
                image = self.place.images / f"{self.group}{number}.img"
                try:
                    contestant.prepare(self.place, image, self.size_bytes)
                    server = contestant.serve(self.place, image, self.size_bytes)
                    servers[contestant.name] = stack.enter_context(server)
                except CommandError as err:
                    if not servers:
                        raise
                    self.leave_out(contestant.name, err.message)
            yield servers
            stack.close()
            for image in self.place.images.glob(f"{self.group}*.img"):
                image.unlink()
