# SPDX-License-Identifier: Apache-2.0
"""``strongroom tpm``: a TPM, used from an enclave, or from the host for comparison."""

from strongroom.cli.tree import Group

tpm_group = Group(
    "tpm",
    about="""Use a TPM from an enclave.

    The host carries the bytes, and can neither read the secrets in them nor change an answer.
    """,
    places={
        "enrol": "strongroom.cli.commands.tpm.meeting:enrol_command",
        "forget": "strongroom.cli.commands.tpm.meeting:forget_command",
        "capabilities": "strongroom.cli.commands.tpm.state:capabilities_command",
        "clock": "strongroom.cli.commands.tpm.state:clock_command",
        "random": "strongroom.cli.commands.tpm.state:random_command",
        "pcr": "strongroom.cli.commands.tpm:pcr_group",
        "nv": "strongroom.cli.commands.tpm:nv_group",
        "seal": "strongroom.cli.commands.tpm.sealing:seal_command",
        "unseal": "strongroom.cli.commands.tpm.sealing:unseal_command",
        "quote": "strongroom.cli.commands.tpm.sealing:quote_command",
        "selftest": "strongroom.cli.commands.tpm.meeting:selftest_command",
    },
    options=(),
)
pcr_group = Group(
    "pcr",
    about="Read and extend platform configuration registers.",
    places={
        name: f"strongroom.cli.commands.tpm.state:pcr_{name}_command" for name in ("read", "extend")
    },
    options=(),
)
nv_group = Group(
    "nv",
    about="Manage NV indexes and counters.",
    places={
        name: f"strongroom.cli.commands.tpm.nv:nv_{name}_command"
        for name in ("list", "define", "undefine", "write", "read", "increment")
    },
    options=(),
)
