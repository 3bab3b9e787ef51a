# SPDX-License-Identifier: Apache-2.0
"""One way to write a JSON value, so that equal values have equal bytes to authenticate.

RFC 8785 has a form for what every reader represents alike. What other programs write beyond that
is authenticated as its text: a number as it stands, and a byte that is not UTF-8 as it is.

Spec: RFC 8785, without its floats; ``spec/unlock.md``, "Notation".
"""

import json
import re
from typing import Final

from strongroom.errors import FormatError
from strongroom.luks2._json import JsonValue, Number

_SURROGATE: Final = re.compile("[\ud800-\udc7f\udd00-\udfff]")
"""Those that do not stand for a byte. See :mod:`strongroom.luks2._json`."""
_FIRST_PAIR: Final = 0x10000
"""The first code point that UTF-16 writes as two units."""


def canonical_json(value: JsonValue) -> bytes:
    """Return the canonical form: members sorted by UTF-16 code units, no white space, UTF-8.

    Different values have different forms.

    The depth is the caller's to bound; :data:`MAX_JSON_DEPTH` bounds that of every header.

    Raises:
        FormatError: A lone surrogate, or a value that is none of JSON's, Python's floats among
            them.
    """
    return _encoded(value).encode("utf-8", "surrogateescape")


def _encoded(value: JsonValue) -> str:
    if isinstance(value, dict):
        members = sorted(value.items(), key=_code_units)
        return "{" + ",".join(f"{_string(key)}:{_encoded(item)}" for key, item in members) + "}"
    if isinstance(value, list):
        return "[" + ",".join(_encoded(item) for item in value) + "]"
    if isinstance(value, str):
        return _string(value)
    return _literal(value)


def _code_units(member: tuple[str, JsonValue]) -> list[int]:
    """Return the name as UTF-16 code units.

    By hand, as Python's codec would be read from a file, and a confined enclave has none.
    """
    units: list[int] = []
    for character in member[0]:
        point = ord(character)
        if point < _FIRST_PAIR:
            units.append(point)
        else:
            high, low = divmod(point - _FIRST_PAIR, 0x400)
            units += (0xD800 + high, 0xDC00 + low)
    return units


def _string(text: str) -> str:
    if _SURROGATE.search(text):
        raise FormatError("a lone surrogate has no canonical form")
    # Python escapes what ECMAScript escapes, and in the same way, when all else stays as it is.
    return json.dumps(text, ensure_ascii=False)


def _literal(value: object) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Number):
        return value.text
    if not isinstance(value, int):
        raise FormatError(f"a {type(value).__name__} has no canonical form")
    return str(value)
