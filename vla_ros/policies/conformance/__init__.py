# SPDX-License-Identifier: Apache-2.0
"""Checks that any backend must pass, whatever its decoder; see ``suite.check_backend``."""
