# SPDX-License-Identifier: Apache-2.0
"""What the programs print, as they printed it, and what must be refused."""

import json
from typing import Any

import pytest

from strongroom.bench.clients import (
    Workload,
    parse_dd,
    parse_fio,
    parse_hdparm,
    size_name,
)
from strongroom.bench.key_derivation import parse_argon2
from strongroom.bench.place import CommandError
from strongroom.units import GIB, KIB, MIB

pytestmark = pytest.mark.unit

NOTHING: dict[str, Any] = {"bw_bytes": 0, "lat_ns": {"min": 0, "max": 0, "mean": 0.0, "N": 0}}


def side(speed: int, median_ns: int, p99_ns: int) -> dict[str, Any]:
    percentiles = {"50.000000": median_ns, "99.000000": p99_ns}
    return {"bw_bytes": speed, "lat_ns": {"N": 5, "percentile": percentiles}}


def printed(*jobs: dict[str, Any]) -> str:
    return "nbd: connected to server\n" + json.dumps({"fio version": "fio-3.33", "jobs": jobs})


def test_fio_reading() -> None:
    result = parse_fio(printed({"read": side(1_500_000_000, 47_360, 99_840), "write": NOTHING}))
    assert result.gigabytes_per_second == 1.5
    assert (result.median_us, result.p99_us) == (47.36, 99.84)


def test_fio_with_several_jobs_counts_all_and_takes_the_slowest() -> None:
    jobs = [
        {"read": NOTHING, "write": side(100, 1000, 5000)},
        {"read": NOTHING, "write": side(50, 3000, 4000)},
    ]
    result = parse_fio(printed(*jobs))
    assert (result.bytes_per_second, result.median_us, result.p99_us) == (150, 3, 5)


@pytest.mark.parametrize("text", ["", "fio: no such engine", "{}", '{"jobs": [{"read": {}}]}', "{"])
def test_what_fio_does_not_print_is_refused(text: str) -> None:
    with pytest.raises(CommandError, match="fio printed something else"):
        parse_fio(text)


def test_dd() -> None:
    text = (
        "100+0 records in\n100+0 records out\n"
        "104857600 bytes (105 MB, 100 MiB) copied, 0.25 s, 419 MB/s\n"
    )
    assert parse_dd(text) == pytest.approx(0.4194304)
    assert parse_dd("104857600 bytes (105 MB, 100 MiB) copied, 5e-05 s, 2.1 TB/s\n") > 2000
    with pytest.raises(CommandError):
        parse_dd("dd: error writing 'x': No space left on device\n")


def test_hdparm() -> None:
    direct = (
        "\n/dev/loop0:\n Timing buffered disk reads: 256 MB in  0.10 seconds = 2500.00 MB/sec\n"
    )
    cached = "\n/dev/loop0:\n Timing cached reads:   15822 MB in  1.99 seconds = 7938.43 MB/sec\n"
    slow = "\n/dev/loop0:\n Timing buffered disk reads:   2 MB in  3.00 seconds = 682.60 kB/sec\n"
    assert parse_hdparm(direct) == pytest.approx(2.62144)
    assert parse_hdparm(cached) == pytest.approx(8.324, rel=1e-3)
    assert parse_hdparm(slow) == pytest.approx(0.000699, rel=1e-3)
    with pytest.raises(CommandError):
        parse_hdparm("read() failed: Input/output error\n")


def test_argon2() -> None:
    text = "Type:\t\tArgon2id\nIterations:\t4\nHash:\t\t00ff\n1.630 seconds\nVerification ok\n"
    assert parse_argon2(text) == 1.63
    with pytest.raises(CommandError):
        parse_argon2("Error: Memory allocation error\n")


@pytest.mark.parametrize(
    ("size", "name"),
    [(512, "512 B"), (4 * KIB, "4 KiB"), (MIB, "1 MiB"), (16 * GIB, "16 GiB"), (2**40, "1 TiB")],
)
def test_sizes_as_they_are_spoken(size: int, name: str) -> None:
    assert size_name(size) == name


def test_a_workload_says_what_it_is() -> None:
    workload = Workload("randwrite", 4 * KIB, 16, connections=2)
    assert workload.name == "4 KiB random write, QD 16"
    assert {"--rw=randwrite", "--bs=4096", "--iodepth=16", "--numjobs=2"} <= set(workload.options)
