# SPDX-License-Identifier: Apache-2.0
"""Verdicts on thousands of headers: what a session decides, without what costs time.

The bench calls what a session calls, in its order, but for the keyslot: it gives the volume key
away, as if every keyslot that is left opened. That is the best that an attacker can hope for, so
what is refused here is refused by a session, and what is not has to be harmless.
"""

import contextlib
import functools
import operator
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Final, TypeVar

import pytest

from strongroom._core import Secret
from strongroom.boundary.calls import Terms
from strongroom.enclave import authentication, inspection
from strongroom.enclave.authentication import check_opened, check_terms
from strongroom.enclave.inspection import inspect
from strongroom.errors import StrongroomError
from strongroom.luks2 import (
    LoadedHeader,
    canonical,
    codes,
    load_header,
    metadata,
    parts,
    repair_steps,
    strongroom_token,
    token,
)
from strongroom.luks2 import load as load_module
from strongroom.luks2._json import parse_json
from strongroom.luks2.commit import WriteAt
from strongroom.units import ByteCount

from .scene import HDR, Volume, Way, enrolled_enclave, living, on_disk, patched

ResultT = TypeVar("ResultT")

OPENED: Final = ", opened"
"""Behind an error that came only once a keyslot had been opened."""

_REMEMBERED: Final = 8


@contextlib.contextmanager
def volume_key_of(volume: Volume) -> Iterator[Secret]:
    """Lend the key that keyslot 0 holds."""
    with living(enrolled_enclave()) as life, on_disk(volume.image) as disk:
        life.load(disk)
        passphrase = life.sealed("unlock", volume.passphrase)
        with life.session._loaded().opened(passphrase, None) as opened:
            yield opened.volume_key


def remembering_last(function: Callable[..., ResultT]) -> Callable[..., ResultT]:
    """Return a pure function that answers the same call twice without computing twice."""
    last: list[tuple[tuple[object, ...], ResultT]] = []

    def remembering(*arguments: object) -> ResultT:
        if last and all(map(operator.is_, last[0][0], arguments)):
            return last[0][1]
        result = function(*arguments)
        last[:] = [(arguments, result)]
        return result

    return remembering


@contextlib.contextmanager
def computed_once() -> Iterator[None]:
    """Let what depends on a header alone be computed once, and not by everyone for every way in.

    These functions are pure, and nobody changes their results.
    """
    remembering = functools.lru_cache(_REMEMBERED)
    with pytest.MonkeyPatch.context() as patch:
        parse = remembering(parse_json)
        for module in (load_module, metadata, parts, token):
            patch.setattr(module, "parse_json", parse)
        patch.setattr(canonical, "_string", functools.lru_cache(1024)(canonical._string))
        patch.setattr(load_module, "parse_json_area", remembering(metadata.parse_json_area))
        patch.setattr(inspection, "strongroom_token", remembering_last(strongroom_token))
        for name, modules in (
            ("authenticated_bytes", (inspection, codes)),
            ("judge", (inspection, authentication)),
        ):
            once = remembering_last(getattr(modules[0], name))
            for module in modules:
                patch.setattr(module, name, once)
        yield


def load(image: bytes) -> LoadedHeader:
    return load_header(image, image_size_bytes=ByteCount(len(image)), detached=False)


class Bench:
    """Judges all ways into one volume. Only headers differ: key material stays what it was."""

    def __init__(self, volume: Volume, ways: tuple[Way, ...], volume_key: Secret) -> None:
        self._volume = volume
        self._volume_key = volume_key
        self._tees = {way.name: way.tee() for way in ways}
        self._sound = load(volume.image)
        self._material: dict[object, dict[int, bytes]] = {}
        self._known: dict[object, str] = {}

    def verdicts(self, image: bytes) -> dict[str, str]:
        """Return by way what :func:`tests.hostile.enrolled.scene.verdict` returns.

        :data:`OPENED` is put behind refusals that need the volume key.
        """
        try:
            loaded = load(image)
        except StrongroomError as err:
            return dict.fromkeys(self._tees, type(err).__name__)
        return {way: self._verdict(way, loaded, image) for way in self._tees}

    def _verdict(self, way: str, loaded: LoadedHeader, image: bytes) -> str:
        refusal = self._refusal(way, loaded, image)
        if refusal:
            return refusal
        if loaded.header != self._sound.header or not loaded.canonical:
            return "SILENT"
        if not loaded.notices:
            return "unused" if image[: 2 * HDR] == self._volume.image[: 2 * HDR] else "SILENT"
        return self._mended(loaded, image)

    def _refusal(self, way: str, loaded: LoadedHeader, image: bytes) -> str:
        # The other copy is in none of these: what is decided on is the used one.
        header = loaded.header
        key = (way, header.binary, header.metadata.json_text, loaded.canonical)
        if key not in self._known:
            if len(self._known) > _REMEMBERED:
                self._known.clear()
            self._known[key] = self._decided(way, loaded, image)
        return self._known[key]

    def _decided(self, way: str, loaded: LoadedHeader, image: bytes) -> str:
        # An operator who sees the volume for the first time takes it for what it says that it is.
        terms = Terms(volume=loaded.header.binary.uuid)
        try:
            inspected = inspect(loaded, self._material_of(loaded, image), self._tees[way])
            check_terms(inspected, terms)
        except StrongroomError as err:
            return type(err).__name__
        try:
            is_authenticated = check_opened(inspected, terms, self._volume_key)
        except StrongroomError as err:
            return type(err).__name__ + OPENED
        if inspected.damaged:
            same = loaded.header.segment == self._sound.header.segment
            return "read only" if is_authenticated and same else "SILENT"
        return "" if is_authenticated else "SILENT"

    def _material_of(self, loaded: LoadedHeader, image: bytes) -> dict[int, bytes]:
        areas = {number: slot.area for number, slot in loaded.header.keyslots.items()}
        key = tuple(areas.items())
        if key not in self._material:
            self._material[key] = {
                number: image[area.offset_bytes :][: area.size_bytes]
                for number, area in areas.items()
            }
        return self._material[key]

    def _mended(self, loaded: LoadedHeader, image: bytes) -> str:
        mended = image
        for step in repair_steps(loaded):
            if isinstance(step, WriteAt):
                mended = patched(mended, step.offset, step.data)
        return "repaired" if mended == self._volume.image else "SILENT"


class Table:
    """Outcomes by class of attack and way in, printed as the proof of the run."""

    def __init__(self, title: str) -> None:
        self._title = title
        self._rows: dict[tuple[str, str], Counter[str]] = {}

    def count(self, attack: str, way: str, outcome: str) -> None:
        self._rows.setdefault((attack, way), Counter())[outcome] += 1

    def outcomes(self, attack: str = "") -> Counter[str]:
        """Return all outcomes, of the classes that start so."""
        rows = (row for (name, _), row in self._rows.items() if name.startswith(attack))
        return sum(rows, Counter[str]())

    def show(self) -> None:
        print(f"\n{self._title}")
        for (attack, way), row in self._rows.items():
            found = ", ".join(f"{count} {outcome}" for outcome, count in row.most_common())
            print(f"  {attack:<34} {way:<22} {found}")
