# SPDX-License-Identifier: Apache-2.0
"""Names of a package that are imported when they are first used, as starting must be quick."""

import importlib
import sys
from collections.abc import Callable, Mapping


def exports(package: str, where: Mapping[str, str]) -> Callable[[str], object]:
    """Return what ``__getattr__`` of a package or module should be.

    Checkers must see the names by an import below ``if TYPE_CHECKING``.

    Args:
        package: The ``__name__`` of who exports.
        where: The module of each name.
    """

    def import_name(name: str) -> object:
        if name not in where:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        found: object = getattr(importlib.import_module(where[name]), name)
        setattr(sys.modules[package], name, found)
        return found

    return import_name
