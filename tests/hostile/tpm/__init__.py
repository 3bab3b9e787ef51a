# SPDX-License-Identifier: Apache-2.0
"""What the host can do to the TPM's wire."""
