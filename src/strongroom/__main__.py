# SPDX-License-Identifier: Apache-2.0
"""``python -m strongroom``: the same as the installed ``strongroom``."""

import sys

from strongroom.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
