# SPDX-License-Identifier: Apache-2.0
"""Parts of other headers, and older ones, put into the header of an enrolled volume."""

import json

import pytest

from strongroom.boundary import calls
from strongroom.boundary.calls import Terms
from strongroom.errors import HeaderTamperedError, RollbackError
from tests.honest import AS_SHOWN
from tests.hostile.boundary.evil import CHEAP, NO_TERMS

from .attacks import (
    CHANGED,
    FACTOR,
    TAMPERED,
    WRONG,
    added_keyslot,
    own_number,
    own_token,
)
from .judge import Table
from .scene import (
    AREA_BYTES,
    HDR,
    ROOMY_OFFSET_BYTES,
    Life,
    Volume,
    Way,
    attempt,
    both_resummed,
    contents,
    dumped,
    enrolled_enclave,
    in_both,
    living,
    new_volume,
    on_disk,
    patched,
    rewritten,
    text_of,
    ways_into,
)
from .setting import Setting, judged, refused

pytestmark = pytest.mark.hostile


@pytest.mark.parametrize("whose", ["neighbour", "attackers"])
def test_a_token_of_another_volume(whose: str, setting: Setting, table: Table) -> None:
    tree, other = setting.volume.tree(), setting.named(whose).tree()
    tree["tokens"][own_number(tree)] = own_token(other)
    image = rewritten(setting.volume.image, tree)
    found = refused(setting, image, table, f"token of the {whose}")
    assert found[1] == TAMPERED
    assert found[0] in {TAMPERED, FACTOR}


@pytest.mark.parametrize("blob", ["share", "parameters"])
def test_a_sealed_blob_of_another_volume(blob: str, setting: Setting, table: Table) -> None:
    tree = setting.volume.tree()
    own_token(tree)["slots"]["0"][blob] = own_token(setting.neighbour.tree())["slots"]["0"][blob]
    image = rewritten(setting.volume.image, tree)
    assert refused(setting, image, table, f"{blob} of the neighbour") == (TAMPERED, TAMPERED)


@pytest.mark.parametrize("blob", ["share", "parameters", "factors"])
def test_sealed_blobs_swapped_between_keyslots(blob: str, table: Table) -> None:
    first = new_volume(data_offset_bytes=ROOMY_OFFSET_BYTES)
    with living(enrolled_enclave()) as life, on_disk(first.image) as disk:
        life.load(disk)
        add_sealed(life, first.passphrase)
        volume = Volume(contents(disk), first.recovery_key)
    tree = volume.tree()
    slots = own_token(tree)["slots"]
    assert set(slots) == {"0", "2"}
    slots["0"][blob], slots["2"][blob] = slots["2"][blob], slots["0"][blob]
    image = rewritten(volume.image, tree)
    for way in ways_into(volume):
        found = attempt(image, way)
        table.count(f"{blob} swapped between keyslots", way.name, found.refusal or "none")
        # Equal factors are no change at all.
        assert found.refusal == ("" if blob == "factors" else TAMPERED)


def add_sealed(life: Life, passphrase: bytes) -> None:
    life.ask(
        calls.AddKeyslot(
            life.sealed("existing passphrase", passphrase),
            life.sealed("new passphrase", b"second"),
            ("enclave", "passphrase"),
            CHEAP,
            None,
            None,
        )
    )


def test_key_material_swapped_between_keyslots(setting: Setting, table: Table) -> None:
    areas = setting.volume.tree()["keyslots"]
    first, second = (int(areas[number]["area"]["offset"]) for number in ("0", "1"))
    image = setting.volume.image
    image = patched(image, first, setting.volume.image[second : second + AREA_BYTES])
    image = patched(image, second, setting.volume.image[first : first + AREA_BYTES])
    found = refused(setting, image, table, "key material swapped")
    assert found == (TAMPERED, TAMPERED)


@pytest.mark.parametrize("uuid", ["its own UUID", "the UUID of the volume"])
@pytest.mark.parametrize("whose", ["neighbour", "attackers", "plain"])
def test_the_whole_header_of_another_volume(
    whose: str, uuid: str, setting: Setting, table: Table
) -> None:
    """A volume under another key, of the same name: the secrets of this one do not open it."""
    other = setting.named(whose)
    image = other.image
    if uuid != "its own UUID":
        image = in_both(image, 168, setting.volume.image[168:204])
    name = f"header of {whose}, {uuid}"
    if whose == "neighbour" and uuid == "its own UUID":
        # The same enclave and passphrase: this opens, as itself. Only terms tell it from the other.
        for way in setting.ways[:1]:
            found = attempt(image, way)
            assert found.unlocked is not None
            assert found.facts is not None
            assert found.facts.uuid.encode() != setting.volume.image[168:204]
            table.count(name, way.name, "opens as itself")
        meant = Terms(volume=setting.volume.image[168:204].decode())
        found = attempt(image, setting.ways[0], meant)
        assert found.refusal == TAMPERED
        assert "was meant for the volume" in str(found.error)
        table.count(f"{name}, terms", setting.ways[0].name, found.refusal)
        return
    # Under this UUID it is a volume that was renamed, as far as its enclave can tell.
    assert set(refused(setting, image, table, name)) <= {TAMPERED, WRONG, FACTOR, CHANGED}


def test_a_plain_volume_with_a_known_passphrase(setting: Setting, table: Table) -> None:
    """The attacker knows the passphrase: his own volume in place of the sealed one.

    It says that it is not authenticated; whoever knows that it should be refuses it.
    """
    fake = new_volume(factors=("passphrase",), data_offset_bytes=ROOMY_OFFSET_BYTES)
    image = in_both(fake.image, 168, setting.volume.image[168:204])
    way = setting.ways[0]
    unknown = attempt(image, way)
    assert unknown.unlocked is not None
    assert not unknown.unlocked.authenticated
    assert unknown.facts is not None
    assert unknown.facts.authentication == "absent"
    table.count("plain volume, known passphrase", way.name, "says: not authenticated")
    known = attempt(image, way, Terms(authenticated=True))
    assert known.refusal == TAMPERED
    table.count("plain volume, known passphrase, terms", way.name, known.refusal)


def test_an_attackers_keyslot_opens_nothing_for_the_attacker(
    setting: Setting, table: Table
) -> None:
    """A keyslot of his plain volume, moved in with its material: it holds another key."""
    tree, other = setting.volume.tree(), setting.plain.tree()
    added_keyslot(tree, digest="0")
    offset = int(tree["keyslots"]["7"]["area"]["offset"])
    source = other["keyslots"]["0"]
    start = int(source["area"]["offset"])
    source["area"]["offset"] = str(offset)
    tree["keyslots"]["7"] = source
    material = setting.plain.image[start : start + AREA_BYTES]
    image = patched(rewritten(setting.volume.image, tree), offset, material)
    attacker = Way("attacker's passphrase", enrolled_enclave, setting.plain.passphrase)
    for terms in (NO_TERMS, Terms(accepted_changes=AS_SHOWN)):
        found = attempt(image, attacker, terms)
        assert found.refusal == (WRONG if terms.accepted_changes else CHANGED)
        assert found.after == image
        table.count("keyslot of the attacker's, moved in", attacker.name, found.refusal)
    assert refused(setting, image, table, "keyslot of the attacker's, moved in") == (
        CHANGED,
        CHANGED,
    )


# --- older headers --------------------------------------------------------------------------------


@pytest.mark.parametrize("way", [0, 1])
def test_an_older_header(way: int, setting: Setting, table: Table) -> None:
    """Authentic in its time: what tells is the epoch, to whoever remembers it."""
    chosen = setting.ways[way]
    present = setting.sound[chosen.name].unlocked
    assert present is not None
    assert present.epoch == 2
    found = attempt(setting.older, chosen, Terms(minimum_epoch=2))
    assert isinstance(found.error, RollbackError)
    assert "epoch 1" in found.error.message
    assert "epoch 2" in found.error.message
    assert found.after == setting.older
    table.count("older header, epoch known", chosen.name, found.refusal)
    forgotten = attempt(setting.older, chosen)
    assert forgotten.unlocked is not None
    assert forgotten.unlocked.epoch == 1
    table.count("older header, epoch not known", chosen.name, "opens, and says epoch 1")


def test_an_older_copy_beside_the_present_one(setting: Setting, table: Table) -> None:
    """The newer one is used and the older one mended; in both places."""
    for secondary in (False, True):
        start = HDR if secondary else 0
        image = patched(setting.volume.image, start, setting.older[start : start + HDR])
        name = f"older {'secondary' if secondary else 'primary'} copy"
        assert set(judged(setting, image, table, name).values()) == {"repaired", "said"}


def test_parts_of_an_older_header(setting: Setting, table: Table) -> None:
    """The present token over old metadata, and the old token over the present one."""
    new, old = setting.volume.tree(), json.loads(text_of(setting.older))
    mixed = [json.loads(json.dumps(tree)) for tree in (new, old)]
    mixed[0]["tokens"][own_number(new)] = own_token(old)
    mixed[1]["tokens"] = new["tokens"]
    mixed[1]["tokens"].pop("2", None)
    first = rewritten(setting.volume.image, mixed[0])
    assert refused(setting, first, table, "older token") == (CHANGED, CHANGED)
    second = rewritten(setting.volume.image, mixed[1])
    assert set(refused(setting, second, table, "older metadata")) <= {CHANGED, TAMPERED}


# --- both together --------------------------------------------------------------------------------


def test_an_accepted_change_accepts_no_tampering(setting: Setting, table: Table) -> None:
    """A change such as stock tools make does not carry another one along."""
    tree = setting.volume.tree()
    added_keyslot(tree, digest="0")
    tree["segments"]["0"]["iv_tweak"] = "8"
    image = rewritten(setting.volume.image, tree)
    for way in setting.ways:
        found = attempt(image, way, Terms(accepted_changes=AS_SHOWN))
        assert isinstance(found.error, HeaderTamperedError)
        assert found.after == image
        table.count("accepted change and another", way.name, found.refusal)


def test_the_order_of_members_has_no_meaning(setting: Setting, table: Table) -> None:
    """All that may differ in an authentic header: the order in which JSON names its members."""
    tree = setting.volume.tree()
    for section in ("keyslots", "tokens"):
        tree[section] = dict(reversed(tree[section].items()))
    tree["digests"]["0"]["keyslots"].reverse()
    image = both_resummed(rewritten(setting.volume.image, dumped(tree)))
    for way in setting.ways:
        found, sound = attempt(image, way), setting.sound[way.name]
        assert found.unlocked == sound.unlocked
        assert found.facts == sound.facts
        table.count("order of members", way.name, "same in every respect")
