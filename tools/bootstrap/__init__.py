# SPDX-License-Identifier: Apache-2.0
"""Set-up of the project: see tools/setup.py."""
