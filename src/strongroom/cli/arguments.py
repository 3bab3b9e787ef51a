# SPDX-License-Identifier: Apache-2.0
"""Types of arguments, and the options that several commands share."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, TypedDict, TypeVar

import click

from strongroom._override import override
from strongroom.cli.session import Session
from strongroom.cli.sizes import parse_memory, parse_size
from strongroom.errors import StrongroomError, UnavailableError, UsageError
from strongroom.uuids import is_uuid

if TYPE_CHECKING:
    from os import PathLike

    from click.shell_completion import CompletionItem

    from strongroom.host.contracts import SealPolicy, TeeName
    from strongroom.units import ByteCount, KibiBytes

Function = TypeVar("Function", bound=Callable[..., None])

NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}", re.ASCII)
"""What a volume may be called: it becomes a file name and a part of a URI."""


class VolumeName(click.ParamType[str]):
    """A name for a volume."""

    name = "name"

    @override
    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the name unchanged.

        Raises:
            UsageError: It is not a name.
        """
        del param, ctx
        if NAME.fullmatch(value) is None:
            raise UsageError(
                f"not a volume name: {value}",
                hint="letters, digits, and . _ - after the first; 63 characters at most",
            )
        return value


class OpenVolumeName(VolumeName):
    """The name of a volume that is open, which the shell can complete."""

    @override
    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """Return the open volumes whose names begin so; none when the host cannot tell."""
        from click.shell_completion import CompletionItem  # noqa: PLC0415 - not needed to run

        from strongroom.host.silence import Silent  # noqa: PLC0415 - the same

        del param
        try:
            volumes = ctx.ensure_object(Session).volumes.list_volumes(Silent())
            names = [volume.name for volume in volumes]
        except StrongroomError:
            return []
        return [CompletionItem(name) for name in names if name.startswith(incomplete)]


class FilePath(click.Path):
    """A path, which may or may not exist: that is for the host to find out."""

    def __init__(self) -> None:
        super().__init__(path_type=Path)

    @override
    def convert(
        self,
        value: str | PathLike[str],
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> Path:
        """Return the path.

        Raises:
            UsageError: It is empty.
        """
        del param, ctx
        if not str(value):
            raise UsageError("a path is empty", hint="look at the variable that it came from")
        return Path(value)


class VolumeReference(click.ParamType[str]):
    """A volume by its UUID, or by the path of its image, which the shell can complete."""

    name = "volume"

    @override
    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return it unchanged.

        Raises:
            UsageError: It is empty.
        """
        if not is_uuid(value):
            _note_image(ctx, FilePath().convert(value, param, ctx))
        return value

    @override
    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """Leave files to the shell."""
        return click.Path().shell_complete(ctx, param, incomplete)


class Size(click.ParamType["ByteCount"]):
    """A size in bytes, or with a unit."""

    name = "size"

    @override
    def convert(
        self, value: str, param: click.Parameter | None, ctx: click.Context | None
    ) -> ByteCount:
        """Return bytes; raise UsageError for what is not a size."""
        del param, ctx
        return parse_size(value)


class Memory(click.ParamType["KibiBytes"]):
    """An amount of memory in KiB, or with a unit."""

    name = "memory"

    @override
    def convert(
        self, value: str, param: click.Parameter | None, ctx: click.Context | None
    ) -> KibiBytes:
        """Return KiB; raise UsageError for what is not a size."""
        del param, ctx
        return parse_memory(value)


class Attachment(click.Choice[str]):
    """A way to attach. ``ublk`` was one once, and is refused with what there is instead."""

    @override
    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> str:
        """Return the way.

        Raises:
            UnavailableError: It is ``ublk``.
        """
        if value == "ublk":
            raise UnavailableError(
                "this version does not attach by ublk", hint="use --attach nbd, fuse or none"
            )
        return super().convert(value, param, ctx)


def _set_json(context: click.Context, _parameter: click.Parameter, value: bool) -> None:  # noqa: FBT001 - click's callback
    context.ensure_object(Session).json = value


json_option = click.option(
    "--json",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_set_json,
    help="Print one line of JSON; an error is an object there too.",
)


def _keep_image(context: click.Context, _parameter: click.Parameter, value: Path) -> Path:
    _note_image(context, value)
    return value


def _keep_header(
    context: click.Context, _parameter: click.Parameter, value: Path | None
) -> Path | None:
    context.ensure_object(Session).header = value
    return value


def _note_image(context: click.Context | None, image: Path) -> None:
    if context is not None:
        context.ensure_object(Session).image = image


image_argument = click.argument("image", metavar="IMAGE", type=FilePath(), callback=_keep_image)
new_name_argument = click.argument("name", metavar="NAME", type=VolumeName())
open_name_argument = click.argument("name", metavar="NAME", type=OpenVolumeName())
header_option = click.option(
    "--header",
    metavar="FILE",
    type=FilePath(),
    callback=_keep_header,
    help="The detached header, when it is not in IMAGE.",
)


def passphrase_option(function: Function) -> Function:
    """Add the options that say where the passphrase comes from."""
    return _file_options(function, "", "the passphrase")


def new_passphrase_option(function: Function) -> Function:
    """Add the options that say where a new passphrase comes from, beside the existing one."""
    return _file_options(function, "new-", "the new passphrase")


def _file_options(function: Function, prefix: str, what: str) -> Function:
    text = click.option(
        f"--{prefix}passphrase-file",
        metavar="FILE",
        type=click.Path(path_type=str),
        help=f"Read {what} from FILE; - is standard input. One trailing newline is dropped. "
        "Without it the terminal asks.",
    )
    exact = click.option(
        f"--{prefix}key-file",
        metavar="FILE",
        type=click.Path(path_type=str),
        help=f"Every byte of FILE is {what}, as with 'cryptsetup --key-file'; - is standard input.",
    )
    return text(exact(function))


recovery_file_option = click.option(
    "--recovery-key-file",
    metavar="FILE",
    type=FilePath(),
    help="Write the recovery key to FILE, which must not exist; mode 0600. Without it the terminal "
    "shows the key, once.",
)


tee_option = click.option(
    "--tee",
    type=click.Choice(("process", "gramine")),
    default="process",
    show_default=True,
    help="What the enclave runs in. A process is simulated: no hardware stands behind it.",
)


boundary_option = click.option(
    "--boundary",
    type=click.Choice(("fd", "stdio", "tcp")),
    default="fd",
    show_default=True,
    help="How the enclave is reached: a UNIX socket that passes files, or, as some TEEs allow no "
    "more, its standard input and output, or TCP on loopback. The last two are slower.",
)


def seal_policy_option(*, default: SealPolicy | None) -> Callable[[Function], Function]:
    """Return the option that says to what a volume is sealed; ``None`` keeps what it is."""
    return click.option(
        "--seal-policy",
        type=click.Choice(("signer", "measurement")),
        default=default,
        show_default=default is not None,
        help="Seal to all that this enclave's signer signs, or strictly to this program, which "
        "every upgrade changes: see reseal." + ("" if default else " Default: as it is."),
    )


def unlocking_options(function: Function) -> Function:
    """Add the options that say to which enclave a passphrase may go, and what is agreed to."""
    accept = click.option(
        "--accept-header-change",
        is_flag=True,
        help="Another program, such as cryptsetup, changed the header, and that was meant; or "
        "keyslots are damaged, and the volume is to be written all the same.",
    )
    return accept(tee_option(function))


def keyslot_option(*, required: bool, about: str) -> Callable[[Function], Function]:
    """Return the option that names a keyslot."""
    return click.option(
        "--keyslot", metavar="N", type=click.IntRange(0, 31), required=required, help=about
    )


tried_keyslot_option = keyslot_option(
    required=False,
    about="Try this keyslot only, 0 to 31, also when its priority is ignore. Default: all others.",
)


def attach_options(function: Function) -> Function:
    """Add the options that say how an open volume appears."""
    for option in reversed(
        (
            click.option(
                "--attach",
                type=Attachment(("auto", "nbd", "fuse", "none")),
                default="auto",
                show_default=True,
                help="How the volume becomes a block device; none gives only the socket.",
            ),
            click.option("--read-only", is_flag=True, help="Refuse every write."),
            click.option(
                "--discard",
                is_flag=True,
                help="Pass trims on to the image, from NBD clients and the kernel's NBD client; a "
                "device by FUSE takes none. The image then shows which areas are unused.",
            ),
            click.option(
                "--direct",
                is_flag=True,
                help="Keep the image out of the page cache, where what was read is kept already.",
            ),
            click.option(
                "--structured-replies",
                is_flag=True,
                help="Offer structured replies and block status to NBD clients, whose small reads "
                "are slower with them.",
            ),
        )
    ):
        function = option(function)
    return function


def kdf_options(function: Function) -> Function:
    """Add the options that choose the key derivation of a new keyslot."""
    for option in reversed(
        (
            click.option(
                "--kdf",
                type=click.Choice(("argon2id", "argon2i", "pbkdf2")),
                default="argon2id",
                show_default=True,
                help="How the passphrase becomes a key.",
            ),
            click.option(
                "--kdf-memory",
                metavar="SIZE",
                type=Memory(),
                help="Memory for Argon2 in KiB, or with a unit: 512M. At least 7M. "
                "Default: measured, for about 2 seconds of this machine alone; 64M at least.",
            ),
            click.option(
                "--kdf-iterations",
                metavar="N",
                type=click.IntRange(min=1, max=2**32 - 1),
                help="Passes of Argon2, or iterations of PBKDF2. Default: measured.",
            ),
        )
    ):
        function = option(function)
    return function


class PassphraseOptions(TypedDict):
    """The values of :func:`passphrase_option`."""

    passphrase_file: str | None
    key_file: str | None


class NewPassphraseOptions(TypedDict):
    """The values of :func:`new_passphrase_option`."""

    new_passphrase_file: str | None
    new_key_file: str | None


class AttachOptions(TypedDict):
    """The values of :func:`attach_options`."""

    attach: Literal["auto", "nbd", "ublk", "fuse", "none"]
    read_only: bool
    discard: bool
    direct: bool
    structured_replies: bool


class KdfOptions(TypedDict):
    """The values of :func:`kdf_options`."""

    kdf: Literal["argon2id", "argon2i", "pbkdf2"]
    kdf_memory: KibiBytes | None
    kdf_iterations: int | None


class UnlockingOptions(TypedDict):
    """The values of :func:`unlocking_options`."""

    tee: TeeName
    accept_header_change: bool


class ImageOptions(TypedDict):
    """The values of ``image_argument`` and ``header_option``."""

    image: Path
    header: Path | None
