# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: PTH100, PTH116, PTH118, SIM105
"""The first code of an enclave: ``python -I -S .../strongroom/enclave/start.py OPTION...``.

It decides where all other code comes from. ``-I`` and ``-S`` keep the environment, ``site``, the
``.pth`` files and ``sitecustomize`` out of the process; this file adds the folder that it lies in
behind Python's own library. What is imported from there is measured.

With ``-X pycache_prefix=/dev/null``, as the ``process`` provider is started, Python also finds none
of the byte code that lies beside sources: a file there can hold anything under the time stamp of an
unchanged source. Compiling at each start would take three times as long as the start itself, so an
enclave keeps its own byte code in ``STATE/process``, and finds it by the digest of the source that
it has just read. Whoever can write there can read the platform's root secret, too.
"""

import _imp
import marshal
import os
import stat
import sys
from _frozen_importlib_external import (
    MAGIC_NUMBER,
    SOURCE_SUFFIXES,
    ExtensionFileLoader,
    FileFinder,
    SourceFileLoader,
)

try:
    from _sha2 import sha256  # type: ignore[import-not-found, unused-ignore]
except ImportError:  # before Python 3.12
    from _sha256 import sha256  # type: ignore[import-not-found, unused-ignore]

# What is imported up to here is frozen into Python or built in: all else would be compiled anew.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import CodeType
    from typing import Final

_MOST_MODULES: "Final" = 600
"""With more of them, only those of this start are kept: the others are of older versions."""
_MOST_BYTES: "Final" = 64 << 20
_DIGEST_BYTES: "Final" = 32
_DIRECTORY: "Final" = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_READ: "Final" = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_MAKE: "Final" = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_ANY_OTHER: "Final" = stat.S_IRWXG | stat.S_IRWXO
_OTHER_WRITES: "Final" = stat.S_IWGRP | stat.S_IWOTH
_KIND: "Final" = b"strongroom byte code 1\0" + MAGIC_NUMBER


class ByteCode:
    """The code of modules by the digest of their sources, kept in a file between starts."""

    def __init__(self, state: str) -> None:
        """Read what earlier starts have kept; nothing, if others may write or read there."""
        self._directory = os.path.join(state, "process")
        self._name = f"code.{sys.implementation.cache_tag}.{sys.flags.optimize}"
        self._known = self._read(state)
        self._used: dict[bytes, CodeType] = {}

    def of(self, source: bytes, path: str) -> "CodeType":
        """Return the code of a module's source.

        Raises:
            SyntaxError: The source is no Python.
        """
        key = sha256(os.fsencode(path) + b"\0" + source).digest()
        code = self._known.get(key)
        if code is None:
            code = compile(source, path, "exec", dont_inherit=True)
        self._used[key] = code
        return code

    def keep(self) -> None:
        """Write down what was compiled, if the file system lets us, and forget it here."""
        together = {**self._known, **self._used}
        if len(together) > _MOST_MODULES:
            together = self._used
        if together.keys() != self._known.keys():
            try:
                self._write(marshal.dumps(together))
            except OSError:
                pass  # the next start compiles again
        self._known = self._used = {}

    def _read(self, state: str) -> "dict[bytes, CodeType]":
        try:
            # As the store of the root secret asks for it; the enclave's user is known here still.
            _check(os.stat(state), _OTHER_WRITES, (0, os.geteuid()))
            directory = os.open(self._directory, _DIRECTORY)
            try:
                _check(os.fstat(directory), _ANY_OTHER)
                file = os.open(self._name, _READ, dir_fd=directory)
            finally:
                os.close(directory)
            with os.fdopen(file, "rb") as stream:
                facts = os.fstat(stream.fileno())
                _check(facts, _ANY_OTHER)
                if not stat.S_ISREG(facts.st_mode) or facts.st_size > _MOST_BYTES:
                    return {}
                content = stream.read(_MOST_BYTES)
        except OSError:
            return {}
        return _decoded(content)

    def _write(self, body: bytes) -> None:
        directory = os.open(self._directory, _DIRECTORY)
        draft = f".{self._name}.{os.urandom(8).hex()}"
        try:
            with os.fdopen(os.open(draft, _MAKE, 0o600, dir_fd=directory), "wb") as stream:
                stream.write(_KIND + sha256(body).digest() + body)
            os.rename(draft, self._name, src_dir_fd=directory, dst_dir_fd=directory)
        finally:
            os.close(directory)


def _check(facts: os.stat_result, forbidden: int, owners: tuple[int, ...] | None = None) -> None:
    if facts.st_uid not in (owners or (os.geteuid(),)) or facts.st_mode & forbidden:
        raise PermissionError


def _decoded(content: bytes) -> "dict[bytes, CodeType]":
    """Return what a file says, or nothing if it is of another Python or was cut short."""
    begin = len(_KIND) + _DIGEST_BYTES
    body = content[begin:]
    if content[:begin] != _KIND + sha256(body).digest():
        return {}
    code: dict[bytes, CodeType] = marshal.loads(body)  # noqa: S302 - is as trusted as the root secret beside it
    return code


def import_through(code: ByteCode) -> None:
    """Have modules imported from sources and extension modules only, never from byte code."""

    class Loader(SourceFileLoader):
        def get_code(self, fullname: str) -> "CodeType":  # type: ignore[explicit-override] # needs typing
            path = self.get_filename(fullname)
            return code.of(self.get_data(path), path)

    extensions = (ExtensionFileLoader, _imp.extension_suffixes())
    sys.path_hooks[:] = [FileFinder.path_hook(extensions, (Loader, SOURCE_SUFFIXES))]
    sys.path_importer_cache.clear()


def begin(words: list[str]) -> "Callable[[], None]":
    """Settle where code comes from; return what is to be called when all of it is loaded.

    Args:
        words: The options of the enclave; ``--state`` matters here.
    """
    file = os.path.abspath(__file__)
    sys.path.append(file.removesuffix("/strongroom/enclave/start.py"))
    if sys.pycache_prefix is None or "--state" not in words[:-1]:
        return lambda: None
    code = ByteCode(words[words.index("--state") + 1])
    import_through(code)
    # An enclave that only looks leaves the state directory as it is.
    return (lambda: None) if "--look-only" in words else code.keep


if __name__ == "__main__":
    all_is_loaded = begin(sys.argv[1:])
    from strongroom.enclave.entry import end_with

    end_with(all_is_loaded)
