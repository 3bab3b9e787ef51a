# SPDX-License-Identifier: Apache-2.0
"""``python -I -m strongroom``, which the installed ``strongroom`` runs.

Without ``-I`` it starts itself again with it: variables such as ``PYTHONPATH`` and files in the
current directory must not choose what reads the passphrase.
"""

import os
import signal
import sys

if (
    "interruptible" in sys._xoptions  # noqa: SLF001 - documented, for all its name
    or signal.getsignal(signal.SIGINT) is signal.default_int_handler
):
    # Until there is somebody to say "interrupted", Ctrl-C ends the process as any other.
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def run() -> int:
    """Run one command, in a process that its own user can neither trace nor dump."""
    from strongroom import _core  # noqa: PLC0415 - after the signal
    from strongroom.cli.main import main  # noqa: PLC0415 - after the signal
    from strongroom.cli.output import (  # noqa: PLC0415 - after the signal
        abandon_complaints,
        complain,
    )
    from strongroom.errors import PlatformError  # noqa: PLC0415 - after the signal

    try:
        _core.forbid_reading()
    except PlatformError as err:
        complain(f"warning: other programs of this user can read this process: {err.message}")
    code = main()
    # What was done is done: the exit code tells.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    abandon_complaints()
    return code


if __name__ == "__main__":
    if not sys.flags.isolated and sys.executable:
        os.execv(sys.executable, [sys.executable, "-I", "-m", "strongroom", *sys.argv[1:]])  # noqa: S606 - itself
    sys.exit(run())
