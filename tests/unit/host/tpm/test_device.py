# SPDX-License-Identifier: Apache-2.0
"""What is no TPM is refused with what to do, and what never answers is not waited for.

That a kernel's TPM works is tested before one, in a guest, by the system tests. The terminal
that stands in here is a character device too, and proves only that its silence, its end and its
chatter are bounded.
"""

import contextlib
import os
import threading
import time
import tty
from collections.abc import Iterator
from pathlib import Path

import pytest

from strongroom.host.tpm import Relay
from strongroom.host.tpm.address import DeviceAddress
from strongroom.host.tpm.device import DeviceTransport
from strongroom.host.tpm.limits import Deadline
from tests.unit.host.tpm.peers import (
    CREATE_PRIMARY,
    GET_RANDOM,
    LIMIT_SECONDS,
    QUICK,
    refused,
    response,
    without_rights,
)

pytestmark = pytest.mark.unit


def test_a_missing_tpm_says_so() -> None:
    error = refused(Relay(DeviceAddress("/dev/strongroom-no-tpm"), limits=QUICK))
    assert "cannot open the TPM /dev/strongroom-no-tpm" in error.message
    assert "--tpm" in error.hint


def test_who_may_not_use_it_is_told_which_group(tmp_path: Path) -> None:
    closed = tmp_path / "tpm"
    closed.touch(mode=0)
    tmp_path.chmod(0o755)
    with without_rights():
        error = refused(Relay(DeviceAddress(str(closed)), limits=QUICK))
    assert "group tss" in error.hint


def test_what_is_no_character_device_is_refused(tmp_path: Path) -> None:
    fifo, plain = tmp_path / "fifo", tmp_path / "plain"
    os.mkfifo(fifo)
    plain.touch()
    for path in (fifo, plain):
        error = refused(Relay(DeviceAddress(str(path)), limits=QUICK))
        assert "is not a character device" in error.message
    assert not plain.read_bytes(), "nothing was written to it"
    error = refused(Relay(DeviceAddress(str(tmp_path)), limits=QUICK))
    assert "Is a directory" in error.message


@pytest.fixture
def terminal() -> Iterator[tuple[int, str]]:
    """A raw terminal: the other end's descriptor, and the device."""
    ours, theirs = os.openpty()
    tty.setraw(theirs)
    yield ours, os.ttyname(theirs)
    os.close(theirs)
    with contextlib.suppress(OSError):
        os.close(ours)


def test_a_device_that_never_answers_is_not_waited_for(terminal: tuple[int, str]) -> None:
    ours, path = terminal
    relay = Relay(DeviceAddress(path), limits=QUICK)
    before = {thread.ident for thread in threading.enumerate()}
    assert "within 0.2 seconds" in refused(relay).message
    assert os.read(ours, 4096) == GET_RANDOM
    relay.close()
    # Whoever still waits in the kernel leaves, with its descriptor, once there is an answer.
    os.write(ours, response())
    end = time.monotonic() + 10
    while {thread.ident for thread in threading.enumerate()} - before:
        assert time.monotonic() < end
        time.sleep(0.01)


def test_closing_does_not_wait_for_the_driver(terminal: tuple[int, str]) -> None:
    ours, path = terminal
    transport = DeviceTransport(path)
    with pytest.raises(Exception, match="within"):
        transport.transmit(GET_RANDOM, Deadline(LIMIT_SECONDS))
    start = time.monotonic()
    transport.close()
    transport.close()
    assert time.monotonic() - start < LIMIT_SECONDS
    os.write(ours, response())


@pytest.mark.parametrize("size", [1, 9])
def test_an_answer_that_is_too_short_is_refused(terminal: tuple[int, str], size: int) -> None:
    ours, path = terminal
    relay = Relay(DeviceAddress(path), limits=QUICK)
    os.write(ours, response()[:size])
    assert f"{size} bytes" in refused(relay).message
    relay.close()


def test_a_device_that_goes_away_is_an_error(terminal: tuple[int, str]) -> None:
    ours, path = terminal
    relay = Relay(DeviceAddress(path), limits=QUICK)
    os.write(ours, response(20))
    assert relay.transmit(CREATE_PRIMARY) == response(20)
    os.close(ours)
    refused(relay)
    relay.close()
