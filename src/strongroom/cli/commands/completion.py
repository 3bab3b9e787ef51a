# SPDX-License-Identifier: Apache-2.0
"""``strongroom completion``: the script that teaches a shell our commands."""

from typing import Literal

import click
from click.shell_completion import get_completion_class

from strongroom.cli.output import emit
from strongroom.cli.session import Session
from strongroom.cli.tree import COMPLETE, PROGRAM, command, root
from strongroom.errors import InternalError


@command(
    "completion",
    examples=(
        "strongroom completion bash > /etc/bash_completion.d/strongroom",
        "strongroom completion zsh > ~/.zfunc/_strongroom",
        "strongroom completion fish > ~/.config/fish/completions/strongroom.fish",
    ),
)
@click.argument("shell", metavar="SHELL", type=click.Choice(("bash", "zsh", "fish")))
def completion_command(session: Session, *, shell: Literal["bash", "zsh", "fish"]) -> None:
    """Print the completion script for SHELL: bash, zsh or fish.

    It completes commands, options, files and the names of open volumes.
    """
    del session
    kind = get_completion_class(shell)
    if kind is None:
        raise InternalError(f"no completion for {shell}")
    script = kind(root, {}, PROGRAM, COMPLETE).source().rstrip("\n")
    # Descriptions have commas too: only the first one ends the kind of a completion.
    emit(script.replace('string split "," ', 'string split --max 1 "," '))
