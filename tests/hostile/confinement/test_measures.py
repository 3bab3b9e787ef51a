# SPDX-License-Identifier: Apache-2.0
"""Every measure of confinement by itself, attacked from inside by the Rust probe.

Each measure has an attack that succeeds without it and fails with it alone, so that none is only
believed to work because another one stands in front of it.
"""

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Final, cast

import pytest

from tests.examples import build_example

pytestmark = pytest.mark.hostile

ATTACK_TIMEOUT_SECONDS: Final = 30

needs_root = pytest.mark.skipif(
    os.geteuid() != 0, reason="needs root: without, the attacks fail by themselves"
)

ALONE: Final = (
    # measure, attack, what becomes of the attack under this measure alone
    ("user namespace", "set host name", "refused"),
    ("user namespace", "bpf", "refused"),
    ("user namespace", "read parent", "refused"),
    ("user namespace", "open by handle", "refused"),
    ("mount namespace", "mount", "contained"),
    ("network namespace", "connect abstract", "refused"),
    ("network namespace", "connect tcp", "refused"),
    ("ipc namespace", "open shared segment", "refused"),
    ("uts namespace", "set host name", "contained"),
    ("cgroup namespace", "see control group", "refused"),
    ("pid namespace", "signal parent", "refused"),
    ("pid namespace", "signal all", "refused"),
    ("pid namespace", "trace parent", "refused"),
    ("core limit", "dump core", "contained"),
    ("core limit,user namespace", "raise core limit", "refused"),
    ("core limit,capabilities", "raise core limit", "refused"),
    ("not dumpable", "dump core", "contained"),
    ("no new privileges", "execute set-user-ID", "refused"),
    ("capabilities", "raise capabilities", "refused"),
    ("capabilities", "unshare", "refused"),
    ("capabilities", "mount", "refused"),
    ("landlock", "open file", "refused"),
    ("landlock", "create file", "refused"),
    ("landlock", "write own memory", "refused"),
    ("landlock", "connect abstract", "refused"),
    ("landlock", "connect passed socket", "refused"),
    ("landlock", "connect tcp", "refused"),
    ("landlock", "signal parent", "refused"),
    ("landlock", "trace parent", "refused"),
    ("mount namespace,empty root", "open file", "refused"),
    ("mount namespace,empty root", "stat file", "refused"),
    ("mount namespace,empty root", "see parent", "refused"),
    ("seccomp", "socket inet", "refused"),
    ("seccomp", "socket unix", "refused"),
    ("seccomp", "socket netlink", "refused"),
    ("seccomp", "fork", "refused"),
    ("seccomp", "fork by clone3", "refused"),
    ("seccomp", "map executable", "refused"),
    ("seccomp", "make executable", "refused"),
    ("seccomp", "set user", "refused"),
    ("seccomp", "set dumpable", "refused"),
    ("seccomp", "memory file", "refused"),
    ("seccomp", "execute", "killed"),
    ("seccomp", "read parent", "killed"),
    ("seccomp", "write parent", "killed"),
    ("seccomp", "trace parent", "killed"),
    ("seccomp", "unshare user", "killed"),
    ("seccomp", "open by handle", "killed"),
    ("seccomp", "io_uring", "killed"),
    ("seccomp", "bpf", "killed"),
    ("seccomp", "keyctl", "killed"),
    ("seccomp", "userfaultfd", "killed"),
    ("seccomp", "perf", "killed"),
)

KILLED_UNDER_ALL: Final = frozenset(
    {
        *(attack for _, attack, outcome in ALONE if outcome == "killed"),
        "mount",
        "unshare",
        "x32 call",
    }
)


@pytest.fixture(scope="session")
def probe() -> Path:
    """Build the probe; an environment without Rust skips, with that reason."""
    return build_example("strongroom-sys", "confined_probe")


def run(probe: Path, *words: str, prefix: tuple[str, ...] = ()) -> object:
    """Run the probe and return the JSON that it prints."""
    completed = subprocess.run(
        [*prefix, str(probe), *words],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        check=True,
        timeout=ATTACK_TIMEOUT_SECONDS,
    )
    return json.loads(completed.stdout)


def attack(probe: Path, name: str, *, measures: str) -> str:
    """Return what became of an attack; every measure asked for was granted."""
    report = cast("dict[str, object]", run(probe, "attack", name, measures))
    assert report["inactive"] == [], report
    return str(report["outcome"])


@needs_root
@pytest.mark.parametrize(("measures", "name", "outcome"), ALONE)
def test_a_measure_alone_stops_an_attack(
    probe: Path, measures: str, name: str, outcome: str
) -> None:
    assert attack(probe, name, measures="none") == "done"
    assert attack(probe, name, measures=measures) == outcome


@needs_root
def test_all_measures_together_stop_every_attack(probe: Path) -> None:
    names = cast("list[str]", run(probe, "attacks"))
    assert len(names) >= len({name for _, name, _ in ALONE})
    for name in names:
        outcome = attack(probe, name, measures="all")
        if name == "dump core":
            assert outcome == "contained"
        else:
            assert outcome == ("killed" if name in KILLED_UNDER_ALL else "refused"), name


def test_a_confined_process_can_serve(probe: Path) -> None:
    assert run(probe, "works") == {"clients": 4, "outcome": "works"}


def inactive(probe: Path, *prefix: str) -> dict[str, str]:
    """Return the measures that were not granted, with the reasons."""
    measures = cast("list[dict[str, object]]", run(probe, "measures", prefix=prefix))
    assert len(measures) == len(MEASURES)
    assert [measure["name"] for measure in measures] == list(MEASURES)
    return {str(item["name"]): str(item["detail"]) for item in measures if not item["active"]}


MEASURES: Final = (
    "user namespace",
    "mount namespace",
    "network namespace",
    "ipc namespace",
    "uts namespace",
    "cgroup namespace",
    "pid namespace",
    "core limit",
    "no new privileges",
    "empty root",
    "capabilities",
    "not dumpable",
    "landlock",
    "seccomp",
)
NAMESPACES: Final = frozenset(name for name in MEASURES if name.endswith("namespace"))

#: A shell that forbids user namespaces for those below, then runs the program as nobody there.
WITHOUT_USER_NAMESPACES: Final = (
    "unshare",
    "--user",
    "--map-root-user",
    "sh",
    "-c",
    (
        "echo 0 > /proc/sys/user/max_user_namespaces && exec setpriv --bounding-set=-all "
        '--inh-caps=-all --ambient-caps=-all --no-new-privs "$@"'
    ),
    "sh",
)


def public_copy(probe: Path, directory: Path) -> Path:
    """Put the probe where every user can run it."""
    for parent in (directory, directory.parent, directory.parent.parent):
        parent.chmod(0o755)
    return Path(shutil.copy(probe, directory))


@needs_root
def test_an_ordinary_user_gets_every_measure(probe: Path, tmp_path: Path) -> None:
    nobody = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
    assert inactive(public_copy(probe, tmp_path), *nobody) == {}


def test_without_user_namespaces_the_rest_holds_and_the_loss_is_told(probe: Path) -> None:
    lost = inactive(probe, *WITHOUT_USER_NAMESPACES)
    assert lost.keys() == NAMESPACES | {"empty root"}
    assert "No space left on device" in lost["user namespace"]
    for name in NAMESPACES - {"user namespace"}:
        assert "Operation not permitted" in lost[name]
    assert lost["empty root"] == "needs a mount namespace of its own"


def test_without_user_namespaces_a_confined_process_can_serve(probe: Path) -> None:
    served = run(probe, "works", prefix=WITHOUT_USER_NAMESPACES)
    assert served == {"clients": 4, "outcome": "works"}


def test_without_user_namespaces_attacks_still_fail(probe: Path) -> None:
    for name in ("open file", "signal parent", "trace parent", "connect abstract", "fork"):
        prefix = WITHOUT_USER_NAMESPACES
        before = cast("dict[str, object]", run(probe, "attack", name, "none", prefix=prefix))
        assert before["outcome"] == "done", before
        after = cast("dict[str, object]", run(probe, "attack", name, "all", prefix=prefix))
        assert after["outcome"] in {"refused", "killed"}, after
