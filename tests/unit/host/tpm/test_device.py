# SPDX-License-Identifier: Apache-2.0
"""What is no TPM is refused with what to do, and what never answers is not waited for.

That a kernel's TPM works is tested before one, in a guest, by the system tests. The terminal
that stands in here is a character device too, and proves only that its silence, its end and its
chatter are bounded.
"""

import os
import threading
import time
import tty
from collections.abc import Iterator
from io import FileIO
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
    SLACK_SECONDS,
    refused,
    response,
    without_rights,
)

pytestmark = pytest.mark.unit

Terminal = tuple[FileIO, str]


def test_a_missing_tpm_says_so() -> None:
    error = refused(Relay(DeviceAddress("/dev/strongroom-no-tpm"), limits=QUICK))
    assert "cannot open the TPM /dev/strongroom-no-tpm" in error.message
    assert "--tpm" in error.hint


def test_who_may_not_use_it_is_told_which_group(tmp_path: Path) -> None:
    closed = tmp_path / "tpm"
    closed.touch(mode=0)
    tmp_path.chmod(0o755)
    with without_rights():
        error = refused(Relay(DeviceAddress(str(closed)), limits=QUICK), CREATE_PRIMARY)
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
def terminal() -> Iterator[Terminal]:
    """A raw terminal: the other end, and the device."""
    ours, theirs = os.openpty()
    tty.setraw(theirs)
    # Closing a file twice is harmless; the number of a descriptor may be another's by then.
    with FileIO(ours, "r+") as end, FileIO(theirs):
        yield end, os.ttyname(theirs)


def test_a_device_that_never_answers_is_not_waited_for(terminal: Terminal) -> None:
    ours, path = terminal
    relay = Relay(DeviceAddress(path), limits=QUICK)
    before = {thread.ident for thread in threading.enumerate()}
    assert "within 0.2 seconds" in refused(relay).message
    assert ours.read(4096) == GET_RANDOM
    relay.close()
    # Whoever still waits in the kernel leaves, with its descriptor, once there is an answer.
    ours.write(response())
    end = time.monotonic() + 60
    while {thread.ident for thread in threading.enumerate()} - before:
        assert time.monotonic() < end
        time.sleep(0.01)


def test_closing_does_not_wait_for_the_driver(terminal: Terminal) -> None:
    ours, path = terminal
    transport = DeviceTransport(path)
    with pytest.raises(Exception, match="within"):
        transport.transmit(GET_RANDOM, Deadline(LIMIT_SECONDS))
    start = time.monotonic()
    transport.close()
    transport.close()
    assert time.monotonic() - start < SLACK_SECONDS
    ours.write(response())


@pytest.mark.parametrize("size", [1, 9])
def test_an_answer_that_is_too_short_is_refused(terminal: Terminal, size: int) -> None:
    ours, path = terminal
    relay = Relay(DeviceAddress(path), limits=QUICK)
    ours.write(response()[:size])
    assert f"{size} bytes" in refused(relay, CREATE_PRIMARY).message
    relay.close()


def test_a_device_that_goes_away_is_an_error(terminal: Terminal) -> None:
    ours, path = terminal
    relay = Relay(DeviceAddress(path), limits=QUICK)
    ours.write(response(20))
    assert relay.transmit(CREATE_PRIMARY) == response(20)
    ours.close()
    refused(relay)
    relay.close()
