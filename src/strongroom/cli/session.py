# SPDX-License-Identifier: Apache-2.0
"""One run of the command line: what was asked for globally, and how it reaches the host."""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING

from strongroom.cli.output import emit, json_line
from strongroom.errors import OutputError, StrongroomError, WrongPassphraseError

if TYPE_CHECKING:
    from pathlib import Path

    from strongroom.cli.host import Volumes
    from strongroom.cli.passphrase import PassphraseInput
    from strongroom.cli.progress import CommandReporter


_IMAGE = re.compile(r"\bIMAGE\b(?!=)")


def _quoted(path: Path) -> str:
    """Return a path as a shell reads it; one that begins with a hyphen is no option then."""
    import shlex  # noqa: PLC0415 - for errors only

    text = str(path)
    return shlex.quote(f"./{text}" if text.startswith("-") else text)


class Session:
    """The object that every command gets first.

    Attributes:
        debug: Show tracebacks of bugs.
        json: Print facts, and errors, as JSON.
        printed: Facts are on standard output already.
        image: The image that the command names, if it names one.
        header: Its detached header, if the command names one.
        passphrase: Where the command's existing passphrase comes from, if it takes one.
    """

    def __init__(self, volumes: Volumes | None = None) -> None:
        self.debug = False
        self.json = False
        self.printed = False
        self.image: Path | None = None
        self.header: Path | None = None
        self.passphrase: PassphraseInput | None = None
        self._volumes = volumes

    @property
    def volumes(self) -> Volumes:
        """The host, imported on first use because starting must be quick."""
        if self._volumes is None:
            from strongroom.host import volumes  # noqa: PLC0415 - only commands that ask the host

            self._volumes = volumes
        return self._volumes

    def with_image(self, hint: str) -> str:
        """Return a hint with the image of this command in the place of the word ``IMAGE``."""
        if self.image is None or not _IMAGE.search(hint):
            return hint
        words = _quoted(self.image)
        if self.header is not None:
            words = f"{words} --header {_quoted(self.header)}"
        return _IMAGE.sub(lambda _: words, hint)

    def show(self, facts: object, text: str, *, done: str = "") -> None:
        """Print the result of a command: ``facts`` with ``--json``, else ``text``.

        Args:
            facts: What is printed with ``--json``.
            text: What is printed without it.
            done: What the command changed, as a sentence, for the error if printing fails.

        Raises:
            OutputError: Standard output cannot be written.
            ReaderGoneError: Its reader left.
        """
        try:
            emit(json_line(facts) if self.json else text)
        except OutputError as error:
            raise OutputError(f"{done}, but {error.message}" if done else error.message) from error
        self.printed = True

    def advised(self, error: StrongroomError) -> StrongroomError:
        """Return the error, with what may be wrong with the passphrase where it opens nothing."""
        if type(error) is not WrongPassphraseError or error.hint or self.passphrase is None:
            return error
        return WrongPassphraseError(error.message, hint=self.passphrase.advice)

    def reporter(self) -> CommandReporter:
        """Return where progress goes: a bar on a terminal, nothing but notices elsewhere."""
        from strongroom.cli.progress import PlainReporter, TerminalReporter  # noqa: PLC0415

        on_terminal = sys.stderr is not None and sys.stderr.isatty()
        return TerminalReporter() if on_terminal else PlainReporter()
