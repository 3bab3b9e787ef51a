# SPDX-License-Identifier: Apache-2.0
"""Real commands to a real TPM, by each way there that needs no kernel of its own.

A character device needs a kernel with a TPM: ``test_device_in_guest`` has one.
"""

import contextlib
import hashlib
import os
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from strongroom.errors import TpmTransportError
from strongroom.host.tpm import Relay, parse_address
from strongroom.host.tpm.limits import TimeLimits
from tests.conftest import require_tools
from tests.harness import SYSTEM_PATH
from tests.swtpm import SocketKind, Swtpm, swtpm, two_free_ports
from tests.system.tpm.commands import (
    ALL_PROPERTIES,
    CREATE_ECC,
    CREATE_RSA,
    GET_RANDOM,
    INITIALIZE,
    MANUFACTURER,
    READ_PCR_16,
    STARTUP,
    code_of,
    flush,
    handle_of,
    read_public,
    sha256,
)
from tests.tpm_bridges import mssim_ports

pytestmark = pytest.mark.system

SHORT = TimeLimits(slow_seconds=60, other_seconds=1, connect_seconds=60)
"""Short for all but a command that makes a key."""


@pytest.fixture(params=["unix", "tcp", "shared"])
def tpm(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Swtpm]:
    kind: SocketKind = request.param
    with swtpm(tmp_path, socket_kind=kind) as started:
        yield started


@pytest.fixture
def relay(tpm: Swtpm) -> Iterator[Relay]:
    with Relay(parse_address(tpm.address)) as opened:
        yield opened


def test_commands_and_answers_come_through_whole(relay: Relay) -> None:
    assert relay.transmit(MANUFACTURER)[-4:] == b"IBM\0"
    assert len(relay.transmit(GET_RANDOM)) == 10 + 2 + 32
    assert relay.transmit(GET_RANDOM) != relay.transmit(GET_RANDOM)
    assert len(relay.transmit(ALL_PROPERTIES)) > 300
    data = os.urandom(1024)
    assert relay.transmit(sha256(data))[12:44] == hashlib.sha256(data).digest()


def test_a_key_lives_until_it_is_flushed(relay: Relay) -> None:
    for create in (CREATE_ECC, CREATE_RSA):
        made = relay.transmit(create)
        handle = handle_of(made)
        assert code_of(relay.transmit(read_public(handle))) == 0
        assert code_of(relay.transmit(flush(handle))) == 0
        assert code_of(relay.transmit(read_public(handle))) != 0, "a refusal is an answer too"


def test_threads_share_it(relay: Relay) -> None:
    blocks = [os.urandom(200) for _ in range(64)]
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda block: relay.transmit(sha256(block)), blocks))
    assert [a[12:44] for a in answers] == [hashlib.sha256(b).digest() for b in blocks]


def test_a_reset_between_commands_needs_no_new_relay(tmp_path: Path) -> None:
    with swtpm(tmp_path) as tpm, Relay(parse_address(tpm.address)) as relay:
        handle = handle_of(relay.transmit(CREATE_ECC))
        tpm.power_cycle()
        assert code_of(relay.transmit(read_public(handle))) != 0, "what was loaded is gone"
        tpm.power_off()
        with pytest.raises(TpmTransportError, match="no TPM can be reached"):
            relay.transmit(GET_RANDOM)
        tpm.power_on()
        assert code_of(relay.transmit(GET_RANDOM)) == 0


def test_a_reset_in_the_middle_of_a_command_is_an_error(tmp_path: Path) -> None:
    with swtpm(tmp_path) as tpm, Relay(parse_address(tpm.address)) as relay:
        relay.transmit(GET_RANDOM)
        failed: list[TpmTransportError] = []

        def make_keys() -> None:
            try:
                while True:
                    relay.transmit(flush(handle_of(relay.transmit(CREATE_RSA))))
            except TpmTransportError as err:
                failed.append(err)

        thread = threading.Thread(target=make_keys)
        thread.start()
        time.sleep(0.05)
        tpm.power_off()
        thread.join(60)
        assert failed


def test_who_comes_second_is_told_in_time(tmp_path: Path) -> None:
    with swtpm(tmp_path) as tpm, Relay(parse_address(tpm.address)) as first:
        first.transmit(GET_RANDOM)
        with Relay(parse_address(tpm.address), limits=SHORT) as second:
            with pytest.raises(TpmTransportError) as caught:
                second.transmit(GET_RANDOM)
            assert "another program" in caught.value.hint
            first.close()
            assert code_of(second.transmit(CREATE_ECC)) == 0


def test_tpm2_tools_see_the_same_tpm(tmp_path: Path) -> None:
    with (
        swtpm(tmp_path, socket_kind="shared") as tpm,
        Relay(parse_address(tpm.address)) as relay,
    ):
        before = relay.transmit(READ_PCR_16)[-32:]
        assert before == bytes(32)
        tpm.tool("tpm2_pcrextend", f"16:sha256={'5a' * 32}")
        after = relay.transmit(READ_PCR_16)[-32:]
        assert after == hashlib.sha256(bytes(32) + b"\x5a" * 32).digest()
        assert after.hex().upper() in tpm.tool("tpm2_pcrread", "sha256:16").stdout.decode()


def test_a_manufactured_one_has_certificates(tmp_path: Path) -> None:
    with swtpm(tmp_path, socket_kind="shared", certificates=True) as tpm:
        handles = tpm.tool("tpm2_getcap", "handles-nv-index").stdout.decode()
        assert "0x1C00002" in handles
        assert tpm.authority is not None
        assert b"BEGIN CERTIFICATE" in tpm.authority.issuer.read_bytes()
        assert b"BEGIN CERTIFICATE" in tpm.authority.root.read_bytes()


def test_the_simulators_framing(tmp_path: Path) -> None:
    signals: list[int] = []
    with swtpm(tmp_path, startup="none") as tpm:
        port = two_free_ports()
        with mssim_ports(tpm.place / "swtpm.sock", port, signals):
            # libtss2 speaks it with the bridge as well, so the bridge speaks it.
            done = _tool("tpm2_startup", "-c", "-T", f"mssim:host=127.0.0.1,port={port}")
            assert done.returncode == 0, done.stderr
            assert signals[:2] == [1, 11]
            signals.clear()
            with Relay(parse_address(f"mssim:port={port}")) as relay:
                assert relay.transmit(MANUFACTURER)[-4:] == b"IBM\0"
                handle = handle_of(relay.transmit(CREATE_RSA))
                assert code_of(relay.transmit(flush(handle))) == 0
            # Nobody waits for an answer to the last one.
            end = time.monotonic() + 30
            while len(signals) < 3 and time.monotonic() < end:
                time.sleep(0.01)
            assert signals == [1, 11, 20]


def test_starting_it_up_is_the_enclaves_to_do(tmp_path: Path) -> None:
    with swtpm(tmp_path, startup="none") as tpm, Relay(parse_address(tpm.address)) as relay:
        assert code_of(relay.transmit(GET_RANDOM)) == INITIALIZE
        assert code_of(relay.transmit(STARTUP)) == 0
        assert code_of(relay.transmit(GET_RANDOM)) == 0


# --- the access broker ----------------------------------------------------------------------------


@pytest.fixture
def broker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Swtpm]:
    """An access broker in front of a TPM, on a message bus of the test's own."""
    require_tools("tpm2-abrmd", "dbus-daemon")
    bus = tmp_path / "bus"
    environment = {
        **os.environ,
        "PATH": SYSTEM_PATH,
        "DBUS_SESSION_BUS_ADDRESS": f"unix:path={bus}",
        "TSS2_LOG": "all+none",
    }
    monkeypatch.setattr("strongroom.host.tpm.tabrmd.bus_socket", lambda _: str(bus))
    with contextlib.ExitStack() as stack:
        tpm = stack.enter_context(swtpm(tmp_path, socket_kind="tcp"))
        for name, arguments in (
            ("dbus-daemon", ("--session", f"--address=unix:path={bus}", "--nofork")),
            ("tpm2-abrmd", ("--session", "--allow-root", f"--tcti={tpm.tcti}")),
        ):
            log = stack.enter_context((tmp_path / f"{name}.log").open("wb"))
            process = subprocess.Popen([name, *arguments], env=environment, stdout=log, stderr=log)
            stack.callback(process.wait, 30)
            stack.callback(process.kill)
            _wait_for_bus(bus)
        _wait_for_broker()
        yield tpm


@pytest.mark.usefixtures("broker")
def test_the_access_broker_carries_commands() -> None:
    with Relay(parse_address("tabrmd:bus_type=session")) as relay:
        assert relay.transmit(MANUFACTURER)[-4:] == b"IBM\0"
        data = os.urandom(1024)
        assert relay.transmit(sha256(data))[12:44] == hashlib.sha256(data).digest()
        handle = handle_of(relay.transmit(CREATE_RSA))
        with Relay(parse_address("tabrmd:bus_type=session")) as other:
            assert code_of(other.transmit(GET_RANDOM)) == 0, "it serves several"
            assert code_of(other.transmit(read_public(handle))) != 0, "each has its own handles"
        assert code_of(relay.transmit(read_public(handle))) == 0


@pytest.mark.usefixtures("broker")
def test_a_broker_of_another_name_is_not_there() -> None:
    relay = Relay(parse_address("tabrmd:bus_type=session,bus_name=com.example.Other"))
    with pytest.raises(TpmTransportError, match="no access broker") as caught:
        relay.transmit(GET_RANDOM)
    assert "device:/dev/tpmrm0" in caught.value.hint


def _wait_for_bus(bus: Path) -> None:
    """Wait until somebody listens: the socket is there before that."""
    end = time.monotonic() + 30
    while True:
        with socket.socket(socket.AF_UNIX) as trial:
            try:
                trial.connect(str(bus))
            except OSError:
                assert time.monotonic() < end
                time.sleep(0.01)
            else:
                return


def _wait_for_broker() -> None:
    end = time.monotonic() + 30
    with Relay(parse_address("tabrmd:bus_type=session")) as relay:
        while True:
            try:
                relay.transmit(GET_RANDOM)
            except TpmTransportError:
                assert time.monotonic() < end
                time.sleep(0.02)
            else:
                return


def _tool(*command: str) -> subprocess.CompletedProcess[bytes]:
    require_tools(command[0])
    return subprocess.run(
        command,
        check=False,
        capture_output=True,
        timeout=60,
        env={**os.environ, "PATH": SYSTEM_PATH, "TSS2_LOG": "all+none"},
    )
