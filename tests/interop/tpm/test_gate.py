# SPDX-License-Identifier: Apache-2.0
"""What libtss2 and the installed swtpm say to each other today passes the gate."""

from typing import Final

import pytest

from rust.tpm.testdata.record import record
from strongroom import _core
from tests.conftest import require_tools

UNKNOWN_CAPABILITY: Final = 0x1C4
"""TPM_RC_VALUE of the first parameter: what the recording asks for to be refused."""
RETRY: Final = 0x922
"""TPM_RC_RETRY: libtss2 asks again."""

pytestmark = pytest.mark.interop


def test_foreign_traffic_passes() -> None:
    require_tools("swtpm")
    lines = record()
    for name, *messages in (line.split() for line in lines):
        command, response = map(bytes.fromhex, messages)
        _core.tpm_check_command(command)
        code = _core.tpm_check_response(command, response).code
        assert code in {0, UNKNOWN_CAPABILITY, RETRY}, name
    assert len(lines) > 80
