# SPDX-License-Identifier: Apache-2.0
"""The tree of commands: found by name, imported only when used, each explaining itself.

``--help``, the man page, the reference and shell completion all come from this tree.
"""

import importlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Concatenate, Final, ParamSpec

import click

from strongroom import __version__
from strongroom._override import override
from strongroom.cli.output import emit
from strongroom.cli.session import Session
from strongroom.errors import InternalError, StrongroomError

PROGRAM: Final = "strongroom"
COMPLETE: Final = "_STRONGROOM_COMPLETE"
"""The variable that a shell sets while it completes; click handles what it holds."""

COMMANDS: Final = {
    "format": "strongroom.cli.commands.format:format_command",
    "open": "strongroom.cli.commands.open:open_command",
    "close": "strongroom.cli.commands.close:close_command",
    "list": "strongroom.cli.commands.list:list_command",
    "status": "strongroom.cli.commands.status:status_command",
    "serve": "strongroom.cli.commands.serve:serve_command",
    "setkey": "strongroom.cli.commands.setkey:setkey_command",
    "identity": "strongroom.cli.commands.identity:identity_command",
    "dump": "strongroom.cli.commands.dump:dump_command",
    "slot": "strongroom.cli.commands.slot:slot_group",
    "reseal": "strongroom.cli.commands.reseal:reseal_command",
    "forget": "strongroom.cli.commands.forget:forget_command",
    "header": "strongroom.cli.commands.header:header_group",
    "tpm": "strongroom.cli.commands.tpm:tpm_group",
    "selftest": "strongroom.cli.commands.selftest:selftest_command",
    "doctor": "strongroom.cli.commands.doctor:doctor_command",
    "bench": "strongroom.cli.commands.bench:bench_command",
    "completion": "strongroom.cli.commands.completion:completion_command",
}
"""Where each command lives, in the order in which help lists them."""

WIDE_COLUMNS: Final = 70
"""From this width on, help has two columns."""

P = ParamSpec("P")


def _show_help(context: click.Context, _parameter: click.Parameter, value: bool) -> None:  # noqa: FBT001 - click's callback
    if value and not context.resilient_parsing:
        emit(context.get_help())
        context.exit()


def _show_version(context: click.Context, _parameter: click.Parameter, value: bool) -> None:  # noqa: FBT001 - click's callback
    if value and not context.resilient_parsing:
        emit(f"{PROGRAM} {__version__}")
        context.exit()


def _set_debug(context: click.Context, _parameter: click.Parameter, value: bool) -> None:  # noqa: FBT001 - click's callback
    context.ensure_object(Session).debug = value


def _help_option() -> click.Option:
    return click.Option(
        ["--help", "-h"],
        is_flag=True,
        is_eager=True,
        expose_value=False,
        callback=_show_help,
        help="Show this help and exit.",
    )


class Formatter(click.HelpFormatter):
    """Help that can be read on a narrow terminal: descriptions go below what they describe."""

    @override
    def write_dl(
        self, rows: Iterable[tuple[str, str]], col_max: int = 30, col_spacing: int = 2
    ) -> None:
        """Write terms and descriptions side by side, if there is room for that."""
        super().write_dl([*rows], col_max if self.width >= WIDE_COLUMNS else 8, col_spacing)


class Context(click.Context):
    """A context whose help is written by :class:`Formatter`."""

    formatter_class = Formatter


class Command(click.Command):
    """A command with examples that work and the exit codes that are worth knowing.

    Attributes:
        examples: Shell lines.
        exits: Errors beyond the usual ones, with the codes that scripts may ask for.
    """

    context_class = Context

    def __init__(
        self,
        name: str,
        callback: Callable[..., None],
        *,
        examples: Sequence[str],
        exits: Sequence[type[StrongroomError]],
    ) -> None:
        parameters = list(reversed(getattr(callback, "__click_params__", [])))
        super().__init__(
            name,
            callback=callback,
            params=[*parameters, _help_option()],
            help=callback.__doc__,
            add_help_option=False,
        )
        self.examples = tuple(examples)
        self.exits = tuple(sorted(set(exits), key=lambda kind: kind.exit_code))

    @override
    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the examples and the exit codes below the options."""
        super().format_epilog(ctx, formatter)
        with formatter.section("Examples"):
            for line in self.examples:
                formatter.write(f"{'':{formatter.current_indent}}{line}\n")
        if self.exits:
            with formatter.section("Exit codes"):
                formatter.write_dl([(str(kind.exit_code), kind.summary) for kind in self.exits])


class Group(click.Group):
    """A command that only holds others, which are imported when they are named."""

    context_class = Context

    def __init__(
        self, name: str, *, about: str, places: Mapping[str, str], options: Sequence[click.Option]
    ) -> None:
        super().__init__(
            name,
            help=about,
            params=[*options, _help_option()],
            add_help_option=False,
            no_args_is_help=False,
            subcommand_metavar="COMMAND [ARGS]...",
        )
        self._places = dict(places)

    @override
    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the command that the first argument names, or say which was probably meant."""
        if args and args[0] not in self._places and not args[0].startswith("-"):
            import difflib  # noqa: PLC0415 - for a typing error only

            near = difflib.get_close_matches(args[0], self._places, 1)
            meant = f" (Did you mean {near[0]!r}?)" if near else ""
            ctx.fail(f"no such command {args[0]!r}{meant}")
        return super().resolve_command(ctx, args)

    @override
    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of all commands, in the order of the table."""
        del ctx
        return list(self._places)

    @override
    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import one command."""
        del ctx
        if cmd_name not in self._places:
            return None
        module, _, attribute = self._places[cmd_name].partition(":")
        found = getattr(importlib.import_module(module), attribute)
        if not isinstance(found, click.Command):
            raise InternalError(f"{cmd_name} is not a command")
        return found


def command(
    name: str, *, examples: Sequence[str], exits: Sequence[type[StrongroomError]] = ()
) -> Callable[[Callable[Concatenate[Session, P], None]], Command]:
    """Make a function a command; its docstring is the help, its first argument the session."""

    def make(function: Callable[Concatenate[Session, P], None]) -> Command:
        return Command(name, click.pass_obj(function), examples=examples, exits=exits)

    return make


root = Group(
    PROGRAM,
    about="""Disk encryption whose key never leaves an enclave.

    Volumes are LUKS2 images. An enclave process holds the key, does the encryption and serves the
    decrypted volume as a block device; the host around it never has the key.
    """,
    places=COMMANDS,
    options=(
        click.Option(
            ["--version", "-V"],
            is_flag=True,
            is_eager=True,
            expose_value=False,
            callback=_show_version,
            help="Show the version and exit.",
        ),
        click.Option(
            ["--debug"],
            is_flag=True,
            is_eager=True,
            expose_value=False,
            callback=_set_debug,
            help="Show a traceback when Strongroom itself is at fault.",
        ),
    ),
)
