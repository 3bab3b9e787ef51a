# SPDX-License-Identifier: Apache-2.0
"""``strongroom selftest``: known-answer tests inside an enclave."""

from strongroom.cli.arguments import json_option, tee_option
from strongroom.cli.output import printable
from strongroom.cli.session import Session
from strongroom.cli.tree import command
from strongroom.errors import SelftestError, TeeError
from strongroom.host.contracts import TeeName


@command("selftest", examples=("strongroom selftest",), exits=(SelftestError, TeeError))
@tee_option
@json_option
def selftest_command(session: Session, *, tee: TeeName) -> None:
    """Run the known-answer tests inside an enclave.

    They cover every cipher and key derivation, and the answers are those of the published
    standards.
    """
    results = session.volumes.selftest(tee=tee)
    facts = [{"name": name, "passed": passed} for name, passed in results]
    lines = [f"{'passed' if passed else 'FAILED'}  {printable(name)}" for name, passed in results]
    failed = [name for name, passed in results if not passed]
    try:
        session.show(facts, "\n".join(lines))
    finally:  # a failed test counts for more than a full disk
        if failed or not results:
            raise SelftestError(
                f"{len(failed)} of {len(results)} known-answer tests failed"
                if failed
                else "no known-answer test ran",
                hint="do not use this machine for keys; its processor or this build is faulty",
            )
