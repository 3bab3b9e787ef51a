# SPDX-License-Identifier: Apache-2.0
"""A TPM in software, with a state directory of the test's own.

::

    with swtpm(tmp_path) as tpm:                       # a UNIX socket, started up
        relay = Relay(parse_address(tpm.address))
    with swtpm(tmp_path, socket_kind="shared") as tpm:
        tpm.tool("tpm2_getcap", "properties-fixed")    # beside us, on the same TPM
    with swtpm(tmp_path, certificates=True) as tpm:    # with an EK, and who vouches for it
        chain = (tpm.authority.issuer, tpm.authority.root)

``power_cycle`` is what a reset of the machine is to its TPM. Each ends the process that it started,
by its number, and no other.
"""

import contextlib
import os
import random
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from tests.conftest import require_tools
from tests.harness import SYSTEM_PATH
from tests.tpm_bridges import Bridge, shared_port

SocketKind = Literal["unix", "tcp", "shared"]
"""``unix`` and ``tcp`` are what swtpm itself has, for one program at a time. ``shared`` is a TCP
port in front of it, for any number of them."""
Startup = Literal["clear", "state", "none"]

_START_ATTEMPTS: Final = 20
_START_SECONDS: Final = 10.0
_END_SECONDS: Final = 10.0
_SETUP_SECONDS: Final = 120.0
_POLL_SECONDS: Final = 0.005
_GET_TEST_RESULT: Final = bytes.fromhex("8001 0000000a 0000017c")
_ROOT_HANDLE: Final = "0x81000001"
_FIRST_PORT: Final = 20000
_LAST_PORT: Final = 32000  # below the ports that the kernel hands out by itself


@dataclass(frozen=True, slots=True)
class Authority:
    """Who signed a manufactured TPM's certificates, as PEM files."""

    issuer: Path
    root: Path


class Swtpm:
    """One swtpm. Use :func:`swtpm`.

    Attributes:
        place: Its directory: ``state/``, ``swtpm.sock``, ``control.sock``, ``swtpm.log``.
        authority: Who vouches for its EK, if it has certificates.
    """

    def __init__(self, place: Path, *, socket_kind: SocketKind, startup: Startup) -> None:
        self.place = place
        self.authority: Authority | None = None
        self._kind = socket_kind
        self._startup = startup
        self._port = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._bridge: Bridge | None = None
        self.state.mkdir(parents=True, exist_ok=True)

    @property
    def state(self) -> Path:
        """What survives a power cycle."""
        return self.place / "state"

    @property
    def address(self) -> str:
        """What ``--tpm`` is given."""
        if self._kind == "unix":
            return f"swtpm:path={self.place / 'swtpm.sock'}"
        return f"swtpm:host=127.0.0.1,port={self._port}"

    @property
    def port(self) -> int:
        """The TCP port; the control channel is the next one, as libtss2 wants it."""
        assert self._kind != "unix", "a UNIX socket has no port"
        return self._port

    @property
    def pid(self) -> int:
        """The running process."""
        assert self._process is not None, "it is off"
        return self._process.pid

    @property
    def tcti(self) -> str:
        """What tpm2-tools are given. libtss2 3 reaches an swtpm by TCP only."""
        return f"swtpm:host=127.0.0.1,port={self.port}"

    def connect(self) -> socket.socket:
        """Return a connection to swtpm itself that carries commands as they are."""
        if self._kind == "tcp":
            return socket.create_connection(("127.0.0.1", self._port), _START_SECONDS)
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.connect(str(self.place / "swtpm.sock"))
        except BaseException:
            connection.close()
            raise
        return connection

    def tool(
        self, *command: str | Path, check: bool = True, stdin: bytes = b""
    ) -> subprocess.CompletedProcess[bytes]:
        """Run one of tpm2-tools on this TPM.

        Beside a connection of one's own that takes a ``shared`` one.
        """
        require_tools(str(command[0]))
        done = subprocess.run(
            [*map(str, command), "-T", self.tcti],
            check=False,
            capture_output=True,
            input=stdin,
            timeout=60,
            cwd=self.place,
            env={**os.environ, "PATH": SYSTEM_PATH, "TSS2_LOG": "all+none"},
        )
        if check and done.returncode:
            raise AssertionError(
                f"{' '.join(map(str, command))} exited with {done.returncode}\n"
                f"{done.stdout.decode(errors='replace')}{done.stderr.decode(errors='replace')}"
            )
        return done

    def keep_root(self, algorithm: str, *attributes: str) -> None:
        """Put a key of its owner where the storage root key belongs. It must be ``shared``.

        Args:
            algorithm: As tpm2-tools name it.
            attributes: Beside those of a key that is made there; if none, of a storage key.
        """
        asked = ("userwithauth", *(attributes or ("restricted", "decrypt")))
        made = "|".join(("fixedtpm", "fixedparent", "sensitivedataorigin", *asked))
        self.tool("tpm2_createprimary", "-C", "o", "-G", algorithm, "-a", made, "-c", "root", "-Q")
        self.tool("tpm2_evictcontrol", "-c", "root", _ROOT_HANDLE, "-Q")
        self.tool("tpm2_flushcontext", "-t")

    def power_on(self) -> None:
        """Start the process and wait until it serves."""
        assert self._process is None, "it is on already"
        for _ in range(_START_ATTEMPTS):
            if self._kind != "unix":
                self._port = two_free_ports()
            self._process = self._start()
            if self._serves() and self._shares():
                return
            self.power_off()
        raise AssertionError(f"swtpm does not start: {self._log()}")

    def power_off(self) -> None:
        """Take the power away: no ``TPM2_Shutdown``, whatever is not in its state is gone."""
        bridge, self._bridge = self._bridge, None
        if bridge is not None:
            bridge.close()
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        process.wait(_END_SECONDS)

    def power_cycle(self) -> None:
        """Reset it. A TCP address changes with that: ask for it again."""
        self.power_off()
        self.power_on()

    def manufacture(self) -> None:
        """Give it an EK with certificates of an authority of its own. It must be off."""
        assert self._process is None, "it is on"
        require_tools("swtpm_setup", "swtpm_localca", "certtool")
        self.authority = _manufacture(self.place, self.state)

    def _start(self) -> subprocess.Popen[bytes]:
        for name in ("swtpm.sock", "control.sock"):
            (self.place / name).unlink(missing_ok=True)
        server = f"type=unixio,path={self.place / 'swtpm.sock'}"
        control = f"type=unixio,path={self.place / 'control.sock'}"
        if self._kind == "tcp":
            server = f"type=tcp,port={self._port}"
        if self._kind != "unix":
            control = f"type=tcp,port={self._port + 1}"
        with (self.place / "swtpm.log").open("wb") as log:
            return subprocess.Popen(
                [
                    *("swtpm", "socket", "--tpm2", "--tpmstate", f"dir={self.state}"),
                    *("--server", server),
                    *("--ctrl", control, "--flags", f"not-need-init,startup-{self._startup}"),
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, "PATH": SYSTEM_PATH},
            )

    def _serves(self) -> bool:
        """Wait until it answers: a socket that is there says little."""
        assert self._process is not None
        end = time.monotonic() + _START_SECONDS
        while time.monotonic() < end and self._process.poll() is None:
            with contextlib.suppress(OSError), self.connect() as trial:
                trial.settimeout(_START_SECONDS)
                trial.sendall(_GET_TEST_RESULT)
                if trial.recv(4096):
                    # On a port that was another's, the answer is another's too.
                    return self._process.poll() is None
            time.sleep(_POLL_SECONDS)
        return False

    def _shares(self) -> bool:
        """Put a port for several programs before it, if it is to have one."""
        if self._kind == "shared":
            try:
                self._bridge = shared_port(self.place / "swtpm.sock", self._port)
            except OSError:
                return False
        return True

    def _log(self) -> str:
        return (self.place / "swtpm.log").read_text(errors="replace")


@contextlib.contextmanager
def swtpm(
    place: Path,
    *,
    socket_kind: SocketKind = "unix",
    startup: Startup = "clear",
    certificates: bool = False,
) -> Iterator[Swtpm]:
    """Run a new TPM for the length of a block.

    Args:
        place: A directory of the test; each TPM takes a new one below it.
        socket_kind: How it is reached. TCP is on loopback only, and what tpm2-tools need. On
            ``unix`` and ``tcp`` a second program waits until the first one's connection ends.
        startup: The ``TPM2_Startup`` that it is given, or ``none``.
        certificates: It has an EK with certificates; costs about a second.
    """
    require_tools("swtpm")
    number = sum(1 for _ in place.glob("tpm*"))
    tpm = Swtpm(place / f"tpm{number}", socket_kind=socket_kind, startup=startup)
    if certificates:
        tpm.manufacture()
    tpm.power_on()
    try:
        yield tpm
    finally:
        tpm.power_off()


def two_free_ports() -> int:
    """Return a port that is free together with the next one, as far as can be known before."""
    own = _own_ports()
    while True:
        port = random.choice(own)
        try:
            for candidate in (port, port + 1):
                with socket.socket() as trial:
                    trial.bind(("127.0.0.1", candidate))
        except OSError:
            continue
        return port


def _own_ports() -> range:
    """Return every second port that no other worker of these tests tries."""
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    pairs = range(_FIRST_PORT, _LAST_PORT, 2)
    return pairs[worker * len(pairs) // workers : (worker + 1) * len(pairs) // workers]


def _manufacture(place: Path, state: Path) -> Authority:
    authority = place / "authority"
    authority.mkdir()
    localca = place / "localca.conf"
    localca.write_text(
        f"statedir = {authority}\n"
        f"signingkey = {authority}/signing-key.pem\n"
        f"issuercert = {authority}/issuer.pem\n"
        f"certserial = {authority}/serial\n"
    )
    options = place / "localca.options"
    options.write_text(
        "--platform-manufacturer Strongroom\n--platform-version 1\n--platform-model test\n"
    )
    setup = place / "setup.conf"
    setup.write_text(
        "create_certs_tool = /usr/bin/swtpm_localca\n"
        f"create_certs_tool_config = {localca}\n"
        f"create_certs_tool_options = {options}\n"
    )
    done = subprocess.run(
        [
            *("swtpm_setup", "--tpm2", "--tpmstate", state, "--config", setup),
            *("--create-ek-cert", "--create-platform-cert", "--overwrite"),
        ],
        check=False,
        capture_output=True,
        text=True,
        timeout=_SETUP_SECONDS,
        env={**os.environ, "PATH": SYSTEM_PATH},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return Authority(
        issuer=authority / "issuer.pem", root=authority / "swtpm-localca-rootca-cert.pem"
    )
