# SPDX-License-Identifier: Apache-2.0
"""What a refusal of the TPM becomes: an error that says what to do.

A refusal carries no MAC. A hint is what to do if it is the TPM's.
"""

from typing import Final

from strongroom.errors import TpmChangedError, TpmError
from strongroom.tpm.codes import LOST_CODES, authorization_of, describe, handle_of, reason
from strongroom.tpm.commands import Command, SecretT
from strongroom.tpm.entities import ENDORSEMENT, LOCKOUT, OWNER, PLATFORM

_LOST_HINT: Final = (
    "the TPM was reset while it was in use, or somebody makes it look so; begin again"
)
_WRONG_VALUE: Final = frozenset({0x08E, 0x0A2})
_NO_SUCH_HANDLE: Final = 0x08B
_NV_KIND: Final = 0x01
_LOADED_KIND: Final = 0x80
_KIND_SHIFT: Final = 24
_HIERARCHIES: Final = {
    OWNER.handle: "owner",
    ENDORSEMENT.handle: "endorsement",
    LOCKOUT.handle: "lockout",
    PLATFORM.handle: "platform",
}
"""As tpm2-tools name them."""

_PCRS_HINT: Final = "PCRs have changed since it was made: `strongroom tpm pcr read` shows them"
_SESSIONS_HINT: Final = (
    "flush what others left with `tpm2_flushcontext -l` and `-s`, or use the shared "
    "device:/dev/tpmrm0"
)
_HINTS: Final = {
    0x085: "enable the TPM and its hierarchies in the firmware",
    0x09D: _PCRS_HINT,
    0x09F: "it is of another TPM, of before this one was cleared, or under another storage key",
    0x100: "the firmware starts it with the machine; a simulator is started by `tpm2_startup -c`",
    0x126: _PCRS_HINT,
    0x128: _PCRS_HINT,
    0x149: "its attributes do not allow it: `strongroom tpm nv list` shows them",
    0x14A: "write it first, or count it up if it is a counter",
    0x14B: "remove one that nobody needs: `strongroom tpm nv list` shows all",
    0x14C: "take another, or remove it with `strongroom tpm nv undefine INDEX`",
    0x901: _SESSIONS_HINT,
    0x902: "flush what others left with `tpm2_flushcontext -t`, or use the shared "
    "device:/dev/tpmrm0",
    0x903: _SESSIONS_HINT,
    0x905: _SESSIONS_HINT,
    0x921: "wait, or end it with `tpm2_dictionarylockout --clear-lockout`",
    0x923: "try again later",
}
"""By :func:`strongroom.tpm.codes.reason`."""


def refusal(command: Command[SecretT], code: int) -> TpmError:
    """Return the error of a command that was refused: :class:`TpmChangedError` if it lost things.

    Args:
        command: What was refused.
        code: The ``TPM_RC``, not 0.
    """
    what = command.code.name.lower().replace("_", " ")
    message = f"the TPM refused {what}: {describe(code)}"
    if code in LOST_CODES:
        return TpmChangedError(message, hint=_LOST_HINT, code=code)
    return TpmError(message, hint=_hint(command, code), code=code)


def _hint(command: Command[SecretT], code: int) -> str:
    if reason(code) in _WRONG_VALUE:
        return _value_hint(_about(command, authorization_of(code), command.authorized))
    if reason(code) == _NO_SUCH_HANDLE:
        handle = _about(command, handle_of(code), len(command.about))
        is_nv = handle >> _KIND_SHIFT == _NV_KIND
        return "`strongroom tpm nv list` shows those that there are" if is_nv else ""
    return _HINTS.get(reason(code), "")


def _about(command: Command[SecretT], number: int, most: int) -> int:
    """Return what a code is about, by its number among the first of the command; 0 if nothing."""
    return command.about[number - 1].handle if 1 <= number <= most else 0


def _value_hint(handle: int) -> str:
    if handle in _HIERARCHIES:
        name = _HIERARCHIES[handle]
        return (
            f"the {name} hierarchy has to have an empty password: "
            f"`tpm2_changeauth -c {name} -p PASSWORD` gives it one"
        )
    if handle >> _KIND_SHIFT not in (_NV_KIND, _LOADED_KIND):
        return ""  # of a session, or of a key that outlives a reset: nobody gives values to these
    return (
        "give the value that it was made with: --auth-file FILE, or --protected in the enclave "
        "that made it"
    )
