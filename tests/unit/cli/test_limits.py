# SPDX-License-Identifier: Apache-2.0
"""A number that is typed wrongly is a typing error, and never one of the boundary."""

from collections.abc import Iterator
from typing import get_args, get_type_hints

import click
import pytest

from strongroom.boundary import calls
from strongroom.boundary.schema import Range, encode_message
from strongroom.cli.tree import root
from strongroom.host import contracts

pytestmark = pytest.mark.unit


def leaves(
    group: click.Group, path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    context = click.Context(group)
    for name in group.list_commands(context):
        found = group.get_command(context, name)
        assert found is not None
        if isinstance(found, click.Group):
            yield from leaves(found, (*path, name))
        else:
            yield (*path, name), found


def test_every_number_has_both_limits() -> None:
    numbers = [
        (path, parameter.name, parameter.type)
        for path, command in leaves(root)
        for parameter in command.params
        if isinstance(parameter.type, click.types.IntParamType | click.types.FloatParamType)
    ]
    assert len(numbers) > 10
    for path, name, kind in numbers:
        assert isinstance(kind, click.IntRange | click.FloatRange), (path, name)
        assert kind.min is not None, (path, name)
        assert kind.max is not None, (path, name)


def test_what_may_be_typed_for_a_kdf_may_cross_the_boundary() -> None:
    assert contracts.LEAST_KDF_MEMORY_KIB == calls.LEAST_ARGON2_MEMORY_KIB
    assert contracts.MOST_KDF_MEMORY_KIB == calls.MOST_ARGON2_MEMORY_KIB
    for memory_kib in (contracts.LEAST_KDF_MEMORY_KIB, contracts.MOST_KDF_MEMORY_KIB):
        for iterations in (1, 2**32 - 1):
            wanted = calls.KdfParameters("argon2id", "sha256", memory_kib, iterations, None)
            encode_message(wanted)


@pytest.mark.parametrize(
    ("field", "option"), [("iterations", "--kdf-iterations"), ("keyslot", "--keyslot")]
)
def test_ranges_are_those_of_the_boundary(field: str, option: str) -> None:
    kinds = {
        (kind.min, kind.max)
        for _, command in leaves(root)
        for parameter in command.params
        if option in parameter.opts and isinstance(kind := parameter.type, click.IntRange)
    }
    message = calls.KdfParameters if field == "iterations" else calls.RemoveKeyslot
    hint = get_type_hints(message, include_extras=True)[field]
    (limits,) = (
        part
        for kind in (hint, *get_args(hint))
        for part in getattr(kind, "__metadata__", ())
        if isinstance(part, Range)
    )
    assert kinds == {(limits.minimum, limits.maximum)}


@pytest.mark.parametrize("arguments", [("pcr", "read"), ("seal",), ("quote",)])
def test_a_pcr_that_is_named_often_counts_once(arguments: tuple[str, ...]) -> None:
    (command,) = (found for path, found in leaves(root) if path == ("tpm", *arguments))
    often = ["7"] * 30
    words = {
        ("pcr", "read"): often,
        ("seal",): [word for pcr in often for word in ("--pcr", pcr)]
        + ["--data-file", "f", "--output", "o", "--protected"],
        ("quote",): [word for pcr in often for word in ("--pcr", pcr)],
    }[arguments]
    context = command.make_context("x", words)
    assert context.params["pcrs"] == (7,)
