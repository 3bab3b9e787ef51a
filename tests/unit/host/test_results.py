# SPDX-License-Identifier: Apache-2.0
"""What an open volume says of itself."""

import pytest

from strongroom.boundary.calls import Keyslot
from strongroom.host.contracts import KdfChoice
from strongroom.host.results import note_least_kdf

pytestmark = pytest.mark.unit


class Notices(list[str]):
    def notice(self, text: str) -> None:
        self.append(text)

    def progress(self, stage: str, done: int, total: int) -> None:
        """Have no interest in it."""


def keyslot(memory_mib: int, passes: int) -> Keyslot:
    return Keyslot(
        number=0,
        kind="passphrase",
        priority="normal",
        kdf="argon2id",
        kdf_hash="",
        kdf_iterations=passes,
        kdf_memory_kib=memory_mib * 1024,
        kdf_lanes=2,
        cipher="aes-xts-plain64",
        key_bits=512,
        area_offset_bytes=0,
        area_size_bytes=0,
        factors=(),
        problem="",
    )


def test_the_least_cost_is_noted_where_it_was_measured() -> None:
    notices = Notices()
    note_least_kdf(KdfChoice(), keyslot(64, 4), notices)
    assert ["64 MiB and 4 passes" in text for text in notices] == [True]
    note_least_kdf(KdfChoice(), keyslot(65, 4), notices)
    note_least_kdf(KdfChoice(memory_kib=65536), keyslot(64, 4), notices)
    note_least_kdf(KdfChoice(iterations=4), keyslot(64, 4), notices)
    assert len(notices) == 1
