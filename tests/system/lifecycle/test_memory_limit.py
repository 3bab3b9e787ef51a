# SPDX-License-Identifier: Apache-2.0
"""Argon2 in a control group that has less memory than the machine: a container, a unit."""

import contextlib
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from strongroom.errors import PlatformError
from tests.conftest import require, require_root
from tests.harness import STRONGROOM, Operator

pytestmark = pytest.mark.system

LIMIT_MIB: Final = 300
LARGE: Final = ("--kdf", "argon2id", "--kdf-memory", "700M", "--kdf-iterations", "1")


@contextlib.contextmanager
def limited_group() -> Iterator[Path]:
    require_root()
    old = Path("/sys/fs/cgroup/memory")
    group = (old if old.is_dir() else old.parent) / f"strongroom-test-{os.getpid()}"
    limit = group / ("memory.limit_in_bytes" if old.is_dir() else "memory.max")
    try:
        group.mkdir()
        limit.write_text(f"{LIMIT_MIB}M")
    except OSError:
        require(condition=False, reason="no control group can be made here")
    try:
        yield group
    finally:
        for _ in range(100):
            with contextlib.suppress(OSError):
                group.rmdir()
                break


def limited(
    operator: Operator, group: Path, *arguments: str | Path
) -> subprocess.CompletedProcess[str]:
    enter = 'echo $$ > "$1/cgroup.procs"; shift; exec "$@"'
    return operator.run("sh", "-c", enter, "sh", group, STRONGROOM, *arguments, check=False)


def test_a_keyslot_that_does_not_fit_is_named_and_another_one_opens(
    operator: Operator, tmp_path: Path
) -> None:
    image, recovery = tmp_path / "vault.img", tmp_path / "recovery"
    operator.format(image, *LARGE, "--recovery-key-file", recovery, size="20M")
    opened = ("open", image, "limited", "--attach", "none", "--passphrase-file")
    with limited_group() as group:
        refused = limited(operator, group, *opened, operator.passphrase_file)
        by_recovery = limited(operator, group, *opened, recovery)
        operator.close("limited", check=False)
    assert refused.returncode == PlatformError.exit_code
    limit = f"700 MiB of memory, and the limit of the control group is {LIMIT_MIB} MiB"
    assert f"error: keyslot 0 needs {limit}" in refused.stderr
    assert by_recovery.returncode == 0, by_recovery.stderr


def test_what_is_made_in_a_group_fits_into_it(operator: Operator, tmp_path: Path) -> None:
    image = tmp_path / "vault.img"
    made = ("format", image, "--size", "20M", "--sparse", "--no-recovery", "--json")
    key = ("--passphrase-file", operator.passphrase_file)
    with limited_group() as group:
        refused = limited(operator, group, *made, *key, *LARGE)
        assert not image.exists()
        done = limited(operator, group, *made, *key)
    assert refused.returncode == PlatformError.exit_code
    assert "the key derivation needs 700 MiB of memory" in refused.stderr
    assert done.returncode == 0, done.stderr
    assert 64 * 1024 <= json.loads(done.stdout)["kdf"]["memory_kib"] <= LIMIT_MIB * 1024 // 2
