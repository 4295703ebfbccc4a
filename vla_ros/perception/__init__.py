# SPDX-License-Identifier: Apache-2.0
"""Perception: cameras, frames as bytes, tick code, and objects on a table."""
