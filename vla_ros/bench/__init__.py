# SPDX-License-Identifier: Apache-2.0
"""Measurements behind ``vla-ros bench``."""
