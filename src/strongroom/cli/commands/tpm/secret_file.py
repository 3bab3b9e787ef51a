# SPDX-License-Identifier: Apache-2.0
"""What a TPM is to keep, or to ask for, in a file: bounded before any TPM hears of it."""

from __future__ import annotations

import os
from typing import Final

from strongroom._core import MAX_PASSPHRASE_BYTES, Secret, read_secret_file
from strongroom.cli.passphrase import opened_input
from strongroom.errors import EmptyPassphraseError, PassphraseInputError, UsageError
from strongroom.values import dataclass


@dataclass(frozen=True, slots=True)
class Kind:
    """What a file holds."""

    called: str
    option: str
    most_bytes: int
    too_long: str
    """What to do about more than that."""


AUTHORIZATION: Final = Kind(
    "authorization value",
    "--auth-file",
    32,  # a TPM takes no more than the digest of the object's Name has: SHA-256 here
    "`strongroom tpm random 32` makes one that nobody guesses",
)
SEALED_DATA: Final = Kind(
    "data",
    "--data-file",
    128,  # TPM 2.0 Part 2, MAX_SYM_DATA
    "encrypt it with a key, and seal the key",
)
INDEX_DATA: Final = Kind(
    "data",
    "--data-file",
    2048,  # the largest index that `nv define` makes
    "no NV index holds more",
)


class SecretFile:
    """A secret in a file, which the host may read too if it is asked to use the TPM itself.

    On standard input when the name is ``-``.
    """

    attempts: Final = 1

    def __init__(self, name: str, kind: Kind) -> None:
        self._name = name
        self._kind = kind

    def read(self, prompt: str, *, confirm: bool) -> Secret:
        """Read to the end; one trailing newline is dropped. Nothing is asked or confirmed.

        Raises:
            UsageError: There is more than the kind allows.
            NotFoundError: There is no such file.
            NoPermissionError: The file may not be read.
            PassphraseInputError: It cannot be read.
            EmptyPassphraseError: There is nothing in it.
        """
        del prompt, confirm
        called = self._kind.called
        with opened_input(self._name, called=called, option=self._kind.option) as file:
            try:
                secret = read_secret_file(file)
            except EmptyPassphraseError as err:
                raise self._empty() from err
            except PassphraseInputError as err:
                if str(MAX_PASSPHRASE_BYTES) in err.message:
                    raise self._too_long() from err
                raise PassphraseInputError(err.message.replace("passphrase", called)) from err
        if secret.length_bytes > self._kind.most_bytes:
            secret.erase()
            raise self._too_long()
        return secret

    def read_open(self) -> bytes:
        """Return the same bytes, for the host. Raises as :meth:`read`."""
        most, content = self._kind.most_bytes + len(b"\n"), b""
        with opened_input(self._name, called=self._kind.called, option=self._kind.option) as file:
            try:
                while len(content) <= most and (part := os.read(file, most + 1 - len(content))):
                    content += part
            except OSError as err:
                called, reason = self._kind.called, err.strerror
                raise PassphraseInputError(f"cannot read the {called}: {reason}") from err
        content = content.removesuffix(b"\n")
        if not content:
            raise self._empty()
        if len(content) > self._kind.most_bytes:
            raise self._too_long()
        return content

    def _empty(self) -> EmptyPassphraseError:
        return EmptyPassphraseError(
            f"the {self._kind.called} is empty", hint=f"look at {self._place}"
        )

    def _too_long(self) -> UsageError:
        return UsageError(
            f"the {self._kind.called} has more than {self._kind.most_bytes} bytes ({self._place})",
            hint=self._kind.too_long,
        )

    @property
    def _place(self) -> str:
        return "standard input" if self._name == "-" else self._name
