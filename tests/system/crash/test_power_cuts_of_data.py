# SPDX-License-Identifier: Apache-2.0
"""Power cuts while clients write and flush: what a flush has promised is on the disk."""

import random
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Final

import pytest

from tests.conftest import require_fuse, require_tools
from tests.harness import STOCK, Operator
from tests.interop.nbd.offline import decrypt, volume_key
from tests.system.crash import writer
from tests.system.crash.power.cuts import PIECE_BYTES, Cutter, Disk
from tests.system.crash.power.journal import MARKS, Event, Mark, Sync
from tests.system.crash.power.judge import IMAGE
from tests.system.crash.power.recording import Recorded, laid_out, recorded
from tests.system.crash.remains import await_true

pytestmark = pytest.mark.system

SIZE: Final = "18M"
DATA_OFFSET_BYTES: Final = 16 << 20
ROUNDS: Final = 8
ROUNDS_LONG: Final = 150
SUBSETS: Final = 1
SUBSETS_LONG: Final = 4
ROADS: Final = {
    "socket": ("--attach", "none"),
    "direct": ("--attach", "none", "--direct"),
    "device": ("--attach", "fuse"),
}


@pytest.mark.parametrize("road", ROADS)
@pytest.mark.parametrize(
    ("rounds", "subsets"),
    [(ROUNDS, SUBSETS), pytest.param(ROUNDS_LONG, SUBSETS_LONG, marks=pytest.mark.long)],
    ids=["few", "many"],
)
def test_flushed_data_survives_every_power_cut(
    tmp_path: Path, seed: str, *, road: str, rounds: int, subsets: int
) -> None:
    key, cutter, events = recorded_writing(tmp_path, road, rounds)
    found: Counter[str] = Counter()
    for disk in cutter.states(events, random.Random(f"{seed}-{road}"), subsets):
        assert lost(disk, key) == [], f"moment {disk.moment}, prefix {disk.is_prefix}"
        found["prefix" if disk.is_prefix else "subset"] += 1
    flushed = sum(isinstance(event, Mark) for event in events)
    print(road, found, f"{flushed} rounds flushed")
    assert flushed >= rounds


def test_the_comparison_finds_what_a_missing_sync_loses(tmp_path: Path, seed: str) -> None:
    key, cutter, events = recorded_writing(tmp_path, "socket", ROUNDS)
    careless: list[Event] = [event for event in events if not isinstance(event, Sync)]
    states = cutter.states(careless, random.Random(seed), SUBSETS)
    assert any(lost(disk, key) for disk in states)


def recorded_writing(place: Path, road: str, rounds: int) -> tuple[bytes, Cutter, list[Event]]:
    """Write to an open volume on a recorded disk; return its key and the record."""
    require_fuse()
    require_tools("cryptsetup")
    disk = laid_out(place)
    Operator(place).format(disk.below / IMAGE.lstrip("/"), *STOCK, size=SIZE)
    key = volume_key(Operator(place), disk.below / IMAGE.lstrip("/"))
    operator = disk.operator
    with recorded(place), operator.opened(disk.image, f"cut-{road}", *ROADS[road]) as facts:
        blocks = b"".join(writer.block(place, 0) for place in range(writer.BLOCKS))
        first = place / "blocks"
        first.write_bytes(blocks)
        operator.run("nbdcopy", "--flush", first, facts["uri"])
        cutter = Cutter(disk.below)
        before = len(disk.events())
        write(disk, facts, road, rounds)
    return key, cutter, disk.events()[before:]


def write(disk: Recorded, facts: dict[str, str], road: str, rounds: int) -> None:
    """Have the writer flush at least so many rounds, each marked in the record, and kill it."""
    marks = disk.root / MARKS.lstrip("/")
    journal = str(marks)
    if road == "device":
        command = [sys.executable, writer.__file__, "file", facts["device"], journal]
    else:
        export = (facts["socket"], f"cut-{road}")
        command = ["/usr/bin/python3", writer.__file__, "nbd", *export, journal]
    process = subprocess.Popen(command)
    try:
        await_true(lambda: marks.exists() and len(marks.read_text().split()) >= rounds, "rounds")
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait(60)


def lost(disk: Disk, key: bytes) -> list[str]:
    """Return which pieces of blocks are older than their last flush, or of no round at all."""
    flushed = len(disk.acknowledged)
    ciphertext = disk.files[IMAGE][DATA_OFFSET_BYTES:][: writer.BLOCKS * writer.BLOCK_BYTES]
    content = decrypt(key, ciphertext, sector_bytes=writer.BLOCK_BYTES)
    newest = dict.fromkeys(range(writer.BLOCKS), 0)
    for number in range(1, flushed + 1):
        newest |= dict.fromkeys(writer.places(number), number)
    # Of the round under way, any piece may be there.
    under_way = dict.fromkeys(writer.places(flushed + 1), flushed + 1)
    wrong = []
    for place in range(writer.BLOCKS):
        found = content[place * writer.BLOCK_BYTES : (place + 1) * writer.BLOCK_BYTES]
        numbers = {newest[place], under_way.get(place, newest[place])}
        candidates = [writer.block(place, number) for number in numbers]
        for start in range(0, writer.BLOCK_BYTES, PIECE_BYTES):
            piece = slice(start, start + PIECE_BYTES)
            if found[piece] not in [block[piece] for block in candidates]:
                wrong.append(f"block {place} at {start}, rounds {numbers}: {found[piece][:18]!r}")
    return wrong
