# SPDX-License-Identifier: Apache-2.0
"""A reporter for operations that have nothing to report."""


class Silent:
    """Drops everything. See :class:`strongroom.host.contracts.Reporter`."""

    def progress(self, stage: str, done: int, total: int) -> None:
        """Say nothing."""

    def notice(self, text: str) -> None:
        """Say nothing."""
