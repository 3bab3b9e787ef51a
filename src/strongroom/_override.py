# SPDX-License-Identifier: Apache-2.0
"""``typing.override`` for Python 3.11, which has none: it marks, and does nothing."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing_extensions import override as override  # noqa: PLC0414 - exported
else:

    def override(method):  # noqa: ANN001, ANN202 - what checkers see is above
        """Return the method unchanged."""
        return method
