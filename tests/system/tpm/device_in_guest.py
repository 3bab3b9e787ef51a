# SPDX-License-Identifier: Apache-2.0
"""The relay, and the program, before a kernel's TPM. Run as root inside the guest: it has a kernel
to itself::

    python -m tests.system.tpm.device_in_guest PLACES PLACES

Where the program tests itself, before the TPM is enrolled and after: ``enclave``, ``host`` or
``enclave,host``.

The TPM is an swtpm behind ``/dev/vtpmx``: the kernel's own character devices, driver core and
resource manager are real. Each line of the output that begins with :data:`SELFTEST` is what came of
one self test, as JSON.
"""

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest

from strongroom.errors import TpmTransportError
from strongroom.host.tpm import DEFAULT_ADDRESS, Relay, parse_address
from strongroom.host.tpm.limits import TimeLimits
from tests.harness import STRONGROOM
from tests.system.tpm.commands import (
    CREATE_ECC,
    GET_RANDOM,
    MANUFACTURER,
    READ_PCR_16,
    code_of,
    flush,
    handle_of,
    read_public,
)

SELFTEST = "selftest "
PROGRAM_SECONDS = 600
"""A machine that emulates this one, and is busy, took 167 for one run."""
PATIENCE_SECONDS = 300


def main(places_before: str, places_after: str) -> None:
    """Check everything, or end with a traceback."""
    with (
        tempfile.TemporaryDirectory() as state,
        subprocess.Popen(
            ["swtpm", "chardev", "--vtpm-proxy", "--tpm2", "--tpmstate", f"dir={state}"],
            stdout=sys.stdout,
            stderr=sys.stderr,
        ) as tpm,
    ):
        try:
            _wait_for_device()
            check_each_has_its_own_handles()
            check_the_bare_chip_is_for_one()
            run_the_program(Path(state), places_before, places_after)
            check_a_silent_chip_is_not_waited_for(tpm)
        finally:
            tpm.kill()
    print("the kernel's TPM works")


def check_each_has_its_own_handles() -> None:
    """Two programs at once, on what is used when nobody names a TPM."""
    with Relay(DEFAULT_ADDRESS) as one, Relay(DEFAULT_ADDRESS) as other:
        assert one.transmit(MANUFACTURER)[-4:] == b"IBM\0"
        assert len(other.transmit(GET_RANDOM)) == 44
        handle = handle_of(one.transmit(CREATE_ECC))
        assert code_of(one.transmit(read_public(handle))) == 0
        _refused(other, read_public(handle), "handles that it does not know")
        assert len(other.transmit(GET_RANDOM)) == 44, "and goes on"
        assert code_of(one.transmit(flush(handle))) == 0


def check_the_bare_chip_is_for_one() -> None:
    """The second program is told where it can share."""
    bare = parse_address("device:/dev/tpm0")
    with Relay(bare) as one, Relay(bare) as other:
        assert one.transmit(MANUFACTURER)[-4:] == b"IBM\0"
        _refused(other, MANUFACTURER, "device:/dev/tpmrm0 is shared")


def check_a_silent_chip_is_not_waited_for(tpm: subprocess.Popen[bytes]) -> None:
    """The driver gives this command two minutes. Neither we nor closing wait for it."""
    limits = TimeLimits(slow_seconds=120, other_seconds=5, connect_seconds=60)
    with Relay(DEFAULT_ADDRESS, limits=limits) as relay:
        # One that may take longer, and connects. The kernel removes what it makes.
        handle_of(relay.transmit(CREATE_ECC))
        subprocess.run(["kill", "-STOP", str(tpm.pid)], check=True)
        start = time.monotonic()
        _refused(relay, READ_PCR_16, "another program may be using it")
    assert time.monotonic() - start < 60, "somebody waited for the driver"
    subprocess.run(["kill", "-CONT", str(tpm.pid)], check=True)
    end = time.monotonic() + PATIENCE_SECONDS
    while threading.active_count() > 1:
        assert time.monotonic() < end, "a thread was left behind"
        time.sleep(0.05)
    with Relay(DEFAULT_ADDRESS) as relay:
        assert code_of(relay.transmit(GET_RANDOM)) == 0


def run_the_program(state: Path, places_before: str, places_after: str) -> None:
    """Run the self tests on the TPM that is used when none is named, before and after it is met."""
    environment = {**os.environ, "STRONGROOM_STATE_DIR": str(state / "strongroom")}
    _test_itself(places_before, enrolled=False, environment=environment)
    enrol = _program("enrol", environment=environment)
    assert enrol.returncode == 0, enrol.stderr
    _test_itself(places_after, enrolled=True, environment=environment)


def _test_itself(places: str, *, enrolled: bool, environment: dict[str, str]) -> None:
    for place in places.split(","):
        done = _program("selftest", "--in", place, environment=environment)
        facts = {
            "place": place,
            "enrolled": enrolled,
            "status": done.returncode,
            "said": done.stderr,
            "printed": done.stdout,
        }
        print(SELFTEST + json.dumps(facts), flush=True)


def _program(*command: str, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(STRONGROOM), "tpm", *command, "--json"],
        check=False,
        capture_output=True,
        text=True,
        timeout=PROGRAM_SECONDS,
        env=environment,
    )


def _refused(relay: Relay, command: bytes, hint: str) -> None:
    with pytest.raises(TpmTransportError) as caught:
        relay.transmit(command)
    assert hint in caught.value.hint, (caught.value.message, caught.value.hint)


def _wait_for_device() -> None:
    end = time.monotonic() + PATIENCE_SECONDS
    while not Path("/dev/tpmrm0").exists():
        assert time.monotonic() < end, "the kernel made no device"
        time.sleep(0.05)


if __name__ == "__main__":
    main(*sys.argv[1:])
