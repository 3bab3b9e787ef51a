# SPDX-License-Identifier: Apache-2.0
"""How costly a new keyslot becomes, with machines of any speed."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from strongroom.boundary.calls import (
    LEAST_MEASURED_MEMORY_KIB,
    LEAST_MEASURED_PASSES,
    KdfParameters,
)
from strongroom.enclave import kdf, memory
from strongroom.enclave.memory import Memory
from strongroom.errors import LimitError, PlatformError
from strongroom.luks2 import Argon2, Pbkdf2
from strongroom.luks2.limits import (
    ARGON2_BLOCKS_PER_LANE,
    MAX_ARGON2_LANES,
    MAX_ARGON2_WORK_KIB,
    MAX_PBKDF2_ITERATIONS,
)
from strongroom.units import GIB, KIB, KibiBytes

pytestmark = pytest.mark.unit

ROOM_KIB = KibiBytes(8 * GIB // KIB)
SPEEDS = st.floats(1e-3, 100.0)
"""Seconds that a trial takes: from machines of the far future to very old ones."""


def chosen(wanted: KdfParameters, trial_seconds: float) -> Pbkdf2 | Argon2:
    """Choose on a machine on which a trial takes so long."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kdf, "_seconds_of", lambda _: trial_seconds)
        patch.setattr(
            memory,
            "OWN",
            Memory(KibiBytes(8 * GIB // KIB), KibiBytes(8 * GIB // KIB), grouped=False),
        )
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
    assert made.iterations >= (iterations or LEAST_MEASURED_PASSES)
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


@pytest.mark.parametrize("seconds", [1e-3, 1.0, 100.0])
@pytest.mark.parametrize("algorithm", ["argon2id", "argon2i"])
def test_what_is_measured_is_never_weaker_than_the_second_choice_of_rfc_9106(
    seconds: float, algorithm: str
) -> None:
    made = chosen(KdfParameters(algorithm, "sha256", None, None, None), seconds)  # type: ignore[arg-type]  # parametrized
    assert isinstance(made, Argon2)
    assert made.memory_kib >= 64 * 1024
    assert made.iterations >= 3
    assert made.memory_kib * made.iterations >= LEAST_MEASURED_MEMORY_KIB * LEAST_MEASURED_PASSES


@pytest.mark.parametrize("seconds", [1e-3, 100.0])
def test_measured_pbkdf2_has_a_floor(seconds: float) -> None:
    made = chosen(KdfParameters("pbkdf2", "sha256", None, None, None), seconds)
    assert made.iterations >= 600_000


def test_half_of_the_figures_given_makes_the_whole_no_weaker() -> None:
    for memory_kib, passes in ((8192, None), (None, 1), (None, 100), (65536, None)):
        made = chosen(KdfParameters("argon2id", "sha256", memory_kib, passes, 1), 100.0)
        assert isinstance(made, Argon2)
        assert made.memory_kib * made.iterations >= kdf.LEAST_MEASURED_WORK_KIB


@pytest.mark.parametrize(
    ("memory_kib", "passes"), [(16, 1), (32, 4), (7167, 1000), (7168, 4), (16 * 1024, 2)]
)
def test_weak_figures_are_refused(memory_kib: int, passes: int) -> None:
    with pytest.raises(LimitError, match="too weak") as caught:
        chosen(KdfParameters("argon2id", "sha256", memory_kib, passes, 1), float("nan"))
    assert "7 MiB and 5 passes" in caught.value.hint


@pytest.mark.parametrize(("memory_kib", "passes"), [(7168, 5), (35 * 1024, 1), (65536, 1)])
def test_the_least_figures_are_taken(memory_kib: int, passes: int) -> None:
    made = chosen(KdfParameters("argon2id", "sha256", memory_kib, passes, 1), float("nan"))
    assert isinstance(made, Argon2)
    assert (made.memory_kib, made.iterations) == (memory_kib, passes)


def test_a_busy_machine_is_measured_by_its_best_trial(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 3.0, 3.0, 3.1, 3.1, 7.1, 7.1, 12.1, 12.1, 20.1])
    monkeypatch.setattr("time.process_time", lambda: next(clock))
    trial = Pbkdf2(hash_name="sha256", iterations=1000, salt=bytes(32))
    assert kdf._seconds_of(trial) == pytest.approx(0.1)


def test_what_does_not_fit_into_memory_is_refused_before_it_is_tried(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    small = Memory(KibiBytes(300 * 1024), KibiBytes(300 * 1024), grouped=True)
    monkeypatch.setattr(memory, "OWN", small)
    wanted = KdfParameters("argon2id", "sha256", 700 * 1024, 4, 1)
    limit = "700 MiB of memory, and the limit of the control group is 300 MiB"
    with pytest.raises(PlatformError, match=limit):
        kdf.choose(wanted)
    fits = KdfParameters("argon2id", "sha256", 200 * 1024, 4, 1)
    assert isinstance(kdf.choose(fits), Argon2)
