# SPDX-License-Identifier: Apache-2.0
"""Tools that people use, on a volume that strongroom holds open."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from tests.conftest import require_tools
from tests.harness import Operator
from tests.interop.nbd import hostile_clients, tools

pytestmark = pytest.mark.interop

NAME: Final = "tools"
STRUCTURED: Final = "--structured-replies"
COMMON_SECTORS: Final = (512, 4096)
OTHER_SECTORS: Final = (1024, 2048)
IMAGE_SIZE: Final = "80M"


@dataclass(frozen=True, slots=True)
class Export:
    """An open volume, as its clients see it."""

    operator: Operator
    uri: str
    socket: str
    size_bytes: int
    structured: bool

    def counters(self) -> dict[str, int]:
        """What the volume has done since it was opened."""
        found: dict[str, int] = self.operator.facts("status", NAME)["counters"]
        return found


def serve(operator: Operator, sector: int, *options: str) -> Iterator[Export]:
    """Make a volume, hold it open, and require that its processes lived to the end."""
    require_tools("nbdinfo", "nbdcopy", "qemu-img", "qemu-io", "fio", tools.SYSTEM_PYTHON)
    image = operator.place / "image"
    operator.format(image, "--sector-size", str(sector), size=IMAGE_SIZE)
    with operator.opened(image, NAME, *options) as facts:
        before = (facts["host_pid"], facts["enclave_pid"])
        yield Export(
            operator, facts["uri"], facts["socket"], facts["size_bytes"], STRUCTURED in options
        )
        status = operator.facts("status", NAME)
        assert status["state"] == "open"
        assert (status["host_pid"], status["enclave_pid"]) == before
        assert status["counters"]["connections"] == 0


@pytest.fixture(scope="module", params=[(512, ()), (4096, (STRUCTURED,))], ids=["512", "4096"])
def export(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Export]:
    """One open volume for all tests here, as each of them may overwrite everything."""
    sector, options = request.param
    yield from serve(Operator(tmp_path_factory.mktemp("export")), sector, *options)


def check_information(export: Export, *, read_only: bool = False) -> None:
    tools.check_information(
        export.uri,
        size_bytes=export.size_bytes,
        read_only=read_only,
        structured=export.structured,
    )


def test_nbdinfo_reads_every_property(export: Export) -> None:
    check_information(export)


def test_nbdcopy_in_and_out(export: Export, tmp_path: Path) -> None:
    tools.check_copy(export.uri, tmp_path, size_bytes=export.size_bytes)


def test_qemu_img(export: Export, tmp_path: Path) -> None:
    tools.check_qemu_img(export.uri, tmp_path, size_bytes=export.size_bytes)


def test_qemu_io_patterns(export: Export) -> None:
    tools.check_qemu_io(export.uri)


def test_fio_verifies_four_connections(export: Export) -> None:
    before = export.counters()
    tools.check_fio(export.uri, size_bytes=export.size_bytes, jobs=4)
    after = export.counters()
    for name in ("written_bytes", "read_bytes"):
        assert after[name] - before[name] >= export.size_bytes // 2, name
    assert after["flushes"] > before["flushes"]


@pytest.mark.parametrize("program", tools.LIBNBD_PROGRAMS, ids=" ".join)
def test_libnbd_program(export: Export, program: tuple[str, ...]) -> None:
    tools.check_libnbd(export.uri, *program)


@pytest.mark.hostile
@pytest.mark.parametrize(
    "client", hostile_clients.CLIENTS, ids=[client.__name__ for client in hostile_clients.CLIENTS]
)
def test_hostile_client_hurts_nobody_else(export: Export, client: "hostile_clients.Client") -> None:
    client(export.socket)
    hostile_clients.check_alive(export.socket)
    check_information(export)


@pytest.mark.parametrize("sector", OTHER_SECTORS)
def test_other_sector_sizes(operator: Operator, sector: int) -> None:
    for export in serve(operator, sector):
        check_information(export)
        tools.check_qemu_io(export.uri)
        tools.check_libnbd(export.uri, "odd")
        tools.check_libnbd(export.uri, "model", str(sector), "2000")


@pytest.mark.parametrize("sector", COMMON_SECTORS)
def test_read_only_refuses_every_change(operator: Operator, sector: int) -> None:
    image = operator.place / "image"
    for export in serve(operator, sector, "--read-only"):
        digest = tools.sha256(image)
        check_information(export, read_only=True)
        tools.check_libnbd(export.uri, "read-only")
        written = operator.run(
            *("qemu-io", "-f", "raw", "-c", "write -P 1 0 4096", export.uri), check=False
        )
        assert written.returncode != 0
        assert export.counters()["writes"] == 0
        assert tools.sha256(image) == digest
