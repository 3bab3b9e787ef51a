# SPDX-License-Identifier: Apache-2.0
"""Everything that can be done with a TPM, once, in the order of a life: made, used and removed."""

import os
import secrets
from collections.abc import Callable, Iterator
from typing import Final

from strongroom._core import Secret, read_secret_exactly
from strongroom.errors import StrongroomError, TpmError
from strongroom.host.contracts import Reporter
from strongroom.host.tpm.results import Auth, Tpm, TpmChoice
from strongroom.host.tpm.using import using

FIRST_INDEX: Final = 0x01BFFF00
"""The counter goes to the first free index from here on."""
_INDEXES: Final = 64
_DATA_BYTES: Final = 32
_PCRS: Final = (0, 7)


class Known:
    """Data that the test knows, and that is no secret."""

    attempts: Final = 1

    def __init__(self, content: bytes) -> None:
        self._content = content

    def read(self, prompt: str, *, confirm: bool) -> Secret:
        """Return it as a secret."""
        del prompt, confirm
        reader, writer = os.pipe()
        try:
            os.write(writer, self._content)
            return read_secret_exactly(reader, len(self._content))
        finally:
            os.close(reader)
            os.close(writer)

    def read_open(self) -> bytes:
        """Return it as it is."""
        return self._content


class Life:
    """One run of the tests; the counter of the earlier ones is what the later ones use."""

    def __init__(self, tpm: Tpm) -> None:
        self._tpm = tpm
        self._auth = Auth("enclave") if tpm.has_own_auth else Auth("password", Known(b"selftest"))
        self._free: tuple[int, ...] = ()
        self._made: int | None = None
        self._before: tuple[str, ...] = ()
        self._count = 0

    def tests(self) -> Iterator[tuple[str, Callable[[], bool]]]:
        """Return the tests by their names."""
        yield "initialize", lambda: self._tpm.clock().time_milliseconds > 0
        yield "capabilities", lambda: self._tpm.facts().family == "2.0"
        yield "time", self._time
        yield "list nv indexes", self._list
        yield "define a counter", self._define
        yield "increment the counter", self._increment
        yield "read the counter", self._read
        yield "delete the counter", self._undefine
        yield "encrypted session", lambda: self._sealed(())
        yield "policy-protected session", lambda: self._sealed(_PCRS)
        yield "deinitialize", lambda: self._indexes() == self._before

    def _indexes(self) -> tuple[str, ...]:
        return tuple(item.index for item in self._tpm.list_nv())

    def _time(self) -> bool:
        first, second = self._tpm.clock(), self._tpm.clock()
        return (
            first.reset_count == second.reset_count
            and first.time_milliseconds <= second.time_milliseconds
        )

    def _list(self) -> bool:
        self._before = self._indexes()
        taken = {int(item, 16) for item in self._before}
        self._free = tuple(
            index for index in range(FIRST_INDEX, FIRST_INDEX + _INDEXES) if index not in taken
        )
        return bool(self._free)

    def _define(self) -> bool:
        if not self._free:
            raise TpmError(f"there is no free index from {FIRST_INDEX:#x} on")
        made = self._tpm.define_nv(self._free[0], "counter", 0, self._auth)
        self._made = self._free[0]
        return made.type == "counter" and made.index in self._indexes()

    def _increment(self) -> bool:
        first = self._tpm.increment_nv(self._counter(), self._auth)
        self._count = self._tpm.increment_nv(self._counter(), self._auth)
        return self._count == first + 1

    def _read(self) -> bool:
        return self._tpm.read_counter(self._counter(), self._auth) == self._count

    def _undefine(self) -> bool:
        self._tpm.undefine_nv(self._counter())
        return self._indexes() == self._before

    def _counter(self) -> int:
        """Return the counter that was made here: no other is to be touched."""
        if self._made is None:
            raise TpmError("there is no counter of this test")
        return self._made

    def _sealed(self, pcrs: tuple[int, ...]) -> bool:
        data = secrets.token_bytes(_DATA_BYTES)
        sealed = self._tpm.seal(Known(data), self._auth, "sha256", pcrs)
        reader, writer = os.pipe()
        try:
            self._tpm.unseal(sealed, self._auth, writer)
            return os.read(reader, 2 * _DATA_BYTES) == data
        finally:
            os.close(reader)
            os.close(writer)


def selftest(choice: TpmChoice, report: Reporter) -> tuple[tuple[str, str], ...]:
    """Run all tests; each is a name, and nothing or what went wrong.

    Raises:
        TpmError: The TPM cannot be reached, or is not the one that was enrolled.
    """
    results = []
    with using(choice, report) as tpm:
        life = Life(tpm)
        for name, test in life.tests():
            try:
                problem = "" if test() else "it did not come out as it should"
            except (TpmError, StrongroomError) as err:
                problem = err.message
            results.append((name, problem))
    return tuple(results)
