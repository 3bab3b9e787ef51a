# SPDX-License-Identifier: Apache-2.0
"""The volume under attack beside those that an attacker may take parts from."""

from dataclasses import dataclass

from .judge import Table
from .scene import (
    ROOMY_OFFSET_BYTES,
    Attempt,
    Volume,
    Way,
    attempt,
    contents,
    enrolled_enclave,
    foreign_enclave,
    living,
    new_volume,
    on_disk,
    verdict,
    ways_into,
)


@dataclass(frozen=True)
class Setting:
    """The volume under attack, as it was before a keyslot was added, and volumes of others."""

    volume: Volume
    older: bytes
    neighbour: Volume
    """Another volume of the same enclave and passphrase, so that the attacker has its blobs."""
    attackers: Volume
    """A volume of the attacker's own enclave."""
    plain: Volume
    """A volume without an enclave, whose passphrase the attacker knows."""
    ways: tuple[Way, Way]
    sound: dict[str, Attempt]

    def named(self, whose: str) -> Volume:
        return {
            "neighbour": self.neighbour,
            "attackers": self.attackers,
            "plain": self.plain,
        }[whose]


def new_setting() -> Setting:
    first = new_volume(data_offset_bytes=ROOMY_OFFSET_BYTES)
    with living(enrolled_enclave()) as life, on_disk(first.image) as disk:
        life.load(disk)
        life.add_recovery(first.passphrase)
        volume = Volume(contents(disk), first.recovery_key)
    ways = ways_into(volume)
    other = b"the attacker's own passphrase"
    return Setting(
        volume=volume,
        older=first.image,
        neighbour=new_volume(data_offset_bytes=ROOMY_OFFSET_BYTES),
        attackers=new_volume(
            passphrase=other, tee=foreign_enclave, data_offset_bytes=ROOMY_OFFSET_BYTES
        ),
        plain=new_volume(
            passphrase=other, factors=("passphrase",), data_offset_bytes=ROOMY_OFFSET_BYTES
        ),
        ways=ways,
        sound={way.name: attempt(volume.image, way) for way in ways},
    )


def judged(setting: Setting, image: bytes, table: Table, name: str) -> dict[str, str]:
    """Attack both ways, count it, and refuse silence."""
    found = {}
    for way in setting.ways:
        outcome = verdict(image, attempt(image, way), setting.sound[way.name])
        assert outcome != "SILENT", (name, way.name)
        table.count(name, way.name, outcome)
        found[way.name] = outcome
    return found


def refused(setting: Setting, image: bytes, table: Table, name: str) -> tuple[str, str]:
    """Return how both ways refuse."""
    first, second = judged(setting, image, table, name).values()
    assert first.endswith("Error"), name
    assert second.endswith("Error"), name
    return first, second
