# SPDX-License-Identifier: Apache-2.0
"""What is known of enclaves is kept whole, never guessed, and never weakened by itself."""

import contextlib
import dataclasses
import errno
import fcntl
import hashlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, NoReturn

import pytest

from strongroom.errors import (
    NoPermissionError,
    NoSpaceError,
    NotFoundError,
    PlatformError,
    TeeError,
)
from strongroom.host import known_enclaves, known_file
from strongroom.host.known_enclaves import (
    KnownEnclave,
    ensure_writable,
    find,
    remember,
    replace,
)
from strongroom.tee.identity import Identity

pytestmark = pytest.mark.unit

ONE: Final = "aaaaaaaa-0000-4000-8000-00000000000a"
TWO: Final = "bbbbbbbb-0000-4000-8000-00000000000b"
THREE: Final = "cccccccc-0000-4000-8000-00000000000c"
NOBODY: Final = 65534
LINE: Final = (
    f"{ONE} policy=signer tee=process simulated=yes debug=no measurement={'1' * 64}"
    f" signer={'ab' * 32} product=1 svn=2 authenticated=yes epoch=4"
)
ENCLAVE: Final = KnownEnclave(
    volume=ONE,
    policy="signer",
    identity=Identity(
        tee="process",
        simulated=True,
        measurement=b"\x11" * 32,
        signer=b"\xab" * 32,
        product_id=1,
        security_version=2,
        debug=False,
    ),
    authenticated=True,
    epoch=4,
    place="",
)
OTHER: Final = KnownEnclave(
    volume=TWO,
    policy="measurement",
    identity=Identity(
        tee="gramine",
        simulated=False,
        measurement=b"\x22" * 32,
        signer=b"\xcd" * 32,
        product_id=65535,
        security_version=0,
        debug=True,
    ),
    authenticated=False,
    epoch=2**64 - 1,
    place="",
)


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A state directory of the test's own; it does not exist yet."""
    monkeypatch.setenv("STRONGROOM_STATE_DIR", str(tmp_path / "a" / "state"))
    return tmp_path / "a" / "state"


@pytest.fixture
def file(state: Path) -> Path:
    """The file, in a directory that is there."""
    state.mkdir(mode=0o700, parents=True)
    return state / "known-enclaves"


def test_a_line_is_as_specified(file: Path) -> None:
    remember(ENCLAVE)
    assert file.read_text() == LINE + "\n"
    assert known_enclaves.path() == file


def test_a_volume_that_is_sealed_elsewhere_says_so(file: Path) -> None:
    elsewhere = dataclasses.replace(ENCLAVE, sealed_elsewhere=True)
    remember(elsewhere)
    assert file.read_text() == f"{LINE} sealed=elsewhere\n"
    assert find(ONE) == elsewhere
    remember(ENCLAVE)
    assert file.read_text() == f"{LINE}\n"


@pytest.mark.parametrize(
    ("image", "word"),
    [
        ("/srv/a.img", "/srv/a.img"),
        ("/srv/a b\n\udcff%.img", "/srv/a%20b%0A%FF%25.img"),
        ("/", "/"),
    ],
)
def test_a_line_says_where_the_volume_was(file: Path, image: str, word: str) -> None:
    remember(dataclasses.replace(ENCLAVE, image=image))
    assert file.read_text() == f"{LINE} image={word}\n"
    known = find(ONE)
    assert known is not None
    assert known.image == image
    remember(ENCLAVE)
    assert file.read_text() == f"{LINE} image={word}\n", "unknown is no news"


@pytest.mark.parametrize("image", ["", "relative.img", "/" + "x" * 1024, "/" + " " * 400])
def test_a_place_that_is_of_no_use_in_a_message_is_left_out(file: Path, image: str) -> None:
    remember(dataclasses.replace(ENCLAVE, image=image))
    assert file.read_text() == f"{LINE}\n"


def test_a_new_place_alone_needs_no_right_to_write(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    remember(dataclasses.replace(ENCLAVE, image="/a"))

    def refuse(*_: object) -> NoReturn:
        raise NoPermissionError("read-only")

    monkeypatch.setattr(known_file, "update", refuse)
    remember(dataclasses.replace(ENCLAVE, image="/b"))
    with pytest.raises(NoPermissionError):
        remember(dataclasses.replace(ENCLAVE, image="/b", epoch=5))
    assert file.read_text() == f"{LINE} image=/a\n"


def test_a_forgotten_enclave_leaves_the_epoch(file: Path) -> None:
    file.write_text(f"# mine\n{LINE}\n")
    assert known_enclaves.forget_enclave(ONE.upper()) == ENCLAVE
    assert file.read_text() == f"# mine\n{LINE} enclave=forgotten\n"
    known = find(ONE)
    assert known is not None
    assert (known.forgotten, known.epoch, known.authenticated) == (True, 4, True)
    # The next one that opens it is known from then on, and the epoch does not go down.
    remember(changed(signer=b"n" * 32))
    assert find(ONE) == changed(signer=b"n" * 32)
    remember(dataclasses.replace(ENCLAVE, epoch=1, authenticated=False))
    assert find(ONE) == ENCLAVE


def test_of_two_lines_the_higher_epoch_stays(file: Path) -> None:
    file.write_text(f"{field('authenticated', 'no')}\n# mine\n{field('epoch', '7')}\n")
    assert known_enclaves.forget_enclave(ONE).epoch == 7
    known = find(ONE)
    assert known is not None
    assert (known.epoch, known.authenticated, known.forgotten) == (7, True, True)
    assert file.read_text().splitlines()[1:] == ["# mine"]


def test_a_damaged_line_is_forgotten_as_a_whole_or_not_at_all(file: Path) -> None:
    damaged = field("epoch", "many")
    file.write_text(f"{damaged}\n{LINE}\n# {ONE}\n")
    with pytest.raises(TeeError, match="is malformed") as refusal:
        known_enclaves.forget_enclave(ONE)
    assert f"`strongroom forget {ONE} --everything`" in refusal.value.hint
    known_enclaves.forget_everything(ONE)
    assert file.read_text() == f"# {ONE}\n"
    assert find(ONE) is None


def test_what_is_not_known_is_not_forgotten(state: Path) -> None:
    for forget in (known_enclaves.forget_enclave, known_enclaves.forget_everything):
        with pytest.raises(NotFoundError, match=ONE):
            forget(ONE)
    assert not state.exists()


def test_a_line_says_what_was_remembered(file: Path) -> None:
    file.write_text(LINE)
    remember(OTHER)
    assert (find(ONE), find(TWO), find(THREE)) == (ENCLAVE, OTHER, None)
    one, two = find(ONE), find(TWO.upper())
    assert one is not None
    assert two is not None
    assert (one.place, two.place) == (f"{file}:1", f"{file}:2")


def test_nothing_is_known_without_a_file(state: Path) -> None:
    assert find(ONE) is None
    assert not state.exists()


def test_the_file_is_the_owners_alone(state: Path) -> None:
    mask = os.umask(0)
    try:
        remember(ENCLAVE)
    finally:
        os.umask(mask)
    modes = {path.name: path.stat().st_mode & 0o7777 for path in (state, *state.iterdir())}
    assert modes == {"state": 0o700, "known-enclaves": 0o600, "known-enclaves.lock": 0o600}


KEPT: Final = [
    b"# mine",
    b"",
    b"   ",
    f"#{ONE} policy=signer".encode(),
    f"# {ONE}".encode(),
    THREE.encode(),
    f"{THREE} policy=none".encode(),
    b"\xff\x00\r",
    ONE[:-1].encode(),
]


@pytest.mark.parametrize("end", [b"", b"\n"])
def test_other_lines_are_kept(file: Path, end: bytes) -> None:
    file.write_bytes(b"\n".join([*KEPT[:4], LINE.encode(), *KEPT[4:]]) + end)
    remember(dataclasses.replace(ENCLAVE, epoch=5))
    line = LINE.replace("epoch=4", "epoch=5").encode()
    assert file.read_bytes() == b"\n".join([*KEPT[:4], line, *KEPT[4:], b""])
    known = find(ONE)
    assert known is not None
    assert known.place == f"{file}:5"


@pytest.mark.parametrize("end", [b"", b"\n"])
def test_a_new_volume_has_a_line_of_its_own(file: Path, end: bytes) -> None:
    file.write_bytes(b"# mine" + end)
    remember(ENCLAVE)
    assert file.read_text() == f"# mine\n{LINE}\n"


@pytest.mark.parametrize(
    ("before", "given", "remembered"),
    [
        ((True, 4), (True, 5), (True, 5)),
        ((True, 4), (True, 3), (True, 4)),
        ((True, 4), (False, 9), (True, 9)),
        ((False, 4), (True, 0), (True, 4)),
        ((False, 4), (False, 3), (False, 4)),
    ],
)
def test_what_is_remembered_gets_no_weaker(
    before: tuple[bool, int], given: tuple[bool, int], remembered: tuple[bool, int]
) -> None:
    def known(facts: tuple[bool, int]) -> KnownEnclave:
        return dataclasses.replace(ENCLAVE, authenticated=facts[0], epoch=facts[1])

    remember(known(before))
    remember(known(given))
    assert find(ONE) == known(remembered)
    replace(known(given))
    assert find(ONE) == known(given)


def test_what_was_enrolled_anew_is_remembered() -> None:
    remember(ENCLAVE)
    remember(OTHER)
    moved = dataclasses.replace(OTHER, volume=ONE, authenticated=True)
    remember(moved)
    assert (find(ONE), find(TWO)) == (moved, OTHER)


def field(name: str, value: str) -> str:
    return " ".join(
        f"{name}={value}" if word.startswith(f"{name}=") else word for word in LINE.split()
    )


MALFORMED: Final = {
    "only the volume": ONE,
    "nothing after it": f"{ONE} ",
    "upper case": LINE.replace(ONE, ONE.upper()),
    "a space before": f" {LINE}",
    "a space after": f"{LINE} ",
    "a return": f"{LINE}\r",
    "two spaces": LINE.replace(" tee", "  tee"),
    "a tab": LINE.replace(" tee", "\ttee"),
    "another field": f"{LINE} note=hello",
    "sealed nowhere": f"{LINE} sealed=nowhere",
    "sealed elsewhere twice": f"{LINE} sealed=elsewhere sealed=elsewhere",
    "a field less": LINE.replace(" debug=no", ""),
    "a field twice": f"{LINE} epoch=5",
    "another order": LINE.replace("product=1 svn=2", "svn=2 product=1"),
    "no policy": field("policy", "none"),
    "a long TEE": field("tee", "x" * 65),
    "no TEE": field("tee", ""),
    "no answer": field("simulated", "true"),
    "a short measurement": field("measurement", "1" * 63),
    "a long signer": field("signer", "1" * 65),
    "an upper case signer": field("signer", "AB" * 32),
    "no product": field("product", ""),
    "a large product": field("product", "65536"),
    "a large version": field("svn", "65536"),
    "a negative version": field("svn", "-1"),
    "a long zero": field("epoch", "04"),
    "a large epoch": field("epoch", str(2**64)),
    "a huge epoch": field("epoch", "9" * 5000),
    "a foreign digit": field("epoch", "\N{ARABIC-INDIC DIGIT FOUR}"),
}


@pytest.mark.parametrize("line", MALFORMED.values(), ids=MALFORMED)
@pytest.mark.parametrize(
    "use", [lambda: find(ONE), lambda: remember(ENCLAVE), lambda: replace(ENCLAVE)]
)
def test_a_malformed_line_is_not_guessed(file: Path, line: str, use: Callable[[], object]) -> None:
    text = f"# mine\n{line}\n"
    file.write_bytes(text.encode())
    with pytest.raises(TeeError, match="is malformed") as refusal:
        use()
    assert f"{file}:2" in refusal.value.message
    assert refusal.value.hint
    assert file.read_bytes() == text.encode()

    remember(OTHER)
    assert find(TWO) == OTHER


@pytest.mark.parametrize(
    "use", [lambda: find(ONE), lambda: remember(ENCLAVE), lambda: replace(ENCLAVE)]
)
@pytest.mark.parametrize("second", [LINE, ONE.upper(), field("epoch", "5")])
def test_of_two_lines_none_is_chosen(file: Path, second: str, use: Callable[[], object]) -> None:
    file.write_text(f"{LINE}\n\n{second}\n")
    with pytest.raises(TeeError, match="both of volume") as refusal:
        use()
    assert f"{file}:1 and line 3" in refusal.value.message
    assert file.read_text() == f"{LINE}\n\n{second}\n"


def changed(**values: object) -> KnownEnclave:
    return dataclasses.replace(
        ENCLAVE,
        identity=dataclasses.replace(ENCLAVE.identity, **values),  # type: ignore[arg-type]
    )


@pytest.mark.parametrize("write", [remember, replace])
@pytest.mark.parametrize(
    "known",
    [
        changed(tee=f"process\n{LINE}"),
        changed(tee="process simulated=no"),
        changed(tee=""),
        changed(tee="\N{LATIN SMALL LETTER E WITH ACUTE}"),
        changed(tee="\udcff"),
        changed(measurement=bytes(31)),
        changed(security_version=65536),
        changed(product_id=-1),
        dataclasses.replace(ENCLAVE, epoch=2**64),
        dataclasses.replace(ENCLAVE, volume=""),
        dataclasses.replace(ENCLAVE, volume=f"#{ONE}"),
        dataclasses.replace(ENCLAVE, volume=ONE.upper()),
        dataclasses.replace(ENCLAVE, volume=f"{LINE}\n{TWO}"),
    ],
)
def test_what_no_line_can_say_is_not_written(
    state: Path, write: Callable[[KnownEnclave], None], known: KnownEnclave
) -> None:
    with pytest.raises(TeeError, match="cannot remember"):
        write(known)
    assert not state.exists()


@pytest.mark.parametrize("volume", ["", "#", "# mine", "\udcff", "\n"])
def test_what_is_no_volume_is_not_known(file: Path, volume: str) -> None:
    file.write_text("# mine\n\n")
    assert find(volume) is None
    assert file.read_text() == "# mine\n\n"


USES: Final = [
    lambda: find(ONE),
    lambda: remember(dataclasses.replace(ENCLAVE, epoch=9)),
    lambda: replace(OTHER),
    ensure_writable,
]


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
def test_a_file_that_others_may_write_is_refused(
    file: Path, mode: int, use: Callable[[], object]
) -> None:
    file.write_text(LINE)
    file.chmod(mode)
    with pytest.raises(TeeError, match=f"others may change {file}: its mode is {mode:04o}"):
        use()
    assert file.read_text() == LINE


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("there", [False, True])
@pytest.mark.parametrize("mode", [0o720, 0o702, 0o1777])
def test_a_directory_that_others_may_write_is_refused(
    file: Path, mode: int, use: Callable[[], object], *, there: bool
) -> None:
    if there:
        file.write_text(LINE)
    file.parent.chmod(mode)
    with pytest.raises(TeeError, match=f"others may change {file.parent}: its mode"):
        use()
    assert [path.read_text() for path in file.parent.iterdir()] == [LINE] * there


@pytest.mark.parametrize("mode", [0o400, 0o600, 0o644])
def test_others_may_read_it(file: Path, mode: int) -> None:
    file.write_text(LINE)
    file.chmod(mode)
    file.parent.chmod(0o755)
    assert find(ONE) == ENCLAVE


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("which", ["file", "directory"])
def test_what_another_user_owns_is_refused(
    file: Path, monkeypatch: pytest.MonkeyPatch, which: str, use: Callable[[], object]
) -> None:
    file.write_text(LINE)
    given_away = file if which == "file" else file.parent
    if os.geteuid() == 0:
        os.chown(given_away, NOBODY, -1)
    else:
        given_away, owner = file.parent, os.geteuid()
        monkeypatch.setattr(os, "geteuid", lambda: owner + 1)
    with pytest.raises(TeeError, match=f"{given_away} belongs to user"):
        use()


def a_directory(path: Path) -> None:
    path.mkdir()


def a_fifo(path: Path) -> None:
    os.mkfifo(path, 0o600)


def a_link(path: Path) -> None:
    path.with_name("elsewhere").write_text(LINE)
    path.symlink_to("elsewhere")


def a_long_file(path: Path) -> None:
    path.write_bytes(LINE.encode() + bytes(known_file.MAX_FILE_BYTES))


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("make", [a_directory, a_fifo, a_link, a_long_file])
@pytest.mark.timeout(10)
def test_what_is_no_such_file_is_refused(
    file: Path, make: Callable[[Path], None], use: Callable[[], object]
) -> None:
    make(file)
    with pytest.raises(TeeError, match=str(file)):
        use()


def test_the_file_cannot_outgrow_what_is_read(file: Path) -> None:
    comment = b"#" * (known_file.MAX_FILE_BYTES - len(LINE) - 2)
    file.write_bytes(comment)
    remember(ENCLAVE)
    assert file.stat().st_size == known_file.MAX_FILE_BYTES
    with pytest.raises(NoSpaceError):
        remember(OTHER)
    assert find(ONE) == ENCLAVE


@contextlib.contextmanager
def unprivileged(directory: Path) -> Iterator[None]:
    """Be somebody who may read a directory, and not write it."""
    if os.geteuid() != 0:
        directory.chmod(0o500)
        yield
        directory.chmod(0o700)
        return
    # What is above tmp_path is root's alone: a descriptor leads past it.
    with contextlib.ExitStack() as stack:
        descriptor = os.open(directory, os.O_PATH)
        stack.callback(os.close, descriptor)
        before = os.open(".", os.O_PATH)
        stack.callback(os.close, before)
        stack.callback(os.fchdir, before)
        os.fchdir(descriptor)
        stack.callback(os.seteuid, 0)
        os.seteuid(NOBODY)
        yield


def test_who_may_not_write_can_still_open(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    remember(ENCLAVE)
    file.chmod(0o644)
    file.parent.chmod(0o755)
    with unprivileged(file.parent):
        monkeypatch.setattr(known_file, "state_directory", Path)
        assert find(ONE) == ENCLAVE
        remember(dataclasses.replace(ENCLAVE, epoch=3))
        for write in (remember, replace):
            with pytest.raises(NoPermissionError) as refusal:
                write(OTHER)
            assert "STRONGROOM_STATE_DIR" in refusal.value.hint
        with pytest.raises(NoPermissionError):
            ensure_writable()
    assert file.read_text() == LINE + "\n"


def test_who_may_not_read_is_not_told_that_nothing_is_known(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file.write_text(LINE)
    file.chmod(0)
    file.parent.chmod(0o755)
    with unprivileged(file.parent):
        monkeypatch.setattr(known_file, "state_directory", Path)
        with pytest.raises(TeeError, match="cannot read"):
            find(ONE)


def test_a_state_directory_that_cannot_be_made(state: Path) -> None:
    state.parent.write_text("a file")
    with pytest.raises(TeeError, match="cannot read"):
        remember(ENCLAVE)


@pytest.mark.parametrize(
    ("number", "kind"),
    [(errno.ENOSPC, NoSpaceError), (errno.EROFS, NoPermissionError), (errno.EIO, PlatformError)],
)
def test_a_failed_write_changes_nothing(
    file: Path, monkeypatch: pytest.MonkeyPatch, number: int, kind: type[PlatformError]
) -> None:
    remember(ENCLAVE)

    def fail(_: int) -> NoReturn:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(kind) as refusal:
        remember(OTHER)
    assert type(refusal.value) is kind
    assert file.read_text() == LINE + "\n"
    assert sorted(path.name for path in file.parent.iterdir()) == [file.name, f"{file.name}.lock"]


WRITER: Final = """
import os, sys
from strongroom.host.known_enclaves import KnownEnclave, remember
from strongroom.tee.identity import Identity
prefix, count = sys.argv[1], int(sys.argv[2])
identity = Identity("process", True, bytes(32), bytes(32), 1, 1, False)
os.write(1, b"ready")
sys.stdin.read(1)
for number in range(count):
    volume = f"{prefix * 8}-0000-4000-8000-{number:012x}"
    remember(KnownEnclave(volume, "signer", identity, True, number))
    # Everybody's volume: the highest epoch of all must stay.
    remember(KnownEnclave("%s", "signer", identity, True, number))
"""


def writer(prefix: str, count: int) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER % THREE, prefix, str(count)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stdout.read(5) == b"ready"
    return process


def test_no_update_of_several_is_lost(file: Path) -> None:
    count = 25
    writers = [writer(prefix, count) for prefix in "def"]
    for process in writers:
        assert process.stdin is not None
        process.stdin.write(b"!")
        process.stdin.flush()
    for process in writers:
        process.communicate(timeout=60)
        assert process.returncode == 0
    lines = file.read_text().splitlines()
    assert len(lines) == len({line.split()[0] for line in lines}) == 3 * count + 1
    shared = find(THREE)
    assert shared is not None
    assert shared.epoch == count - 1


def test_a_kill_leaves_a_whole_file_and_no_litter(file: Path) -> None:
    remember(ENCLAVE)
    for pause in (0.002, 0.005, 0.011, 0.023):
        process = writer("d", 100_000)
        assert process.stdin is not None
        process.stdin.write(b"!")
        process.stdin.flush()
        time.sleep(pause)
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=60)
        assert find(ONE) == ENCLAVE
        for line in file.read_text().splitlines():
            assert find(line.split()[0]) is not None
        assert len(list(file.parent.iterdir())) <= 3
        remember(dataclasses.replace(OTHER, epoch=int(pause * 1000)))
        names = sorted(path.name for path in file.parent.iterdir())
        assert names == [file.name, f"{file.name}.lock"]


def test_a_draft_of_a_dead_process_does_not_matter(file: Path) -> None:
    remember(ENCLAVE)
    draft = file.parent / ".known-enclaves.new"
    draft.write_text(f"{TWO} half a li")
    assert (find(ONE), find(TWO)) == (ENCLAVE, None)
    remember(OTHER)
    assert (find(ONE), find(TWO)) == (ENCLAVE, OTHER)
    assert not draft.exists()


def test_looking_whether_it_can_be_written_changes_nothing(file: Path) -> None:
    ensure_writable()
    assert [path.name for path in file.parent.iterdir()] == [f"{file.name}.lock"]
    remember(ENCLAVE)
    ensure_writable()
    assert file.read_text() == LINE + "\n"
    assert len(list(file.parent.iterdir())) == 2


def test_what_could_not_be_written_is_known_before(file: Path) -> None:
    file.write_bytes(b"#" * (known_file.MAX_FILE_BYTES - len(LINE)))
    with pytest.raises(NoSpaceError):
        ensure_writable()
    (file.parent / ".known-enclaves.new" / "full").mkdir(parents=True)
    with pytest.raises(PlatformError):
        ensure_writable()


def test_an_update_waits_for_the_lock(file: Path) -> None:
    remember(ENCLAVE)
    lock = os.open(f"{file}.lock", os.O_RDWR)
    fcntl.flock(lock, fcntl.LOCK_EX)
    process = writer("d", 1)
    assert process.stdin is not None
    process.stdin.write(b"!")
    process.stdin.flush()
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.3)
    # What the holder writes before it lets go is seen by the one that waited.
    file.write_text(file.read_text() + field("epoch", "7").replace(ONE, THREE) + "\n")
    os.close(lock)
    process.communicate(timeout=60)
    known = find(THREE)
    assert known is not None
    assert (known.epoch, known.authenticated) == (7, True)
    assert len(file.read_text().splitlines()) == 3


def test_a_lock_that_is_held_for_good_is_named(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    remember(ENCLAVE)
    monkeypatch.setattr(known_file, "_LOCK_SECONDS", 0.1)
    lock = os.open(f"{file}.lock", os.O_RDWR)
    fcntl.flock(lock, fcntl.LOCK_EX)
    try:
        with pytest.raises(PlatformError, match=r"known-enclaves\.lock"):
            remember(OTHER)
    finally:
        os.close(lock)
    remember(OTHER)


def test_the_file_is_replaced_and_synced(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    remember(ENCLAVE)
    synced: list[str] = []
    real = os.fsync

    def spy(descriptor: int) -> None:
        synced.append(Path(f"/proc/self/fd/{descriptor}").readlink().name)
        real(descriptor)

    monkeypatch.setattr(os, "fsync", spy)
    with file.open() as old:
        remember(OTHER)
        assert old.read() == LINE + "\n"
    assert synced == [".known-enclaves.new", file.parent.name]
    synced.clear()
    remember(OTHER)
    assert synced == []


def test_nothing_is_kept_open(file: Path) -> None:
    file.write_text(f"{LINE}\n{LINE}\n")
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(3):
        remember(OTHER)
        ensure_writable()
        with pytest.raises(TeeError):
            find(ONE)
        with pytest.raises(TeeError):
            remember(ENCLAVE)
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_digests_are_not_mixed_up() -> None:
    measurement, signer = (hashlib.sha256(name).digest() for name in (b"what", b"who"))
    remember(changed(measurement=measurement, signer=signer))
    known = find(ONE)
    assert known is not None
    assert (known.identity.measurement, known.identity.signer) == (measurement, signer)
