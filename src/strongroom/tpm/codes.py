# SPDX-License-Identifier: Apache-2.0
"""Command codes, and what response codes say.

Spec: TPM 2.0 Part 2, 6.5.2 "TPM_CC" and 6.6 "TPM_RC".
"""

import enum
from typing import Final


class CommandCode(enum.IntEnum):
    """A ``TPM_CC`` that Strongroom sends."""

    EVICT_CONTROL = 0x120
    NV_UNDEFINE_SPACE = 0x122
    NV_DEFINE_SPACE = 0x12A
    CREATE_PRIMARY = 0x131
    NV_INCREMENT = 0x134
    NV_WRITE = 0x137
    SELF_TEST = 0x143
    STARTUP = 0x144
    ACTIVATE_CREDENTIAL = 0x147
    CERTIFY = 0x148
    POLICY_NV = 0x149
    NV_READ = 0x14E
    POLICY_SECRET = 0x151
    CREATE = 0x153
    LOAD = 0x157
    QUOTE = 0x158
    UNSEAL = 0x15E
    FLUSH_CONTEXT = 0x165
    NV_READ_PUBLIC = 0x169
    POLICY_AUTH_VALUE = 0x16B
    READ_PUBLIC = 0x173
    START_AUTH_SESSION = 0x176
    GET_CAPABILITY = 0x17A
    GET_RANDOM = 0x17B
    PCR_READ = 0x17E
    POLICY_PCR = 0x17F
    READ_CLOCK = 0x181
    PCR_EXTEND = 0x182
    NV_CERTIFY = 0x184


_FORMAT_ONE: Final = 0x080
_PARAMETER: Final = 0x040
_SESSION: Final = 0x800
_REASON: Final = 0x03F
_ABOUT_A_HANDLE_OR_PARAMETER: Final = {
    0x001: ("asymmetric", "the asymmetric algorithm does not fit"),
    0x002: ("attributes", "the attributes do not fit together"),
    0x003: ("hash", "the TPM does not have this hash"),
    0x004: ("value", "a value is out of range, or there is no such thing"),
    0x005: ("hierarchy", "the hierarchy is not enabled or not the right one"),
    0x007: ("key size", "the TPM does not have keys of this size"),
    0x00A: ("type", "the type of the object does not fit"),
    0x00B: ("handle", "there is nothing under this handle"),
    0x00E: ("auth fail", "the authorization value is wrong, and a try is counted"),
    0x012: ("scheme", "the scheme does not fit"),
    0x015: ("size", "a structure has the wrong size"),
    0x016: ("symmetric", "the TPM does not have this cipher"),
    0x018: ("selector", "a selector does not fit"),
    0x01C: ("key", "the key is not of the right kind"),
    0x01D: ("policy fail", "a policy is not satisfied"),
    0x01F: ("integrity", "the blob belongs to another TPM or parent, or was changed"),
    0x020: ("ticket", "the ticket is not of this TPM"),
    0x022: ("bad auth", "the authorization value is wrong"),
    0x023: ("expired", "the policy has expired"),
    0x026: ("curve", "the TPM does not have this curve"),
}
_ABOUT_THE_COMMAND: Final = {
    0x100: ("initialize", "the TPM was not started"),
    0x101: ("failure", "the TPM has failed its self-test: it needs a reset"),
    0x120: ("disabled", "the command is disabled"),
    0x121: ("exclusive", "another audit session is exclusive"),
    0x125: ("auth missing", "an authorization is missing"),
    0x126: ("policy", "a policy is not satisfied"),
    0x127: ("pcr", "the PCR cannot be changed from here"),
    0x128: ("pcr changed", "PCRs have changed since the policy was begun"),
    0x143: ("command code", "the TPM does not have this command"),
    0x144: ("authsize", "the authorization has the wrong size"),
    0x145: ("auth context", "an authorization was given to a command that takes none"),
    0x146: ("nv range", "beyond the end of the NV index"),
    0x148: ("nv locked", "the NV index is locked"),
    0x149: ("nv authorization", "this authorization does not reach the NV index"),
    0x14A: ("nv uninitialized", "the NV index was never written"),
    0x14B: ("nv space", "there is no room for another NV index"),
    0x14C: ("nv defined", "the NV index exists already"),
    0x901: ("context gap", "too many sessions were saved"),
    0x902: ("object memory", "the TPM has no room for another object"),
    0x903: ("session memory", "the TPM has no room for another session"),
    0x905: ("session handles", "the TPM has no room for another session"),
    0x908: ("yielded", "the TPM was interrupted"),
    0x909: ("canceled", "the command was cancelled"),
    0x90A: ("testing", "the TPM is testing itself"),
    0x920: ("nv rate", "the TPM slows writes down to protect its memory"),
    0x921: ("lockout", "too many wrong authorizations: the TPM is locked out for a while"),
    0x922: ("retry", "the TPM was busy"),
    0x923: ("nv unavailable", "the TPM's memory cannot be written now"),
}

LOST_CODES: Final = frozenset({*range(0x910, 0x917), *range(0x918, 0x91F)})
"""What was loaded is loaded no more: ``REFERENCE_H0`` to ``H6`` and ``REFERENCE_S0`` to ``S6``."""
_REFERENCE_H0: Final = 0x910
_NO_SUCH_KEY: Final = frozenset({0x082, 0x08B, 0x09C})
"""``ATTRIBUTES``, ``HANDLE`` and ``KEY``."""
_WRONG_MAC: Final = frozenset({0x08E, 0x0A2})
"""``AUTH_FAIL`` and ``BAD_AUTH``."""
_SALT_NOT_DECRYPTED: Final = frozenset({0x2C4, 0x2D5})
"""``VALUE`` and ``SIZE`` of the second parameter."""
BUSY_CODES: Final = frozenset({0x908, 0x90A, 0x920, 0x922})
"""The command was not begun: ``YIELDED``, ``TESTING``, ``NV_RATE`` and ``RETRY``."""


def describe(code: int) -> str:
    """Say what a response code means, with its number.

    Nothing follows from a refusal but that nothing was learned: it carries no MAC.
    """
    where = _place(code) if code & _FORMAT_ONE else ""
    known = _known(code)
    meaning = "unknown reason" if known is None else f"{known[0]}: {known[1]}"
    return f"{meaning}{where} (TPM_RC {code:#05x})"


def reason(code: int) -> int:
    """Return a code without what it is about: the same for every handle, parameter and session."""
    return code & (_FORMAT_ONE | _REASON) if code & _FORMAT_ONE else code


def authorization_of(code: int) -> int:
    """Return which authorization a code is about, from 1; 0 if none."""
    is_one = code & _FORMAT_ONE and code & _SESSION and not code & _PARAMETER
    return code >> 8 & 0x7 if is_one else 0


def handle_of(code: int) -> int:
    """Return which handle of the command a code is about, from 1; 0 if none."""
    is_one = code & _FORMAT_ONE and not code & (_SESSION | _PARAMETER)
    return code >> 8 & 0x7 if is_one else 0


def proves_missing_key(code: int) -> bool:
    """Tell whether a TPM without the key that a session is salted to answers so.

    For the first commands with an enrolled TPM, which use no authorization value. The key is the
    first handle of ``TPM2_StartAuthSession``: nothing is under that handle, or a kind of key that
    cannot decrypt the salt. Another key of the same kind decrypts another salt, and then no MAC of
    the session is right.

    Spec: TPM 2.0 Part 3, 11.1 "TPM2_StartAuthSession".
    """
    if code == _REFERENCE_H0 or code in _SALT_NOT_DECRYPTED:
        return True
    if handle_of(code) == 1:
        return reason(code) in _NO_SUCH_KEY
    return authorization_of(code) == 1 and reason(code) in _WRONG_MAC


def _known(code: int) -> tuple[str, str] | None:
    if code in LOST_CODES:
        return ("reference", "an object or a session is not there any more")
    if code & _FORMAT_ONE:
        return _ABOUT_A_HANDLE_OR_PARAMETER.get(code & _REASON)
    return _ABOUT_THE_COMMAND.get(code)


def _place(code: int) -> str:
    if code & _PARAMETER:
        return f", parameter {code >> 8 & 0xF}"
    if code & _SESSION:
        return f", session {code >> 8 & 0x7}"
    return f", handle {code >> 8 & 0x7}"
