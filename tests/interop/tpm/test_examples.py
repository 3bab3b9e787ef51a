# SPDX-License-Identifier: Apache-2.0
"""The examples of the README and of the guide do what they say, on a real TPM."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.swtpm import swtpm

pytestmark = pytest.mark.interop

ROOT = Path(__file__).parents[3]
EXAMPLE = re.compile(r"^```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)
DEVICE = "device:/dev/tpmrm0"


@pytest.mark.parametrize(
    ("document", "prints"),
    [
        ("README.md", r"Clock\(time_milliseconds=\d+, .*\)\n<Secret redacted>\n"),
        ("docs/guide/tpm.md", r"[0-9a-f]{64} \d+\n"),
    ],
)
def test_an_example_runs(document: str, prints: str, tmp_path: Path) -> None:
    (example,) = EXAMPLE.findall((ROOT / document).read_text(encoding="utf-8"))
    assert example.count(DEVICE) == 1
    assert len(list(filter(None, example.splitlines()))) <= 10
    with swtpm(tmp_path) as tpm:
        done = subprocess.run(
            [sys.executable, "-c", example.replace(DEVICE, tpm.address)],
            check=False,
            capture_output=True,
            text=True,
            timeout=60,
        )
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(prints, done.stdout), done.stdout
