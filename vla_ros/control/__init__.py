# SPDX-License-Identifier: Apache-2.0
"""The Python side of the control host: its configuration, construction and published state."""
