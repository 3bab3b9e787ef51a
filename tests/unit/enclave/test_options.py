# SPDX-License-Identifier: Apache-2.0
"""What an enclave is started with is taken exactly, or not at all."""

from pathlib import Path
from typing import Final

import pytest

from strongroom.enclave.options import Options, parse_options
from strongroom.errors import UsageError

NEEDED: Final = ["--boundary", "fd:3", "--tee", "process", "--state", "/var/lib/strongroom"]


def test_the_least() -> None:
    assert parse_options(NEEDED) == Options(
        boundary="fd:3",
        tee="process",
        state=Path("/var/lib/strongroom"),
        pid_fd=None,
        image=None,
        header=None,
        read_only=False,
        quiet=False,
        tpm=False,
        look_only=False,
    )


def test_all_of_it_in_any_order() -> None:
    more = [
        "--tpm",
        "--header",
        "/h",
        "--quiet",
        "--image",
        "--tpm",
        "--read-only",
        "--look-only",
        "--pid-fd",
        "7",
    ]
    assert parse_options([*more, *NEEDED]) == Options(
        boundary="fd:3",
        tee="process",
        state=Path("/var/lib/strongroom"),
        pid_fd=7,
        image=Path("--tpm"),
        header=Path("/h"),
        read_only=True,
        quiet=True,
        tpm=True,
        look_only=True,
    )


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ([], "needs --boundary, --tee, --state"),
        (NEEDED[2:], "needs --boundary"),
        ([*NEEDED, "--image"], "--image of the enclave has no value"),
        ([*NEEDED, "--tee", "gramine"], "does not take '--tee' here"),
        ([*NEEDED, "--quiet", "--quiet"], "does not take '--quiet' here"),
        ([*NEEDED, "--unknown"], "does not take '--unknown' here"),
        ([*NEEDED, "word"], "does not take 'word' here"),
        ([*NEEDED, "--read"], "does not take '--read' here"),
        ([*NEEDED, "--image=/i"], "does not take '--image=/i' here"),
        ([*NEEDED, "--pid-fd", "-1"], "'-1' is no descriptor"),
        ([*NEEDED, "--pid-fd", "\N{SUPERSCRIPT TWO}"], "is no descriptor"),
    ],
)
def test_anything_else_is_refused(words: list[str], reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        parse_options(words)
