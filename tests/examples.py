# SPDX-License-Identifier: Apache-2.0
"""Programs below ``rust/*/examples``, built to be run by tests."""

import json
import subprocess
from pathlib import Path
from typing import Final

from tests.conftest import require_tools

ROOT: Final = Path(__file__).parents[1]
BUILD_SECONDS: Final = 500


def build_example(package: str, name: str, *options: str) -> Path:
    """Build a program and return where it is; an environment without Rust skips.

    Args:
        package: The crate that it belongs to.
        name: Its own.
        options: For cargo, such as ``--release``.
    """
    require_tools("cargo")
    done = subprocess.run(
        [
            *("cargo", "build", "--package", package, "--example", name, *options),
            "--message-format=json-render-diagnostics",
        ],
        check=True,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        timeout=BUILD_SECONDS,
    )
    messages = [json.loads(line) for line in done.stdout.splitlines()]
    made = [message["executable"] for message in messages if message.get("executable")]
    return Path(made[-1])
