# SPDX-License-Identifier: Apache-2.0
"""Episodes as rosbag2 MCAP bags: writing, accounting for every message, reading, recovery."""
