# SPDX-License-Identifier: Apache-2.0
"""A volume on another machine: the passphrase does not open it there, the recovery key does."""

import shutil
from pathlib import Path

import pytest

from strongroom.tee.identity import SealPolicy
from tests.interop.cryptsetup.foreign import Volume, sha256
from tests.interop.dissect.reader import read_independently
from tests.system.identity.conftest import FOREIGN, OWN, Installations, Kept
from tests.system.identity.machines import (
    ENCLAVE_FACTOR,
    IDENTITY,
    Machine,
    as_key_file,
    check_recovery,
    machine,
)

pytestmark = [pytest.mark.system, pytest.mark.slow]

Volumes = dict[tuple[SealPolicy, str], Kept]

ANOTHER_MACHINE = "sealed with the keys of another state directory, to an enclave like this one"


@pytest.fixture
def second(tmp_path: Path, installations: Installations) -> Machine:
    """A machine with the same Strongroom, and nothing else of the first one."""
    return machine(tmp_path, "second", installations.pythons["1"])


def check_refused(where: Machine, volume: Kept, *words: str) -> None:
    """Check that a machine refuses the passphrase for the factor's sake, and changes nothing."""
    image = volume.copy(where.place)
    code, message = where.try_open(image)
    assert code == ENCLAVE_FACTOR, message
    for word in ("the enclave factor failed", *words, "with the recovery key"):
        assert word in message
    assert sha256(image) == sha256(volume.image)
    check_recovery(where, image, volume.recovery, volume.content)


def test_foreign_tools_open_it_with_the_recovery_key_only(kept: Volumes, home: Machine) -> None:
    volume = kept["signer", "1"]
    key = as_key_file(volume.recovery)
    assert read_independently(Volume(volume.image), key) == volume.content
    test = ("cryptsetup", "open", "--test-passphrase", "--key-file")
    home.run(*test, key, volume.image)
    assert home.run(*test, home.key_file, volume.image, check=False).returncode == 2
    assert home.reads(volume.image, home.passphrase_file) == volume.content


def test_another_state_directory(
    kept: Volumes, home: Machine, second: Machine, installations: Installations
) -> None:
    ours, theirs = home.identity(), second.identity()
    assert ours["measurement"] == theirs["measurement"] == installations.measurements["1"]
    assert ours["signer"] != theirs["signer"]
    words = (f"sealed to signer {ours['signer']}", f"this enclave has {theirs['signer']}")
    check_refused(second, kept["signer", "1"], *words)


@pytest.mark.parametrize("policy", ["signer", "measurement"])
def test_another_state_directory_with_the_same_signer(
    kept: Volumes, second: Machine, installations: Installations, policy: SealPolicy
) -> None:
    """Nothing differs that has a name: it is the machine."""
    second.sign(installations.measurements["1"], OWN, 1)
    check_refused(second, kept[policy, "1"], ANOTHER_MACHINE)


def test_another_signer(
    kept: Volumes, home: Machine, second: Machine, installations: Installations
) -> None:
    """On the same root secret, as if somebody else's Strongroom ran on the machine."""
    ours, measurement = second.sign("00" * 32, OWN, 1), installations.measurements["1"]
    theirs = second.sign(measurement, FOREIGN, 1)
    for name in ("root", "signer"):
        if (home.state / "process" / name).exists():
            shutil.copy2(home.state / "process" / name, second.state / "process" / name)
    words = (f"sealed to signer {ours}", f"this enclave has {theirs}")
    check_refused(second, kept["signer", "1"], *words)

    # Who has seen the volume here asks first, and says who came instead.
    image = kept["signer", "1"].image
    home.sign(measurement, FOREIGN, 1)
    code, message = home.try_open(image)
    assert code == IDENTITY
    assert f"signer is {theirs}, expected {ours}" in message
    assert "nothing was sent" in message
    home.sign(measurement, OWN, 1)
    assert home.try_open(image) == (0, "")


def test_another_measurement(kept: Volumes, home: Machine, installations: Installations) -> None:
    """The same machine and signer, and another program: no difference unless sealed strictly."""
    ours, theirs = (installations.measurements[name] for name in ("1", "2"))
    home.sign(theirs, OWN, 1)
    other = home.with_python(installations.pythons["2"])
    assert other.try_open(kept["signer", "1"].image) == (0, "")

    volume = kept["measurement", "1"]
    code, message = other.try_open(volume.image)
    assert code == IDENTITY
    assert f"measurement is {theirs}, expected {ours}" in message
    # What the hint says to do, and then the enclave itself refuses.
    other.forget()
    check_refused(other, volume, f"sealed to measurement {ours}", f"this enclave has {theirs}")
    assert home.try_open(volume.image) == (0, "")
