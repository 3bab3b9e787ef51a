# SPDX-License-Identifier: Apache-2.0
"""What an attacker makes of an enrolled volume's header on purpose, checksums mended throughout.

Each attack is on both copies, and opened with the passphrase on the enclave that the volume is
sealed to, and with the recovery key on another one, by somebody who knows nothing of the volume.
"""

from typing import Final

import pytest

from strongroom.boundary import calls
from strongroom.boundary.calls import MAX_MESSAGE_BYTES
from strongroom.boundary.channel import _failure_from
from strongroom.errors import (
    HeaderChangedError,
    HeaderTamperedError,
    KeyslotStateError,
    StrongroomError,
)
from tests.hostile.boundary.evil import CHEAP

from .attacks import (
    CHANGED,
    FORM,
    METADATA,
    TAMPERED,
    Change,
    added_keyslot,
    freed,
)
from .judge import Table
from .scene import (
    HDR,
    Life,
    attempt,
    contents,
    enrolled_enclave,
    foreign_enclave,
    in_both,
    living,
    on_disk,
    patched,
    rewritten,
    text_of,
    tree_of,
)
from .setting import Setting, judged, refused

pytestmark = pytest.mark.hostile

OTHER_UUID: Final = b"01234567-89ab-4cde-8f01-23456789abcd"


@pytest.mark.parametrize("name", METADATA)
def test_metadata(name: str, setting: Setting, table: Table) -> None:
    change, outcome = METADATA[name]
    tree = setting.volume.tree()
    change(tree)
    found = judged(setting, rewritten(setting.volume.image, tree), table, name)
    assert tuple(found.values()) == outcome


@pytest.mark.parametrize("name", METADATA)
def test_metadata_under_another_uuid(name: str, setting: Setting, table: Table) -> None:
    """Another UUID hides the volume from whoever remembers it, and changes every derived key."""
    change, _ = METADATA[name]
    tree = setting.volume.tree()
    change(tree)
    image = in_both(rewritten(setting.volume.image, tree), 168, OTHER_UUID)
    refused(setting, image, table, f"{name}, other UUID")


def test_another_uuid(setting: Setting, table: Table) -> None:
    image = in_both(setting.volume.image, 168, OTHER_UUID)
    assert refused(setting, image, table, "other UUID") == (CHANGED, CHANGED)
    shouted = setting.volume.image[168:204].upper()
    assert shouted != setting.volume.image[168:204]
    image = in_both(setting.volume.image, 168, shouted)
    assert refused(setting, image, table, "UUID in capitals") == (CHANGED, CHANGED)


HIDDEN: dict[str, Change] = {
    "token removed": METADATA["token removed"][0],
    "token removed, digest unhooked": METADATA["token removed, digest unhooked"][0],
}


def change_keyslot(life: Life, disk: int, recovery_key: bytes) -> None:
    """Load a disk, and change the keyslot that the recovery key is for."""
    life.load(disk)
    existing = life.sealed("existing passphrase", recovery_key)
    new = life.sealed("new passphrase", b"new")
    life.ask(calls.ChangeKeyslot(existing, new, CHEAP, keyslot=1))


@pytest.mark.parametrize("uuid", [b"", OTHER_UUID], ids=["same UUID", "other UUID"])
@pytest.mark.parametrize("name", HIDDEN)
def test_a_change_of_a_keyslot_is_no_way_around(
    name: str, uuid: bytes, setting: Setting, table: Table
) -> None:
    """Neither by naming the keyslot, which is not the segment's then, nor by its mark."""
    tree = setting.volume.tree()
    HIDDEN[name](tree)
    image = in_both(rewritten(setting.volume.image, tree), 168, uuid)
    with living(foreign_enclave()) as life, on_disk(image) as disk:
        with pytest.raises(
            (HeaderTamperedError, KeyslotStateError), match=r"was removed|nothing opens"
        ) as refusal:
            change_keyslot(life, disk, setting.volume.recovery_key)
        assert contents(disk) == image
    table.count(f"{name}, slot change", setting.ways[1].name, type(refusal.value).__name__)


def with_broken_keyslot(image: bytes) -> bytes:
    """Overwrite a block of the key material of the sealed keyslot."""
    offset = int(tree_of(image)["keyslots"]["0"]["area"]["offset"])
    return patched(image, offset, bytes(4096))


def with_freed_keyslot(setting: Setting) -> bytes:
    """Take the sealed keyslot from its token, which no code covers."""
    tree = setting.volume.tree()
    freed(tree)
    return rewritten(setting.volume.image, tree)


def change_sealed_keyslot(life: Life, recovery_key: bytes) -> None:
    """Replace keyslot 0, as the hint about a damaged keyslot says, with the recovery key."""
    existing = life.sealed("existing passphrase", recovery_key)
    life.ask(calls.ChangeKeyslot(existing, life.sealed("new passphrase", b"new"), CHEAP, keyslot=0))


def sealed_factors(facts: calls.DiskFacts) -> tuple[str, ...]:
    return next(slot.factors for slot in facts.keyslots if slot.number == 0)


def test_a_broken_keyslot_that_is_changed_stays_sealed(setting: Setting) -> None:
    with on_disk(with_broken_keyslot(setting.volume.image)) as disk:
        with living(enrolled_enclave()) as life:
            assert sealed_factors(life.load(disk)) == ("enclave", "passphrase")
            change_sealed_keyslot(life, setting.volume.recovery_key)
        with living(enrolled_enclave()) as life:
            facts = life.load(disk)
            assert facts.authentication == "verified"
            assert sealed_factors(facts) == ("enclave", "passphrase")


SEQUENCE_RAISED: Final = (16, bytes(6) + b"\x01\0")
FREED: dict[str, tuple[bool, type[StrongroomError]]] = {
    "written again": (True, HeaderChangedError),
    "listed number": (False, HeaderTamperedError),
}


@pytest.mark.parametrize("name", FREED)
def test_a_broken_keyslot_that_is_taken_from_its_token_loses_no_factor(
    name: str, setting: Setting, table: Table
) -> None:
    """A change of it does not make a keyslot that a passphrase alone opens."""
    raised, error = FREED[name]
    image = with_broken_keyslot(with_freed_keyslot(setting))
    if raised:
        image = in_both(image, *SEQUENCE_RAISED)
    with living(enrolled_enclave()) as life, on_disk(image) as disk:
        facts = life.load(disk)
        assert raised or sealed_factors(facts) == ("enclave", "passphrase")
        with pytest.raises(error, match=r"keyslot 0 was (taken from its token|.*no longer sealed)"):
            change_sealed_keyslot(life, setting.volume.recovery_key)
        assert contents(disk) == image
    assert refused(setting, image, table, f"broken and freed, {name}") == (error.__name__,) * 2


def test_a_keyslot_that_is_taken_from_its_token_stays_sealed(setting: Setting) -> None:
    """As ``cryptsetup token unassign`` leaves it: a change that can be accepted."""
    image = in_both(with_freed_keyslot(setting), *SEQUENCE_RAISED)
    with living(enrolled_enclave()) as life, on_disk(image) as disk:
        facts = life.load(disk)
        assert facts.authentication == "changed"
        assert sealed_factors(facts) == ("enclave", "passphrase")
        words = [change.words for change in facts.acceptable]
        assert "keyslot 0 was taken from its token" in words


BINARY: dict[str, tuple[int, bytes, str]] = {
    "sequence number raised": (16, bytes(6) + b"\x01\0", CHANGED),
    "sequence number lowered": (16, bytes(7) + b"\x01", TAMPERED),
    "label": (24, b"another label", CHANGED),
    "bytes behind the label": (60, b"hidden", TAMPERED),
    "checksum of another kind": (72, b"sha512", TAMPERED),
    "bytes behind the checksum's name": (90, b"hidden", TAMPERED),
    "salt": (104, bytes(64), CHANGED),
    "bytes behind the UUID": (205, b"x", TAMPERED),
    "subsystem": (208, b"x", CHANGED),
    "bytes in the zeros": (264, b"hidden", TAMPERED),
    "bytes behind the checksum": (500, b"hidden", TAMPERED),
    "bytes in the second zeros": (4000, b"hidden", TAMPERED),
    "bytes behind the metadata": (HDR - 64, b"hidden", FORM),
}


@pytest.mark.parametrize("name", BINARY)
def test_binary_header(name: str, setting: Setting, table: Table) -> None:
    offset, data, outcome = BINARY[name]
    image = in_both(setting.volume.image, offset, data)
    assert refused(setting, image, table, name) == (outcome, outcome)


@pytest.mark.parametrize("name", ["white space", "escapes", "a member twice"])
def test_another_form_of_the_same_metadata(name: str, setting: Setting, table: Table) -> None:
    text = text_of(setting.volume.image)
    forms = {
        "white space": text.replace(b'"tokens":', b'"tokens": '),
        "escapes": text.replace(b'"tokens":', b'"tok\\u0065ns":'),
        "a member twice": text.replace(b'"iv_tweak":"0"', b'"iv_tweak":"8","iv_tweak":"0"'),
    }
    image = rewritten(setting.volume.image, forms[name])
    # An older json-c escapes slashes: another form is what a stock tool may write.
    outcome = FORM if name == "a member twice" else CHANGED
    assert refused(setting, image, table, name) == (outcome, outcome)


def test_what_an_operator_decides_on_is_shown_whole(setting: Setting) -> None:
    """Many changes do not hide one: the list crosses the boundary whole, keyslots first."""
    tree = setting.volume.tree()
    added_keyslot(tree, digest="0")
    for number in range(len(tree["tokens"]), 32):
        tree["tokens"][str(number)] = {"type": "x", "keyslots": []}
    image = rewritten(setting.volume.image, tree)
    for way in setting.ways:
        error = attempt(image, way).error
        assert isinstance(error, HeaderChangedError)
        crossed = _failure_from(error).message
        assert crossed == error.message
        assert "changed the header: keyslot 7 was added; token " in crossed
        assert "token 31 was added (code " in crossed
        assert len(crossed) < MAX_MESSAGE_BYTES
