# SPDX-License-Identifier: Apache-2.0
"""docs/performance.md is made of figures, and its prose stays."""

import importlib.util
import re
import sys
from pathlib import Path

import pytest

from bench import report
from bench.limits import AES
from bench.run import ALL_GROUPS, keep, stored
from strongroom.bench.comparison import Comparison
from strongroom.bench.results import Result

pytestmark = pytest.mark.unit

DOCUMENT = Path(__file__).parents[3] / "docs/performance.md"
MACHINE = {
    "time": "now",
    "cpu": "x",
    "load": "0.0",
    "load at the end": "0.1",
    "stolen by the hypervisor": "2%",
}


def results() -> list[Result]:
    values = {"strongroom": [1.0, 2.0], "nbdkit file": [2.0, 2.0]}
    bar = Comparison("nbd", "1 MiB sequential read, QD 8", "GB/s", values)
    points = [Comparison("queue-depth", "read", "GB/s", values, at=at) for at in (1, 2, 4)]
    limit = Comparison("limits", AES, "GB/s", {"limit": [12.0]})
    return [
        Result("nbd", MACHINE, 2, 1.0, (bar,), ("gocryptfs is left out: it is not installed",)),
        Result("queue-depth", MACHINE, 2, 0.5, points),
        Result("limits", MACHINE, 2, 1.0, (limit,)),
    ]


@pytest.fixture
def document(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for result in results():
        keep(result, tmp_path / "results", ())
    (tmp_path / "results/tpm.json").write_text("not ours")
    path = tmp_path / "page.md"
    path.write_text(
        "prose\n\n<!-- nbd -->\nold\n<!-- /nbd -->\n\nmore <!-- nb -->\n"
        "<!-- queue-depth -->\n<!-- /queue-depth -->\n<!-- machine -->\n<!-- /machine -->\nend\n"
    )
    arguments = ["report.py", "--results", str(tmp_path / "results"), "--document", str(path)]
    monkeypatch.setattr(sys, "argv", arguments)
    return path


def test_blocks_are_made_anew_and_prose_stays(
    document: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    report.main()
    text = document.read_text()
    assert text.startswith("prose\n\n<!-- nbd -->\n\nnow, 2 rounds, 1 s a turn; load 0.0 before")
    assert "load 0.0 before and 0.1 after; 2% of the time was stolen.\n" in text
    assert "old" not in text
    assert "|  | nbdkit file | 2 (2 to 2) | 0.75 (0.5 to 1) | >= 1 x: NOT MET |" in text
    assert "* gocryptfs is left out: it is not installed" in text
    assert "| 4 | 1.5 (1 to 2) |" in text
    assert "<!-- machine -->\n\ncpu x.\n\n<!-- /machine -->\nend\n" in text
    assert "hint: .venv/bin/pip install --group bench" in capsys.readouterr().err
    report.main()
    assert document.read_text() == text


def test_plots(document: Path) -> None:
    pytest.importorskip("matplotlib", reason="plots are optional: pip install --group bench")
    report.main()
    plots = sorted((document.parent / "page").iterdir())
    assert [path.name for path in plots] == ["nbd.png", "queue-depth.png"]
    contents = [path.read_bytes() for path in plots]
    for path, content in zip(plots, contents, strict=True):
        assert content.startswith(b"\x89PNG")
        assert len(content) < 100_000
        assert f"](page/{path.name})" in document.read_text()
    report.main()
    assert [path.read_bytes() for path in plots] == contents


def test_results_are_found_by_group(document: Path) -> None:
    found = stored(document.parent / "results")
    assert set(found) == {"nbd", "queue-depth", "limits"}
    assert found["nbd"].comparisons[0].times_better("nbdkit file") == [0.5, 1.0]


def test_the_page_has_a_place_for_every_group() -> None:
    text = DOCUMENT.read_text()
    for name in ("machine", *ALL_GROUPS):
        assert len(re.findall(f"<!-- {name} -->\n(?:.*\n)*?<!-- /{name} -->\n", text)) == 1, name
