# SPDX-License-Identifier: Apache-2.0
"""ROS 2 nodes, their processes and their clients. The only place that imports rclpy."""
