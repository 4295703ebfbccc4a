# SPDX-License-Identifier: Apache-2.0
"""Chunks of actions: when to decode, and how rows become segments for the control host."""
