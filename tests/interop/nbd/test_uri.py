# SPDX-License-Identifier: Apache-2.0
"""Foreign clients take the URI that is printed, whatever is in the name of the directory."""

from pathlib import Path

import pytest

from tests.conftest import require_tools
from tests.harness import Operator

pytestmark = pytest.mark.interop


@pytest.mark.parametrize("odd", ["a b", "100%", "%20", "#1", "a&b=c", "\u00fc\u2028", "?x", "+"])
def test_a_printed_uri_is_one(tmp_path: Path, odd: str) -> None:
    require_tools("nbdinfo", "qemu-img")
    place = tmp_path / odd
    place.mkdir()
    operator = Operator(place)
    operator.format(place / "vault.img", size="20M")
    with operator.opened(place / "vault.img", "uri") as facts:
        size = operator.run("nbdinfo", "--size", facts["uri"]).stdout
        operator.run("qemu-img", "info", "-f", "raw", facts["uri"])
    assert int(size) == facts["size_bytes"]
