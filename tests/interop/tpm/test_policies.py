# SPDX-License-Identifier: Apache-2.0
"""Digests of policies that are computed here are those of the TPM's own trial sessions."""

import itertools
from collections.abc import Callable
from pathlib import Path

import pytest

from strongroom.errors import TpmError
from strongroom.tpm import (
    ENDORSEMENT,
    OWNER,
    Algorithm,
    Device,
    Nv,
    NvPublic,
    PcrSelection,
    PolicySteps,
    Sessions,
    policy,
)
from tests.honest import known_secret
from tests.swtpm import Swtpm

pytestmark = pytest.mark.interop

AUTH = b"an authorization value of 32 by!"
COUNTER = NvPublic.counter(0x01800050)

Trial = Callable[..., bytes]


@pytest.fixture
def trial(tpm: Swtpm, tmp_path: Path) -> Trial:
    """Has steps taken in a trial session, and returns the digest that the TPM made of them."""
    session, digest = tmp_path / "session", tmp_path / "digest"

    def take(*steps: tuple[str | Path, ...], stdin: bytes = b"") -> bytes:
        tpm.tool("tpm2_startauthsession", "-S", session)
        try:
            for step in steps:
                tpm.tool(*step, "-S", session, "-L", digest, stdin=stdin)
        finally:
            tpm.tool("tpm2_flushcontext", session)
        return digest.read_bytes()

    return take


@pytest.mark.parametrize("bank", [Algorithm.SHA1, Algorithm.SHA256, Algorithm.SHA384])
@pytest.mark.parametrize("pcrs", [(0,), (7, 8, 23), tuple(range(16, 24))])
def test_pcrs(road: Sessions, trial: Trial, bank: Algorithm, pcrs: tuple[int, ...]) -> None:
    device, selection = Device(road), PcrSelection.of(pcrs, bank)
    device.extend_pcr(pcrs[-1], bytes(range(32)))
    values = selection.digest_of(device.read_pcrs(selection))
    named = f"{bank.name.lower()}:{','.join(map(str, pcrs))}"
    theirs = trial(("tpm2_policypcr", "-l", named))
    assert policy.pcr(policy.EMPTY, selection, values) == theirs


def test_all_pcrs_at_once(road: Sessions) -> None:
    """More than the tool takes: the TPM itself compares the digest with that of its values."""
    selection = PcrSelection.of(range(24))
    values = selection.digest_of(Device(road).read_pcrs(selection))
    with road.policy_session() as session:
        PolicySteps(road, session).pcr(selection, values)
        with pytest.raises(TpmError, match="0x1c4"):
            PolicySteps(road, session).pcr(selection, bytes(32))


def test_the_authorization_value(road: Sessions, trial: Trial) -> None:
    del road
    assert policy.auth_value(policy.EMPTY) == trial(("tpm2_policyauthvalue",))


@pytest.mark.parametrize(("option", "name"), [("e", ENDORSEMENT.name), ("o", OWNER.name)])
@pytest.mark.parametrize("reference", [b"", b"\0", b"a reference"])
def test_a_secret(trial: Trial, option: str, name: bytes, reference: bytes) -> None:
    step = ("tpm2_policysecret", "-Q", "-c", option)
    theirs = trial((*step, "-q", reference.hex()) if reference else step)
    assert policy.secret(policy.EMPTY, name, reference) == theirs


@pytest.mark.parametrize(
    ("word", "operation", "operand"),
    [("ule", policy.UNSIGNED_LE, 10**18), ("uge", 0x0007, 1), ("neq", 0x0001, 0)],
)
def test_what_an_index_holds(
    road: Sessions, trial: Trial, word: str, *, operation: int, operand: int
) -> None:
    nv, auth = Nv(road), known_secret(AUTH)
    nv.define(COUNTER, auth)
    nv.increment(COUNTER, auth)
    counter, content = COUNTER.written(), operand.to_bytes(8, "big")
    index = ("-P", f"hex:{AUTH.hex()}", f"{counter.index:#x}")
    theirs = trial(("tpm2_policynv", *index, word, "-i", "-"), stdin=content)
    assert policy.nv(policy.EMPTY, counter.entity.name, content, operation) == theirs


def test_steps_in_every_order(road: Sessions, trial: Trial) -> None:
    selection = PcrSelection.of([0, 16])
    values = selection.digest_of(Device(road).read_pcrs(selection))
    steps: dict[tuple[str, ...], Callable[[bytes], bytes]] = {
        ("tpm2_policypcr", "-l", "sha256:0,16"): lambda before: policy.pcr(
            before, selection, values
        ),
        ("tpm2_policyauthvalue",): policy.auth_value,
        ("tpm2_policysecret", "-Q", "-c", "e"): lambda before: policy.secret(
            before, ENDORSEMENT.name
        ),
    }
    seen = set()
    for order in itertools.permutations(steps):
        ours = policy.EMPTY
        for step in order:
            ours = steps[step](ours)
        assert ours == trial(*order), order
        seen.add(ours)
    assert len(seen) == 6
