# SPDX-License-Identifier: Apache-2.0
"""Nothing stays in a TPM: not after many operations, and not after kills in their middle."""

import contextlib
import itertools
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from strongroom._core import HpkeReceiver
from strongroom.boundary import tpm_calls
from strongroom.errors import TpmError
from strongroom.host.launch import launch
from strongroom.host.silence import Silent
from strongroom.host.tpm.address import parse_address
from strongroom.host.tpm.carrying import RelayCarrier
from strongroom.host.tpm.leftovers import flush_leftovers, is_alone
from strongroom.host.tpm.relay import Relay
from strongroom.host.tpm.unprotected import Unprotected
from strongroom.tpm import Device
from strongroom.tpm.device import LOADED_SESSIONS, SAVED_SESSIONS
from tests.swtpm import Swtpm, swtpm
from tests.system.tpm import worker
from tests.system.tpm.test_in_enclave import Operating

pytestmark = pytest.mark.system

VICTIMS = ("host", "enclave", "both")
REACH_SECONDS = 60.0


@pytest.fixture
def tpm(tmp_path: Path) -> Iterator[Swtpm]:
    with swtpm(tmp_path) as running:
        yield running


@pytest.fixture
def record(tpm: Swtpm, tmp_path: Path) -> Path:
    """A TPM with a counter, that was enrolled."""
    path = tmp_path / "record"
    with (
        Relay(parse_address(tpm.address)) as relay,
        launch(Silent(), tpm=RelayCarrier(relay)) as enclave,
    ):
        operating = Operating(enclave)
        path.write_bytes(operating.ask(tpm_calls.MeetTpm(None)).record)
        operating.ask(tpm_calls.KnowTpm(path.read_bytes()))
        operating.ask(tpm_calls.DefineNv(worker.INDEX, "counter", 8, "enclave", None))
        operating.end()
    return path


def held(tpm: Swtpm) -> dict[str, tuple[int, ...]]:
    """Return all handles that are in use, by their kind."""
    kinds = {
        "sessions": LOADED_SESSIONS,
        "saved sessions": SAVED_SESSIONS,
        "transient": 0x80000000,
        "persistent": 0x81000000,
        "nv": 0x01000000,
    }
    with Relay(parse_address(tpm.address)) as relay:
        device = Device(Unprotected(relay.transmit))
        return {name: device.handles(first) for name, first in kinds.items()}


@pytest.mark.parametrize("rounds", [25, pytest.param(250, marks=pytest.mark.long)])
def test_many_operations_leave_nothing(tpm: Swtpm, record: Path, rounds: int) -> None:
    before = held(tpm)
    with (
        Relay(parse_address(tpm.address)) as relay,
        launch(Silent(), tpm=RelayCarrier(relay)) as enclave,
    ):
        operating = Operating(enclave)
        operating.ask(tpm_calls.KnowTpm(record.read_bytes()))
        for number in range(rounds):
            made = operating.ask(
                tpm_calls.SealToTpm(
                    operating.sealed("tpm data", b"share"), "enclave", None, "sha256", (16,)
                )
            )
            receiver = HpkeReceiver()
            operating.ask(
                tpm_calls.UnsealFromTpm(made, "enclave", None, "sha256", (16,), receiver.public_key)
            )
            operating.ask(tpm_calls.QuotePcrs("sha256", (16,), number.to_bytes(4, "big")))
            operating.ask(tpm_calls.IncrementNv(worker.INDEX, "enclave", None))
        operating.end()
    assert held(tpm) == before


def kill_once(tpm: Swtpm, record: Path, victim: str, pause_seconds: float) -> None:
    """Kill the host, its enclave or both in the middle of their work."""
    command = [sys.executable, "-m", "tests.system.tpm.worker", tpm.address, str(record)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, cwd=Path(__file__).parents[3], text=True
    ) as process:
        assert process.stdout is not None
        said = process.stdout.readline().split()
        assert said[:1] == ["ready"], said
        time.sleep(pause_seconds)
        if victim in {"enclave", "both"}:
            os.kill(int(said[1]), signal.SIGKILL)
        if victim in {"host", "both"}:
            process.kill()
        process.wait(REACH_SECONDS)
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(said[1]), signal.SIGKILL)


@pytest.mark.parametrize(
    "kills", [6, pytest.param(200, marks=[pytest.mark.long, pytest.mark.timeout(3600)])]
)
def test_kills_leave_nothing(tpm: Swtpm, record: Path, kills: int) -> None:
    before = held(tpm)
    seed = random.SystemRandom().getrandbits(32)
    rng, left = random.Random(seed), 0
    for victim in itertools.islice(itertools.cycle(VICTIMS), kills):
        kill_once(tpm, record, victim, rng.uniform(0, 0.05))
        now = held(tpm)
        left += sum(len(now[kind]) for kind in ("sessions", "transient"))
        assert (now["persistent"], now["nv"]) == (before["persistent"], before["nv"]), seed
    print(f"seed {seed}: {kills} kills, {left} handles were left for the next start")
    # The next start is what removes them.
    with Relay(parse_address(tpm.address)) as relay:
        flush_leftovers(relay)
    assert held(tpm) == before


def test_sessions_of_every_type_are_leftovers(tpm: Swtpm) -> None:
    kinds = (b"\x00", b"\x01", b"\x03")  # HMAC, policy, trial
    start = bytes.fromhex("8001 0000003b 00000176 40000007 40000007 0020") + bytes(32)
    with Relay(parse_address(tpm.address)) as relay:
        for kind in kinds:
            answer = relay.transmit(start + bytes(2) + kind + bytes.fromhex("0010 000b"))
            assert answer[6:10] == bytes(4), kind
        with pytest.raises(TpmError, match="no room for another session"):
            Unprotected(relay.transmit).policy_session().__enter__()
        assert flush_leftovers(relay) == len(kinds)
    assert not held(tpm)["sessions"]


@pytest.mark.parametrize(
    ("address", "alone"),
    [
        ("device:/dev/tpm0", True),
        ("device:/dev/tpmrm0", False),
        ("swtpm:path=/run/tpm", True),
        ("swtpm:host=127.0.0.1,port=2321", True),
        ("mssim:host=127.0.0.1,port=2321", True),
        ("tabrmd:", False),
    ],
)
def test_who_has_a_tpm_alone(address: str, *, alone: bool) -> None:
    assert is_alone(parse_address(address)) is alone
