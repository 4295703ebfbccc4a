# SPDX-License-Identifier: Apache-2.0
"""Live 3-D view of the robot in a browser."""
