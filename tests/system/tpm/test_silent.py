# SPDX-License-Identifier: Apache-2.0
"""A TPM whose answer never comes: that is said soon, and has an end that the operator chooses."""

import socket
import subprocess
import time
from pathlib import Path
from typing import Final

import pytest

from strongroom.errors import SelftestError, TpmTransportError
from tests.harness import Operator
from tests.swtpm import swtpm
from tests.tpm_bridges import read_message
from tests.unit.host.tpm.peers import SLACK_SECONDS, Peer, never_answers, peer

pytestmark = pytest.mark.system

TIMEOUT_SECONDS: Final = 3
AFTER_SECONDS: Final = 3
"""For what tidies up, half a second for each command."""
SAID: Final = (
    "the TPM has not answered yet: Strongroom waits up to 3 seconds for an answer (--tpm-timeout)"
)


@pytest.fixture
def operator(operator: Operator) -> Operator:
    """An operator on a machine whose enclave has met no TPM."""
    operator.environment["STRONGROOM_STATE_DIR"] = str(operator.place / "state")
    return operator


def ended(operator: Operator, address: str, *command: str) -> subprocess.CompletedProcess[str]:
    """Run a command on a silent TPM; it must end in time and say why it takes long."""
    start = time.monotonic()
    limited = ("--tpm", address, "--tpm-timeout", str(TIMEOUT_SECONDS))
    done = operator.strongroom("tpm", *command, *limited, check=False)
    assert time.monotonic() - start < TIMEOUT_SECONDS + AFTER_SECONDS + SLACK_SECONDS
    assert done.stderr.count(SAID) == 1, done.stderr
    assert "did not answer within 3 seconds" in done.stdout + done.stderr
    return done


@pytest.mark.parametrize("place", ["enclave", "host"])
def test_a_tpm_that_never_answers_is_given_up_in_time(
    operator: Operator, tmp_path: Path, place: str
) -> None:
    with peer(never_answers, path=tmp_path / "silent") as silent:
        done = ended(operator, silent.address, "nv", "list", "--in", place)
    assert done.returncode == TpmTransportError.exit_code


@pytest.mark.parametrize("place", ["enclave", "host"])
@pytest.mark.parametrize("answers", [3, 12])
def test_a_tpm_that_falls_silent_is_given_up_in_time(
    operator: Operator, tmp_path: Path, answers: int, place: str
) -> None:
    left = iter(range(answers))
    upstream = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)

    def falls_silent(it: Peer, connected: socket.socket) -> None:
        while True:
            command = it.read_command(connected)
            if next(left, None) is not None:
                upstream.sendall(command)
                connected.sendall(read_message(upstream))

    with swtpm(tmp_path) as tpm, upstream, peer(falls_silent) as it:
        upstream.connect(tpm.address.partition("=")[2])
        done = ended(operator, it.address, "selftest", "--in", place)
    assert done.returncode in {TpmTransportError.exit_code, SelftestError.exit_code}
