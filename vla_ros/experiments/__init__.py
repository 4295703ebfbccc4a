# SPDX-License-Identifier: Apache-2.0
"""Experiments: what is run is written down in ``config/experiments``, then run, then reported."""
