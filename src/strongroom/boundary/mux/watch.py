# SPDX-License-Identifier: Apache-2.0
"""Waiting for descriptors with poll: many with a handler each, or one that may be given up.

Not with epoll, which some TEEs refuse for what is no socket.
"""

import select
from collections.abc import Callable
from typing import Protocol


class HasDescriptor(Protocol):
    """A socket, or what stands for one."""

    def fileno(self) -> int:
        """Return the descriptor."""


Handler = Callable[[int], None]
"""Called with the events that poll reported."""


class Watch:
    """Descriptors, the events to wait for, and who attends to them. For one thread."""

    def __init__(self) -> None:
        self._poll = select.poll()
        self._handlers: dict[int, Handler] = {}

    def set(self, watched: HasDescriptor, events: int, handler: Handler) -> None:
        """Wait for ``events``, instead of what was waited for before; 0 for none at all.

        Without events the descriptor is left out: poll always tells of a hang-up, and would not
        wait any more.
        """
        descriptor = watched.fileno()
        if events:
            self._poll.register(descriptor, events)
            self._handlers[descriptor] = handler
        elif self._handlers.pop(descriptor, None) is not None:
            self._poll.unregister(descriptor)

    def forget(self, watched: HasDescriptor) -> None:
        """Leave a descriptor out, as must be done before it is closed."""
        self.set(watched, 0, lambda _: None)

    def wait(self) -> list[tuple[Handler, int]]:
        """Wait, and return who has to attend to what."""
        return [(self._handlers[found], events) for found, events in self._poll.poll()]


class Gate:
    """Waits until one descriptor is ready, or another one that means: give up."""

    def __init__(self, descriptor: int, events: int, give_up: HasDescriptor) -> None:
        self._poll = select.poll()
        self._poll.register(descriptor, events)
        self._poll.register(give_up.fileno(), select.POLLIN)
        self._give_up = give_up.fileno()

    def wait(self) -> bool:
        """Return whether to go on."""
        return all(found != self._give_up for found, _ in self._poll.poll())
