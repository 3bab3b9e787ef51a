# SPDX-License-Identifier: Apache-2.0
"""Run a program on a kernel that seems not to have the calls that confine: they fail with ENOSYS.

Usage: ``python -I without_calls.py PROGRAM ARGUMENT...``. A seccomp filter does it, which the
program and its children inherit, as on a TEE's own small kernel. :data:`GRAMINE` is what Gramine's
lacks besides.
"""

import ctypes
import errno
import os
import platform
import struct
import sys
from typing import Final

CALLS: Final = {
    "x86_64": {
        "prctl": 157,
        "capset": 126,
        "pivot_root": 155,
        "mount": 165,
        "umount2": 166,
        "unshare": 272,
        "setns": 308,
        "seccomp": 317,
        "landlock_create_ruleset": 444,
        "landlock_add_rule": 445,
        "landlock_restrict_self": 446,
        "memfd_secret": 447,
    },
    "aarch64": {
        "prctl": 167,
        "capset": 91,
        "pivot_root": 41,
        "mount": 40,
        "umount2": 39,
        "unshare": 97,
        "setns": 268,
        "seccomp": 277,
        "landlock_create_ruleset": 444,
        "landlock_add_rule": 445,
        "landlock_restrict_self": 446,
        "memfd_secret": 447,
    },
}
GRAMINE: Final = {
    "mremap": 25,
    "madvise": 28,
    "flock": 73,
    "link": 86,
    "symlink": 88,
    "getrusage": 98,
    "sync": 162,
    "fadvise64": 221,
    "keyctl": 250,
    "splice": 275,
    "utimensat": 280,
    "timerfd_create": 283,
    "signalfd4": 289,
    "inotify_init1": 294,
    "preadv": 295,
    "pwritev": 296,
    "syncfs": 306,
    "process_vm_readv": 310,
    "memfd_create": 319,
    "userfaultfd": 323,
    "membarrier": 324,
    "copy_file_range": 326,
    "preadv2": 327,
    "pwritev2": 328,
    "statx": 332,
    "io_uring_setup": 425,
    "pidfd_open": 434,
    "clone3": 435,
}
"""What else a Gramine of 2025 did not have, as was seen by asking. SGX is x86-64 only."""
PRCTL_OPTIONS: Final = {
    "PR_SET_DUMPABLE": 4,
    "PR_SET_SECCOMP": 22,
    "PR_CAPBSET_DROP": 24,
    "PR_SET_NO_NEW_PRIVS": 38,
    "PR_CAP_AMBIENT": 47,
}
"""The prctl options that confine. The host uses others, such as PR_SET_CHILD_SUBREAPER."""

PR_SET_NO_NEW_PRIVS: Final = 38
PR_SET_SECCOMP: Final = 22
SECCOMP_MODE_FILTER: Final = 2

# Spec: include/uapi/linux/seccomp.h and bpf_common.h.
LOAD: Final = 0x20
EQUAL: Final = 0x15
RETURN: Final = 0x06
ALLOW: Final = 0x7FFF0000
REFUSE: Final = 0x00050000 | errno.ENOSYS
NUMBER_OFFSET: Final = 0
FIRST_ARGUMENT_OFFSET: Final = 16


class Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))


def instruction(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("=HBBI", code, if_true, if_false, value)


def program(more: dict[str, int]) -> bytes:
    """Return the filter. It does not look at the architecture: nobody evades it on purpose."""
    numbers = CALLS[platform.machine()] | more
    prctl = numbers.pop("prctl")
    refused, options = list(numbers.values()), list(PRCTL_OPTIONS.values())
    checks = [instruction(LOAD, NUMBER_OFFSET)]
    # To the last instruction, over the rest of the checks, the prctl part and "allow".
    checks += [
        instruction(EQUAL, number, if_true=len(refused) - n + len(options) + 2)
        for n, number in enumerate(refused)
    ]
    checks += [
        instruction(EQUAL, prctl, if_false=len(options) + 1),
        instruction(LOAD, FIRST_ARGUMENT_OFFSET),
    ]
    checks += [
        instruction(EQUAL, option, if_true=len(options) - n) for n, option in enumerate(options)
    ]
    return b"".join([*checks, instruction(RETURN, ALLOW), instruction(RETURN, REFUSE)])


def install(more: dict[str, int]) -> None:
    """Install the filter in this process, for good, with some more calls by their numbers."""
    libc = ctypes.CDLL(None, use_errno=True)
    code = program(more)
    description = Program(len(code) // 8, code)
    for arguments in (
        (PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0),
        (PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(description), 0, 0),
    ):
        if libc.prctl(*arguments) != 0:
            raise OSError(ctypes.get_errno(), "prctl")


if __name__ == "__main__":
    install({})
    os.execv(sys.argv[1], sys.argv[1:])  # noqa: S606 - to become that program is the point
