# SPDX-License-Identifier: Apache-2.0
"""Turns, medians, ratios, goals and tables."""

import json
from functools import partial

import pytest

from strongroom.bench.comparison import Comparison, Spread, in_turn
from strongroom.bench.goals import verdict
from strongroom.bench.groups import GROUPS, usual
from strongroom.bench.machine import Ticks
from strongroom.bench.nbd import MEMORY
from strongroom.bench.results import AT, HEADINGS, Result, curve_rows, curves, markdown, rows

pytestmark = pytest.mark.unit

OURS, PLAIN = "strongroom", "nbdkit file"
READ = "1 MiB sequential read, QD 8"


def speeds(ours: list[float], theirs: list[float], *, other: str = PLAIN) -> Comparison:
    return Comparison("nbd", READ, "GB/s", {OURS: ours, other: theirs})


def cost(ours: float, plain: float) -> Comparison:
    values = {OURS: [ours], PLAIN: [plain]}
    return Comparison("cost", READ, "CPU s/GiB", values, larger_is_better=False)


def test_all_take_turns_and_the_order_changes_every_round() -> None:
    turns: list[str] = []
    steps: list[int] = []

    def turn(name: str) -> int:
        turns.append(name)
        return len(turns)

    found = in_turn(
        {name: partial(turn, name) for name in "abc"},
        3,
        lambda: steps.append(len(turns)),
    )
    assert "".join(turns) == "abccbaabc"
    assert found == {"a": [1, 6, 7], "b": [2, 5, 8], "c": [3, 4, 9]}
    assert steps == list(range(1, 10))


def test_the_spread_is_the_median_and_the_extremes() -> None:
    assert Spread.of([3.0, 1.0, 2.0]) == Spread(1.0, 2.0, 3.0)
    assert Spread.of([1.0, 2.0]).median == 1.5
    assert Spread.of([1234.5, 1.0]).words() == "618 (1 to 1234)"


def test_ratios_are_within_a_round_and_above_one_when_ours_is_better() -> None:
    # The machine was half as fast in the second round; that is on nobody's side.
    assert speeds([2.0, 1.0], [1.0, 0.5]).times_better(PLAIN) == [2.0, 2.0]
    assert cost(0.5, 1.0).times_better(PLAIN) == [2.0]


def test_rounds_of_different_length_are_a_mistake() -> None:
    with pytest.raises(ValueError, match="zip"):
        speeds([1.0, 2.0], [1.0]).times_better(PLAIN)


@pytest.mark.parametrize(
    ("ours", "theirs", "met"),
    [([1.0, 1.2, 0.5], [1.0, 1.0, 1.0], True), ([0.9, 0.99, 5.0], [1.0, 1.0, 1.0], False)],
)
def test_a_goal_is_judged_by_the_median_ratio(
    ours: list[float], theirs: list[float], *, met: bool
) -> None:
    one = speeds(ours, theirs)
    judgement = verdict(one, PLAIN, [one])
    assert judgement is not None
    assert (judgement.goal, judgement.met) == (">= 1 x", met)


def test_a_loss_is_said() -> None:
    one = speeds([1.0], [2.0])
    table = rows([one], [one])
    assert table == [
        (f"{READ} (GB/s)", OURS, "1 (1 to 1)", "", ""),
        ("", PLAIN, "2 (2 to 2)", "0.5 (0.5 to 0.5)", ">= 1 x: NOT MET"),
    ]


def test_what_has_no_goal_is_not_judged() -> None:
    one = speeds([1.0], [2.0], other="qemu-nbd raw")
    assert verdict(one, "qemu-nbd raw", [one]) is None
    assert verdict(one, None, [one]) is None


@pytest.mark.parametrize(("mib", "met"), [(95.9, True), (96.0, False)])
def test_an_absolute_goal_is_about_ours_alone(mib: float, *, met: bool) -> None:
    values = {OURS: [mib], PLAIN: [1.0]}
    one = Comparison("nbd", MEMORY, "MiB", values, larger_is_better=False)
    judgement = verdict(one, None, [one])
    assert judgement is not None
    assert judgement.met is met
    assert verdict(one, PLAIN, [one]) is None


@pytest.mark.parametrize(("ours", "met"), [(1.39, True), (1.41, False)])
def test_processor_time_may_be_a_third_more_and_the_ciphers(ours: float, *, met: bool) -> None:
    own = Comparison(
        "cipher", "AES-256-XTS decrypt, 4096-byte sectors", "GB/s", {"core": [10.7374]}
    )
    one = cost(ours, 1.0)
    judgement = verdict(one, PLAIN, [one, own])
    assert judgement is not None
    assert judgement.met is met
    assert judgement.goal == "<= 1.3 x + the cipher's 0.100"


def test_without_the_ciphers_time_the_goal_is_stricter_and_says_so() -> None:
    judgement = verdict(cost(1.31, 1.0), PLAIN, [])
    assert judgement is not None
    assert not judgement.met
    assert "not measured here" in judgement.goal


def test_figures_survive_a_file() -> None:
    one = speeds([2.0, 1.0], [1.0, 0.5])
    curve = Comparison("queue-depth", "read", "GB/s", {OURS: [1.0], PLAIN: [2.0]}, at=4)
    result = Result("nbd", {"cpu": "x"}, 2, 0.5, (one, curve), ("gocryptfs is left out: x",))
    facts = json.loads(json.dumps(result.facts()))
    assert Result.from_facts(facts).facts() == result.facts()
    assert facts["measures"][0]["goals"] == [{"other": PLAIN, "goal": ">= 1 x", "met": True}]


def test_curves_are_tables_of_their_own() -> None:
    points = [
        Comparison("request-size", "read", "GB/s", {OURS: [at / 512], PLAIN: [1.0]}, at=at)
        for at in (512, 4096)
    ]
    assert rows(points, points) == []
    head, lines = curve_rows(curves(points)["read"])
    assert head == ("request", f"{OURS} (GB/s)", f"{PLAIN} (GB/s)", f"times better than {PLAIN}")
    assert [line[0] for line in lines] == ["512 B", "4 KiB"]
    assert lines[1][1:] == ("8 (8 to 8)", "1 (1 to 1)", "8 (8 to 8)")


def test_stolen_time_is_a_share_of_all() -> None:
    assert Ticks(30, 1100).stolen_since(Ticks(10, 1000)) == 0.2
    assert Ticks(30, 1000).stolen_since(Ticks(30, 1000)) == 0.0
    assert Ticks.now().total >= Ticks.now().stolen


def test_markdown() -> None:
    assert markdown(("a", "b"), [("1", "2")]) == "| a | b |\n| --- | --- |\n| 1 | 2 |"
    assert len(HEADINGS) == len(rows([speeds([1.0], [1.0])], [])[0])


def test_every_curve_has_a_name_for_its_points() -> None:
    assert {name for name, group in GROUPS.items() if group.is_curve} == set(AT)
    assert not set(usual(GROUPS)) & set(AT)
