# SPDX-License-Identifier: Apache-2.0
"""Every number of a specification's table is the one that the headers of libtss2 give its name."""

import pytest
from tpm2_pytss import TPM2_ALG, TPM2_CC, TPM2_ECC, TPM2_NT, TPM2_RC, TPMA_NV, TPMA_OBJECT

from strongroom.tpm import Algorithm, KeyKind, NvAttribute, NvType
from strongroom.tpm.codes import _ABOUT_A_HANDLE_OR_PARAMETER as FORMAT_ONE
from strongroom.tpm.codes import _ABOUT_THE_COMMAND as FORMAT_ZERO
from strongroom.tpm.codes import BUSY_CODES, CommandCode
from strongroom.tpm.objects import ObjectAttribute

pytestmark = pytest.mark.interop


OTHERWISE = {"SIGN": "SIGNENCRYPT"}
"""What a header calls otherwise than the specification's text."""
MISSING = {"CMAC"}
"""What the bindings lack."""


def theirs(table: type, *, prefix: str = "") -> dict[str, int]:
    """Return all names of a table, without what separates words."""
    return {
        bare(name.removeprefix(prefix)): int(value)
        for name, value in vars(table).items()
        if not name.startswith("_") and isinstance(value, int)
    }


def bare(name: str) -> str:
    return name.replace("_", "").replace(" ", "").upper()


@pytest.mark.parametrize(
    ("ours", "table"),
    [
        (Algorithm, TPM2_ALG),
        (CommandCode, TPM2_CC),
        (NvType, TPM2_NT),
        (NvAttribute, TPMA_NV),
        (ObjectAttribute, TPMA_OBJECT),
    ],
)
def test_numbers(ours: type, table: type) -> None:
    known = theirs(table)
    for name, number in ours.__members__.items():  # type: ignore[attr-defined] # an enumeration
        if name not in MISSING:
            assert known[OTHERWISE.get(name, bare(name))] == number, name


def test_curves() -> None:
    known = theirs(TPM2_ECC, prefix="NIST_")
    curves = {kind.name: kind.curve_or_bits for kind in KeyKind if kind.algorithm is Algorithm.ECC}
    assert curves == {name: known[name] for name in curves}


def test_response_codes() -> None:
    known = theirs(TPM2_RC)
    for code, (name, _) in FORMAT_ONE.items():
        assert known[bare(name)] == code | 0x080, name
    for code, (name, _) in FORMAT_ZERO.items():
        assert known[bare(name)] == code, name
    busy = {known[name] for name in ("YIELDED", "TESTING", "NVRATE", "RETRY")}
    assert busy == BUSY_CODES
