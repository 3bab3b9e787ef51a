# SPDX-License-Identifier: Apache-2.0
"""Wireshark names every command of a trace, and finds every byte that was carried."""

import subprocess
import time
from pathlib import Path

import pytest

from strongroom.host.tpm import Relay, Trace, parse_address
from tests.conftest import require_tools
from tests.swtpm import swtpm
from tests.system.tpm.commands import (
    ALL_PROPERTIES,
    CREATE_ECC,
    GET_RANDOM,
    READ_PCR_16,
    flush,
    handle_of,
    read_public,
)

pytestmark = pytest.mark.system

STRICT = ("-o", "ip.check_checksum:TRUE", "-o", "tcp.check_checksum:TRUE")


def fields(trace: Path, *names: str) -> list[list[str]]:
    """Return what tshark says of each packet."""
    require_tools("tshark")
    wanted = [part for name in names for part in ("-e", name)]
    done = subprocess.run(
        ["tshark", "-n", "-r", trace, *STRICT, "-T", "fields", *wanted],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return [line.split("\t") for line in done.stdout.splitlines()]


def test_wireshark_reads_the_trace(tmp_path: Path) -> None:
    trace = tmp_path / "trace.pcap"
    carried: list[bytes] = []
    before = time.time()
    with (
        swtpm(tmp_path) as tpm,
        Relay(parse_address(tpm.address), trace=Trace(trace)) as relay,
    ):

        def carry(command: bytes) -> bytes:
            carried.append(command)
            carried.append(relay.transmit(command))
            return carried[-1]

        carry(GET_RANDOM)
        carry(ALL_PROPERTIES)
        carry(READ_PCR_16)
        handle = handle_of(carry(CREATE_ECC))
        carry(read_public(handle))
        carry(flush(handle))
        tpm.power_cycle()
        carry(read_public(handle))
    after = time.time()

    packets = fields(
        trace,
        "tcp.payload",
        "frame.protocols",
        "tcp.stream",
        "ip.checksum.status",
        "tcp.checksum.status",
        "tcp.analysis.flags",
        "_ws.malformed",
        "frame.time_epoch",
        "_ws.col.Info",
    )
    assert [bytes.fromhex(payload) for payload, *_ in packets] == carried
    whole_and_one_connection = ["raw:ip:tcp:tpm", "0", "1", "1", "", ""]
    assert [packet[1:7] for packet in packets] == [whole_and_one_connection] * len(carried)

    times = [float(packet[7]) for packet in packets]
    assert times == sorted(times)
    assert before - 0.001 <= times[0]
    assert times[-1] <= after + 0.001

    shown = [packet[8] for packet in packets]
    commands = ["GetRandom", "GetCapability", "PCR_Read", "CreatePrimary", "ReadPublic"]
    commands += ["FlushContext", "ReadPublic"]
    for number, name in enumerate(commands):
        assert "TPM Request" in shown[2 * number]
        assert f"TPM2_CC_{name}" in shown[2 * number]
        assert "TPM Response" in shown[2 * number + 1]
    assert ["TPM2 Success" in line for line in shown[1::2]] == [True] * 6 + [False]
