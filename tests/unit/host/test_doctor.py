# SPDX-License-Identifier: Apache-2.0
"""What ``doctor`` says of a processor that few have today."""

import pytest

from strongroom.boundary import calls
from strongroom.host.doctor import _cipher_finding

pytestmark = pytest.mark.unit

IDENTITY = calls.EnclaveIdentity(
    tee="process",
    simulated=True,
    measurement=bytes(32),
    signer=bytes(32),
    product_id=1,
    security_version=1,
    debug=False,
)


@pytest.mark.parametrize(("backend", "level"), [("portable", "warning"), ("aes-ni", "ok")])
def test_a_processor_without_aes_is_a_warning(backend: str, level: str) -> None:
    measures = (calls.Confinement("secret memory", active=True, detail=""),)
    found = _cipher_finding(calls.Description(1, "0", IDENTITY, "unix", backend, measures))
    assert found.level == level
    assert ("round keys pass through ordinary registers" in found.found) is (level == "warning")
