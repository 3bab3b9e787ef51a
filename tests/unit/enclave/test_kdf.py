# SPDX-License-Identifier: Apache-2.0
"""How costly a new keyslot becomes, with machines of any speed."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from strongroom.boundary.calls import KdfParameters
from strongroom.enclave import kdf
from strongroom.luks2 import Argon2, Pbkdf2
from strongroom.luks2.limits import (
    ARGON2_BLOCKS_PER_LANE,
    MAX_ARGON2_LANES,
    MAX_ARGON2_WORK_KIB,
    MAX_PBKDF2_ITERATIONS,
)

pytestmark = pytest.mark.unit

SPEEDS = st.floats(1e-3, 100.0)
"""Seconds that a trial takes: from machines of the far future to very old ones."""


def chosen(wanted: KdfParameters, trial_seconds: float) -> Pbkdf2 | Argon2:
    """Choose on a machine on which a trial takes so long."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kdf, "_seconds_of", lambda _: trial_seconds)
        return kdf.choose(wanted)


@pytest.mark.parametrize("variant", ["argon2id", "argon2i"])
def test_given_figures_are_kept(variant: str) -> None:
    wanted = KdfParameters(variant, "sha256", 65536, 7, 2)  # type: ignore[arg-type]  # parametrized
    made = chosen(wanted, float("nan"))
    assert isinstance(made, Argon2)
    assert (made.variant, made.memory_kib, made.iterations, made.lanes) == (variant, 65536, 7, 2)


def test_given_iterations_are_kept() -> None:
    made = chosen(KdfParameters("pbkdf2", "sha512", None, 1234, None), float("nan"))
    assert isinstance(made, Pbkdf2)
    assert (made.hash_name, made.iterations) == ("sha512", 1234)


@settings(deadline=None)
@given(SPEEDS)
def test_measured_pbkdf2_is_inside_the_limits_of_a_header(seconds: float) -> None:
    made = chosen(KdfParameters("pbkdf2", "sha256", None, None, None), seconds)
    assert isinstance(made, Pbkdf2)
    assert kdf.MIN_PBKDF2_ITERATIONS <= made.iterations <= MAX_PBKDF2_ITERATIONS


@settings(deadline=None)
@given(
    SPEEDS,
    st.none() | st.integers(32 * 1024, 1024 * 1024),
    st.none() | st.integers(1, 16),
    st.none() | st.integers(4, 100),
)
def test_measured_argon2_is_inside_the_limits_of_a_header(
    seconds: float, memory: int | None, lanes: int | None, iterations: int | None
) -> None:
    made = chosen(KdfParameters("argon2id", "sha256", memory, iterations, lanes), seconds)
    assert isinstance(made, Argon2)
    assert iterations in (None, made.iterations)
    assert memory in (None, made.memory_kib)
    assert lanes in (None, made.lanes)
    assert made.iterations >= kdf.MIN_ARGON2_PASSES
    assert 1 <= made.lanes <= MAX_ARGON2_LANES
    assert made.memory_kib >= ARGON2_BLOCKS_PER_LANE * made.lanes
    assert made.memory_kib * made.iterations <= MAX_ARGON2_WORK_KIB


def test_a_slower_machine_gets_no_costlier_keyslot() -> None:
    wanted = KdfParameters("argon2id", "sha256", None, None, 4)
    costs = []
    for seconds in (0.001, 0.01, 0.1, 1.0, 10.0):
        made = chosen(wanted, seconds)
        assert isinstance(made, Argon2)
        costs.append(made.memory_kib * made.iterations)
    assert costs == sorted(costs, reverse=True)
    assert costs[0] > costs[-1]


def test_salts_are_fresh() -> None:
    wanted = KdfParameters("pbkdf2", "sha256", None, 1000, None)
    salts = {kdf.choose(wanted).salt for _ in range(20)}
    salts |= {kdf.minimal().salt for _ in range(20)}
    assert len(salts) == 40
    assert {len(salt) for salt in salts} == {kdf.SALT_BYTES}


@pytest.mark.parametrize("algorithm", ["pbkdf2", "argon2id"])
def test_a_real_measurement_gives_a_kdf_that_works(algorithm: str) -> None:
    memory = None if algorithm == "pbkdf2" else 32 * 1024
    made = kdf.choose(KdfParameters(algorithm, "sha256", memory, None, 1))  # type: ignore[arg-type]  # parametrized
    assert made.iterations >= 1
