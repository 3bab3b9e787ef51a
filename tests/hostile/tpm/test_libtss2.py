# SPDX-License-Identifier: Apache-2.0
"""What libtss2 believes of a response, and what the gate stops: GHSA-7638-f8gq-c475.

Strongroom itself does not use libtss2; here it stands for whatever reads after the gate.
"""

import os
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest
from tpm2_pytss import TSS2_Exception

from strongroom import _core
from strongroom.errors import TpmTamperedError
from tests.conftest import require_tools
from tests.hostile.tpm.oversized import (
    GET_RANDOM,
    INDEX_BYTES,
    NV_READ,
    RANDOM_BYTES,
    gated,
    host,
    index_bytes,
    oversized,
    random_bytes,
)
from tests.hostile.tpm.simulator import Transmit, simulator

pytestmark = pytest.mark.hostile

FIXED: Final = (4, 2, 0)
CLAIMED_BYTES: Final = 1500
VALGRIND: Final = ("valgrind", "--quiet", "--error-limit=no", "--undef-value-errors=no")
VALGRIND_SECONDS: Final = 300


def needs_the_flaw() -> None:
    """Skip where libtss2 is repaired."""
    require_tools("swtpm", "pkg-config")
    asked = subprocess.run(
        ["pkg-config", "--modversion", "tss2-esys"], capture_output=True, text=True, check=True
    )
    version = tuple(int(part) for part in asked.stdout.strip().split("-")[0].split("."))
    if version >= FIXED:
        pytest.skip(f"libtss2 {asked.stdout.strip()} is repaired")


def recording(transmit: Transmit, exchanges: list[tuple[bytes, bytes]]) -> Transmit:
    """Return what transmits and remembers."""

    def carry(command: bytes) -> bytes:
        response = transmit(command)
        exchanges.append((command, response))
        return response

    return carry


def test_the_forgery_is_what_a_tpm_would_send(tmp_path: Path) -> None:
    require_tools("swtpm")
    honest: list[tuple[bytes, bytes]] = []
    with simulator(tmp_path) as transmit:
        random_bytes(recording(transmit, honest))
    command, response = honest[-1]
    assert oversized(command, response, RANDOM_BYTES) == response


def test_libtss2_gives_more_bytes_than_came(tmp_path: Path) -> None:
    needs_the_flaw()
    forged: list[tuple[bytes, bytes]] = []
    with simulator(tmp_path) as transmit:
        data = index_bytes(recording(host(transmit, NV_READ, CLAIMED_BYTES), forged))
    command, response = forged[-1]
    assert len(data) == CLAIMED_BYTES > len(response) > INDEX_BYTES
    with pytest.raises(TpmTamperedError, match="the message ends inside TPM2B_MAX_NV_BUFFER"):
        _core.tpm_check_response(command, response)


@pytest.mark.slow
def test_libtss2_reads_beyond_its_memory() -> None:
    needs_the_flaw()
    require_tools("valgrind")
    victim = subprocess.run(
        [*VALGRIND, sys.executable, "-m", "tests.hostile.tpm.oversized"],
        cwd=Path(__file__).parents[3],
        env={**os.environ, "PYTHONMALLOC": "malloc"},
        capture_output=True,
        text=True,
        check=False,
        timeout=VALGRIND_SECONDS,
    )
    assert "Invalid read" in victim.stderr
    reader = victim.stderr.partition("Invalid read")[2]
    assert "Esys_GetRandom_Finish" in reader.partition("Address")[0]
    assert "bytes after a block" in reader


@pytest.mark.parametrize("size", [0, 7, 9, 64, 65, CLAIMED_BYTES, 0xFFFF])
def test_the_gate_stops_it(tmp_path: Path, size: int) -> None:
    require_tools("swtpm")
    forged: list[tuple[bytes, bytes]] = []
    with simulator(tmp_path) as transmit:
        carry = gated(recording(host(transmit, GET_RANDOM, size), forged))
        with pytest.raises(TSS2_Exception, match="tcti:"):
            random_bytes(carry)
    command, response = forged[-1]
    assert int.from_bytes(command[6:10]) == GET_RANDOM
    with pytest.raises(TpmTamperedError):
        _core.tpm_check_response(command, response)


def test_the_gate_lets_the_honest_answer_pass(tmp_path: Path) -> None:
    require_tools("swtpm")
    with simulator(tmp_path) as transmit:
        assert len(random_bytes(gated(transmit))) == RANDOM_BYTES
