# SPDX-License-Identifier: Apache-2.0
"""Which TPM: ``--tpm TCTI``, written as for tpm2-tools.

No environment variable names a TPM, and nothing is tried in turn: who could set the variable, or
take the first device away, would choose the TPM.
"""

import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, Literal, TypeAlias

from strongroom.errors import UsageError
from strongroom.values import dataclass

_DEFAULT_PORT: Final = 2321
_MAX_PORT: Final = 65535
_MAX_SOCKET_PATH_BYTES: Final = 107
"""sockaddr_un holds 108 bytes with the final NUL."""
_LOCALHOST: Final = "127.0.0.1"
_TABRMD: Final = "com.intel.tss2.Tabrmd"

_PORT: Final = re.compile("[1-9][0-9]{0,4}")
_HOST: Final = re.compile("[A-Za-z0-9._:%-]{1,253}")
_BUS_NAME: Final = re.compile("(?=.{3,255}$)[A-Za-z_-][A-Za-z0-9_-]*([.][A-Za-z_-][A-Za-z0-9_-]*)+")

_FORMS: Final = (
    "device[:/dev/tpmrm0], swtpm[:path=SOCKET] or swtpm[:host=HOST,port=PORT],"
    " mssim[:host=HOST,port=PORT], tabrmd[:bus_type=system|session,bus_name=NAME], tbs"
)

BusType = Literal["system", "session"]


@dataclass(frozen=True, slots=True)
class DeviceAddress:
    """A character device of the kernel. ``path`` is absolute."""

    path: str = "/dev/tpmrm0"

    @property
    def text(self) -> str:
        """How ``--tpm`` names it."""
        return f"device:{self.path}"


@dataclass(frozen=True, slots=True)
class SwtpmSocketAddress:
    """An swtpm behind a UNIX socket. ``path`` is absolute and fits into a socket address."""

    path: str

    @property
    def text(self) -> str:
        """See :attr:`DeviceAddress.text`."""
        return f"swtpm:path={self.path}"


@dataclass(frozen=True, slots=True)
class SwtpmAddress:
    """An swtpm behind a TCP port."""

    host: str = _LOCALHOST
    port: int = _DEFAULT_PORT

    @property
    def text(self) -> str:
        """See :attr:`DeviceAddress.text`."""
        return f"swtpm:host={self.host},port={self.port}"


@dataclass(frozen=True, slots=True)
class MssimAddress:
    """Microsoft's simulator, or what speaks like it. Its platform listens one port above."""

    host: str = _LOCALHOST
    port: int = _DEFAULT_PORT

    @property
    def text(self) -> str:
        """See :attr:`DeviceAddress.text`."""
        return f"mssim:host={self.host},port={self.port}"


@dataclass(frozen=True, slots=True)
class TabrmdAddress:
    """The access broker, by its name on a message bus."""

    bus_type: BusType = "system"
    bus_name: str = _TABRMD

    @property
    def text(self) -> str:
        """See :attr:`DeviceAddress.text`."""
        return f"tabrmd:bus_type={self.bus_type},bus_name={self.bus_name}"


@dataclass(frozen=True, slots=True)
class TbsAddress:
    """The TPM Base Services of Windows, which have one TPM."""

    @property
    def text(self) -> str:
        """See :attr:`DeviceAddress.text`."""
        return "tbs:"


Address: TypeAlias = (
    DeviceAddress | SwtpmSocketAddress | SwtpmAddress | MssimAddress | TabrmdAddress | TbsAddress
)
"""Where a TPM is. Its ``text`` is parsed as the same."""

DEFAULT_ADDRESS: Final = DeviceAddress()
"""The kernel's resource manager. ``/dev/tpm0``, without one, is never used unless it is named."""


def parse_address(text: str) -> Address:
    """Return what ``--tpm`` names.

    Every option may be there once, in any order; a kind alone, with or without its colon, means
    its defaults. A relative path is one of the current directory and is returned absolute. No path
    has a comma in it, as in tpm2-tools.

    Raises:
        UsageError: It is none of the forms; the hint lists them.
    """
    kind, _, rest = text.partition(":")
    parse = _KINDS.get(kind)
    if parse is None:
        raise _wrong(text, f"{kind!r} is no kind of TPM")
    try:
        return parse(rest)
    except ValueError as err:
        raise _wrong(text, str(err)) from None


def _device(rest: str) -> Address:
    return DeviceAddress(_path(rest)) if rest else DEFAULT_ADDRESS


def _swtpm(rest: str) -> Address:
    options = _options(rest, ("path", "host", "port"))
    if "path" not in options:
        return SwtpmAddress(_host(options), _port(options, _MAX_PORT))
    if len(options) > 1:
        raise ValueError("a path and a host or port are two places")
    path = _path(options["path"])
    if len(os.fsencode(path)) > _MAX_SOCKET_PATH_BYTES:
        raise ValueError(f"a socket's path has at most {_MAX_SOCKET_PATH_BYTES} bytes")
    return SwtpmSocketAddress(path)


def _mssim(rest: str) -> Address:
    options = _options(rest, ("host", "port"))
    return MssimAddress(_host(options), _port(options, _MAX_PORT - 1))


def _tabrmd(rest: str) -> Address:
    options = _options(rest, ("bus_type", "bus_name"))
    bus_name = options.get("bus_name", _TABRMD)
    if not _BUS_NAME.fullmatch(bus_name):
        raise ValueError(f"{bus_name!r} is no bus name")
    match options.get("bus_type", "system"):
        case "system":
            return TabrmdAddress("system", bus_name)
        case "session":
            return TabrmdAddress("session", bus_name)
        case other:
            raise ValueError(f"bus_type is system or session, not {other!r}")


def _tbs(rest: str) -> Address:
    if rest:
        raise ValueError("tbs has no options")
    return TbsAddress()


_KINDS: Final[Mapping[str, Callable[[str], Address]]] = {
    "device": _device,
    "swtpm": _swtpm,
    "mssim": _mssim,
    "tabrmd": _tabrmd,
    "tbs": _tbs,
}


def _options(rest: str, allowed: tuple[str, ...]) -> dict[str, str]:
    options: dict[str, str] = {}
    for part in rest.split(",") if rest else ():
        name, equals, value = part.partition("=")
        if name not in allowed or not equals or not value:
            raise ValueError(f"{part!r} is not one of {', '.join(f'{key}=' for key in allowed)}")
        if name in options:
            raise ValueError(f"{name} is there twice")
        options[name] = value
    return options


def _host(options: Mapping[str, str]) -> str:
    host = options.get("host", _LOCALHOST)
    if not _HOST.fullmatch(host):
        raise ValueError(f"{host!r} is no host")
    try:
        host.encode("idna")  # as it is looked up: no empty label, and none of more than 63 bytes
    except UnicodeError:
        raise ValueError(f"{host!r} is no host") from None
    return host


def _port(options: Mapping[str, str], most: int) -> int:
    text = options.get("port", str(_DEFAULT_PORT))
    if not _PORT.fullmatch(text) or int(text) > most:
        raise ValueError(f"{text!r} is no port from 1 to {most}")
    return int(text)


def _path(text: str) -> str:
    if "\0" in text or "," in text:
        raise ValueError("a path has no comma and no NUL in it")
    return str(Path(text).absolute())


def _wrong(text: str, why: str) -> UsageError:
    return UsageError(f"{text!r} names no TPM: {why}", hint=f"use one of: {_FORMS}")
