# SPDX-License-Identifier: Apache-2.0
"""An operation, a lie about one of its messages, and what came of it."""

from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from strongroom.errors import TpmError
from strongroom.tpm import SaltKey, Sessions
from strongroom.tpm.codes import CommandCode
from tests.hostile.tpm.liar import Carried, Liar, Lie
from tests.hostile.tpm.operations import Bench, Operation, clock, undo

PROVABLY_HARMLESS: Final = {
    CommandCode.START_AUTH_SESSION: "refused, and started again with a shorter key",
    CommandCode.FLUSH_CONTEXT: "something may stay loaded, until the TPM is reset",
    CommandCode.READ_PUBLIC: "hearsay, that was asked again under a session",
    CommandCode.NV_READ_PUBLIC: "hearsay, that was asked again under a session",
}
"""Commands about which a lie can go unnoticed, because nothing is believed that it says."""


@dataclass
class Verdicts:
    """How lies ended."""

    counts: Counter[str] = field(default_factory=Counter)
    harmless: Counter[int] = field(default_factory=Counter)

    @property
    def total(self) -> int:
        return sum(self.counts.values())

    def summary(self) -> str:
        said = ", ".join(f"{count} {name}" for name, count in sorted(self.counts.items()))
        about = ", ".join(CommandCode(code).name for code in self.harmless)
        return f"{self.total} cases: {said}" + (f" ({about})" if about else "")


About: TypeAlias = tuple[int, Lie]
"""The number of a message, and the lie about it."""


class Trials:
    """Operations, one after the other, in one session for as long as it is good.

    A new one costs many times what a command does, because both sides multiply points for it; and
    a lie that was refused need not have done it any harm.
    """

    def __init__(self, liar: Liar, bench: Bench) -> None:
        self._liar = liar
        self._bench = bench
        self._road: Sessions | None = None

    def run(self, operation: Operation, about: About | None = None) -> object:
        """Do an operation; the lie is about its messages only."""
        self._liar.disarm()
        undo(self._liar, operation)
        road = self._proven()
        self._liar.arm(about)
        try:
            return operation(road, self._bench)
        finally:
            self._liar.disarm()

    def tidy(self) -> None:
        """Begin the next operation with nothing loaded but the session."""
        road = self._road
        if road is None or road._main is None or len(road._cipher_bits) == 1:
            # Talked into the shorter key, it would not try the longer one again.
            self.leave()
        else:
            self._liar.tidy(but=road._main.handle)

    def leave(self) -> None:
        """Leave nothing loaded, and do not come back to this session."""
        self._road = None
        self._liar.tidy()

    def _proven(self) -> Sessions:
        """Return a road on which a command was just answered."""
        if self._road is not None:
            try:
                clock(self._road, self._bench)
            except TpmError:
                # It was given up; or somebody flushed it, or had the TPM use a nonce of it.
                self.leave()
        if self._road is None:
            root = self._bench.enrolment.storage_root
            self._road = Sessions(self._liar.transmit, SaltKey(root.handle, root.public))
            clock(self._road, self._bench)
        return self._road


def honestly(liar: Liar, bench: Bench, operation: Operation) -> tuple[object, list[Carried]]:
    """Return what an operation comes to, and what is carried for it."""
    trials = Trials(liar, bench)
    found = trials.run(operation)
    carried = liar.carried
    trials.leave()
    return found, carried


def judge(
    liar: Liar,
    bench: Bench,
    operation: Operation,
    lies: Iterable[About],
    *,
    unseen: Collection[Lie] = (),
) -> Verdicts:
    """Try lies, one after the other: each is refused, or changes nothing.

    Args:
        liar: Who tells them.
        bench: What is there.
        operation: What is done.
        lies: Each with the number of the message that it is about.
        unseen: Lies that leave the true answer as it is, and are none to the one who asked.
    """
    verdicts, trials = Verdicts(), Trials(liar, bench)
    expected, exchanged = honestly(liar, bench, operation)
    for message, lie in lies:
        code = exchanged[message].code
        try:
            found = trials.run(operation, (message, lie))
        except TpmError as err:
            verdicts.counts[type(err).__name__] += 1
        else:
            verdicts.counts["harmless"] += 1
            verdicts.harmless[code] += 1
            assert found == expected, f"{operation.__name__}, message {message}: {lie}"
            is_known = lie in unseen or code in PROVABLY_HARMLESS
            assert is_known, f"{operation.__name__}, message {message}: {lie}"
        trials.tidy()
    trials.leave()
    return verdicts
