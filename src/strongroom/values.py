# SPDX-License-Identifier: Apache-2.0
"""Frozen values with slots: :func:`dataclasses.dataclass`, for processes that must start quickly.

The standard decorator writes and compiles six functions for every class, and needs ``inspect``. An
enclave has a hundred such classes, and they were most of the time that it took to start. Here all
classes share functions that read the names of the fields from the class.

Checkers see the standard library's names, whose contract is kept for what is used here: annotated
fields in order, defaults that are immutable, ``ClassVar``, comparison and hash by value. Fields
are not inherited. What asks :mod:`dataclasses` itself about such a class is answered.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar, Final, get_origin

__all__ = ["asdict", "dataclass", "field_names", "is_value", "replace"]

if TYPE_CHECKING:
    from dataclasses import asdict, dataclass, replace


def is_value(kind: object) -> bool:
    """Tell whether this is a class that :func:`dataclass` made."""
    return isinstance(kind, type) and "__value_defaults__" in vars(kind)


def field_names(kind: type) -> tuple[str, ...]:
    """Return the names of the fields of a value's class, in order."""
    names: tuple[str, ...] = vars(kind)["__match_args__"]
    return names


def _dataclass(*, frozen: bool, slots: bool) -> Callable[[type], type]:
    """Return a class decorator; both flags are said for checkers, and must be true."""
    if not (frozen and slots):
        raise TypeError("a value is frozen and has slots")
    return _with_slots


def _replace(value: object, /, **changes: object) -> object:
    """Return a copy with other contents; one without such a field is a ``TypeError``."""
    return type(value)(**{**_fields(value), **changes})


def _asdict(value: object) -> dict[str, object]:
    """Return the fields by name, and of values inside of them and inside of tuples the same."""
    return {name: _plain(content) for name, content in _fields(value).items()}


def _with_slots(kind: type) -> type:
    """Return the class anew: slots can only be given to a class that is being made."""
    namespace = dict(vars(kind))
    annotations: dict[str, object] = namespace.get("__annotations__", {})
    names = tuple(name for name, hint in annotations.items() if get_origin(hint) is not ClassVar)
    defaults = {name: namespace.pop(name) for name in names if name in namespace}
    for of_the_plain_class in ("__dict__", "__weakref__"):
        namespace.pop(of_the_plain_class, None)
    for name, function in _SHARED.items():
        namespace.setdefault(name, function)
    namespace |= {"__slots__": names, "__match_args__": names, "__value_defaults__": defaults}
    namespace["__qualname__"] = kind.__qualname__
    made: type = type(kind)(kind.__name__, kind.__bases__, namespace)
    return made


def _fields(value: object) -> dict[str, object]:
    return {name: getattr(value, name) for name in field_names(type(value))}


def _contents(value: object) -> tuple[object, ...]:
    return tuple(getattr(value, name) for name in field_names(type(value)))


def _plain(content: object) -> object:
    if is_value(type(content)):
        return _asdict(content)
    if isinstance(content, tuple):
        return tuple(_plain(item) for item in content)
    return content


# --- what all classes share -----------------------------------------------------------------------


def _init(self: object, /, *given: object, **named: object) -> None:
    kind = type(self)
    names = field_names(kind)
    contents = dict(zip(names, given, strict=False))
    twice = contents.keys() & named.keys()
    contents = {**vars(kind)["__value_defaults__"], **contents, **named}
    if len(given) > len(names) or twice or contents.keys() != set(names):
        wanted = ", ".join(names) or "nothing"
        raise TypeError(f"{kind.__name__} takes {wanted}, each once")
    for name, content in contents.items():
        object.__setattr__(self, name, content)


def _repr(self: object) -> str:
    contents = ", ".join(f"{name}={content!r}" for name, content in _fields(self).items())
    return f"{type(self).__qualname__}({contents})"


def _eq(self: object, other: object) -> object:
    if type(self) is not type(other):
        return NotImplemented
    return _contents(self) == _contents(other)


def _hash(self: object) -> int:
    return hash(_contents(self))


def _set(self: object, name: str, _: object) -> None:
    raise AttributeError(f"{name!r} of {type(self).__name__} cannot be changed")


def _delete(self: object, name: str) -> None:
    raise AttributeError(f"{name!r} of {type(self).__name__} cannot be removed")


def _reduce(self: object) -> tuple[type, tuple[object, ...]]:
    return type(self), _contents(self)


_STANDARD: Final = "__dataclass_fields__"


class _StandardFields:
    """What :mod:`dataclasses` looks for, made when somebody looks."""

    def __get__(self, _: object, kind: type) -> object:
        import dataclasses  # noqa: PLC0415 - who asks has it already; nobody else should load it

        defaults = vars(kind)["__value_defaults__"]
        fields = [
            (name, hint, dataclasses.field(default=defaults.get(name, dataclasses.MISSING)))
            for name, hint in kind.__annotations__.items()
            if name in field_names(kind)
        ]
        return vars(dataclasses.make_dataclass(kind.__name__, fields, kw_only=True))[_STANDARD]


_SHARED = {
    "__init__": _init,
    "__repr__": _repr,
    "__eq__": _eq,
    "__hash__": _hash,
    "__setattr__": _set,
    "__delattr__": _delete,
    "__reduce__": _reduce,
    _STANDARD: _StandardFields(),
}

if not TYPE_CHECKING:
    asdict, dataclass, replace = _asdict, _dataclass, _replace
