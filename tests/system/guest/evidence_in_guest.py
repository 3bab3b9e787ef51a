# SPDX-License-Identifier: Apache-2.0
"""Runs in the guest: tests, each with what it says as soon as it has ended.

``python -m tests.system.guest.evidence_in_guest TEST...``
"""

import os
import sys
from pathlib import Path
from typing import Final

import pytest

PLACE: Final = Path("/dev/shm/tests")
TEST_SECONDS: Final = 900


class Teller:
    """Prints a test's outcome at once: there may be no end of the run to print it."""

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Print a line, and the reason where it is not that all went well."""
        if report.when == "call" or not report.passed:
            line = f"{report.outcome} {report.nodeid} {report.when} {report.duration:.0f} s"
            print(line, report.longreprtext, file=sys.__stdout__, flush=True)


def main(*tests: str) -> int:
    """Run the tests, and return pytest's exit status."""
    print("kernel", os.uname().release, flush=True)
    os.environ["CI"] = "true"
    options = ("-p", "no:cacheprovider", "-p", "no:terminal", "--basetemp", str(PLACE))
    return pytest.main([*options, "--timeout", str(TEST_SECONDS), *tests], plugins=[Teller()])


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
