# SPDX-License-Identifier: Apache-2.0
"""No branch and no address of the AES code depends on a key, on data or on a tweak."""

import platform
import subprocess
from pathlib import Path
from typing import Final

import pytest

from tests.conftest import require, require_tools
from tests.examples import build_example
from tests.hostile.timing.kernels import disassembled, leaks, parse

REPORTED: Final = 99
MODULES: Final = ("aes_ni", "vaes_avx2", "vaes_avx512")
KERNELS: Final = {
    *(
        f"{module}::{mode}_{direction}"
        for module in MODULES
        for mode in ("ecb", "xts")
        for direction in ("encrypt", "decrypt")
    ),
    *(f"expand::{way}_{bits}" for way in ("encrypt", "decrypt") for bits in (128, 256, 512)),
}


@pytest.fixture(scope="session")
def program() -> Path:
    """Build the program that computes on undefined values."""
    require(condition=platform.machine() == "x86_64", reason="the kernels are for x86-64")
    return build_example("strongroom-sys", "undefined_secrets")


@pytest.mark.parametrize(
    ("what", "code"), [("aes-ni", 0), ("portable", 0), ("branch", REPORTED), ("address", REPORTED)]
)
def test_valgrind_reports_what_depends_on_secrets(program: Path, what: str, code: int) -> None:
    """The two ways to depend on a secret are reported, and none is in the AES code."""
    require_tools("valgrind")
    done = subprocess.run(
        ["valgrind", "--quiet", f"--error-exitcode={REPORTED}", program, what],
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == code, done.stderr


def test_kernels_keep_secrets_away_from_branches_and_addresses(program: Path) -> None:
    """For all kernels, also those that valgrind cannot run."""
    require_tools("objdump")
    kernels = disassembled(program)
    assert set(kernels) == KERNELS
    for name, kernel in kernels.items():
        assert len(kernel) > 100, name
        assert leaks(kernel, words_in_eax=name.startswith("expand::")) == [], name


@pytest.mark.parametrize(
    "line",
    [
        "vmovq  rcx,xmm3",
        "pextrq rax,xmm0,0x1",
        "mov    rcx,QWORD PTR [rdi]",
        "mov    eax,DWORD PTR [rdi]",
        "cmp    BYTE PTR [rdi],0x0",
        "vptest ymm0,ymm1",
        "kmovw  eax,k1",
        "kortestw k1,k1",
        "vpgatherdd zmm0{k1},DWORD PTR [rdi+zmm1*4]",
        "div    rcx",
    ],
)
def test_a_way_out_of_the_vector_registers_is_found(line: str) -> None:
    """What a kernel must not do is seen."""
    instruction = parse(f"    1234:\t{line}")
    assert instruction is not None
    assert leaks([instruction], words_in_eax=False) == [instruction]


def test_a_branch_on_a_word_of_the_key_is_found() -> None:
    """Where `eax` carries key words it decides nothing."""
    lines = ("mov    eax,DWORD PTR [rdi]", "test   eax,0x1", "jne    10", "mov    [rsi],eax")
    kernel = [instruction for line in lines if (instruction := parse(f"  1:\t{line}"))]
    assert leaks(kernel, words_in_eax=True) == [kernel[1]]
