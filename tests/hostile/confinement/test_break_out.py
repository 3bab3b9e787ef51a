# SPDX-License-Identifier: Apache-2.0
"""A confined Python process, attacked from inside, and asked for all that serving needs.

Every attack is run unconfined first, where it must succeed, or its failure would prove nothing.
Measures one by one, and attacks that would harm the machine, are in ``test_measures.py``.
"""

import ctypes
import errno
import fcntl
import gc
import mmap
import os
import select
import signal
import socket
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NoReturn

import pytest

from strongroom import _core

pytestmark = pytest.mark.hostile

MAX_REPORT_BYTES: Final = 65536
DEADLINE_SECONDS: Final = 60
WENT_WRONG: Final = 99
SIGNALLED: Final = 128
IMAGE_BYTES: Final = 1 << 20
WORK_AREA_BYTES: Final = 1 << 30
CLIENTS: Final = 3

Body = Callable[[socket.socket], str]

_libc: Final = ctypes.CDLL(None, use_errno=True)
_secret: Final = ctypes.create_string_buffer(b"the parent's secret")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a process said, and how it ended: an exit status, or minus the signal."""

    said: str
    status: int


class Enclave:
    """Runs a function the way the product runs its enclave."""

    def __init__(self) -> None:
        self.outside, self._inside = socket.socketpair()
        self.outside.settimeout(DEADLINE_SECONDS)
        self._launcher = 0

    def start(self, body: Body, *, confined: bool) -> None:
        """Fork, enter the namespaces, fork again, confine, then run ``body``."""
        self._launcher = os.fork()
        if self._launcher == 0:
            self._launch(body, confined=confined)
        self._inside.close()

    def outcome(self) -> Outcome:
        """Read what is said until the end, and wait."""
        pieces = []
        while piece := self.outside.recv(MAX_REPORT_BYTES):
            pieces.append(piece)
        _, status = os.waitpid(self._launcher, 0)
        self._launcher = 0
        code = os.waitstatus_to_exitcode(status)
        return Outcome(b"".join(pieces).decode(), SIGNALLED - code if code > SIGNALLED else code)

    def close(self) -> None:
        self.outside.close()
        self._inside.close()
        if self._launcher:
            os.kill(self._launcher, signal.SIGKILL)
            os.waitpid(self._launcher, 0)

    def _launch(self, body: Body, *, confined: bool) -> NoReturn:
        self.outside.close()
        _core.die_with_parent()
        if confined:
            _core.enter_namespaces()
        child = os.fork()
        if child == 0:
            self._run(body, confined=confined)
        self._inside.close()
        _, status = os.waitpid(child, 0)
        code = os.waitstatus_to_exitcode(status)
        os._exit(code if code >= 0 else SIGNALLED - code)

    def _run(self, body: Body, *, confined: bool) -> NoReturn:
        _core.die_with_parent()
        try:
            if confined:
                _core.confine()
            try:
                said = body(self._inside)
            except OSError as err:
                said = errno.errorcode.get(err.errno or 0, str(err))
            self._inside.sendall(said.encode())
            os._exit(0)
        except BaseException:  # noqa: BLE001  # a forked child must not return into pytest
            traceback.print_exc()
        finally:
            os._exit(WENT_WRONG)


@pytest.fixture
def enclave() -> Iterator[Enclave]:
    made = Enclave()
    yield made
    made.close()


def run(body: Body, *, confined: bool) -> Outcome:
    made = Enclave()
    try:
        made.start(body, confined=confined)
        return made.outcome()
    finally:
        made.close()


# --- attacks -------------------------------------------------------------------------------------


def call(name: str, *arguments: object) -> None:
    """Call a C function that returns -1 for failure."""
    if getattr(_libc, name)(*arguments) == -1:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def system_call(number: int, *arguments: object) -> None:
    call("syscall", ctypes.c_long(number), *arguments)


def read_parent(*, parent: int, number: int) -> None:
    class Vector(ctypes.Structure):
        _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))

    copy = ctypes.create_string_buffer(_secret.raw)
    here = Vector(ctypes.addressof(copy), len(copy))
    there = Vector(ctypes.addressof(_secret), len(copy))
    one = ctypes.c_ulong(1)
    vectors = (ctypes.byref(here), one, ctypes.byref(there), one)
    system_call(number, ctypes.c_long(parent), *vectors, ctypes.c_ulong(0))


def make_executable() -> None:
    with mmap.mmap(-1, mmap.PAGESIZE) as area:
        address = ctypes.addressof(ctypes.c_char.from_buffer(area))
        call("mprotect", ctypes.c_void_p(address), ctypes.c_size_t(mmap.PAGESIZE), 5)


def fork() -> None:
    if os.fork() == 0:
        os._exit(0)


#: Numbers of x86-64; the other architecture is attacked through the C library's wrappers only.
ON_X86_64: Final = os.uname().machine == "x86_64"
PTRACE_SEIZE: Final = 0x4206
KILLED: Final = "SIGSYS"


@dataclass(frozen=True, slots=True)
class Victim:
    """What a process knows of its surroundings from before it was confined."""

    parent: int
    user: int
    listener: str
    passed: socket.socket


Attack = Callable[[Victim], object]

PORTABLE: Final[dict[str, tuple[Attack, str]]] = {
    "open a file": (lambda _: os.open("/etc/passwd", os.O_RDONLY), "EPERM"),
    "create a file": (lambda _: os.open("/tmp", os.O_TMPFILE | os.O_RDWR), "EPERM"),
    "open own memory": (lambda _: os.open("/proc/self/mem", os.O_RDWR), "EPERM"),
    "list processes": (lambda _: list(Path("/proc").iterdir()), "EPERM"),
    "see the parent": (lambda v: Path(f"/proc/{v.parent}").stat(), "EPERM"),
    "change directory": (lambda _: os.chdir("/usr"), "EPERM"),
    "make an inet socket": (lambda _: socket.socket(socket.AF_INET), "EPERM"),
    "make a unix socket": (lambda _: socket.socket(socket.AF_UNIX), "EPERM"),
    "make a netlink socket": (lambda _: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW), "EPERM"),
    "connect a passed socket": (lambda v: v.passed.connect(v.listener), "EPERM"),
    "signal the parent": (lambda v: os.kill(v.parent, 0), "EPERM"),
    # Signal 0 asks only.
    "signal everybody": (lambda _: os.kill(-1, 0), "EPERM"),
    "fork": (lambda _: fork(), "EPERM"),
    "spawn": (lambda _: os.posix_spawn("/bin/true", ["true"], {}), "EPERM"),
    "map executable memory": (lambda _: mmap.mmap(-1, 4096, prot=mmap.PROT_EXEC), "EPERM"),
    "make memory executable": (lambda _: make_executable(), "EPERM"),
    "set the user": (lambda v: os.setuid(v.user), "EPERM"),
    "set dumpable": (lambda _: call("prctl", 4, 1, 0, 0, 0), "EPERM"),
    "claim a descriptor's signals": (
        lambda v: fcntl.fcntl(v.passed, fcntl.F_SETOWN, os.getpid()),
        "EPERM",
    ),
    "memory file": (lambda _: os.memfd_create("x"), "EPERM"),
    "trace the parent": (
        lambda v: call("ptrace", ctypes.c_long(PTRACE_SEIZE), v.parent, None, None),
        KILLED,
    ),
    "unshare": (lambda _: call("unshare", 0x1000_0000), KILLED),
}

NUMBERED: Final[dict[str, tuple[Attack, str]]] = {
    "read the parent": (lambda v: read_parent(parent=v.parent, number=310), KILLED),
    "write the parent": (lambda v: read_parent(parent=v.parent, number=311), KILLED),
    "io_uring": (lambda _: system_call(425, 1, ctypes.create_string_buffer(120)), KILLED),
    "keyctl": (lambda _: system_call(250, 0, ctypes.c_long(-4), 1), KILLED),
    "userfaultfd": (lambda _: system_call(323, 1), KILLED),
}

ATTACKS: Final = PORTABLE | (NUMBERED if ON_X86_64 else {})


@pytest.fixture
def victim() -> Iterator[Victim]:
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as passed:
        name = f"\0strongroom-victim-{os.getpid()}"
        listener.bind(name)
        listener.listen()
        yield Victim(os.getpid(), os.getuid(), name, passed)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: without, attacks fail by themselves")
@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_from_inside_fails(name: str, victim: Victim) -> None:
    attack, expected = ATTACKS[name]

    def body(_: socket.socket) -> str:
        attack(victim)
        return "done"

    assert run(body, confined=False) == Outcome("done", 0)
    if expected == KILLED:
        assert run(body, confined=True) == Outcome("", -signal.SIGSYS)
    else:
        assert run(body, confined=True) == Outcome(expected, 0)


def test_another_program_cannot_be_run() -> None:
    def body(_: socket.socket) -> str:
        os.execv("/bin/true", ["true"])  # noqa: S606  # what is attacked

    assert run(body, confined=False) == Outcome("", 0)
    assert run(body, confined=True) == Outcome("", -signal.SIGSYS)


# --- what serving needs --------------------------------------------------------------------------


def test_every_measure_is_reported_once() -> None:
    def body(_: socket.socket) -> str:
        measures = [*_core.enter_namespaces(), *_core.confine()]
        assert all(measure.detail for measure in measures)
        return ",".join(measure.name for measure in measures)

    names = run(body, confined=False).said.split(",")
    assert len(names) == len(set(names)) == 14
    assert {"user namespace", "pid namespace", "capabilities", "landlock", "seccomp"} <= set(names)


def test_measures_can_be_asked_for_after_confinement() -> None:
    def body(_: socket.socket) -> str:
        no_new_privileges, seccomp, dumpable = (
            _libc.prctl(code, 0, 0, 0, 0) for code in (39, 21, 3)
        )
        return f"{no_new_privileges} {seccomp} {dumpable} {os.getpid()}"

    assert run(body, confined=True) == Outcome("1 2 0 1", 0)


def test_a_confined_process_serves(enclave: Enclave, tmp_path: Path) -> None:
    image = tmp_path / "image"
    image.write_bytes(bytes(IMAGE_BYTES))
    enclave.start(_serve, confined=True)
    with socket.socket(socket.AF_UNIX) as listener, image.open("r+b") as file:
        address = str(tmp_path / "socket")
        listener.bind(address)
        listener.listen()
        socket.send_fds(enclave.outside, [b"!"], [file.fileno(), listener.fileno()])
        for _ in range(CLIENTS):
            with socket.socket(socket.AF_UNIX) as client:
                client.settimeout(DEADLINE_SECONDS)
                client.connect(address)
                client.sendall(b"request")
                assert client.recv(64) == b"request"
    assert enclave.outcome() == Outcome("served", 0)
    assert image.read_bytes()[8192:8202] == b"ciphertext"


def _serve(boundary: socket.socket) -> str:
    _, fds, _, _ = socket.recv_fds(boundary, 1, 2)
    image, listening = fds
    _use_image(image)
    _wait(boundary)
    _use_interpreter()
    with mmap.mmap(-1, WORK_AREA_BYTES, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as area:
        area[:: 1 << 24] = bytes(WORK_AREA_BYTES >> 24)
    with socket.socket(fileno=listening) as listener:
        threads = []
        for _ in range(CLIENTS):
            client, _address = listener.accept()
            threads.append(threading.Thread(target=_echo, args=(client,)))
            threads[-1].start()
        for thread in threads:
            thread.join()
    return "served"


def _use_image(image: int) -> None:
    os.set_inheritable(image, False)  # noqa: FBT003  # positional only
    assert os.fstat(image).st_size == os.lseek(image, 0, os.SEEK_END) == IMAGE_BYTES
    assert os.pwrite(image, b"cipher", 4096) == 6
    assert os.pread(image, 6, 4096) == b"cipher"
    assert os.pwritev(image, [b"cipher", b"text"], 8192) == 10
    buffer = bytearray(10)
    assert os.preadv(image, [buffer], 8192) == 10
    assert buffer == b"ciphertext"
    os.posix_fallocate(image, 0, IMAGE_BYTES)
    os.fdatasync(image)
    os.fsync(image)
    os.close(os.dup(image))


def _wait(boundary: socket.socket) -> None:
    assert select.select([], [boundary], [], 1)[1] == [boundary]
    poller = select.poll()
    poller.register(boundary, select.POLLOUT)
    assert poller.poll(1000)
    with select.epoll() as epoll:
        epoll.register(boundary, select.EPOLLOUT)
        assert epoll.poll(1)
    boundary.setblocking(False)  # noqa: FBT003  # positional only
    boundary.setblocking(True)  # noqa: FBT003  # positional only
    boundary.settimeout(DEADLINE_SECONDS)


def _use_interpreter() -> None:
    started = time.monotonic()
    time.sleep(0.01)
    assert time.monotonic() > started
    assert len(os.urandom(32)) == 32
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    gc.collect()
    try:
        raise OSError(errno.EIO, "the disk said no")
    except OSError:
        # Looks for source files, and must do without.
        assert "the disk said no" in traceback.format_exc()
        traceback.print_exc()


def _echo(client: socket.socket) -> None:
    with client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        client.sendmsg([client.recv(64)])
        client.shutdown(socket.SHUT_RDWR)


# --- families ------------------------------------------------------------------------------------


def test_a_process_dies_with_its_parent() -> None:
    reading, writing = os.pipe()
    parent = os.fork()
    if parent == 0:
        if os.fork() == 0:
            _core.die_with_parent()
            os.write(writing, b"ready")
            time.sleep(DEADLINE_SECONDS)
            os._exit(0)
        os.read(reading, 5)
        os._exit(0)
    os.close(writing)
    assert os.waitpid(parent, 0) == (parent, 0)
    with open(reading, "rb", buffering=0) as pipe:  # noqa: PTH123  # a descriptor
        ready, _, _ = select.select([pipe], [], [], DEADLINE_SECONDS / 4)
        assert ready == [pipe]
        assert pipe.read(1) == b""


def test_orphans_can_be_adopted() -> None:
    def body(_: socket.socket) -> str:
        _core.adopt_orphans()
        if os.fork() == 0:
            if os.fork() == 0:
                time.sleep(0.05)
                os._exit(7)
            os._exit(5)
        codes = [os.waitstatus_to_exitcode(os.wait()[1]) for _ in range(2)]
        return str(codes)

    assert run(body, confined=False) == Outcome("[5, 7]", 0)
