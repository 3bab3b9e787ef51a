# SPDX-License-Identifier: Apache-2.0
"""Every bit of an enrolled volume's header, flipped: nothing is accepted in silence.

Both copies or one of them, with the checksum as it was or mended by the attacker, opened with the
passphrase on the enclave that the volume is sealed to, and with the recovery key on another one.
Exhaustive on the binary fields and the metadata, sampled elsewhere; a sample of all goes through
whole sessions, derivations included.
"""

import itertools
import random
import re
from collections.abc import Iterator
from typing import Final

import pytest

from strongroom.errors import FormatError
from strongroom.luks2 import HeaderCopy
from strongroom.luks2.binary import read_copy

from .judge import OPENED, Bench, Table, computed_once, volume_key_of
from .scene import (
    AREA_BYTES,
    GAP_BYTES,
    HDR,
    MATERIAL_BYTES,
    Attempt,
    Volume,
    Way,
    attempt,
    new_volume,
    patched,
    resummed,
    text_of,
    verdict,
    ways_into,
)

pytestmark = pytest.mark.hostile

Flip = tuple[int, int]
"""Byte and bit, from the start of a copy, or of the image."""

BINARY_BYTES: Final = 512
CHECKSUM: Final = range(448, 480)
COPIES: Final = ("primary", "secondary", "both")
HARMLESS: Final = {"repaired", "said", "unused"}


@pytest.fixture(scope="module")
def volume() -> Volume:
    return new_volume()


@pytest.fixture(scope="module")
def ways(volume: Volume) -> tuple[Way, Way]:
    return ways_into(volume)


@pytest.fixture(scope="module")
def bench(volume: Volume, ways: tuple[Way, Way]) -> Iterator[Bench]:
    with volume_key_of(volume) as volume_key, computed_once():
        yield Bench(volume, ways, volume_key)


@pytest.fixture(scope="module")
def sound(volume: Volume, ways: tuple[Way, Way]) -> dict[str, Attempt]:
    return {way.name: attempt(volume.image, way) for way in ways}


def flipped(image: bytes, flip: Flip, copies: str, *, mended: bool) -> bytes:
    """Return the image with a bit of one copy, or the same bit of both, flipped."""
    byte, bit = flip
    starts = {"primary": (0,), "secondary": (HDR,), "both": (0, HDR)}[copies]
    head = image[: 2 * HDR]
    for start in starts:
        head = patched(head, start + byte, bytes([head[start + byte] ^ 1 << bit]))
        if mended:
            head = resummed(head, secondary=start > 0)
    return head + image[2 * HDR :]


def not_counting(image: bytes, copy: HeaderCopy, flip: Flip) -> str:
    """Return how a copy is refused when a bit of it is flipped, or nothing when it counts."""
    secondary = copy is HeaderCopy.SECONDARY
    head = flipped(image[: 2 * HDR], flip, copy.title, mended=False)
    try:
        read_copy(head, HDR if secondary else 0, copy)
    except FormatError as err:
        return type(err).__name__
    return ""


def every_bit(places: range) -> list[Flip]:
    return [(byte, bit) for byte in places for bit in range(8)]


def one_bit(places: range) -> list[Flip]:
    return [(byte, byte % 8) for byte in places]


def metadata_places(volume: Volume) -> range:
    return range(4096, 4096 + len(text_of(volume.image)))


def unvouched_places(volume: Volume) -> set[int]:
    """Return where a flip hides from the enrolled enclave that it could check the header.

    That leaves it to the volume's code: the UUID, whose token it is and to whom it is sealed; and
    that code itself.
    """
    text = text_of(volume.image)
    parts = rb'"type":"strongroom"|"enclave":\{[^}]*\}|"volume":"[^"]*"'
    found = [range(*match.span()) for match in re.finditer(parts, text)]
    assert len(found) == 3
    return {*range(168, 208)} | {4096 + at for places in found for at in places}


def mended_flips(volume: Volume) -> Iterator[tuple[str, str, Flip]]:
    """Yield what is flipped with a mended checksum: class, copies, place."""
    text = metadata_places(volume)
    binary = [flip for flip in every_bit(range(BINARY_BYTES)) if flip[0] not in CHECKSUM]
    zeros = one_bit(range(BINARY_BYTES, 4096, 61))
    padding = one_bit(range(text.stop, HDR, 89))
    alone = set(one_bit(text)[::3])
    for attack, flips in (
        ("binary header", binary),
        ("metadata", every_bit(text)),
        ("zeros of the binary header", zeros),
        ("padding of the metadata", padding),
    ):
        for flip in flips:
            # One copy after the other: what both decide on is decided once.
            for copies in COPIES:
                if copies == "both" or attack != "metadata" or flip in alone:
                    yield attack, copies, flip


def test_the_volume_itself_opens(sound: dict[str, Attempt], bench: Bench) -> None:
    for found in sound.values():
        assert found.error is None
        assert found.unlocked is not None
        assert found.unlocked.authenticated
    assert [found.facts and found.facts.authentication for found in sound.values()] == [
        "verified",
        "unverified",
    ]
    image = next(iter(sound.values())).after
    assert set(bench.verdicts(image).values()) == {"unused"}


def test_every_bit_with_a_mended_checksum(
    volume: Volume, ways: tuple[Way, Way], bench: Bench
) -> None:
    table = Table("flips with a mended checksum")
    unvouched, enrolled = unvouched_places(volume), ways[0].name
    for attack, copies, flip in mended_flips(volume):
        image = flipped(volume.image, flip, copies, mended=True)
        for way, outcome in bench.verdicts(image).items():
            assert outcome != "SILENT", (attack, copies, flip, way)
            early = way == enrolled and flip[0] not in unvouched
            assert not (early and outcome.endswith(OPENED)), (attack, copies, flip)
            table.count(f"{attack}, {copies}", way, outcome)
    table.show()
    # Nothing that is in the copy which is used, or in both, is harmless.
    for attack, copies, harmless in (
        ("binary header", "both", set()),
        ("metadata", "both", set()),
        ("metadata", "primary", set()),
        ("metadata", "secondary", {"repaired"}),
        ("zeros of the binary header", "both", set()),
        ("padding of the metadata", "both", set()),
    ):
        found = set(table.outcomes(f"{attack}, {copies}"))
        assert found & HARMLESS == harmless, (attack, copies)
    assert table.outcomes("metadata, both").total() == 2 * 8 * len(metadata_places(volume))


def test_every_bit_with_the_checksum_as_it_was(volume: Volume, bench: Bench) -> None:
    """The checksum sees to it that a copy does not count, but for 32 bytes that it leaves out."""
    table = Table("flips without a mended checksum")
    flips = every_bit(range(BINARY_BYTES)) + every_bit(metadata_places(volume))
    counting = set()
    for copy in HeaderCopy:
        for flip in flips:
            refusal = not_counting(volume.image, copy, flip)
            table.count(f"{copy.title} copy alone", "any", refusal or "counts")
            if not refusal:
                counting.add(flip[0])
    assert counting == set(range(CHECKSUM.stop, BINARY_BYTES))
    rest = every_bit(range(CHECKSUM.stop, BINARY_BYTES))
    for attack, chosen in (("checksum's own rest", rest), ("all", flips[::149])):
        for copies, flip in itertools.product(COPIES, chosen):
            image = flipped(volume.image, flip, copies, mended=False)
            for way, outcome in bench.verdicts(image).items():
                table.count(f"{attack}, {copies}", way, outcome)
    table.show()
    assert not table.outcomes()["SILENT"]
    assert set(table.outcomes("all, secondary")) == {"repaired"}
    assert not set(table.outcomes("all, both")) & HARMLESS


@pytest.mark.parametrize("mended", [False, True], ids=["checksum as it was", "checksum mended"])
def test_a_sample_of_flips_through_whole_sessions(
    volume: Volume, ways: tuple[Way, Way], sound: dict[str, Attempt], *, mended: bool
) -> None:
    table = Table(f"whole sessions, checksum {'mended' if mended else 'as it was'}")
    generator = random.Random(3)
    text = metadata_places(volume)
    # Where a flip leaves JSON in its form, and so comes furthest.
    strings = [match.start() for match in re.finditer(rb"[0-9a-zA-Z]", text_of(volume.image))]
    places = {
        "binary header": [*range(BINARY_BYTES)],
        "metadata": [text.start + at for at in strings],
        "zeros and padding": [*range(BINARY_BYTES, 4096), *range(text.stop, HDR)],
    }
    for attack, chosen in places.items():
        for copies in COPIES:
            for _ in range(12 if attack != "zeros and padding" else 3):
                flip = (generator.choice(chosen), generator.randrange(6))
                image = flipped(volume.image, flip, copies, mended=mended)
                for way in ways:
                    outcome = verdict(image, attempt(image, way), sound[way.name])
                    if image == volume.image:
                        outcome = "no flip"  # of the checksum, which was mended
                    assert outcome != "SILENT", (attack, copies, flip, way)
                    table.count(f"{attack}, {copies}", way.name, outcome)
    table.show()
    for attack in places:
        assert not set(table.outcomes(f"{attack}, both")) & HARMLESS


def test_a_sample_of_key_material(
    volume: Volume, ways: tuple[Way, Way], sound: dict[str, Attempt]
) -> None:
    """Key material of a keyslot that a flip is in, and what no keyslot uses."""
    table = Table("flips in the keyslots area, through whole sessions")
    generator = random.Random(4)
    areas = {int(number): slot["area"] for number, slot in volume.tree()["keyslots"].items()}
    places = {}
    for number, area in areas.items():
        start = int(area["offset"])
        assert int(area["size"]) == AREA_BYTES
        places[f"material of keyslot {number}"] = range(start, start + MATERIAL_BYTES)
        places[f"rest of area {number}"] = range(start + MATERIAL_BYTES, start + AREA_BYTES)
    end = 2 * HDR + len(areas) * AREA_BYTES
    places["gap behind the areas"] = range(end, end + GAP_BYTES)
    for attack, chosen in places.items():
        for at in [chosen[0], chosen[-1], *generator.choices(chosen, k=14)]:
            image = patched(
                volume.image, at, bytes([volume.image[at] ^ 1 << generator.randrange(8)])
            )
            for way in ways:
                outcome = verdict(image, attempt(image, way), sound[way.name])
                assert outcome != "SILENT", (attack, at, way)
                table.count(attack, way.name, outcome)
    table.show()
    # The keyslot itself is lost, and the other one opens, for reading. Without keyslot 1, nothing
    # is left on another machine but keyslot 0, which is sealed.
    assert set(table.outcomes("material of keyslot 0")) == {"HeaderTamperedError", "read only"}
    assert set(table.outcomes("material of keyslot 1")) == {"read only", "EnclaveFactorError"}
    assert set(table.outcomes("rest")) == set(table.outcomes("gap")) == {"unused"}
