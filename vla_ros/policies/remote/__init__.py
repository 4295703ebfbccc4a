# SPDX-License-Identifier: Apache-2.0
"""A policy in another process, or on another machine, asked as if it were here."""
