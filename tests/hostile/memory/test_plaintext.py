# SPDX-License-Identifier: Apache-2.0
"""Plaintext in the enclave: there while a client is connected, and gone with it."""

import time
from typing import Final

import pytest

from tests.conftest import require_root, require_tools
from tests.harness import Operator
from tests.hostile.memory.processes import IO_PATTERN, load, over_nbd
from tests.hostile.memory.search import memory_of

pytestmark = [pytest.mark.hostile, pytest.mark.slow]

LOAD_SECONDS: Final = 60
LOOKS: Final = 100
"""A buffer holds plaintext for moments only."""
GONE_SECONDS: Final = 20


def has_plaintext(pid: int) -> bool:
    """Tell whether the enclave's memory has what the client writes."""
    dump = memory_of(pid, "enclave", "running")
    assert dump is not None, "the enclave has ended"
    return dump.holds(IO_PATTERN)


def test_plaintext_goes_with_its_connection(operator: Operator) -> None:
    require_root()
    require_tools("fio")
    image = operator.place / "v.img"
    operator.format(image)
    with operator.opened(image, "plaintext") as volume:
        enclave = volume["enclave_pid"]
        with load(LOAD_SECONDS, *over_nbd(volume["socket"])):
            assert any(has_plaintext(enclave) for _ in range(LOOKS))
        end = time.monotonic() + GONE_SECONDS
        while has_plaintext(enclave) and time.monotonic() < end:
            time.sleep(0.2)
        assert not has_plaintext(enclave)
