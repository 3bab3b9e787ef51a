# SPDX-License-Identifier: Apache-2.0
import pytest

pytest.register_assert_rewrite(
    *(f"{__name__}.{module}" for module in ("checks", "io", "remains", "tracer", "victims"))
)
