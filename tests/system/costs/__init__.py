# SPDX-License-Identifier: Apache-2.0
"""What a request costs, in quantities that do not depend on the machine's mood."""
