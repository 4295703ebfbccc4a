# SPDX-License-Identifier: Apache-2.0
"""Robots as data: frames, joints, limits and gains, and the transforms between their links."""
