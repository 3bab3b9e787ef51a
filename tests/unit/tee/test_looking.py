# SPDX-License-Identifier: Apache-2.0
"""An enclave that only looks makes nothing, refuses nothing, and has no keys where some lack."""

from collections.abc import Callable
from pathlib import Path

import pytest

from strongroom import tee
from strongroom.enclave.sealed_slots import seal_key_for, sealing_of
from strongroom.errors import EnclaveFactorError, TeeError
from tests.unit.tee.scene import enclave

pytestmark = pytest.mark.unit

VOLUME = "aaaaaaaa-0000-4000-8000-00000000000a"


def look(state: Path) -> tee.Tee:
    return tee.start("process", state, look_only=True)


def files(state: Path) -> list[str]:
    return sorted(str(path.relative_to(state.parent)) for path in state.rglob("*"))


def test_nothing_is_made_where_nothing_is(tmp_path: Path) -> None:
    looking = look(tmp_path / "state")
    assert looking.lack is not None
    assert "made by the first enclave" in looking.lack.hint
    assert not (tmp_path / "state").exists()


def test_where_all_is_there_it_is_the_same_enclave(tmp_path: Path) -> None:
    state = tmp_path / "state"
    started = tee.start("process", state)
    before = files(state)
    looking = look(state)
    assert looking.lack is started.lack is None
    assert looking.identity == started.identity
    assert started.verify(looking.report(bytes(64))).genuine
    assert files(state) == before


def lose(name: str) -> Callable[[Path], object]:
    return lambda state: (state / "process" / name).unlink()


def let_others_read(state: Path) -> None:
    (state / "process" / "root").chmod(0o644)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lose("root"), "there is no .*/process/root"),
        (lose("signer"), "nobody signed"),
        (let_others_read, "others may read"),
    ],
    ids=["root", "signer", "mode"],
)
def test_what_is_lost_is_told_and_nothing_is_given(
    tmp_path: Path, damage: Callable[[Path], object], words: str
) -> None:
    state = tmp_path / "state"
    sealing = sealing_of(tee.start("process", state), "signer", VOLUME)
    damage(state)
    before = files(state)
    with pytest.raises(TeeError, match=words) as refusal:
        tee.start("process", state)
    looking = look(state)
    assert looking.lack is not None
    assert (looking.lack.message, looking.lack.hint) == (refusal.value.message, refusal.value.hint)
    for use in (
        lambda: looking.seal_key("signer", 1),
        lambda: looking.report(bytes(64)),
        lambda: looking.verify(b""),
    ):
        with pytest.raises(TeeError, match=words):
            use()
    with pytest.raises(EnclaveFactorError, match=words):
        seal_key_for(looking, sealing, VOLUME)
    assert files(state) == before


def test_a_lost_secret_names_a_way_that_works(tmp_path: Path) -> None:
    state = tmp_path / "a state"
    tee.start("process", state)
    (state / "process" / "root").unlink()
    with pytest.raises(TeeError) as refusal:
        tee.start("process", state)
    assert f"`mv '{state}/process' '{state}/process'.lost`" in refusal.value.hint


def test_what_a_keyless_enclave_says_of_itself_opens_nothing(tmp_path: Path) -> None:
    """A volume that says that it is sealed to zeros must not find its enclave."""
    identity = look(tmp_path).identity
    zeros = enclave(signer="zeros")
    sealing = sealing_of(zeros, "signer", VOLUME)
    assert identity.signer == bytes(32)
    with pytest.raises(EnclaveFactorError):
        seal_key_for(look(tmp_path), sealing, VOLUME)
