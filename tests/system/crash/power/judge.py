# SPDX-License-Identifier: Apache-2.0
"""Whether a disk still has its volume: asked of the enclave's own code, without a process for each.

The machine is the one whose state directory lies on the same disk, so what it remembers of a volume
was cut by the same power cut.
"""

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from strongroom.boundary.calls import Terms
from strongroom.errors import StrongroomError
from strongroom.host import known_enclaves
from strongroom.tee.identity import Identity
from strongroom.tee.process.provider import ProcessTee
from tests.honest import AS_SHOWN
from tests.system.identity.truth_table import YES
from tests.unit.enclave.lives import Life
from tests.unit.tee.scene import BOOT_ID, secret

IMAGE: Final = "/disk/image"
STATE: Final = "/state"
SECRETS: Final = ("process/root", "process/signer")
"""What makes the machine's enclave; without one of them it is another."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of a volume.

    Attributes:
        codes: For each passphrase the exit code of opening the volume with it.
        epoch: That of its header.
    """

    codes: Mapping[str, int]
    epoch: int

    @property
    def ways(self) -> frozenset[str]:
        """The passphrases that open it."""
        return frozenset(word for word, code in self.codes.items() if code == YES)


@dataclass(frozen=True, slots=True)
class Machine:
    """The machine as it was while the power was on."""

    identity: Identity
    secrets: Mapping[str, bytes]

    @classmethod
    def at(cls, state: Path) -> "Machine":
        """Read a state directory, which knows one volume at least."""
        with _state_directory(state):
            identity = known_enclaves.everything()[0].identity
        return cls(identity, {name: (state / name).read_bytes() for name in SECRETS})

    def is_whole(self, state: Path) -> bool:
        """Tell whether a state directory still is this machine's."""
        paths = {name: state / name for name in SECRETS}
        return all(
            path.exists() and path.read_bytes() == self.secrets[name]
            for name, path in paths.items()
        )

    def verdict(self, place: Path, passphrases: Mapping[str, bytes]) -> Verdict:
        """Try passphrases on the volume of a disk, as an operator of this machine would.

        The operator accepts changes of other programs that the enclave names.
        """
        with _state_directory(place / STATE.lstrip("/")):
            image, codes, epoch = place / IMAGE.lstrip("/"), {}, 0
            for word, passphrase in passphrases.items():
                life = Life(ProcessTee(self.identity, secret(self.secrets[SECRETS[0]]), BOOT_ID))
                try:
                    facts = life.load(image)
                    known = known_enclaves.find(facts.uuid)
                    terms = Terms(
                        volume=facts.uuid,
                        authenticated=known is not None and known.authenticated,
                        minimum_epoch=0 if known is None else known.epoch,
                        accepted_changes=AS_SHOWN if facts.acceptable else None,
                    )
                    epoch = facts.epoch
                    life.unlock(passphrase, terms)
                    codes[word] = YES
                except StrongroomError as err:
                    codes[word] = err.exit_code
                finally:
                    life.session.erase()
        return Verdict(codes, epoch)


@contextlib.contextmanager
def _state_directory(state: Path) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STRONGROOM_STATE_DIR", str(state))
        yield
