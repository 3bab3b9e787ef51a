# SPDX-License-Identifier: Apache-2.0
"""Files that a command makes: new ones, for their owner's eyes, whole or not at all."""

import contextlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from strongroom.errors import NoPermissionError, NotFoundError, PlatformError, UsageError


@contextlib.contextmanager
def new_file(path: Path, *, called: str = "file") -> Iterator[int]:
    """Lend the descriptor of a new file, mode 0600; on an error inside the block it is removed.

    Args:
        path: Where; nothing may be there.
        called: What it is to the operator.

    Raises:
        UsageError: It exists.
        NotFoundError: Its directory does not.
        NoPermissionError: It may not be made.
        PlatformError: It cannot be made.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        file = os.open(path, flags, 0o600)
    except FileExistsError as error:
        raise UsageError(
            f"the {called} exists: {path}", hint="name a new file; none is overwritten"
        ) from error
    except FileNotFoundError as error:
        raise NotFoundError(f"no such directory: {path.parent}") from error
    except PermissionError as error:
        raise NoPermissionError(f"the {called} may not be created: {path}") from error
    except OSError as error:
        reason = (error.strerror or "unknown reason").lower()
        raise PlatformError(f"cannot create {path}: {reason}") from error
    with contextlib.ExitStack() as undo:
        undo.callback(os.close, file)
        removal = undo.enter_context(contextlib.ExitStack())
        removal.callback(path.unlink, missing_ok=True)
        os.fchmod(file, stat.S_IRUSR | stat.S_IWUSR)
        yield file
        os.fsync(file)
        removal.pop_all()
